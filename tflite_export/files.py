"""Writing a file whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import glob
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from .errors import ExportError

__all__ = ["check_writable", "working_folder", "write_whole"]

_MENDS = {
    errno.ENOSPC: "the disk is full; free some space",
    errno.EDQUOT: "the disk quota is used up; free some space",
    errno.EFBIG: "the file is larger than this disk or process may write; write elsewhere or quantize",
    errno.EACCES: "permission denied; choose a folder you may write to",
    errno.EPERM: "permission denied; choose a folder you may write to",
    errno.EROFS: "the disk is read-only; choose another folder",
    errno.ENOENT: "the folder doesn't exist; create it first",
}


def check_writable(path: str | os.PathLike) -> Path:
    """The path, once it's sure that a file can be created there: fail before the work, not after it."""
    path = Path(path)
    folder = path.parent
    if path.is_dir():
        raise ExportError(f"Can't write {str(path)!r}: it is a folder; give the name of a file.")
    if not folder.is_dir():
        raise ExportError(
            f"Can't write {str(path)!r}: the folder {str(folder)!r} doesn't exist; create it first."
        )
    if not os.access(folder, os.W_OK | os.X_OK):
        raise ExportError(
            f"Can't write {str(path)!r}: no permission in {str(folder)!r}; choose a folder you may write to."
        )
    return path


def write_whole(path: str | os.PathLike, data: bytes) -> None:
    """Write beside the file, then rename: a reader sees the old file or the new one, never half of one."""
    path = Path(path)
    _remove_left_behind(path.parent, f".{path.name}.", ".part")
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with open(beside, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    except OSError as error:
        beside.unlink(missing_ok=True)
        mend = _MENDS.get(error.errno or 0, error.strerror or str(error))
        raise ExportError(f"Can't write {str(path)!r}: {mend}. Nothing was changed.") from error


@contextlib.contextmanager
def working_folder() -> Iterator[str]:
    """A folder for what is needed meanwhile; those that killed processes left behind are removed."""
    start = "keras-iss-"
    _remove_left_behind(Path(tempfile.gettempdir()), start, "-*")
    with tempfile.TemporaryDirectory(prefix=f"{start}{os.getpid()}-") as folder:
        yield folder


def _remove_left_behind(folder: Path, start: str, end: str) -> None:
    """Removes what is named start, the number of a process that runs no more, end."""
    for path in folder.glob(f"{glob.escape(start)}*{end}"):
        process = path.name.removeprefix(start).removesuffix(end).partition("-")[0]
        if not process.isdecimal() or _is_running(int(process)):
            continue
        with contextlib.suppress(OSError):
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def _is_running(process: int) -> bool:
    if os.name != "posix":
        return True  # there is no asking without harm
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True
