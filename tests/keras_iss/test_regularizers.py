"""Group Lasso against plain numpy written from the paper's formulas, on a two-layer LSTM."""

import keras
import numpy as np
import pytest

from keras_iss.regularizers import ISSGroupLasso, group_penalty, group_proximal, group_subgradient
from keras_iss.structures import squared_norms
from keras_iss.tracing import trace

FIRST, SECOND = 6, 4


def two_layers(**kwargs):
    return keras.Sequential(
        [
            keras.Input((7, 5)),
            keras.layers.LSTM(FIRST, return_sequences=True, name="first", **kwargs),
            keras.layers.LSTM(SECOND, name="second"),
            keras.layers.Dense(2, name="dense"),
        ]
    )


def groups(model):
    """For each structure and unit: [(index of a weight, where in it)], straight from figure 3 of the paper: the unit's
    columns in all four gates of both kernels, its row of the recurrent kernel, its row in the layer downstream."""
    place = {id(w): i for i, w in enumerate(model.weights)}
    first, second, dense = (model.get_layer(name) for name in ("first", "second", "dense"))
    found = {}
    for name, layer, readers, size in (("first", first, second.cell.kernel, FIRST),
                                       ("second", second, dense.kernel, SECOND)):  # fmt: skip
        kernel, recurrent = place[id(layer.cell.kernel)], place[id(layer.cell.recurrent_kernel)]
        found[name] = []
        for k in range(size):
            columns = [(w, (slice(None), gate * size + k)) for w in (kernel, recurrent) for gate in range(4)]
            found[name].append(
                [*columns, (recurrent, (k, slice(None))), (place[id(readers)], (k, slice(None)))]
            )
    return found


def numpy_norms(weights, groups_of_one):
    return np.sqrt([sum(np.sum(weights[w][at] ** 2) for w, at in group) for group in groups_of_one])


@pytest.fixture
def case():
    model = two_layers()
    found = trace(model)
    return model, found, [np.array(w, "float64") for w in model.get_weights()]


def by_path(found, model, weights):
    place = {id(w): i for i, w in enumerate(model.weights)}
    return {key: weights[place[id(v)]] for key, v in found.weights.items() if id(v) in place}


@pytest.mark.parametrize("name", ["first", "second"])
def test_group_norms_are_those_of_the_paper(case, name):
    model, found, weights = case
    expected = numpy_norms(weights, groups(model)[name])
    np.testing.assert_allclose(found.norms(name), expected, rtol=1e-5)
    np.testing.assert_allclose(np.sqrt(squared_norms(found[name], found.weights)), expected, rtol=1e-5)


def test_penalty_is_lambda_times_the_sum_of_smoothed_norms(case):
    model, found, weights = case
    expected = sum(
        0.3 * np.sum(np.sqrt(numpy_norms(weights, groups(model)[name]) ** 2 + 1e-8))
        for name in ("first", "second")
    )
    np.testing.assert_allclose(ISSGroupLasso(0.3).penalty(model), expected, rtol=1e-5)
    np.testing.assert_allclose(ISSGroupLasso(0.3).penalty(model, trace=found), expected, rtol=1e-5)


def test_subgradient_collects_from_every_group_that_holds_a_weight(case):
    model, found, weights = case
    expected = [np.zeros_like(w) for w in weights]
    for name, strength in (("first", 0.3), ("second", 0.7)):
        for group, norm in zip(groups(model)[name], numpy_norms(weights, groups(model)[name]), strict=True):
            for w, at in group:
                expected[w][at] += strength * weights[w][at] / np.sqrt(norm**2 + 1e-8)
    got = ISSGroupLasso({"first": 0.3, "second": 0.7}).subgradient(model)
    for path, want in by_path(found, model, expected).items():
        np.testing.assert_allclose(got.get(path, 0.0), want, atol=1e-6)


def test_subgradient_is_the_gradient_of_the_penalty(case):
    _, found, _ = case
    structures = [found["first"], found["second"]]
    weights = {key: keras.ops.convert_to_numpy(v).astype("float64") for key, v in found.weights.items()}
    strengths = {"first": 0.3, "second": 0.7}
    direction = {key: np.random.default_rng(1).normal(size=v.shape) for key, v in weights.items()}

    def penalty(step):
        return float(
            group_penalty(structures, {k: v + step * direction[k] for k, v in weights.items()}, strengths)
        )

    slope = sum(
        np.sum(g * direction[k]) for k, g in group_subgradient(structures, weights, strengths).items()
    )
    np.testing.assert_allclose((penalty(1e-5) - penalty(-1e-5)) / 2e-5, slope, rtol=1e-6)


def test_proximal_step_multiplies_all_groups_by_factors_of_one_snapshot(case):
    model, _, weights = case
    step = 0.2 * np.median(numpy_norms(weights, groups(model)["first"]))
    expected = [w.copy() for w in weights]
    for name in ("first", "second"):
        for group, norm in zip(groups(model)[name], numpy_norms(weights, groups(model)[name]), strict=True):
            for w, at in group:
                expected[w][at] *= max(0.0, 1 - step / norm)
    ISSGroupLasso(2 * step).proximal_step(model, learning_rate=0.5)
    for got, want in zip(model.get_weights(), expected, strict=True):
        np.testing.assert_allclose(got, want, atol=1e-6)


def test_proximal_step_does_not_depend_on_the_order_and_zeros_are_exact(case):
    _, found, _ = case
    structures = [found["first"], found["second"]]
    steps = {s.name: float(np.median(found.norms(s.name))) for s in structures}
    forth = group_proximal(structures, found.weights, steps)
    back = group_proximal(structures[::-1], found.weights, steps)
    for path in forth:
        np.testing.assert_allclose(forth[path], back[path], rtol=1e-6)
    for structure in structures:
        after = np.asarray(squared_norms(structure, {**found.weights, **forth}))
        expected = found.norms(structure.name) <= steps[structure.name]
        assert expected.any()
        np.testing.assert_array_equal(after == 0, expected)


def test_proximal_step_never_turns_nan_into_zero(case):
    model, found, _ = case
    kernel = model.get_layer("first").cell.kernel
    kernel.assign(np.where(np.arange(4 * FIRST) == 2, np.nan, np.asarray(kernel)))
    after = np.asarray(group_proximal([found["first"]], found.weights, {"first": 1e9})[kernel.path])
    assert np.isnan(after[:, 2]).all()


def data():
    generator = np.random.default_rng(0)
    return generator.normal(size=(32, 7, 5)).astype("float32"), generator.normal(size=(32, 2)).astype(
        "float32"
    )


def test_attached_penalty_is_in_the_loss_of_fit_and_evaluate_and_makes_groups_smaller():
    model, (x, y) = two_layers(), data()
    model.compile(keras.optimizers.SGD(0.1), "mse")
    plain = model.evaluate(x, y, verbose=0)
    ISSGroupLasso(0.5).attach(model)
    model.compile(keras.optimizers.SGD(0.1), "mse")
    penalty = float(ISSGroupLasso(0.5).penalty(model))
    assert model.evaluate(x, y, verbose=0) == pytest.approx(plain + penalty, rel=1e-5)
    history = model.fit(x, y, epochs=2, verbose=0, batch_size=8)
    assert history.history["loss"][0] > plain
    assert float(ISSGroupLasso(0.5).penalty(model)) < 0.9 * penalty


def test_attached_penalty_is_in_model_losses_beside_a_weights_own_regularizer():
    model = two_layers(
        kernel_regularizer=keras.regularizers.L2(0.1), recurrent_regularizer=keras.regularizers.L2(0.2)
    )
    own = float(sum(model.losses))
    lasso = ISSGroupLasso(0.5)
    lasso.attach(model)
    assert float(sum(model.losses)) == pytest.approx(own + float(lasso.penalty(model)), rel=1e-5)
    ISSGroupLasso({"second": 0.25}).attach(model)  # replaces
    expected = own + float(ISSGroupLasso({"second": 0.25}).penalty(model))
    assert float(sum(model.losses)) == pytest.approx(expected, rel=1e-5)
    ISSGroupLasso.detach(model)
    assert float(sum(model.losses)) == pytest.approx(own, rel=1e-6)


def test_gradient_of_the_attached_penalty_in_a_custom_loop_is_the_subgradient():
    tf = pytest.importorskip("tensorflow")
    if keras.backend.backend() != "tensorflow":
        pytest.skip("a TensorFlow loop")
    model, lasso = two_layers(), ISSGroupLasso(0.5)
    lasso.attach(model)
    with tf.GradientTape() as tape:
        loss = sum(model.losses)
    found = trace(model)
    gradients = tape.gradient(loss, {path: found.weights[path].value for path in lasso.subgradient(model)})
    for path, expected in lasso.subgradient(model).items():
        np.testing.assert_allclose(gradients[path], expected, atol=1e-6)


@pytest.mark.parametrize("strength", [0, -1.0, float("nan"), float("inf"), "much", None, {}, {"first": 0.0}])
def test_strength_has_to_be_a_finite_number_above_0(strength):
    with pytest.raises(ValueError, match="strength"):
        ISSGroupLasso(strength)


def test_unknown_and_pinned_structures_are_refused_by_name():
    model = two_layers()
    with pytest.raises(ValueError, match="'first'"):
        ISSGroupLasso({"frist": 1.0}).penalty(model)
    with pytest.raises(ValueError, match=r"dense.*can't be pruned.*output"):
        ISSGroupLasso({"dense": 1.0}).penalty(model)


def test_a_model_without_recurrent_layers_is_refused():
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(4), keras.layers.Dense(1)])
    with pytest.raises(ValueError, match="at least one structure"):
        ISSGroupLasso(1.0).attach(model)
