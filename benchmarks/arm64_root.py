"""An ARM64 Python on an x86 Debian: the distribution's own packages, unpacked into a cache folder, under QEMU.

Nothing is installed and no setting of the machine is changed: apt gets its own state, its own lists and the
architecture arm64 by a configuration file, and `dpkg -x` only unpacks. Needs neither root nor a phone.
"""

import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

__all__ = ["UnavailableError", "arm64_python", "default_cache", "is_ready"]

_PYTHON = "3.11"
_PACKAGES = (
    *(f"python{_PYTHON}-minimal", f"libpython{_PYTHON}-minimal", f"libpython{_PYTHON}-stdlib"),
    *(
        "libc6",
        "libgcc-s1",
        "libstdc++6",
        "zlib1g",
        "libexpat1",
        "libffi8",
        "libssl3",
        "libbz2-1.0",
        "liblzma5",
    ),
    *("libuuid1", "libcrypt1"),
)
# 1.4.0 and 2.0.3 run under QEMU 7.2; 2.3.0 crashes there on creating an interpreter.
_WHEELS = ("ai-edge-litert==2.0.3", "numpy==2.3.5", "flatbuffers>=25")
_PLATFORMS = ("manylinux_2_28_aarch64", "manylinux_2_27_aarch64", "manylinux2014_aarch64")
_READY = "ready.json"
_MADE_OF = json.dumps([_PACKAGES, _WHEELS])
_EMULATOR = "qemu-aarch64-static"


class UnavailableError(Exception):
    """The emulated Python can't be set up here; one sentence says why."""


def default_cache() -> Path:
    """A folder in the user's cache directory."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "keras-iss" / "arm64"


def is_ready(cache: Path) -> bool:
    """Whether nothing has to be downloaded."""
    return _native() or (_made_of(cache) == _MADE_OF and bool(_emulator(cache)))


def arm64_python(cache: Path) -> tuple[list[str], dict[str, str]]:
    """The command that starts an ARM64 Python with numpy and LiteRT, and its environment.

    Args:
        cache: A folder for about 450 MB; made when it isn't there, used again when it is.

    Raises:
        UnavailableError: The packages can't be had here.
    """
    if _native():
        return [sys.executable], dict(os.environ)
    if platform.system() != "Linux" or platform.machine() != "x86_64":
        raise UnavailableError(
            f"it needs Linux on x86-64 or ARM64, this is {platform.system()} {platform.machine()}"
        )
    if not is_ready(cache):
        _set_up(cache)
    root = cache / "root"
    environment = {"PYTHONHOME": str(root / "usr"), "PYTHONPATH": str(cache / "site"), "PATH": os.defpath}
    python = [
        _emulator(cache),
        "-cpu",
        "max,sve=off",
        "-L",
        str(root),
        str(root / f"usr/bin/python{_PYTHON}"),
    ]
    return python, environment


def _native() -> bool:
    return platform.system() == "Linux" and platform.machine() == "aarch64"


def _made_of(cache: Path) -> str | None:
    try:
        return (cache / _READY).read_text()
    except OSError:
        return None


def _emulator(cache: Path) -> str | None:
    return shutil.which(_EMULATOR, path=str(cache)) or shutil.which(_EMULATOR)


def _set_up(cache: Path) -> None:
    """Make everything beside the cache, then put it in its place: a cut run leaves nothing half-made."""
    missing = [tool for tool in ("apt-get", "dpkg") if shutil.which(tool) is None]
    if missing:
        raise UnavailableError(f"there is no {missing[0]} here; it needs a Debian or Ubuntu")
    try:
        cache.mkdir(parents=True, exist_ok=True)
        (cache / _READY).unlink(missing_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as work:
            new = Path(work)
            _unpack_packages(new)
            _unpack_wheels(new)
            for name in ("root", "site", _EMULATOR):
                shutil.rmtree(cache / name, ignore_errors=True)
                if (new / name).exists():
                    (new / name).replace(cache / name)
        (cache / _READY).write_text(_MADE_OF)
    except OSError as error:
        raise UnavailableError(f"{error.filename or cache} can't be written: {error.strerror}") from error


def _unpack_packages(work: Path) -> None:
    packages = work / "packages"
    for name in ("state/lists/partial", "cache/archives/partial", "packages"):
        (work / name).mkdir(parents=True)
    (work / "state/status").touch()
    configuration = work / "apt.conf"
    configuration.write_text(
        f"""
Dir::State "{work}/state";
Dir::State::status "{work}/state/status";
Dir::Cache "{work}/cache";
APT::Architecture "amd64";
APT::Architectures {{ "amd64"; "arm64"; }};
Acquire::Languages "none";
Acquire::Retries "1";
Acquire::http::Timeout "15";
Acquire::https::Timeout "15";
"""
    )
    environment = dict(os.environ, APT_CONFIG=str(configuration), LC_ALL="C")
    # A source that has no arm64 makes `update` fail; what counts is whether the packages can be had.
    _try(["apt-get", "update"], 180, env=environment)
    names = [f"{name}:arm64" for name in _PACKAGES]
    names += [] if shutil.which(_EMULATOR) else ["qemu-user-static:amd64"]
    done = _try(["apt-get", "download", *names], 300, env=environment, cwd=packages)
    files = sorted(packages.glob("*.deb"))
    if done.returncode != 0 or len(files) != len(names):
        raise UnavailableError(f"apt can't download Debian's arm64 packages ({_last(done)})")
    for file in files:
        emulator = file.name.startswith("qemu-")
        done = _try(["dpkg", "-x", str(file), str(work / ("qemu" if emulator else "root"))], 120)
        if done.returncode != 0:
            raise UnavailableError(f"dpkg can't unpack {file.name} ({_last(done)})")
    if (made := work / "qemu/usr/bin" / _EMULATOR).exists():
        made.replace(work / _EMULATOR)


def _unpack_wheels(work: Path) -> None:
    target = ["--python-version", _PYTHON, "--implementation", "cp"]
    target += [word for name in _PLATFORMS for word in ("--platform", name)]
    wheels = work / "wheels"
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", *target]
    done = _try([*pip, "--timeout", "15", "--retries", "1", "--dest", str(wheels), *_WHEELS], 300)
    if done.returncode != 0:
        raise UnavailableError(f"pip can't download the aarch64 wheels of LiteRT and numpy ({_last(done)})")
    for wheel in wheels.glob("*.whl"):
        with zipfile.ZipFile(wheel) as file:
            file.extractall(work / "site")


def _try(words: list[str], timeout: float, **options) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            words, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=timeout, **options
        )
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(words, 124, "", f"no end after {timeout:.0f} s")


def _last(done: subprocess.CompletedProcess[str]) -> str:
    lines = [line.strip() for line in f"{done.stdout}\n{done.stderr}".splitlines() if line.strip()]
    errors = [line for line in lines if line.startswith(("E:", "ERROR"))] or lines[-1:]
    return errors[0] if errors else f"exit code {done.returncode}"
