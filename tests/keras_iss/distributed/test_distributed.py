"""Several devices and several processes train what one device trains: weights, masks, strengths, growth windows."""

import pytest

from tests.keras_iss.distributed.scenarios import (
    BY_WORKERS,
    BY_WORKERS_ON_JAX,
    EPOCHS,
    ON_JAX,
    ON_TENSORFLOW,
    UNITS,
)

TOLERANCE = 1e-5
PLACES = ("data parallel", "model parallel")


def check_equal(differences):
    assert max(differences.values()) <= TOLERANCE, differences
    assert differences.get("mask", 0.0) == differences.get("deadline", 0.0) == 0.0, differences


def check_did_something(found, scenario):
    assert found["steps"] == 100
    if scenario == "grow and prune":
        assert found["dormant"] > 50
        assert {"mask", "gradients"} <= set(found["differences"])
    else:
        assert {"deadline", "strength"} <= set(found["differences"])
    if scenario in ("target", "proximal"):
        assert found["units"] < UNITS
    else:
        assert found["zeros"] > 10


@pytest.mark.parametrize("scenario", ON_TENSORFLOW)
def test_two_devices_under_mirrored_strategy_train_what_one_does(tensorflow_devices, scenario):
    found = tensorflow_devices[scenario]
    check_did_something(found, scenario)
    check_equal(found["differences"])


@pytest.mark.parametrize("scenario", ON_TENSORFLOW)
def test_replicas_hold_the_same_after_every_step(tensorflow_devices, scenario):
    found = tensorflow_devices[scenario]
    assert (found["copies"], found["same on every replica"]) == (2, 100)


def test_a_killed_training_under_mirrored_strategy_resumes_to_the_same_result(tensorflow_devices):
    assert max(tensorflow_devices["resumed"].values()) <= 1e-7


@pytest.mark.parametrize(
    ("what", "named"),
    [
        ("accumulation", "gradient_accumulation_steps=2"),
        ("average", "ema_overwrite_frequency=2"),
        ("loss scaling", "LossScaleOptimizer"),
        ("strategy", "CentralStorageStrategy"),
        ("distribution", "keras.distribution on tensorflow"),
    ],
)
def test_what_tensorflow_can_t_do_is_refused_when_training_begins(tensorflow_devices, what, named):
    assert named in tensorflow_devices["refused"][what]


@pytest.mark.parametrize("scenario", BY_WORKERS)
def test_two_processes_under_multi_worker_mirrored_strategy_train_what_one_device_does(
    tensorflow_workers, scenario
):
    first, second = (worker[scenario] for worker in tensorflow_workers)
    check_equal(first["differences"])
    assert first["digest"] == second["digest"]


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("scenario", ON_JAX)
def test_several_devices_on_jax_train_what_one_does(jax_devices, scenario, place):
    found = jax_devices[f"{place}: {scenario}"]
    check_did_something(found, scenario)
    check_equal(found["differences"])
    assert (found["copies"], found["parts"]) == ((2, 1) if place == "data parallel" else (4, 2))
    assert found["same on every device"] == EPOCHS


def test_a_killed_training_on_sharded_weights_resumes_to_the_same_result(jax_devices):
    assert max(jax_devices["resumed"].values()) <= 1e-7


def test_a_model_built_before_its_distribution_is_refused(jax_devices):
    assert "lie on 1 device" in jax_devices["refused"]


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("scenario", BY_WORKERS_ON_JAX)
def test_two_processes_on_jax_train_what_one_device_does(jax_workers, scenario, place):
    first, second = (worker[f"{place}: {scenario}"] for worker in jax_workers)
    check_equal(first["differences"])
    assert first["digest"] == second["digest"]
