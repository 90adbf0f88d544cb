"""The frontier example, on a small archive of tones in FSDD's layout; on the real one where it is at hand."""

import dataclasses
import io
import json
import wave
import zipfile

import numpy as np
import pytest
from frontier import data, features, main, measure
from frontier.model import Batches, Recipe, scores

import keras_iss
from tests.examples.real_data import REAL, needs

TAKES = (0, 4, 5, 6, 7)


def tone(digit, take):
    """0.3 s of the digit's own pitch, 16-bit."""
    time = np.arange(2400 + 100 * take) / data.RATE
    return (9000 * np.sin(2 * np.pi * (300 + 250 * digit) * time)).astype("<i2")


def recorded(samples, channels=1):
    file = io.BytesIO()
    with wave.open(file, "wb") as written:
        written.setparams((channels, 2, data.RATE, len(samples), "NONE", ""))
        written.writeframes(samples.tobytes())
    return file.getvalue()


def archive(path, *, prefix="", files=None):
    """Writes tones of ten digits and two speakers, or other files."""
    names = [(d, s, t) for d in range(10) for s in ("ann", "bob_b") for t in TAKES]
    given = {f"recordings/{d}_{s}_{t}.wav": recorded(tone(d, t)) for d, s, t in names}
    with zipfile.ZipFile(path, "w") as packed:
        packed.writestr(f"{prefix}README.md", "Free Spoken Digit Dataset")
        for name, content in (given if files is None else files).items():
            packed.writestr(prefix + name, content)
    return path


# --- the archive


@pytest.mark.parametrize("prefix", ["", "free-spoken-digit-dataset-master/"])
def test_the_archive_is_read_and_split_as_its_readme_says(tmp_path, prefix):
    training, test = data.read(archive(tmp_path / data.NAME, prefix=prefix))
    assert {r.take for r in test} == {0, 4}
    assert {r.take for r in training} == {5, 6, 7}
    assert (len(training), len(test)) == (60, 40)
    chosen = next(r for r in test if (r.digit, r.speaker, r.take) == (3, "bob_b", 4))
    np.testing.assert_allclose(chosen.samples * 32768, tone(3, 4))


def test_settings_are_chosen_on_the_training_set_s_first_takes(tmp_path):
    takes = [data.Recording(d, "ann", take, np.zeros(9)) for d in range(10) for take in range(5, 13)]
    training, test = data.held_out(takes)
    assert ({r.take for r in training}, {r.take for r in test}) == ({10, 11, 12}, {5, 6, 7, 8, 9})
    assert len(training) + len(test) == len(takes)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"notes.txt": b""}, "is no FSDD archive: expected recordings/DIGIT_SPEAKER_TAKE.wav"),
        (
            {"recordings/1_ann_0.wav": b"RIFF"},
            "can't be read .*: it is damaged. Fetch it again from https://",
        ),
        (
            {"recordings/1_ann_0.wav": recorded(tone(1, 0), 2)},
            "has 2 channels of 16 bits, 8000 samples a second",
        ),
        ({"recordings/1_ann_0.wav": bytes(2**20 + 1)}, "has 1,048,577 bytes; expected a spoken digit"),
    ],
)
def test_a_spoiled_archive_is_refused_with_what_is_wrong(files, message, tmp_path):
    with pytest.raises(data.ArchiveError, match=message):
        data.read(archive(tmp_path / data.NAME, files=files))


def test_a_truncated_archive_is_told(tmp_path):
    path = archive(tmp_path / data.NAME)
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(data.ArchiveError, match=r"can't be read .* it is damaged"):
        data.read(path)


def test_the_archive_is_found_and_else_a_user_sees_one_line(tmp_path, capsys, monkeypatch):
    (tmp_path / "fsdd").mkdir()
    path = archive(tmp_path / "fsdd" / data.NAME)
    assert data.find(tmp_path) == data.find(path) == path
    monkeypatch.setenv("KERAS_ISS_DATA", str(tmp_path))
    assert data.find(None) == path
    assert main.main(["--data", str(tmp_path / "nowhere"), "--output", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err.startswith("error: No FSDD archive in ")


def test_offline_the_download_fails_with_the_address_and_the_mend(offline):
    with pytest.raises(data.ArchiveError, match="can't be downloaded.*--data or KERAS_ISS_DATA"):
        data.find(None)


@needs(f"fsdd/{data.NAME}", "the FSDD archive")
def test_the_real_archive_has_its_published_size():
    training, test = data.read(data.find(REAL))
    assert (len(training), len(test)) == (2700, 300)
    assert len({r.speaker for r in training}) == len({r.speaker for r in test}) == 6


# --- features, batches, scores


@pytest.fixture(scope="module")
def tones(tmp_path_factory):
    """Both sets of an archive of tones, with little noise."""
    path = archive(tmp_path_factory.mktemp("tones") / data.NAME)
    return features.load(*data.read(path), copies=2, snr=(30.0, 30.0))


def test_features_are_normal_differ_between_copies_and_show_the_tone(tones):
    training, test = tones
    assert training.x.shape == (2, 60, features.STEPS, features.MELS)
    np.testing.assert_allclose(training.x.mean((0, 1, 2)), 0, atol=1e-3)
    np.testing.assert_allclose(training.x.std((0, 1, 2)), 1, atol=1e-2)
    assert np.abs(training.x[0] - training.x[1]).max() > 1
    peaks = [test.x[0][test.y == digit].max(1).mean(0).argmax() for digit in (0, 4, 9)]
    assert peaks == sorted(set(peaks)), "a higher digit has a higher pitch"


def test_speech_is_as_much_louder_than_the_noise_as_asked(monkeypatch, tmp_path):
    heard = []
    monkeypatch.setattr(
        features, "_log_mel", lambda waves: heard.append(waves) or np.zeros((len(waves), 1, 1))
    )
    _, test = data.read(archive(tmp_path / data.NAME))
    clean = np.stack([features._placed(r.samples, 0.0) for r in test])
    features._noisy(test, 1, (6.0, 6.0), 0)
    power = (heard[0] ** 2).mean(1) / (clean**2).mean(1)
    # Noise that happens to lie on a tone is no exact sum of powers; of most recordings it is.
    assert np.median(power) == pytest.approx(1 + 10**-0.6, rel=0.01)


def test_an_epoch_s_batches_depend_on_seed_and_number_only(tones):
    def epoch(number, seed=1):
        batches = Batches(tones[0], 16, seed)
        batches.begin(number)
        assert len(batches) == 3
        return np.concatenate([batches[i][0] for i in range(3)])

    np.testing.assert_array_equal(epoch(3), epoch(3))
    assert (epoch(3) != epoch(5)).any()
    assert (epoch(3) != epoch(3, seed=2)).any()


def test_scores_are_those_of_the_definition():
    logits = np.log([[0.7, 0.2, 0.1], [0.3, 0.6, 0.1]])
    found = scores(logits, np.array([0, 0]))
    assert found == pytest.approx({"misheard": 0.5, "nats": -(np.log(0.7) + np.log(0.3)) / 2})


# --- the table


def made(metrics):
    """A sweep of hand-made points: name -> misheard, ms."""
    found = keras_iss.Sweep(rows=(), monitor="misheard")
    for name, (misheard, ms) in metrics.items():
        method = name.rpartition("-")[0] or name
        figures = {measure.SIZE: 100 * ms, measure.TIME: ms}
        found = found.add(name, method=method, metric=misheard, macs=1000, parameters=100, measured=figures)
    return found


def test_at_equal_metric_the_cheapest_point_that_is_good_enough_counts():
    found = made(
        {"dense": (0.10, 4.0), "iss-0.5": (0.104, 2.0), "iss-0.9": (0.115, 1.0), "other-0.5": (0.13, 3.0)}
    )
    lines = measure.at_equal_metric(found).splitlines()
    assert lines[0] == "| misheard at most | dense: ms / kB | iss: ms / kB | other: ms / kB |"
    assert lines[2:5] == [
        "| 10.5% | 4.000 / 400 | 2.000 / 200 | – |",
        "| 11.0% | 4.000 / 400 | 2.000 / 200 | – |",
        "| 12.0% | 4.000 / 400 | 1.000 / 100 | – |",
    ]


def test_the_mean_over_seeds_is_of_the_points_that_all_have():
    first = made({"dense": (0.10, 4.0), "iss-0.5": (0.2, 2.0), "iss-0.9": (0.3, 1.0)})
    second = made({"dense": (0.12, 6.0), "iss-0.5": (0.4, 2.0)})
    mean = measure.mean([first, second])
    assert [row.name for row in mean.rows] == ["dense", "iss-0.5"]
    assert mean["iss-0.5"].metric == pytest.approx(0.3)
    assert mean["dense"].measured == {measure.SIZE: 500.0, measure.TIME: 5.0}


# --- the whole run


def test_the_whole_run_gives_every_method_on_the_same_axes_and_goes_on_where_it_ended(
    tmp_path, monkeypatch, capsys
):
    pytest.importorskip("tensorflow_model_optimization")
    monkeypatch.setattr(main, "SMOKE_EVERY", 1)
    tiny = Recipe(units=16, start_epochs=2, epochs=2, copies=1, batch_size=20, targets=(0.6,), runs=2)
    monkeypatch.setattr(main, "SMOKE", tiny)
    sets, measured = kept(monkeypatch, features, "load"), kept(monkeypatch, measure, "latency")
    path = archive(tmp_path / data.NAME)
    asked = [
        "--smoke",
        "--data",
        str(path),
        "--output",
        str(tmp_path / "out"),
        "--seeds",
        "3",
        "--methods",
        *main.METHODS[:4],
        "--ramp-epochs",
        "2",
    ]
    assert main.main(asked) == 0
    result = json.loads((tmp_path / "out" / "seed3.json").read_text())
    assert result["recipe"] == json.loads(json.dumps(dataclasses.asdict(tiny)))
    assert result["command"].endswith(
        "--smoke --data DIR --output DIR --seeds 3 --methods iss one_shot cut tfmot --ramp-epochs 2"
    )
    assert str(tmp_path) not in json.dumps(result)
    assert result["settings"]["pruning"] == {"ramp_epochs": 2}
    rows = {row["name"]: row for row in result["rows"]}
    assert list(rows) == ["dense", "iss-0.6", "one_shot-0.6", "cut-0.6", "tfmot-0.6"]
    assert rows["tfmot-0.6"]["parameters"] == pytest.approx(rows["iss-0.6"]["parameters"], rel=0.01)
    assert rows["tfmot-0.6"]["macs"] == rows["dense"]["macs"]
    assert rows["iss-0.6"]["macs"] <= 0.4 * rows["dense"]["macs"]
    assert rows["cut-0.6"]["macs"] == rows["one_shot-0.6"]["macs"]
    assert {row["trainings"] for row in rows.values()} == {1}
    assert all(row["measured"][measure.TIME] > 0 for row in rows.values())
    assert (tmp_path / "out" / "frontier.png").stat().st_size > 10_000
    models = {
        file: file.stat().st_mtime_ns
        for file in (tmp_path / "out").rglob("*.keras")
        if "cut" not in file.name
    }
    assert len(models) == 5
    monkeypatch.setattr(main.features, "load", lambda *part, **how: sets[0])
    monkeypatch.setattr(main.measure, "latency", lambda sweeps, folders, runs: measured[0])
    capsys.readouterr()
    assert main.main(asked) == 0
    assert "Epoch" not in capsys.readouterr().out, "nothing is trained again"
    assert models == {file: file.stat().st_mtime_ns for file in models}


def kept(monkeypatch, module, name):
    """What a function of the example returns from now on."""
    function, found = getattr(module, name), []

    def keeps(*given, **how):
        found.append(function(*given, **how))
        return found[-1]

    monkeypatch.setattr(module, name, keeps)
    return found
