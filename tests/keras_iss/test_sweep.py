"""sweep: every point from one start, resumable, in one process or Ray's; its table, figures and picture; its errors."""

import dataclasses
import json
import sys

import keras
import numpy as np
import pytest

import keras_iss
from keras_iss import engines
from keras_iss.sweep_point import Plan, as_metrics
from tests.keras_iss import sweep_scenarios
from tests.keras_iss.sweep_scenarios import build, fit, swept, weights

ON_JAX = "tests.keras_iss.sweep_scenarios"

LAYERS = [keras.Input((3, 3)), keras.layers.LSTM(8, name="lstm"), keras.layers.Dense(1, name="head")]


def assert_pieces_are_the_whole(found, times):
    assert int(found["times"]) == times
    np.testing.assert_allclose(found["pieces/metric"], found["whole/metric"], rtol=1e-6)
    names = [name for name in found if name.startswith("whole/")]
    assert len(names) > 10
    for name in names:
        other = found[name.replace("whole/", "pieces/")]
        np.testing.assert_allclose(found[name], other, atol=1e-7, err_msg=name)


def test_a_sweep_killed_in_any_training_goes_on_to_the_same_weights():
    assert_pieces_are_the_whole(sweep_scenarios.everything(), 3)


def test_so_it_does_on_jax(on_jax):
    assert list(on_jax["names"]) == ["dense", "iss-0.6"]
    assert_pieces_are_the_whole(on_jax, 2)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A finished sweep and what it printed nothing of."""
    return swept(tmp_path_factory.mktemp("sweep") / "deep" / "folder", targets=(0.4, 0.999))


class TestPoints:
    def test_each_is_the_smallest_model_that_meets_its_target(self, made):
        assert [row.name for row in made.rows] == ["dense", "iss-0.4", "one_shot-0.4"]
        for row in made.rows[1:]:
            model = keras.models.load_model(row.path)
            assert row.macs == keras_iss.report(model).macs == 4 * row.units * (3 + row.units) + row.units
            wider = 4 * (row.units + 1) * (4 + row.units) + row.units + 1
            assert row.macs <= 0.6 * made["dense"].macs < wider
            assert row.parameters == model.count_params()
            assert [row.target, row.trainings] == [0.4, 1 + (row.method == "one_shot")]

    def test_metrics_are_those_of_the_last_epoch(self, made):
        assert made.monitor == "loss"
        assert made["iss-0.4"].metrics["iss_removed"] >= 0.4
        assert all(row.metric == row.metrics["loss"] for row in made.rows)

    def test_what_fails_is_told_and_the_rest_kept(self, made):
        assert set(made.failed) == {"iss-0.999", "one_shot-0.999"}
        for reason in made.failed.values():
            assert "target=0.999 of 'macs' can't be reached" in reason
            assert reason in str(made)

    def test_all_files_are_there_and_no_others(self, made):
        folder = made.models()["dense"].parent
        names = {f"{row.name}.{ending}" for row in made.rows for ending in ("keras", "json")}
        assert {path.name for path in folder.iterdir()} == {*names, "sweep.json", "start.npz"}

    def test_what_is_finished_is_not_trained_again_and_targets_may_be_added(self, made):
        trained = []

        def watched(model, callbacks):
            trained.append(keras_iss.report(model).macs)
            return fit(model, callbacks)

        folder = made.models()["dense"].parent
        again = swept(folder, targets=(0.4, 0.7), fit=watched, methods=["one_shot"])
        assert [row.name for row in again.rows] == ["dense", "one_shot-0.4", "one_shot-0.7"]
        assert trained == [again["one_shot-0.7"].macs]
        assert again["one_shot-0.4"] == made["one_shot-0.4"]

    def test_one_shot_begins_with_the_strongest_units_of_the_dense_model(self, made, tmp_path):
        """With a training that changes nothing, what is left are rows and columns of the dense model's weights."""
        still = swept(tmp_path, targets=[0.6], methods="one_shot", fit=without_learning)
        dense, small = (keras.models.load_model(row.path) for row in still.rows)
        norms = keras_iss.trace(dense).norms("lstm")
        kept = np.sort(np.argsort(-norms)[: still.rows[1].units])
        np.testing.assert_array_equal(small.get_weights()[-2], dense.get_weights()[-2][kept])

    def test_a_trained_start_is_where_all_begin(self, tmp_path):
        start = keras.Sequential(LAYERS)
        start.compile("adam", "mse")
        start.save(tmp_path / "start.keras")
        found = swept_from(
            lambda: keras.models.load_model(tmp_path / "start.keras"),
            tmp_path / "sweep",
            trained=True,
            fit=without_learning,
        )
        assert [row.trainings for row in found.rows] == [1, 1, 1]
        for got, want in zip(weights(found["dense"]), start.get_weights(), strict=True):
            np.testing.assert_array_equal(got, want)
        np.testing.assert_array_equal(weights(found["one_shot-0.6"])[-1], start.get_weights()[-1])
        assert found["iss-0.6"].metrics["first_removed"] > 0, "there is no warm-up"

    def test_every_point_starts_from_the_same_weights_whatever_build_draws(self, tmp_path):
        seen = []

        def build_at_random():
            model = build()
            model.set_weights([np.random.default_rng().normal(size=w.shape) for w in model.get_weights()])
            return model

        def look(model, callbacks):
            seen.append(model.get_weights())
            return fit(model, callbacks)

        swept_from(build_at_random, tmp_path, fit=look, methods=["iss"])
        with np.load(tmp_path / "start.npz") as start:
            for number, (dense, iss) in enumerate(zip(*seen, strict=True)):
                np.testing.assert_array_equal(dense, start[str(number)])
                np.testing.assert_array_equal(dense, iss)


def without_learning(model, callbacks):
    model.optimizer.learning_rate = 0.0
    history = fit(model, callbacks).history
    return {"loss": history["loss"][-1], "first_removed": history.get("iss_removed", [0])[0]}


def swept_from(build, folder, *, fit=fit, **changed):
    arguments = {"targets": (0.6,), "engine": "here", "verbose": 0} | changed
    return keras_iss.sweep(build, fit, folder=folder, **arguments)


class TestReport:
    def test_measure_sees_all_models_at_once_and_its_figures_are_in_the_table(self, made):
        seen = []

        def measure(models):
            seen.append(models)
            return {name: {"file kB": path.stat().st_size / 1024} for name, path in models.items()}

        folder = made.models()["dense"].parent
        found = swept(folder, targets=[0.4], measure=measure)
        assert seen == [found.models()] == [made.models()]
        assert found.labels() == ["file kB"]
        assert f"{found['iss-0.4'].measured['file kB']:.4g}" in str(found)

    def test_points_from_elsewhere_stand_beside_ours(self, made, tmp_path):
        point = {"method": "tfmot", "metric": 0.25, "macs": 300, "parameters": 99, "measured": {"ms": 2.0}}
        more = made.add("tfmot-0.4", **point, path=tmp_path / "a.keras").measured({"dense": {"ms": 3.5}})
        assert len(made.rows) == 3, "the sweep itself is as it was"
        assert more["tfmot-0.4"].metric == 0.25
        assert more.models() == made.models() | {"tfmot-0.4": tmp_path / "a.keras"}
        assert more["dense"].measured == {"ms": 3.5}
        assert "tfmot-0.4  " in str(more)
        with pytest.raises(ValueError, match="Expected a new name"):
            more.add("tfmot-0.4", **point)
        with pytest.raises(ValueError, match="`metric`. Expected a finite number. Received: metric=nan"):
            made.add("other", **point | {"metric": float("nan")})
        with pytest.raises(ValueError, match=r"Expected points among .*Received: \['nobody'\]"):
            made.measured({"nobody": {"ms": 1.0}})
        with pytest.raises(KeyError, match="no point 'nobody'; there are dense, iss-0.4"):
            made["nobody"]

    def test_json_holds_everything(self, made, tmp_path):
        made.to_json(tmp_path / "sweep.json")
        read = json.loads((tmp_path / "sweep.json").read_text())
        assert read["rows"] == [dataclasses.asdict(row) for row in made.rows]
        assert read["settings"]["seed"] == 0
        assert set(read["failed"]) == set(made.failed)

    def test_picture_has_a_panel_for_each_cost_and_a_line_for_each_method(self, made, tmp_path):
        pytest.importorskip("matplotlib")
        from keras_iss.plots import frontier_figure

        lines = {
            "dense": [(0.1, {"macs": 9.0, "ms": 3.0})],
            "iss": [(0.2, {"macs": 4.0}), (0.15, {"macs": 6.0})],
        }
        figure = frontier_figure(lines, ["macs", "ms"], "error", dense="dense")
        first, second = figure.axes
        iss = next(line for line in first.lines if line.get_label() == "iss")
        assert (list(iss.get_xdata()), list(iss.get_ydata())) == ([4.0, 6.0], [0.2, 0.15])
        assert "iss" not in {line.get_label() for line in second.lines}
        assert (first.get_ylabel(), second.get_xlabel()) == ("error", "ms")
        made.plot(tmp_path / "frontier.png", log=True, log_metric=True)
        assert (tmp_path / "frontier.png").read_bytes().startswith(b"\x89PNG")
        with pytest.raises(ValueError, match=r"Expected some of \['macs', 'parameters', 'units'\]"):
            made.plot(tmp_path / "other.png", ["ms"])


def ignoring(model, callbacks):
    return fit(model, [])


def returning(what):
    def trains(model, callbacks):
        fit(model, callbacks)
        return what

    return trains


SAME = build()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"targets": []}, "`targets`. Expected at least one"),
        ({"targets": [0.5, 0.5]}, "none twice"),
        ({"targets": [0.5, 1.0]}, "Expected a fraction, above 0 and below 1. Received: targets=1.0"),
        ({"targets": ["half"]}, "targets='half'"),
        ({"targets": None}, "targets=None"),
        ({"methods": ["magnitude"]}, r"Expected one of \('iss', 'one_shot'\). Received: methods='magnitude'"),
        ({"pruning": {"strength": 1.0}}, "`pruning`. Expected some of"),
        ({"pruning": {"metric": "weights"}}, "`metric`. Expected one of"),
        ({"engine": "spark"}, r"Expected one of \('auto', 'ray', 'here'\)"),
        ({"monitor": 3}, "`monitor`. Expected the name"),
        ({"seed": -1}, "`seed`. Expected an integer of at least 0"),
        ({"measure": {}}, "`measure`. Expected a function"),
        ({"fit": None}, "`fit`. Expected a function"),
        ({"build": lambda: None}, "`build`. Expected a function that returns a built and compiled"),
        ({"build": lambda: keras.Sequential(LAYERS)}, "built and compiled"),
        ({"build": lambda: SAME}, "It returned the same one twice"),
        ({"fit": ignoring}, "without the callbacks it was given"),
        ({"fit": returning(None)}, "has to return the metric.*It returned None"),
        ({"fit": returning("good")}, "It returned 'good'"),
        ({"fit": returning({"loss": "low"})}, "loss='low'. Expected a number"),
        ({"fit": returning(float("nan"))}, "metric=nan: the training has diverged"),
        ({"fit": returning(0.5), "measure": lambda models: 3}, "`measure` has to return .* It returned 3"),
        ({"monitor": "accuracy"}, "returned no 'accuracy'. Expected `monitor` to be one of"),
    ],
    ids=lambda value: None if isinstance(value, str) else "-".join(value),
)
def test_what_is_wrong_is_told(changed, message, tmp_path):
    arguments = {"build": build, "targets": (0.6,), "methods": "one_shot"} | changed
    with pytest.raises((ValueError, RuntimeError), match=message):
        swept_from(arguments.pop("build"), tmp_path, **arguments)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"seed": 1}, "begun with seed=0. Expected the same, or another folder. Received: seed=1"),
        ({"trained": True}, "begun with trained=False"),
        ({"pruning": {"metric": "units"}}, "begun with pruning={}.*Received: pruning={'metric': 'units'}"),
        ({"monitor": "mae"}, "`monitor`. Expected one of .*'loss'"),
    ],
)
def test_other_arguments_than_the_folder_s_are_refused(changed, message, made):
    with pytest.raises(ValueError, match=message):
        swept(made.models()["dense"].parent, targets=[0.4], **changed)


def test_another_model_than_the_folder_s_is_refused(made):
    def build_wider():
        model = keras.Sequential([keras.Input((3, 3)), keras.layers.LSTM(9), keras.layers.Dense(1)])
        model.compile("adam", "mse")
        return model

    with pytest.raises(ValueError, match=r"begun with weights=\[\[3, 32\]"):
        swept_from(build_wider, made.models()["dense"].parent)


def test_a_folder_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ValueError, match="Expected a folder. Received: folder=.*file', a file"):
        swept(tmp_path / "file")
    assert (tmp_path / "file").read_text() == "mine"


def test_an_error_in_the_dense_training_is_the_cause(tmp_path):
    def fails(model, callbacks):
        raise KeyError("val_accuracy")

    with pytest.raises(
        RuntimeError, match="dense model's training failed.*KeyError: 'val_accuracy'"
    ) as caught:
        swept(tmp_path, fit=fails)
    assert isinstance(caught.value.__cause__, KeyError)


def test_what_was_said_is_a_line_per_point(made, capsys, tmp_path):
    keras_iss.sweep(build, fit, [0.999], folder=tmp_path, methods=["iss"], engine="here")
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("sweep: dense: loss ")
    assert first.endswith(" 360 multiply-adds")
    assert second.startswith("sweep: iss-0.999 failed: target=0.999")


@pytest.mark.parametrize(
    ("returned", "monitor", "expected"),
    [
        (0.5, None, {"metric": 0.5}),
        (np.float32(0.5), "error", {"error": 0.5}),
        (keras.ops.convert_to_tensor(0.5), None, {"metric": 0.5}),
        ({"a": 1, "b": float("inf")}, None, {"a": 1.0}),
        ({"a": 1, "b": 2}, "b", {"b": 2.0, "a": 1.0}),
    ],
)
def test_what_fit_returns_is_named(returned, monitor, expected):
    found = as_metrics(returned, monitor)
    assert list(found.items()) == list(expected.items())


def test_of_a_history_the_held_out_data_s_last_value_comes_first():
    history = keras.callbacks.History()
    history.history = {"loss": [2.0, 1.0], "val_loss": [4.0, 3.0], "iss_units": [9, 8]}
    assert list(as_metrics(history, None).items()) == [("val_loss", 3.0), ("loss", 1.0), ("iss_units", 8.0)]


# --- Ray


def test_without_ray_the_work_is_done_here_and_asking_for_ray_tells_the_mend(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert engines.pick("auto") == "here"
    with pytest.raises(ImportError, match=r"pip install 'keras-iss\[sweep\]'"):
        engines.pick("ray")


def test_a_worker_with_another_backend_trains_nothing(tmp_path):
    plan = Plan(
        build=build, fit=fit, folder=tmp_path, trained=False, pruning={}, seed=0, monitor=None,
        backend="numpy", verbose=0,
    )  # fmt: skip
    point = sys.modules["keras_iss.sweep"].Point("dense")
    assert "set KERAS_BACKEND=numpy in Ray's runtime_env" in str(plan.attempt(point))
    assert not list(tmp_path.iterdir())


def test_ray_gives_what_one_process_gives(tmp_path, monkeypatch):
    pytest.importorskip("ray", reason="pip install 'keras-iss[sweep]'")
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    arguments = {"trained": True, "methods": ["iss"], "targets": (0.6, 0.999)}
    here = swept_from(build, tmp_path / "here", **arguments)
    with_ray = swept_from(build, tmp_path / "ray", **arguments | {"engine": "ray"})
    assert with_ray.failed == here.failed
    assert set(with_ray.failed) == {"iss-0.999"}
    assert [row.name for row in with_ray.rows] == [row.name for row in here.rows]
    for ours, theirs in zip(here.rows, with_ray.rows, strict=True):
        for a, b in zip(weights(ours), weights(theirs), strict=True):
            np.testing.assert_allclose(a, b, atol=1e-6)
    assert not (tmp_path / "ray" / "ray").exists()
