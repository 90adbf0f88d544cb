"""Made-up data, and a computer without a network, for the tests of the examples."""

import keras
import pytest


@pytest.fixture
def offline(monkeypatch):
    """No data here, and no download."""

    def unreachable(name, origin, **how):
        raise Exception(f"URL fetch failure on {origin}: None -- Name or service not known")

    monkeypatch.delenv("KERAS_ISS_DATA", raising=False)
    monkeypatch.setattr(keras.utils, "get_file", unreachable)


@pytest.fixture(scope="module")
def made_up(tmp_path_factory):
    """Questions: the folder, both sets and their features."""
    from tests.examples import made_up_squad

    return made_up_squad.make(tmp_path_factory.mktemp("made_up"))


@pytest.fixture(scope="module")
def things(tmp_path_factory):
    """Captions: the folder."""
    from tests.examples import made_up_captions

    return made_up_captions.write(tmp_path_factory.mktemp("things"))


@pytest.fixture(scope="module")
def images(things):
    """Captions: all parts."""
    from captioning import data

    return data.read(things)


@pytest.fixture(scope="module")
def vocabulary(images):
    """Captions: the words that occur five times and more."""
    from captioning.data import Vocabulary

    return Vocabulary.of(images["train"].captions, 5)


@pytest.fixture
def penn(tmp_path):
    """Sentences: the folder."""
    from tests.examples import made_up_text

    return made_up_text.write(tmp_path)


@pytest.fixture(scope="module")
def tones(tmp_path_factory):
    """Speech: features of the training and the test set."""
    from an4_speech import data, features

    from tests.examples.made_up_tones import archive

    folder = tmp_path_factory.mktemp("tones")
    return features.load(archive(folder / data.NAMES[0]), folder / "features.npz")
