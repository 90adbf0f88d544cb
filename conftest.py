"""What all tests and doctests share: a quiet TensorFlow, plots without a display, the same start every time."""

import gc
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("MPLBACKEND", "Agg")

import pytest

gc.set_threshold(20_000, 20, 20)  # graphs and layers are many small objects that live on


def pytest_collection_finish():
    """What is imported by now stays: collecting garbage, as every conversion does, needn't look through it again."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def same_start():
    """Seeds all generators and starts layer names afresh ("lstm", not "lstm_7")."""
    import keras  # pytest-xdist's controller, which reads this file too, can do without

    keras.utils.clear_session(free_memory=False)
    keras.utils.set_random_seed(0)


@pytest.fixture(autouse=True)
def files_of_doctests_go_elsewhere(request, tmp_path, monkeypatch):
    """An example in a docstring or in the README may write a file; it doesn't belong in the checkout."""
    if isinstance(request.node, pytest.DoctestItem):
        monkeypatch.chdir(tmp_path)
