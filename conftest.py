"""What all tests and doctests share: a quiet TensorFlow, plots without a display, the same start every time."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("MPLBACKEND", "Agg")

import keras
import pytest


@pytest.fixture(autouse=True)
def same_start():
    """Seeds all generators and starts layer names afresh ("lstm", not "lstm_7")."""
    keras.utils.clear_session(free_memory=False)
    keras.utils.set_random_seed(0)


@pytest.fixture(autouse=True)
def files_of_doctests_go_elsewhere(request, tmp_path, monkeypatch):
    """An example in a docstring or in the README may write a file; it doesn't belong in the checkout."""
    if isinstance(request.node, pytest.DoctestItem):
        monkeypatch.chdir(tmp_path)
