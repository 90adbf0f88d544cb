"""The captioning example: how captions are searched for and scored, on a small made-up set in Flickr8k's files."""

import itertools

import numpy as np
import pytest

pytest.importorskip("pycocoevalcap", reason="pip install 'keras-iss[captions]'")

from captioning import model, plans, scoring, tell
from captioning.data import LOOK, STOP

DEEP = model.Network(embedding=12, units=9, layers=2)


class Table:
    """Says words by a table of probabilities after each word; the state counts words."""

    def __init__(self, table):
        self.logits = np.log(np.asarray(table, "float32") + 1e-9)

    def look(self, features):
        return [np.zeros((len(features), 1))]

    def step(self, numbers, states):
        return self.logits[numbers].copy(), [states[0] + 1]


def likeliest(table, length):
    """By trying everything: the caption of at most so many words (then unfinished) with the highest probability."""
    logits = Table(table).logits
    logs = logits - np.log(np.exp(logits[:, STOP:]).sum(1, keepdims=True))
    words = range(STOP + 1, len(table))
    found = {}
    for n in range(length + 1):
        for caption in itertools.product(words, repeat=n):
            path = [STOP, *caption] + ([STOP] if n < length else [])
            found[caption] = sum(logs[a, b] for a, b in itertools.pairwise(path))
    return list(max(found, key=found.__getitem__))


@pytest.mark.parametrize("seed", range(5))
def test_a_wide_beam_finds_the_likeliest_caption_of_all(seed):
    random = np.random.default_rng(seed)
    table = random.dirichlet(np.full(5, 0.4), size=5)
    found = tell.beam(Table(table), np.zeros((2, 1)), width=4, limit=4)
    assert found == [likeliest(table, 4)] * 2


def test_beam_finds_what_greedy_misses():
    table = [[0, 0, 0.5, 0.5], [0, 0, 0.6, 0.4], [0, 0.3, 0.35, 0.35], [0, 0.99, 0.005, 0.005]]
    assert tell.greedy(Table(table), np.zeros((1, 1)), limit=3)[0][0] == 2
    assert tell.beam(Table(table), np.zeros((1, 1)), width=2, limit=3) == [[3]]  # 0.4 · 0.99


@pytest.mark.parametrize("network", [DEEP, plans.pick("hlstm", "smoke").network])
def test_word_by_word_the_model_computes_what_it_computes_at_once(network):
    whole = model.build(network, 9, 8)
    random = np.random.default_rng(0)
    features = random.normal(size=(3, 9)).astype("float32")
    words = np.array([[LOOK, STOP, 3, 5], [LOOK, STOP, 2, 2], [LOOK, STOP, 7, 4]], "int32")
    logits = whole.predict_on_batch({"image": features, "word": words})
    teller = tell.KerasTeller(whole)
    states = teller.look(features)
    for t in range(4):
        step, states = teller.step(words[:, t], states)
        np.testing.assert_allclose(step, logits[:, t], atol=1e-5)
    blind = whole.predict_on_batch({"image": 0 * features, "word": words})
    assert np.abs(blind[:, 1:] - logits[:, 1:]).max() > 1e-3


# --- scores


class Meteor:
    """In place of METEOR's, whose Java program takes half a minute."""

    def compute_score(self, references, told):
        return 0.25, []


@pytest.mark.parametrize("java", [None, "/usr/bin/java"])
def test_captions_that_people_gave_score_best_and_meteor_is_there_where_java_is(images, monkeypatch, java):
    monkeypatch.setattr(scoring.shutil, "which", lambda program: java)
    monkeypatch.setattr("pycocoevalcap.meteor.meteor.Meteor", Meteor)
    scorer = scoring.Scorer(images["test"].captions)
    right = [" ".join(several[0]) for several in images["test"].captions]
    wrong = right[1:] + right[:1]
    best, worse = (scorer.all(told) for told in (right, wrong))
    assert best["BLEU-4"] == pytest.approx(1)
    assert best["ROUGE-L"] == pytest.approx(1)
    assert all(worse[name] < best[name] - 0.05 for name in ("CIDEr", "BLEU-4", "ROUGE-L"))
    assert best.get("METEOR") == (0.25 if java else None)
    assert scorer.cider(right) == best["CIDEr"] == pytest.approx(scorer.cider_of_each(right).mean())
    with pytest.raises(ValueError, match="Expected 9, one for each image. Received: 2"):
        scorer.cider(right[:2])


def test_a_difference_is_taken_image_by_image_over_all_seeds():
    hard = np.array([0.0, 1.0, 5.0, 20.0])  # how images differ is no part of the error
    better = np.array([1.0, 1.0, 3.0, 3.0])
    found = scoring.difference([hard + 1, hard + better], [hard - 1, hard + 1])
    assert found == pytest.approx((1.5, np.std([1, 1, 2, 2], ddof=1) / 2))
