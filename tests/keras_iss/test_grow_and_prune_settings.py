"""What `GrowAndPrune` is given: schedules, masks in files, arguments; what it tells, and what it refuses."""

import os

import keras
import numpy as np
import pytest

from keras_iss.callbacks import GrowAndPrune
from tests.keras_iss.growing import Watch, fit, grow_and_prune, masks_of, sgd, small
from tests.keras_iss.growth_scenarios import ARGUMENTS, data, network


@pytest.fixture
def tfmot():
    """Its schedules; importing it sets TF_USE_LEGACY_KERAS for the whole process."""
    before = os.environ.get("TF_USE_LEGACY_KERAS")
    pytest.importorskip("tensorflow_model_optimization")
    from tensorflow_model_optimization.sparsity import keras as schedules

    if before is None:
        os.environ.pop("TF_USE_LEGACY_KERAS", None)
    return schedules


def test_pruning_follows_a_schedule_of_tfmot(tfmot):
    schedule = tfmot.PolynomialDecay(0.3, 0.8, begin_step=0, end_step=15, power=1, frequency=5)
    model, watch = small(), Watch()
    model.compile(sgd(), "mse")
    fit(model, grow_and_prune(pruning=schedule, growth_epochs=1, prune_epochs=5), watch, epochs=6)
    for epoch, step in [(1, 0), (2, 5), (3, 10), (4, 15), (5, 15)]:
        for path, mask in watch.end[epoch][0].items():
            dormant = (~watch.end[epoch - 1][0][path]).sum()
            assert (~mask).sum() == max(dormant, int((0.3 + 0.5 * step / 15) * mask.size + 0.5))
    assert (~mask).sum() == round(0.8 * mask.size)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"begin_step": 0, "end_step": -1}, "doesn't end.*end_step=-1"),
        ({"begin_step": 0, "end_step": 11}, r"doesn't end.*end_step=11.*step 10"),
        ({"begin_step": 500, "end_step": 600}, "doesn't end"),
    ],
)
def test_a_schedule_that_does_not_end_in_the_pruning_phase_is_refused(tfmot, arguments, message):
    schedule = tfmot.ConstantSparsity(0.7, frequency=1, **arguments)
    model = small()
    model.compile("sgd", "mse")
    with pytest.raises(ValueError, match=message):
        fit(model, grow_and_prune(pruning=schedule), epochs=6)


def test_schedules_that_never_prune_or_count_unknown_steps_are_refused():
    model = small()
    model.compile("sgd", "mse")
    with pytest.raises(ValueError, match="asks for no sparsity"):
        fit(model, grow_and_prune(pruning=lambda step: (False, 0.5)))
    x, y = data()
    generator = ((x[i : i + 8, 0], y[i : i + 8]) for i in range(0, 40, 8))
    with pytest.raises(ValueError, match="steps_per_epoch"):
        model.fit(
            generator, epochs=6, verbose=0, callbacks=[grow_and_prune(pruning=lambda step: (True, 0.5))]
        )


def test_masks_are_saved_and_started_from_and_those_of_another_model_refused(tmp_path):
    model = small()
    model.compile(sgd(), "mse")
    callback = grow_and_prune()
    fit(model, callback, epochs=5)
    callback.save_masks(tmp_path / "masks.npz")
    saved, watch = masks_of(model), Watch()
    again = small()
    again.compile(sgd(), "mse")
    fit(again, grow_and_prune(masks=tmp_path / "masks.npz"), watch, epochs=5)
    for path, mask in watch.begin[0][0].items():
        np.testing.assert_array_equal(mask, saved[path])
    other = network()
    other.compile(sgd(), "mse")
    with pytest.raises(ValueError, match=r"of another model.*hidden/kernel: \(4, 8\) in the file"):
        fit(other, grow_and_prune(masks=tmp_path / "masks.npz"))
    (tmp_path / "text.npz").write_text("no masks")
    with pytest.raises(ValueError, match="not a mask file"):
        fit(other, grow_and_prune(masks=tmp_path / "text.npz"))
    with pytest.raises(FileNotFoundError):
        callback.save_masks(tmp_path / "nowhere" / "masks.npz")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["masks.npz", "text.npz"]


def test_a_training_goes_on_from_the_dormant_connections_a_model_has():
    model, watch = small(), Watch()
    model.compile(sgd(), "mse")
    fit(model, grow_and_prune(), epochs=5)
    masks = masks_of(model)
    fit(model, grow_and_prune(), watch, epochs=5)
    for path, mask in watch.begin[0][0].items():
        np.testing.assert_array_equal(mask, masks[path])
    with pytest.raises(ValueError, match="another `granularity`"):
        fit(model, grow_and_prune(granularity="block"))


def test_every_window_and_round_is_told_in_one_line_and_drawn(tmp_path, capsys):
    model = small()
    model.compile(sgd(), "mse")
    history = fit(model, grow_and_prune(verbose=1, log_dir=tmp_path / "log"), epochs=5)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[1].strip() for line in lines] == [
        "growth 1 of 2", "growth 2 of 2", "round 1 of 2 kept", "round 2 of 2 kept",
    ]  # fmt: skip
    assert f"{100 * history['gp_connections'][-1]:.1f} % of the connections alive" in lines[-1]
    assert (
        f"{history['gp_macs'][-1]:,} multiply-adds per time step, loss {history['loss'][-1]:.4g}" in lines[-1]
    )
    assert sorted(p.name for p in (tmp_path / "log").iterdir()) == ["round_01.png", "round_02.png"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"seed_sparsity": 1.0}, "seed_sparsity"),
        ({"growth_ratio": 0.0}, "growth_ratio"),
        ({"pruning": 1.5}, "pruning"),
        ({"pruning": "half"}, "pruning"),
        ({"growth_epochs": 0}, "growth_epochs"),
        ({"prune_epochs": 1.5}, "prune_epochs"),
        ({"rounds": 0}, "rounds"),
        ({"growth_batches": -1}, "growth_batches"),
        ({"tolerance": -0.1}, "tolerance"),
        ({"tolerance": float("nan")}, "tolerance"),
        ({"monitor": ""}, "monitor"),
        ({"granularity": "unit"}, "granularity"),
        ({"scope": "model"}, "scope"),
        ({"mode": "best"}, "mode"),
    ],
)
def test_arguments_out_of_range_are_refused_at_once(arguments, message):
    with pytest.raises(ValueError, match=message):
        GrowAndPrune(**{"seed_sparsity": 0.5} | ARGUMENTS | arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"growth_epochs": 6}, "no growth window before the end of the training"),
        ({"growth_batches": 6}, "no growth window before the end of an epoch"),
        ({"growth_epochs": 4}, "don't fit into the training's 6 epochs"),
        ({"rounds": 4}, "rounds"),
        ({"layers": ["hiden"]}, "'hidden'"),
        ({"layers": ["nothing"], "granularity": "row"}, "Nearest names"),
        ({"layers": ["out"], "granularity": "column"}, "output of the model"),
    ],
)
def test_what_does_not_fit_the_model_or_the_training_is_refused_when_training_begins(arguments, message):
    model = small()
    before = model.get_weights()
    model.compile("sgd", "mse")
    with pytest.raises(ValueError, match=message):
        fit(model, grow_and_prune(**arguments))
    for got, want in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(got, want)


def test_a_monitor_that_is_not_in_the_logs_is_refused_with_the_names_there():
    model = small()
    model.compile("sgd", "mse")
    with pytest.raises(ValueError, match=r"no 'val_loss'.*\['loss'\].*validation_data"):
        fit(model, grow_and_prune(monitor="val_loss"))


def test_a_model_without_anything_to_mask_is_refused():
    model = keras.Sequential([keras.Input((4,)), keras.layers.LayerNormalization()])
    model.compile("sgd", "mse")
    with pytest.raises(ValueError, match="Received none"):
        model.fit(np.zeros((4, 4)), np.zeros((4, 4)), verbose=0, callbacks=[grow_and_prune()])
