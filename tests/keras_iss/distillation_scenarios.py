"""A small model that learns from a larger one and loses units meanwhile, on every backend."""

import keras
from keras.distillation import Distiller, LogitsDistillation

import keras_iss
from keras_iss.callbacks import ISSPruning
from tests.keras_iss.target_scenarios import compiled, fit, task


def logits():
    """By its name the divergence would be of logits, without a softmax (Keras 3.15)."""
    return LogitsDistillation(2.0, keras.losses.KLDivergence())


def taught(losses=None, units=(24, 20), before=0):
    """A compiled `Distiller` of two models that have the same layer names, and the data; the teacher learned for `before`."""
    teacher, x, y = task(units)
    student, _, _ = task()
    if before:
        fit(compiled(teacher), x, y, epochs=before)
    distiller = Distiller(teacher, student, losses or logits())
    distiller.build(student.input_shape)  # Backup asks for it
    return compiled(distiller), x, y


def everything():
    distiller, x, y = taught(before=2)
    before = [keras.ops.convert_to_numpy(w).copy() for w in distiller.teacher.weights]
    history = fit(distiller, x, y, ISSPruning(target=0.5, metric="units"))
    moved = sum(
        abs(keras.ops.convert_to_numpy(w) - b).max()
        for w, b in zip(distiller.teacher.weights, before, strict=True)
    )
    small = keras_iss.strip(distiller.student)
    return {
        "alive": history["iss_units"][-1],
        "accuracy": history["accuracy"][-1],
        "moved": moved,
        "units": [small.get_layer("first").units, small.get_layer("second").units],
        "difference": abs(small.predict(x, verbose=0) - distiller.student.predict(x, verbose=0)).max(),
    }
