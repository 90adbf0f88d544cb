"""Writing a file whole or not at all."""

from __future__ import annotations

import contextlib
import glob
import os
import re
from collections.abc import Iterator
from pathlib import Path

__all__ = ["written_whole"]


@contextlib.contextmanager
def written_whole(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A place beside `path` to write to; when the block ends it becomes `path`, if the block fails it goes.

    A reader sees the old file or the new one, never half of one, even if the process is killed. What a killed process
    left beside `path` is removed.

    Args:
        path: The file, with a suffix if the writer goes by it.

    Example:

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with written_whole(f"{folder}/a.txt") as beside:
    ...         _ = beside.write_text("whole")
    ...     Path(folder, "a.txt").read_text()
    'whole'
    """
    target = Path(path)
    _remove_left_behind(target)
    beside = target.with_name(f".{target.stem}.{os.getpid()}{target.suffix}")
    try:
        yield beside
        os.replace(beside, target)
    finally:
        beside.unlink(missing_ok=True)


def _remove_left_behind(target: Path) -> None:
    own = re.compile(rf"\.{re.escape(target.stem)}\.(\d+){re.escape(target.suffix)}")
    for other in target.parent.glob(f".{glob.escape(target.stem)}.*"):
        if (found := own.fullmatch(other.name)) and not _is_running(int(found[1])):
            with contextlib.suppress(OSError):
                other.unlink()


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
