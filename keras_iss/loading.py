"""Opening a model from a stranger: what a `.keras` file holds is looked at before Keras opens it.

A `.keras` file is a zip archive of a configuration (JSON) and weights (HDF5). Keras's safe mode keeps it from running code;
what is checked here keeps it from reaching other files and from taking more memory than the user allows.
docs/security.md lists the checks and their limits.
"""

from __future__ import annotations

import contextlib
import io
import json
import math
import os
import re
import stat
import zipfile
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import h5py
    import keras
    import numpy as np

__all__ = ["LIMIT_VARIABLE", "LoadingError", "load_arrays", "load_model", "one_line"]

LIMIT_VARIABLE = "KERAS_ISS_MAX_GB"
_LIMIT_GB = 4.0
_GB = 1024**3
_CONFIG = "config.json"
_CONFIG_BYTES = 64 * 1024**2
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")  # Keras prints some of its messages in bold
_DEPTH = 150  # of JSON; a model inside a model adds about six
_MEMBERS = 10_000


class LoadingError(ValueError):
    """A file can't be loaded, or isn't safe to be; one sentence that names it and the mend."""


def load_model(path: str | os.PathLike[str], *, with_optimizer: bool = False) -> keras.Model:
    """Loads a `.keras` file in Keras's safe mode, after looking at what it holds.

    Nothing in the file is run as code. Its unpacked members together, and the weights that its configuration asks for,
    may take up to 4 GB; the environment variable KERAS_ISS_MAX_GB raises that.

    Args:
        path: The file.
        with_optimizer: Whether to load the optimizer, loss and metrics too.

    Returns:
        The model.

    Raises:
        LoadingError: The file is missing, damaged, too large, asks for code to be run, reaches for other files, or
            holds classes that aren't known here.

    Example:

    >>> import tempfile, keras
    >>> from keras_iss.loading import load_model
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     keras.Sequential([keras.Input((6, 3)), keras.layers.LSTM(4)]).save(f"{folder}/model.keras")
    ...     load_model(f"{folder}/model.keras").count_params()
    128
    """
    path = Path(path)
    _check_is_file(path)
    if path.suffix != ".keras":
        raise LoadingError(
            f"{path} is not a .keras file: load it in Python and save it with model.save('NAME.keras')"
        )
    limit = _limit()
    config = _checked_config(path, limit)
    import keras

    from keras_iss import layers, optimizers  # noqa: F401 (makes them known to Keras's loading)

    _check_weights(path, config, limit)
    try:
        return keras.models.load_model(path, compile=with_optimizer, safe_mode=True)
    except Exception as error:
        raise LoadingError(_mend(path, error)) from error


def load_arrays(path: str | os.PathLike[str]) -> Any:
    """An array, or a dictionary of them, from numpy's files; pickled objects are never loaded.

    Args:
        path: An `.npy` or `.npz` file.

    Raises:
        LoadingError: The file is missing, holds something else, or is larger than KERAS_ISS_MAX_GB allows.
    """
    path = Path(path)
    _check_is_file(path)
    import numpy as np

    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                _check_members(path, archive.infolist(), _limit())
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return _numbers(loaded)
        with loaded:
            return {name: _numbers(loaded[name]) for name in loaded.files}
    except LoadingError:
        raise
    except Exception as error:  # a damaged file fails in many ways
        raise LoadingError(
            f"{path} holds no arrays: save the inputs with numpy.save or numpy.savez ({one_line(error)})"
        ) from error


def _numbers(array: Any) -> np.ndarray:
    if getattr(array, "dtype", None) is None or array.dtype.kind not in "biuf":
        raise TypeError(f"expected numbers, not {getattr(array, 'dtype', type(array).__name__)}")
    return array


def one_line(error: BaseException) -> str:
    """What an error says, on one line of at most 300 characters, none of which steers a terminal."""
    text = " ".join(_COLOURS.sub("", str(error)).split()) or type(error).__name__
    text = "".join(c if c.isprintable() else "?" for c in text)
    return text if len(text) <= 300 else f"{text[:297]}..."


# ---------------------------------------------------------------------------------------------- the archive


def _check_is_file(path: Path) -> None:
    if path.is_dir():
        raise LoadingError(f"{path} is a folder, not a file: name the file inside it")
    if not path.exists():
        raise LoadingError(f"{path} does not exist: check the name")
    if not path.is_file():
        raise LoadingError(f"{path} is not an ordinary file: copy what it holds into one")


def _limit() -> float:
    """Bytes."""
    text = os.environ.get(LIMIT_VARIABLE, "")
    with contextlib.suppress(ValueError):
        if (limit := float(text or _LIMIT_GB)) > 0:
            return limit * _GB
    raise LoadingError(f"{LIMIT_VARIABLE} is {text!r}: set it to a number of gigabytes above 0, such as 16")


def _too_large(path: Path, what: str, size: float, limit: float) -> LoadingError:
    return LoadingError(
        f"{path} {what} {size / _GB:,.1f} GB, more than the {limit / _GB:g} GB allowed: if you trust the file, set "
        f"{LIMIT_VARIABLE}={math.ceil(min(size / _GB, 1e12)) + 1}"
    )


def _checked_config(path: Path, limit: float) -> dict[str, Any]:
    """The configuration in an archive whose members and weights are harmless."""
    if not zipfile.is_zipfile(path):
        raise LoadingError(
            f"{path} is damaged or cut short (no zip archive): copy it again or save the model again"
        )
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            _check_members(path, members, limit)
            names = {member.filename for member in members}
            if _CONFIG not in names:
                raise LoadingError(f"{path} cannot be loaded, it has no {_CONFIG}: save the model again")
            config = _parsed(path, archive)
            for name in sorted(names):
                if name.endswith(".h5"):
                    _check_hdf5(path, io.BytesIO(archive.read(name)), limit)
    except LoadingError:
        raise
    except Exception as error:  # a damaged archive fails in many ways
        raise LoadingError(_mend(path, error)) from error
    return config


def _check_members(path: Path, members: list[zipfile.ZipInfo], limit: float) -> None:
    if len(members) > _MEMBERS:
        raise LoadingError(
            f"{path} holds {len(members):,} members, more than {_MEMBERS:,}: save the model again"
        )
    seen = set()
    for member in members:
        name = PurePosixPath(member.filename)
        reaches_out = name.is_absolute() or ".." in name.parts or re.match(r"[A-Za-z]:|.*\\", member.filename)
        if reaches_out or stat.S_ISLNK(member.external_attr >> 16):
            raise LoadingError(
                f"{path} holds the member {member.filename!r}, which leads out of the archive: do not use the file, "
                "get it from a source you trust"
            )
        if member.filename in seen:
            raise LoadingError(f"{path} holds two members {member.filename!r}: save the model again")
        seen.add(member.filename)
    size = sum(member.file_size for member in members)
    if size > limit:
        raise _too_large(path, "unpacks to", size, limit)


def _parsed(path: Path, archive: zipfile.ZipFile) -> dict[str, Any]:
    size = archive.getinfo(_CONFIG).file_size
    if size > _CONFIG_BYTES:
        raise LoadingError(
            f"{path} has a configuration of {size / 1024**2:,.0f} MB, more than {_CONFIG_BYTES // 1024**2}: save large "
            "constants as weights"
        )
    too_deep = LoadingError(
        f"{path} has a configuration nested more than {_DEPTH} deep: build the model flatter and save it again"
    )
    try:
        config = json.loads(archive.read(_CONFIG))
    except RecursionError:
        raise too_deep from None
    if not isinstance(config, dict):
        raise LoadingError(f"{path} cannot be loaded, its configuration is no model: save the model again")
    for depth, each in _walk(config):
        if depth > _DEPTH:
            raise too_deep
        if not isinstance(each, Mapping):
            continue
        if each.get("class_name") == "__lambda__":
            raise LoadingError(_code(path))
        if not str(each.get("name", "")).isprintable():
            raise LoadingError(
                f"{path} holds the name {each['name']!a}, which steers terminals: rename that layer and save again"
            )
    return config


def _walk(config: Any) -> Iterator[tuple[int, Any]]:
    """Every part of the configuration with its depth."""
    waiting = [(0, config)]
    while waiting:
        depth, each = waiting.pop()
        yield depth, each
        inner = each.values() if isinstance(each, dict) else each if isinstance(each, list) else ()
        waiting += ((depth + 1, part) for part in inner)


def _check_hdf5(path: Path, data: io.BytesIO, limit: float) -> None:
    """Raises if weights lie in other files, or claim more room than is allowed."""
    import h5py

    with h5py.File(data, "r") as file:
        size = 0
        for dataset in _datasets(path, file):
            if dataset.external or dataset.is_virtual:
                raise _linked(path, dataset.name)
            size += math.prod(dataset.shape or ()) * dataset.dtype.itemsize
    if size > limit:
        raise _too_large(path, "holds weights of", size, limit)


def _datasets(path: Path, file: h5py.File) -> Iterator[h5py.Dataset]:
    import h5py

    waiting: list[h5py.Group] = [file]
    seen = set()
    while waiting:
        group = waiting.pop()
        place = h5py.h5o.get_info(group.id).addr
        if place in seen:  # a group may hold itself
            continue
        seen.add(place)
        for name in group:
            if isinstance(group.get(name, getlink=True), (h5py.ExternalLink, h5py.SoftLink)):
                raise _linked(path, f"{group.name}/{name}")
            each = group[name]
            if isinstance(each, h5py.Group):
                waiting.append(each)
            elif isinstance(each, h5py.Dataset):
                yield each


def _linked(path: Path, name: str | None) -> LoadingError:
    return LoadingError(
        f"{path} keeps the weights {name!r} somewhere else: do not use the file, get it from a source you trust"
    )


# -------------------------------------------------------------------------------------------------- the model


def _check_weights(path: Path, config: dict[str, Any], limit: float) -> None:
    """Raises if the configuration asks for more weights or a larger input than is allowed, or can't be followed."""
    # Keras keeps its state by thread: in one of its own the names that are given away, and the variables that wait
    # for a value, are forgotten with it.
    with ThreadPoolExecutor(1) as pool:
        try:
            size = pool.submit(_asked_for, config).result()
        except Exception as error:
            if "stateless scope" in str(error):  # a layer that wants values at once: only loading can tell
                return
            raise LoadingError(_mend(path, error)) from error
    if size > limit:
        raise _too_large(path, "asks for weights and inputs of", size, limit)


def _asked_for(config: dict[str, Any]) -> float:
    """The bytes of all weights and of one sample, of a model whose weights get no values."""
    import keras

    # A stateful layer would create its states with their values, which such a scope can't.
    plain = json.loads(json.dumps({**config, "compile_config": None}), object_hook=_stateless)
    with keras.StatelessScope(initialize_variables=False):
        model = keras.saving.deserialize_keras_object(plain, safe_mode=True)
    inputs = getattr(model, "inputs", None) or []
    shapes = [v.shape for v in getattr(model, "variables", ())] + [x.shape for x in inputs]
    return 4.0 * sum(math.prod(n or 1 for n in shape) for shape in shapes)


def _stateless(config: dict[str, Any]) -> dict[str, Any]:
    return {**config, "stateful": False} if "stateful" in config else config


def _mend(path: Path, error: Exception) -> str:
    """Condenses what Keras says of a file that it can't load."""
    text = str(error)
    if unknown := re.search(r"Could not locate (class|function) '([^']+)'", text):
        return (
            f"{path} holds the {unknown[1]} {unknown[2]!r}, which this command does not know: load the model in "
            "Python, where that class or function is imported, and call keras_iss there"
        )
    if "safe_mode" in text:
        return _code(path)
    return (
        f"{path} cannot be loaded, it is damaged or of another Keras version: save the model again "
        f"({one_line(error)})"
    )


def _code(path: Path) -> str:
    return (
        f"{path} holds a Lambda layer with Python code, which this command does not run: if you trust the file, "
        "load it in Python with safe_mode=False and call keras_iss there"
    )
