"""What holds for all tests."""

import fcntl
import os

import pytest

# XLA compiles many small models here and runs each a few times: without LLVM's optimizations that takes less time.
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")


@pytest.fixture(scope="module")
def on_jax(request, tmp_path_factory):
    """What `everything()` of the module that the test file names in `ON_JAX` gives on JAX.

    One process computes all that the collected tests of a package ask for, once for all workers of pytest-xdist.
    """
    pytest.importorskip("jax")
    from tests.on_backend import computed, load

    wanted = request.module.ON_JAX
    package = wanted.split(".")[1]
    asked = {i.module.ON_JAX for i in request.session.items if "on_jax" in getattr(i, "fixturenames", ())}
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / f"{package}_on_jax"
    folder.mkdir(exist_ok=True)
    log = folder / "log.txt"
    with open(folder / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # until it's closed
        if not log.exists():
            modules = sorted(module for module in asked if module.split(".")[1] == package)
            log.write_text(computed("jax", modules, folder))
    return load(wanted, folder, log.read_text())
