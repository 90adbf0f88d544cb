"""The speech example, after its data is read, on a small archive of tones in AN4's layout."""

import dataclasses
import json
import shutil

import keras
import numpy as np
import pytest

pytest.importorskip("jiwer", reason="pip install 'keras-iss[examples]'")
pytest.importorskip("scipy", reason="pip install 'keras-iss[examples]'")

from an4_speech import data, decode, features, main, model, plans, train
from an4_speech.batches import Augmentation, Batches, Normalizer
from runs import collect

from tests.examples.made_up_tones import WORDS, archive

# --- features and batches


def band(hertz):
    """The mel band nearest to a frequency: 64 centres evenly spaced in HTK's mel from 20 to 8000 Hz."""

    def mel(f):
        return 2595 * np.log10(1 + np.asarray(f) / 700)

    centres = np.linspace(mel(20), mel(8000), features.MELS + 2)[1:-1]
    return int(np.abs(centres - mel(hertz)).argmin())


def test_features_have_100_frames_a_second_and_a_tone_in_its_band():
    wave = 0.3 * np.sin(2 * np.pi * 1000 * np.arange(24000) / 16000)
    short, long = features.log_mel([wave[:8080], wave])
    assert (short.shape, long.shape) == ((51, 64), (151, 64))
    assert long.dtype == np.float16
    assert set(long[5:-5].argmax(1)) == {band(1000)}
    np.testing.assert_allclose(short[5:45], long[5:45], atol=1e-2)


def test_speed_changes_length_and_pitch_together():
    samples = (10000 * np.sin(2 * np.pi * 1000 * np.arange(16000) / 16000)).astype("int16")
    (frames,) = features.log_mel([features.at_speed(samples, 125)])
    assert len(frames) == 81
    assert set(frames[5:-5].argmax(1)) == {band(1250)}


def test_features_are_read_from_their_file_until_the_archive_is_another(tmp_path, monkeypatch):
    monkeypatch.setattr(features, "SPEEDS", (94, 100))
    path = archive(tmp_path / data.NAMES[0])
    first = features.load(path, tmp_path / "features.npz")
    with monkeypatch.context() as patched:
        patched.setattr(data, "read", lambda path: pytest.fail("computed again"))
        again = features.load(path, tmp_path / "features.npz")
        for a, b in zip(first, again, strict=True):
            assert (a.texts, a.speakers) == (b.texts, b.speakers)
            for speed in a.frames:
                for x, y in zip(a.frames[speed], b.frames[speed], strict=True):
                    np.testing.assert_array_equal(x, y)
        path.write_bytes(path.read_bytes() + b"\0" * 512)
        with pytest.raises(pytest.fail.Exception, match="computed again"):
            features.load(path, tmp_path / "features.npz")


def test_an_epochs_batches_depend_on_seed_and_number_only(tones):
    def epoch(number, seed=1):
        batches = Batches(tones[0], 5, Normalizer(), Augmentation(), seed=seed)
        batches.begin(number)
        return [batches[i] for i in range(len(batches))]

    once = epoch(3)
    for (x, y), (x_again, y_again) in zip(once, epoch(3), strict=True):
        np.testing.assert_array_equal(x, x_again)
        np.testing.assert_array_equal(y, y_again)
    assert any((y != other).any() for (_, y), (_, other) in zip(once, epoch(4), strict=True))
    assert any((y != other).any() for (_, y), (_, other) in zip(once, epoch(3, seed=2), strict=True))
    assert all(x.shape[0] == 5 and x.shape[1] % 16 == 0 and x.shape[2] == 192 for x, _ in once)
    texts = [decode.text(row) for _, y in once for row in y.tolist()]
    assert len(texts) == 25
    assert set(texts) == set(WORDS)


def test_test_batches_are_the_utterances_as_they_are_padded_with_zeros(tones):
    batches = Batches(tones[1], 4, Normalizer())
    alone = list(batches.utterances())
    seen = {}
    for index in range(len(batches)):
        x, y = batches[index]
        for i, row, label in zip(batches.batches[index], x, y, strict=True):
            seen[int(i)] = decode.text(label.tolist())
            length = alone[i].shape[1]
            np.testing.assert_array_equal(row[:length], alone[i][0])
            assert not row[length:].any()
    assert [seen[i] for i in range(6)] == list(WORDS)


def test_normalized_bands_have_mean_0_and_deviation_1(tones):
    frames = tones[1].frames[100][0].astype("float32")
    normal = Normalizer()(frames)
    np.testing.assert_allclose(normal.mean(0), 0, atol=1e-4)
    np.testing.assert_allclose(normal.std(0), 1, atol=0.02)
    fixed = Normalizer.of(tones[1])
    every = np.concatenate([fixed(f.astype("float32")) for f in tones[1].frames[100]])
    np.testing.assert_allclose(every.mean(0), 0, atol=1e-3)


def test_noise_is_as_loud_as_drawn_and_masks_stay_within_their_widths(tones):
    frames = tones[1].frames[100][0].astype("float32")
    random = np.random.default_rng(0)
    added = Augmentation(noise=1.0, snr=(10.0, 10.0)).add_noise(frames, random)
    extra = np.exp(added.astype("float64")) - np.exp(frames.astype("float64"))
    assert (extra > 0).all()
    assert Augmentation(noise=0.0).add_noise(frames, random) is frames
    ones = np.ones((90, 64), "float32")
    for seed in range(20):
        masked = ones.copy()
        Augmentation().mask(masked, np.random.default_rng(seed))
        assert (masked.any(0) == 0).sum() <= 20
        assert (masked.any(1) == 0).sum() <= 20


# --- decoding


def logits(*steps):
    """Logits (1, steps, characters) from {character: probability} per step; "_" is the blank."""
    found = np.full((1, len(steps), len(decode.ALPHABET)), 1e-9)
    for t, step in enumerate(steps):
        for character, probability in step.items():
            found[0, t, decode.ALPHABET.index(character.replace("_", "\0"))] = probability
    return np.log(found)


def test_greedy_joins_repeats_and_drops_blanks():
    spelled = logits(*({c: 0.9} for c in "AA_AB_ _  B"))
    assert decode.greedy(spelled) == ["AAB B"]


def test_beam_adds_up_alignments_that_greedy_misses():
    unsure = logits({"_": 0.4, "A": 0.35, "B": 0.25}, {"_": 0.4, "A": 0.35, "B": 0.25})
    assert decode.greedy(unsure) == [""]
    assert decode.beam(unsure) == ["A"]  # A_, _A and AA: 0.4 in all, against 0.16 for nothing


def test_beam_needs_a_blank_between_two_of_a_kind():
    assert decode.beam(logits(*[{"A": 0.9, "_": 0.1}] * 3)) == ["A"]
    assert decode.beam(logits({"A": 0.9, "_": 0.1}, {"_": 0.9, "A": 0.1}, {"A": 0.9, "_": 0.1})) == ["AA"]


def test_beam_finds_what_keras_finds():
    scores = np.random.default_rng(0).normal(scale=1.5, size=(2, 30, len(decode.ALPHABET)))
    found, _ = keras.ops.ctc_decode(scores, [30, 30], strategy="beam_search", beam_width=32, mask_index=0)
    expected = [decode.text(row) for row in keras.ops.convert_to_numpy(found)[0].tolist()]
    assert decode.beam(scores) == expected
    assert expected != decode.greedy(scores)


def test_error_rates_count_edits_over_words_and_characters_expected():
    assert decode.rates(["ONE TWO", "THREE"], ["ONE TO", ""]) == {"wer": 2 / 3, "cer": 6 / 12}


def test_text_survives_its_numbers_and_odd_characters_are_named():
    assert decode.text([*decode.encode("RUBOUT G M"), 0, -1]) == "RUBOUT G M"
    with pytest.raises(ValueError, match=r"Expected capital letters. Received: \['1'\]"):
        decode.encode("A 1")


# --- the network and its training

TINY = model.Network(filters=12, units=10, layers=1, dropout=0.2)


def test_a_streaming_network_does_not_look_ahead():
    network = model.build(dataclasses.replace(TINY, bidirectional=False, layers=2))
    x = np.random.default_rng(0).normal(size=(1, 12, 192)).astype("float32")
    changed = x.copy()
    changed[:, 7:] = 0
    before, after = network.predict_on_batch(x), network.predict_on_batch(changed)
    np.testing.assert_allclose(before[:, :7], after[:, :7], atol=1e-6)
    assert np.abs(before[:, 7:] - after[:, 7:]).max() > 1e-3


class Keep(keras.callbacks.Callback):
    """Puts aside what a process that ends in the second epoch leaves behind."""

    def __init__(self, source, target):
        super().__init__()
        self.source, self.target = source, target

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == 1:
            shutil.copytree(self.source, self.target)


def trained(tones, folder, *callbacks):
    keras.utils.set_random_seed(0)
    recipe = train.Recipe(epochs=3, batch_size=12, warmup_epochs=1, listen_every=2, multiple=64)
    batches = Batches(tones[0], 12, Normalizer(), recipe.augmentation, multiple=64)
    heard = Batches(tones[1], 12, Normalizer(), multiple=64)
    network = model.build(TINY)
    train.compile_model(network, recipe, len(batches))
    return network, train.train(network, batches, recipe, folder, heard=heard, callbacks=callbacks)


@pytest.mark.parametrize("epochs", [1, 2, 3])
def test_a_training_shorter_than_the_warm_up_has_a_rate_that_rises_and_falls(epochs):
    network = model.build(TINY)
    train.compile_model(network, train.Recipe(epochs=epochs, warmup_epochs=2), 10)
    rates = []
    for step in range(10 * epochs + 1):
        network.optimizer.iterations.assign(step)
        rates.append(float(network.optimizer.learning_rate))
    assert max(rates) == pytest.approx(train.Recipe().learning_rate)
    assert rates[-1] == pytest.approx(0.0, abs=1e-6)


def test_weight_decay_spares_what_only_shifts_or_scales():
    network = model.build(model.Network(filters=4, units=3, recurrent="hlstm", gate_units=(2,)))
    # The first step's rate is a hundredth of the highest.
    train.compile_model(network, train.Recipe(learning_rate=100.0, weight_decay=0.1), 5)
    weights = network.trainable_variables
    for weight in weights:
        weight.assign(keras.ops.ones_like(weight))
    network.optimizer.build(weights)
    network.optimizer.apply([keras.ops.zeros_like(weight) for weight in weights])
    for weight in weights:
        left = 0.9 if len(weight.shape) > 1 else 1.0
        np.testing.assert_allclose(keras.ops.convert_to_numpy(weight), left, rtol=1e-6, err_msg=weight.path)


def test_a_resumed_training_is_the_uninterrupted_one(tones, tmp_path):
    whole, curve = trained(tones, tmp_path / "whole", Keep(tmp_path / "whole", tmp_path / "part"))
    assert [row["epoch"] for row in json.loads((tmp_path / "part" / "curve.json").read_text())] == [1]
    resumed, pieced = trained(tones, tmp_path / "part")
    assert [row["epoch"] for row in pieced] == [1, 2, 3]
    assert ["wer" in row for row in pieced] == [False, True, True]
    np.testing.assert_allclose([r["loss"] for r in pieced], [r["loss"] for r in curve], rtol=1e-5)
    for a, b in zip(whole.get_weights(), resumed.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


def test_the_whole_run_writes_a_result_and_goes_on_where_it_ended(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(plans, "SMALL", TINY)
    monkeypatch.setattr(features, "SPEEDS", (100,))
    path = archive(tmp_path / data.NAMES[0])
    asked = [
        "--small",
        "--data",
        str(path),
        "--output",
        str(tmp_path / "out"),
        "--models",
        "baseline",
        "--epochs",
        "3",
    ]
    assert main.main(asked) == 0
    (result,) = collect(tmp_path / "out")
    assert result["tested_on"] == "AN4's test set"
    assert len(result["curve"]) == 3
    assert set(result["test"]) == {"greedy", "beam"}
    lstm = 2 * 4 * (10 * (12 + 10) + 10)
    assert result["sizes"]["recurrent_parameters"] == result["sizes"]["recurrent_nonzero"] == lstm
    for kept in result["files"].values():
        assert (tmp_path / "out" / kept["file"]).stat().st_size == kept["bytes"]
        assert kept["ms"] > 0
    capsys.readouterr()
    (tmp_path / "out" / result["files"]["float32"]["file"]).unlink()  # a result that came without its files
    assert main.main(asked) == 0
    shown = capsys.readouterr().out
    assert "is there already" in shown
    assert f"| baseline | 0 | {lstm:,} / {lstm:,} |" in shown
