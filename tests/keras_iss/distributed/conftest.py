"""Runs the trainings of this folder, each in processes of its own, once for all tests that look at what they found."""

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

# Programs: what they set when they are imported is for a process of their own.
collect_ignore = ["on_jax.py", "on_tensorflow.py"]
HERE = Path(__file__).parent
LIMIT = 900  # seconds; on an idle core each takes less than a minute


def start(script, *arguments, **environment):
    """A process with a script of this folder."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(HERE.parents[2]),
        "TF_CPP_MIN_LOG_LEVEL": "3",
        **environment,
    }
    return subprocess.Popen(
        [sys.executable, HERE / script, *map(str, arguments)],
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def finish(*processes):
    """Waits for processes that belong together; if one fails, the others are ended."""
    try:
        outputs = [process.communicate(timeout=LIMIT)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    for process, output in zip(processes, outputs, strict=True):
        assert process.returncode == 0, output[-4000:]


def free_ports(number):
    """Ports of this machine that nobody listens on."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(number)]
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


def once(folder, name, make):
    """What `make()` gives, made by one of the processes that run tests, read by the others."""
    result = folder / f"{name}.json"
    try:
        (folder / f"{name}.begun").mkdir()
    except FileExistsError:
        end = time.monotonic() + 2 * LIMIT
        while not result.exists():
            assert time.monotonic() < end, f"{name} was begun elsewhere and never finished"
            time.sleep(0.5)
    else:
        found = {"failed": "it was interrupted"}
        try:
            found = make()
        except BaseException as error:
            found = {"failed": str(error)}
            raise
        finally:
            beside = result.with_suffix(".part")
            beside.write_text(json.dumps(found), encoding="utf-8")
            os.replace(beside, result)
    found = json.loads(result.read_text(encoding="utf-8"))
    assert "failed" not in found, found["failed"]
    return found


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """A folder that all processes of one test run share."""
    base = tmp_path_factory.getbasetemp()
    found = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "distributed"
    found.mkdir(exist_ok=True)
    return found


@pytest.fixture(scope="session")
def jax_devices(folder):
    """On JAX, four virtual devices in one process."""
    pytest.importorskip("jax")

    def make():
        out = folder / "jax_devices.out"
        flags = "--xla_force_host_platform_device_count=4 --xla_backend_optimization_level=0"
        finish(start("on_jax.py", "devices", out, folder / "jax.npz", XLA_FLAGS=flags))
        return json.loads(out.read_text())

    return once(folder, "jax_devices", make)


@pytest.fixture(scope="session")
def jax_workers(folder, jax_devices):
    """On JAX, two processes with a device each."""

    def make():
        outs, address = [folder / f"jax_worker_{i}.out" for i in (0, 1)], f"127.0.0.1:{free_ports(1)[0]}"
        flags = "--xla_backend_optimization_level=0"
        finish(
            *(
                start("on_jax.py", "worker", out, folder / "jax.npz", address, i, XLA_FLAGS=flags)
                for i, out in enumerate(outs)
            )
        )
        return [json.loads(out.read_text()) for out in outs]

    return once(folder, "jax_workers", make)


@pytest.fixture(scope="session")
def tensorflow_devices(folder):
    """On TensorFlow, two virtual devices in one process."""
    pytest.importorskip("tensorflow")

    def make():
        out = folder / "tensorflow_devices.out"
        finish(start("on_tensorflow.py", "devices", out, folder / "tensorflow.npz"))
        return json.loads(out.read_text())

    return once(folder, "tensorflow_devices", make)


@pytest.fixture(scope="session")
def tensorflow_workers(folder, tensorflow_devices):
    """On TensorFlow, two processes with a device each."""

    def make():
        outs = [folder / f"tensorflow_worker_{i}.out" for i in (0, 1)]
        cluster = {"worker": [f"127.0.0.1:{port}" for port in free_ports(2)]}
        finish(
            *(
                start("on_tensorflow.py", "worker", out, folder / "tensorflow.npz",
                      TF_CONFIG=json.dumps({"cluster": cluster, "task": {"type": "worker", "index": i}}))
                for i, out in enumerate(outs)
            )
        )  # fmt: skip
        return [json.loads(out.read_text()) for out in outs]

    return once(folder, "tensorflow_workers", make)
