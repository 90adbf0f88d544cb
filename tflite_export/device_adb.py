"""Talking to one phone through adb: every failure is one sentence, and what was put there is taken away again."""

from __future__ import annotations

import base64
import os
import re
import secrets
import shutil
import subprocess
from pathlib import Path

from .errors import ExportError
from .files import working_folder

__all__ = ["Phone", "PhoneLostError", "find_phone"]

_HOME = "/data/local/tmp"  # the one folder of a phone where adb's user may write and execute
_END = (
    "keras-iss-exit="  # older phones lose the exit code, and a cut connection looks like success: so echo it
)
_ANSWER_S = 60
_CLEAN_S = 20
_PUSH_S = 900
_DEVELOPER = "turn on USB debugging in the phone's developer options and use a cable that carries data"

# States as `adb devices` prints them (packages/modules/adb, transport.cpp and adb.cpp).
_STATES = {
    "unauthorized": "hasn't allowed this computer: unlock it and accept the question about USB debugging",
    "authorizing": "hasn't answered yet: unlock it and accept the question about USB debugging",
    "offline": "is offline: unplug it, plug it in again, and run `adb reconnect` if that isn't enough",
    "connecting": "is still connecting: wait a moment and try again",
    "no permissions": "may not be used by this user: add yourself to the group plugdev or install the udev rules",
    "bootloader": "is in its bootloader: start Android",
    "recovery": "is in recovery mode: start Android",
    "sideload": "is in sideload mode: start Android",
}


class PhoneLostError(ExportError):
    """The connection to the phone broke off in the middle."""


def find_phone(serial: str | None) -> Phone:
    """The phone of that serial number, or the only one there is.

    Raises:
        ExportError: There is no adb, no phone, more than one, or it doesn't let us in.
    """
    adb = _find_adb()
    found = _devices(adb)
    serial = serial or os.environ.get("ANDROID_SERIAL") or None
    if serial is not None and serial not in found:
        there = f"the phones there are: {', '.join(map(repr, found))}" if found else _DEVELOPER
        raise ExportError(f"adb knows no phone {serial!r}; {there}.")
    if not found:
        raise ExportError(f"adb finds no phone; {_DEVELOPER}.")
    if serial is None and len(found) > 1:
        raise ExportError(
            f"adb finds {len(found)} phones ({', '.join(map(repr, found))}); choose one with "
            f'device="adb:{next(iter(found))}".'
        )
    serial = serial or next(iter(found))
    if found[serial] != "device":
        why = _STATES.get(
            found[serial], f"is in the state {found[serial]!r}: start Android and connect it again"
        )
        raise ExportError(f"The phone {serial!r} {why}.")
    return Phone(adb, serial)


def _find_adb() -> str:
    roots = [os.environ[name] for name in ("ANDROID_HOME", "ANDROID_SDK_ROOT") if os.environ.get(name)]
    places = [None, *(os.path.join(root, "platform-tools") for root in roots)]
    adb = next(filter(None, (shutil.which("adb", path=place) for place in places)), None)
    if adb is None:
        raise ExportError(
            "There is no adb on the PATH; install Android's platform-tools and add their folder to the PATH, or "
            "set ANDROID_HOME."
        )
    return adb


def _devices(adb: str) -> dict[str, str]:
    """Serial number -> state, of every phone that adb lists."""
    mend = "try `adb kill-server` and then `adb devices`"
    try:
        done = _run([adb, "devices"], _ANSWER_S)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ExportError(f"adb doesn't work here ({error}); {mend}.") from error
    if done.returncode != 0:
        raise ExportError(f"adb doesn't work here ({_tail(done)}); {mend}.")
    lines = done.stdout.partition("List of devices attached")[2].splitlines()
    pairs = (line.split(maxsplit=1) for line in lines if len(line.split()) > 1 and not line.startswith("*"))
    # "no permissions (user in plugdev group; are your udev rules wrong?); see [http://...]" is one state.
    return {
        serial: "no permissions" if state.startswith("no permissions") else state.split()[0]
        for serial, state in pairs
    }


class Phone:
    """One phone, and a fresh folder of ours on it while the block runs."""

    def __init__(self, adb: str, serial: str):
        self.adb, self.serial = adb, serial
        self.folder = f"{_HOME}/keras-iss-{secrets.token_hex(8)}"
        self.left_behind = ""  # after the block: what couldn't be taken away, and how to

    def __enter__(self) -> Phone:
        try:
            code, text = self.shell(f"mkdir {self.folder}")  # fails where it exists: what we remove is ours
        except BaseException:
            self._clean(f"rmdir {self.folder}")
            raise
        if code != 0:
            raise self._no_space(text) or ExportError(
                f"The phone {self.serial!r} lets us create no folder in {_HOME} ({text}); check its free space and "
                "that it isn't restricted by a work profile."
            )
        return self

    def __exit__(self, kind, error, _) -> None:
        if not self._clean(f"rm -rf {self.folder}"):
            self.left_behind = (
                f"the folder {self.folder} is still on the phone; when it is connected again, remove it with: "
                f"adb -s {self.serial} shell rm -rf {self.folder}"
            )
            if isinstance(error, ExportError):
                error.args = (f"{str(error).rstrip('.')}; {self.left_behind}",)

    def _clean(self, command: str) -> bool:
        try:
            return self.shell(command, timeout=_CLEAN_S)[0] == 0
        except ExportError:
            return False

    def shell(self, command: str, timeout: float | None = None) -> tuple[int, str]:
        """Run a command on the phone.

        Returns:
            Its exit code and all it printed.

        Raises:
            PhoneLostError: The phone went away before the command ended.
        """
        done = self._adb("shell", f"({command}) 2>&1; echo {_END}$?", timeout=timeout or _ANSWER_S)
        text, mark, code = done.stdout.replace("\r\n", "\n").rpartition(_END)
        if not mark or not code.strip().isdigit():
            raise self._lost(done)
        return int(code), text.strip()

    def push(self, source: Path, name: str) -> str:
        """Copy a file of this computer into our folder.

        Returns:
            Its path on the phone.
        """
        target = f"{self.folder}/{name}"
        done = self._adb("push", str(source), target, timeout=_PUSH_S)
        said = f"{done.stdout}\n{done.stderr}"
        if full := self._no_space(said):
            raise full
        if done.returncode != 0:
            if not self._connected():
                raise self._lost(done)
            raise ExportError(
                f"The phone {self.serial!r} didn't take {str(source)!r} ({_tail(done)}); try again."
            )
        # An adb of old calls a push to a full phone a success.
        size = self.shell(f"wc -c < {target}")[1]
        if not size.isdigit() or int(size) != source.stat().st_size:
            raise ExportError(
                f"Only {size} of {source.stat().st_size} bytes of {str(source)!r} reached the phone "
                f"{self.serial!r}; free some space on it."
            )
        return target

    def push_bytes(self, data: bytes, name: str) -> str:
        """Write these bytes into our folder, as `push` does with a file."""
        with working_folder() as folder:
            file = Path(folder, name)
            file.write_bytes(data)
            return self.push(file, name)

    def pull(self, source: str) -> bytes | None:
        """The bytes of a file on the phone, or None where there is none."""
        code, text = self.shell(f"base64 {source}")
        try:
            return base64.b64decode(text) if code == 0 else None
        except ValueError:  # cut short
            return None

    def properties(self) -> dict[str, str]:
        """Android's system properties."""
        return dict(re.findall(r"^\[(.+?)\]: \[(.*)\]$", self.shell("getprop")[1], re.MULTILINE))

    def _adb(self, *words: str, timeout: float) -> subprocess.CompletedProcess[str]:
        try:
            return _run([self.adb, "-s", self.serial, *words], timeout)
        except subprocess.TimeoutExpired:
            raise PhoneLostError(
                f"The phone {self.serial!r} has not answered for {timeout:.0f} s; keep it awake, check the cable and "
                "try again."
            ) from None

    def _connected(self) -> bool:
        done = self._adb("get-state", timeout=_ANSWER_S)
        return done.returncode == 0 and done.stdout.strip() == "device"

    def _lost(self, done: subprocess.CompletedProcess[str]) -> PhoneLostError:
        return PhoneLostError(
            f"The connection to the phone {self.serial!r} broke off ({_tail(done)}); check the cable, keep the phone "
            "awake and try again."
        )

    def _no_space(self, text: str) -> ExportError | None:
        if "No space left on device" not in text:
            return None
        return ExportError(
            f"The phone {self.serial!r} has no space left in {_HOME}; free some space on it and try again."
        )


def _run(words: list[str], timeout: float) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        words, capture_output=True, text=True, errors="replace", timeout=timeout, stdin=subprocess.DEVNULL
    )


def _tail(done: subprocess.CompletedProcess[str]) -> str:
    """The last thing adb said that isn't about its own daemon."""
    said = [line.strip() for line in f"{done.stdout}\n{done.stderr}".splitlines()]
    said = [line for line in said if line and not line.startswith("*") and _END not in line]
    error = next((line for line in said if "error" in line.lower()), None)
    return error or (said[-1] if said else f"exit code {done.returncode}")
