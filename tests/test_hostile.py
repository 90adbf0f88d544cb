"""Files from a stranger: each is refused in one line that names it and the mend; none runs code or reaches other files."""

import json
import os
import pickle
import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest

from keras_iss.__main__ import main
from keras_iss.loading import LIMIT_VARIABLE, LoadingError, load_arrays, load_model
from keras_iss.masking import read_masks

h5py = pytest.importorskip("h5py")


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    """The members of a model's file."""
    path = tmp_path_factory.mktemp("good") / "good.keras"
    model = keras.Sequential(
        [keras.Input((6, 3)), keras.layers.LSTM(4, name="lstm"), keras.layers.Dense(2, name="head")]
    )
    model.save(path)
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


@pytest.fixture
def refused(tmp_path, capsys):
    """A function that writes a model's members, has the command line open them, and returns its one line."""

    def run(members, *, path=tmp_path / "strange.keras", compression=zipfile.ZIP_STORED):
        with zipfile.ZipFile(path, "w", compression) as archive:
            for name, content in members.items():
                archive.writestr(name, content)
        return one_line(["trace", path], capsys)

    return run


def one_line(words, capsys):
    assert main([str(word) for word in words]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1, lines
    return lines[0]


def with_config(good, change):
    config = json.loads(good["config.json"])
    found = change(config)
    return good | {"config.json": json.dumps(config if found is None else found)}


def layer(config, kind):
    return next(each for each in config["config"]["layers"] if each["class_name"] == kind)


class Touch:
    """What a pickle or a Lambda would do: leave a file."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return Path.touch, (Path(self.path),)


# ------------------------------------------------------------------------------------------------------- code


def test_a_lambda_layer_s_code_is_not_run(tmp_path, capsys):
    mark = str(tmp_path / "mark")
    evil = keras.layers.Lambda(lambda x: (open(mark, "w").close(), x)[1])
    keras.Sequential([keras.Input((6, 3)), evil, keras.layers.LSTM(4)]).save(tmp_path / "strange.keras")
    os.unlink(mark)  # building the model ran it
    assert "Lambda layer with Python code" in one_line(["trace", tmp_path / "strange.keras"], capsys)
    assert not os.path.exists(mark)


@pytest.mark.parametrize("field", ["activation", "kernel_initializer", "kernel_regularizer"])
def test_a_lambda_inside_another_layer_s_configuration_is_not_run(field, good, refused):
    def change(config):
        code = {
            "class_name": "__lambda__",
            "config": {"value": "4wAAAAA=", "defaults": None, "closure": None},
        }
        layer(config, "LSTM")["config"][field] = code

    assert "Lambda layer with Python code" in refused(with_config(good, change))


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("os", "system"),
        ("builtins", "eval"),
        ("subprocess", "Popen"),
        ("keras.utils", "get_file"),
        ("keras.config", "enable_unsafe_deserialization"),
        ("keras.saving", "load_model"),
        ("keras.src.utils.file_utils", "get_file"),
    ],
)
def test_what_is_no_layer_is_not_called(module, name, good, refused):
    def change(config):
        layer(config, "LSTM").update(
            module=module, class_name=name, registered_name=None, config={"name": "a"}
        )

    assert "strange.keras" in refused(with_config(good, change))


def test_a_graph_of_tensorflow_s_is_not_opened(good, refused):
    def change(config):
        layer(config, "LSTM").update(class_name="TFSMLayer", config={"filepath": "/tmp/x", "name": "a"})

    assert "does not run" in refused(with_config(good, change))


def test_a_vocabulary_in_another_file_is_not_read(tmp_path, capsys):
    (tmp_path / "words.txt").write_text("secret\n")
    look = keras.layers.StringLookup(vocabulary=str(tmp_path / "words.txt"))
    inputs = keras.Input((5,), dtype="string")
    x = keras.layers.LSTM(2)(keras.layers.Embedding(4, 3)(look(inputs)))
    keras.Model(inputs, x).save(tmp_path / "strange.keras")

    def change(config):
        layer(config, "StringLookup")["config"]["vocabulary"] = str(tmp_path / "words.txt")

    with zipfile.ZipFile(tmp_path / "strange.keras") as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(tmp_path / "strange.keras", "w") as archive:
        for name, content in with_config(members, change).items():
            archive.writestr(name, content)
    assert "secret" not in one_line(["trace", tmp_path / "strange.keras"], capsys)


def test_a_pickle_among_arrays_is_not_loaded(tmp_path, capsys):
    mark, path = tmp_path / "mark", tmp_path / "inputs.npz"
    array = np.empty(1, object)
    array[0] = Touch(mark)
    np.savez(path, x=array)
    with pytest.raises(LoadingError, match="holds no arrays"):
        load_arrays(path)
    with pytest.raises(ValueError, match="not a mask file"):
        read_masks(path, {})
    (tmp_path / "inputs.npy").write_bytes(pickle.dumps(Touch(mark)))
    with pytest.raises(LoadingError, match="holds no arrays"):
        load_arrays(tmp_path / "inputs.npy")
    (tmp_path / "model.tflite").write_bytes(b"\x1c\0\0\0TFL3" + bytes(99))
    assert "holds no arrays" in one_line(["bench", tmp_path / "model.tflite", "--inputs", path], capsys)
    assert not mark.exists()


# ------------------------------------------------------------------------------------------------ other files


@pytest.mark.parametrize(
    "name", ["../evil.txt", "/tmp/evil.txt", "assets/../../evil.txt", "..\\evil.txt", "C:evil"]
)
def test_a_member_that_leads_out_of_the_archive(name, good, refused):
    message = refused(good | {name: b"evil"})
    assert "leads out of the archive" in message
    assert "trust" in message


def test_a_member_that_is_a_link(good, tmp_path, capsys):
    with zipfile.ZipFile(tmp_path / "strange.keras", "w") as archive:
        for name, content in good.items():
            archive.writestr(name, content)
        link = zipfile.ZipInfo("assets/link")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "/etc/passwd")
    assert "leads out of the archive" in one_line(["trace", tmp_path / "strange.keras"], capsys)


def test_a_member_that_is_there_twice(good, tmp_path, capsys):
    with zipfile.ZipFile(tmp_path / "strange.keras", "w") as archive:
        for name, content in good.items():
            archive.writestr(name, content)
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("config.json", b"{}")
    assert "two members 'config.json'" in one_line(["trace", tmp_path / "strange.keras"], capsys)


def elsewhere(kind, file, tmp_path):
    """Puts the LSTM's kernel into another file, in one of HDF5's four ways."""
    (place,) = (name for name in ("layers/lstm/cell/vars",) if name in file)
    vars_ = file[place]
    shape = vars_["0"].shape
    del vars_["0"]
    other = tmp_path / "other.h5"
    with h5py.File(other, "w") as secret:
        secret["w"] = np.ones(shape, "float32")
    if kind == "external link":
        vars_["0"] = h5py.ExternalLink(str(other), "w")
    elif kind == "soft link":
        vars_["0"] = h5py.SoftLink("/layers/lstm/cell/vars/1")
    elif kind == "external storage":
        raw = tmp_path / "raw"
        raw.write_bytes(bytes(4 * int(np.prod(shape))))
        vars_.create_dataset("0", shape, "float32", external=[(str(raw), 0, h5py.h5f.UNLIMITED)])
    else:
        layout = h5py.VirtualLayout(shape, "float32")
        layout[:] = h5py.VirtualSource(str(other), "w", shape)
        vars_.create_virtual_dataset("0", layout)


@pytest.mark.parametrize("kind", ["external link", "soft link", "external storage", "virtual dataset"])
def test_weights_that_lie_in_another_file(kind, good, refused, tmp_path):
    weights = tmp_path / "weights.h5"
    weights.write_bytes(good["model.weights.h5"])
    with h5py.File(weights, "r+") as file:
        elsewhere(kind, file, tmp_path)
    assert "somewhere else" in refused(good | {"model.weights.h5": weights.read_bytes()})


def test_weights_whose_groups_hold_each_other_end(good, refused, tmp_path):
    weights = tmp_path / "weights.h5"
    weights.write_bytes(good["model.weights.h5"])
    with h5py.File(weights, "r+") as file:
        file["layers"]["again"] = file["/"]
        del file["layers/lstm/cell/vars/0"]
    assert "cannot be loaded" in refused(good | {"model.weights.h5": weights.read_bytes()})


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_is_not_waited_for(tmp_path, capsys):
    for command, name in (("trace", "pipe.keras"), ("bench", "pipe.tflite")):
        os.mkfifo(tmp_path / name)
        assert name in one_line([command, tmp_path / name], capsys)


# -------------------------------------------------------------------------------------------------- too large


@pytest.mark.parametrize("member", ["config.json", "model.weights.h5", "assets/zeros"])
def test_a_zip_bomb_is_not_unpacked(member, good, refused, monkeypatch):
    monkeypatch.setenv(LIMIT_VARIABLE, "0.01")
    message = refused(good | {member: bytes(20_000_000)}, compression=zipfile.ZIP_DEFLATED)
    assert "unpacks to 0.0 GB, more than the 0.01 GB allowed" in message
    assert f"set {LIMIT_VARIABLE}=" in message


def test_a_bomb_of_arrays_is_not_unpacked(tmp_path, monkeypatch):
    monkeypatch.setenv(LIMIT_VARIABLE, "0.01")
    np.savez_compressed(tmp_path / "inputs.npz", x=np.zeros(4_000_000, "float32"))
    with pytest.raises(LoadingError, match="unpacks to"):
        load_arrays(tmp_path / "inputs.npz")


def test_the_limit_can_be_raised(good, tmp_path, monkeypatch):
    path = tmp_path / "model.keras"
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in good.items():
            archive.writestr(name, content)
    monkeypatch.setenv(LIMIT_VARIABLE, "0.000001")
    with pytest.raises(LoadingError, match=LIMIT_VARIABLE):
        load_model(path)
    monkeypatch.setenv(LIMIT_VARIABLE, "0.1")
    assert load_model(path).count_params() == 138


@pytest.mark.parametrize("value", ["four", "0", "-1", "nan"])
def test_a_limit_that_is_no_number_is_named(value, good, refused, monkeypatch):
    monkeypatch.setenv(LIMIT_VARIABLE, value)
    assert f"{LIMIT_VARIABLE} is {value!r}" in refused(good)


def many_units(config):
    layer(config, "Dense")["config"]["units"] = 10**10


def long_input(config):
    layer(config, "InputLayer")["config"]["batch_shape"] = [None, 10**10, 3]


@pytest.mark.parametrize("change", [many_units, long_input])
def test_a_small_file_that_asks_for_a_large_model(change, good, refused):
    assert "asks for weights and inputs of" in refused(with_config(good, change))


def test_layers_that_do_not_fit_take_no_memory_either(good, refused):
    def change(config):
        layer(config, "LSTM")["config"]["units"] = 10**6

    assert "cannot be loaded" in refused(with_config(good, change))


def test_stateful_layers_are_loaded(tmp_path):
    model = keras.Sequential([keras.Input(batch_shape=(2, 6, 3)), keras.layers.LSTM(4, stateful=True)])
    model.save(tmp_path / "model.keras")
    assert load_model(tmp_path / "model.keras").layers[0].stateful


def test_weights_that_claim_more_than_they_hold(good, refused, tmp_path):
    weights = tmp_path / "weights.h5"
    weights.write_bytes(good["model.weights.h5"])
    with h5py.File(weights, "r+") as file:
        del file["layers/lstm/cell/vars/0"]
        file["layers/lstm/cell/vars"].create_dataset("0", (10**6, 10**6), "float32", chunks=(1000, 1000))
    assert "holds weights of 3,725" in refused(good | {"model.weights.h5": weights.read_bytes()})


def test_a_configuration_nested_too_deep(good, refused):
    for depth in (500, 100_000):
        deep = '{"config":' * depth + "0" + "}" * depth
        assert "nested more than" in refused(good | {"config.json": deep})


def test_a_configuration_too_large(good, refused):
    members = good | {"config.json": b" " * (64 * 1024**2 + 1)}
    assert "configuration of 64 MB" in refused(members, compression=zipfile.ZIP_DEFLATED)


def test_thousands_of_members(good, refused):
    assert "holds 10,0" in refused(good | {f"assets/{n}": b"" for n in range(10_000)})


# ---------------------------------------------------------------------------------------------------- damaged


@pytest.mark.parametrize(
    "content", [b"", b"[]", b"{}", b"null", b'"LSTM"', b"\xff\xfe", b"{", b'{"class_name": 1}']
)
def test_a_configuration_that_is_no_model(content, good, refused):
    assert "strange.keras cannot be loaded" in refused(good | {"config.json": content})


def test_an_encrypted_member(good, tmp_path, capsys):
    path = tmp_path / "strange.keras"
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in good.items():
            archive.writestr(name, content)
    data = bytearray(path.read_bytes())
    data[data.index(b"config.json") - 24] |= 1  # in the header of the member, and in that of the directory
    data[data.rindex(b"config.json") - 38] |= 1
    path.write_bytes(data)
    assert "cannot be loaded" in one_line(["trace", path], capsys)


def test_a_name_that_steers_the_terminal(good, refused):
    def change(config):
        layer(config, "LSTM")["config"]["name"] = "\x1b[2Jlstm"

    message = refused(with_config(good, change))
    assert "steers terminals" in message
    assert "\x1b" not in message
