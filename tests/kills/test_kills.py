"""Work that is killed: the harness at small size, and the moments that chance rarely hits."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from keras_iss.callbacks import Backup
from keras_iss.files import written_whole
from tests.kills.operations import OPERATIONS
from tests.kills.run import left_behind
from tflite_export.files import working_folder, write_whole

RUN = Path(__file__).with_name("run.py")
GONE = 2**22 + 1  # beyond the largest number that Linux gives to a process

pytestmark = pytest.mark.skipif(os.name != "posix", reason="needs fork and SIGKILL")


def test_killed_work_goes_on_to_the_same_result_and_leaves_nothing(tmp_path):
    command = [sys.executable, str(RUN), "--kills", "3", "--operations", "train", "strip", "sweep"]
    environment = os.environ | {"KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(
        [*command, "--json", str(tmp_path / "kills.json")],
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    summary = json.loads((tmp_path / "kills.json").read_text())
    assert summary["kills"] >= 3
    assert summary["found"] == []


def test_only_other_peoples_temporary_files_may_stay(tmp_path):
    empty = ("out", "tmp/tmpab_12345", "tmp/tmpcd_12345/assets", "tmp/keras-iss-1-a", "tmp/tmpshort")
    for name in (*empty, "tmp/tmpfull0000", "tmp/tmpfull0001/assets"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "tmp" / "tmpfull0000" / "part").write_text("")
    (tmp_path / "tmp" / "tmpfull0001" / "assets" / "part").write_text("")
    (tmp_path / "tmp" / "__autograph_generated_file1.py").write_text("")
    (tmp_path / "out" / "tmpab_12345").mkdir()
    left = left_behind(tmp_path, OPERATIONS["strip"])
    assert left == ["keras-iss-1-a", "tmpab_12345", "tmpfull0000", "tmpfull0001", "tmpshort"]


class Killed(BaseException):
    pass


def fit(folder, *, epochs=3, dies=None, keep=False):
    """A short training; `dies` is called with the callback's folder, and may raise."""
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    model.compile(keras.optimizers.Adam(0.1), "mse", run_eagerly=True)
    x = np.random.default_rng(0).normal(size=(8, 3))
    callbacks = [Backup(folder, keep=keep)]
    if dies is not None:
        callbacks.append(keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: dies(epoch)))
    history = model.fit(
        x, x[:, :2], epochs=epochs, batch_size=4, shuffle=False, verbose=0, callbacks=callbacks
    )
    return model.get_weights(), history.epoch


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return fit(tmp_path_factory.mktemp("whole") / "backup")[0]


def interrupted(folder):
    """A training that dies after its second epoch of three."""

    def dies(epoch):
        if epoch == 1:
            raise Killed

    with pytest.raises(Killed):
        fit(folder, dies=dies)


def assert_resumes(folder, whole, epochs):
    weights, run = fit(folder)
    assert run == epochs
    for got, want in zip(weights, whole, strict=True):
        np.testing.assert_allclose(got, want, atol=1e-7)
    assert not folder.exists()


def test_a_training_resumes_where_it_was(tmp_path, whole):
    interrupted(tmp_path / "backup")
    assert_resumes(tmp_path / "backup", whole, [2])


def test_a_backup_that_was_being_written_is_none(tmp_path, whole):
    interrupted(tmp_path / "backup")
    unfinished = shutil.copytree(tmp_path / "backup" / "epoch-2", tmp_path / "backup" / "unfinished")
    (unfinished / "latest.weights.h5").write_bytes(b"half")
    (unfinished / "training_metadata.json").write_text('{"epoch": 3')
    assert_resumes(tmp_path / "backup", whole, [2])


def test_of_two_backups_the_later_counts(tmp_path, whole):
    interrupted(tmp_path / "backup")
    (tmp_path / "backup" / "epoch-1").mkdir()  # half deleted
    (tmp_path / "backup" / "epoch-1" / "latest.weights.h5").write_bytes(b"half")
    assert_resumes(tmp_path / "backup", whole, [2])


def test_a_backup_that_was_being_deleted_at_the_end_is_none(tmp_path, whole):
    interrupted(tmp_path / "backup")
    (tmp_path / "backup" / "epoch-2").rename(tmp_path / "backup" / "unfinished")
    (tmp_path / "backup" / "unfinished" / "latest.weights.h5").unlink()
    assert_resumes(tmp_path / "backup", whole, [0, 1, 2])


def test_a_backup_that_is_kept_gives_the_weights_at_once(tmp_path, whole):
    fit(tmp_path / "backup", keep=True)
    assert_resumes(tmp_path / "backup", whole, [])


def test_what_is_the_user_s_stays_in_the_folder(tmp_path):
    (tmp_path / "backup").mkdir()
    (tmp_path / "backup" / "notes.txt").write_text("mine")
    fit(tmp_path / "backup", epochs=1)
    assert [path.name for path in (tmp_path / "backup").iterdir()] == ["notes.txt"]


@pytest.mark.parametrize("name", ["model.keras", "model", "[a].tflite"])
def test_the_next_run_removes_what_a_killed_one_left_beside_a_file(name, tmp_path):
    target = tmp_path / name
    ours = [f".{target.stem}.{GONE}{target.suffix}", f".{target.name}.{GONE}.part"]
    others = [
        f".{target.stem}.{os.getpid()}{target.suffix}.x",
        f".{target.stem}.x{target.suffix}",
        f"{name}.{GONE}",
    ]
    for each in (*ours, *others):
        (tmp_path / each).write_text("half")
    with written_whole(target) as beside:
        beside.write_text("one")
    write_whole(target, b"two")
    assert target.read_text() == "two"
    assert {path.name for path in tmp_path.iterdir()} == {name, *others}


def test_a_file_that_another_process_is_writing_is_left_alone(tmp_path):
    beside = tmp_path / f".model.{os.getppid()}.keras"
    beside.write_text("half")
    with written_whole(tmp_path / "model.keras") as own:
        own.write_text("whole")
    assert beside.exists()


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    (tmp_path / "model.keras").write_text("old")

    def write():
        with written_whole(tmp_path / "model.keras") as beside:
            beside.write_text("half")
            raise OSError("full")

    with pytest.raises(OSError, match="full"):
        write()
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("model.keras", "old")]


def test_temporary_folders_of_killed_processes_are_removed(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    for name in (f"keras-iss-{GONE}-x", f"keras-iss-{os.getppid()}-y", "keras-iss-demo", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "part").write_text("")
    with working_folder() as folder:
        assert Path(folder).parent == tmp_path
    assert {path.name for path in tmp_path.iterdir()} == {
        f"keras-iss-{os.getppid()}-y",
        "keras-iss-demo",
        "other",
    }
