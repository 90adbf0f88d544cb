"""Writing a file whole or not at all."""

from __future__ import annotations

import errno
import os
import tempfile
from pathlib import Path

from .errors import ExportError

__all__ = ["check_writable", "write_whole"]

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
    temporary = None
    try:
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    except OSError as error:
        if temporary is not None and os.path.exists(temporary):
            os.unlink(temporary)
        mend = _MENDS.get(error.errno or 0, error.strerror or str(error))
        raise ExportError(f"Can't write {str(path)!r}: {mend}. Nothing was changed.") from error


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
