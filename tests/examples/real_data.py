"""The real data, for tests that use it where it is at hand."""

import os
from pathlib import Path

import pytest

REAL = Path(os.environ.get("KERAS_ISS_DATA", Path(__file__).parents[3] / "shared" / "data"))


def needs(file, what):
    """Skips a test where that file of the real data isn't at hand."""
    return pytest.mark.skipif(not (REAL / file).is_file(), reason=f"{what} isn't here")
