"""What the speech example reads: the archive and its features, on a small one of tones and on the real one."""

import numpy as np
import pytest

pytest.importorskip("jiwer", reason="pip install 'keras-iss[examples]'")
pytest.importorskip("scipy", reason="pip install 'keras-iss[examples]'")

from an4_speech import data, decode, main

from tests.examples.made_up_tones import WORDS, archive, tone
from tests.examples.real_data import REAL, needs

# --- the archive


@pytest.mark.parametrize("form", ["big-endian", "little-endian", "SPHERE"])
def test_every_published_form_is_told_apart_and_read_alike(tmp_path, form):
    corpus = data.read(archive(tmp_path / "an4.tar.gz", form))
    assert corpus.form == form
    assert (len(corpus.train), len(corpus.test)) == (24, 6)
    assert [u.text for u in corpus.test] == list(WORDS)
    assert corpus.train[4].text == "B C A"
    assert (corpus.train[4].name, corpus.train[4].speaker) == ("an4_clstk/fxyz/an4-fxyz-b", "fxyz")
    np.testing.assert_array_equal(corpus.train[4].samples, tone("B C A"))


def test_a_truncated_archive_is_named_as_such(tmp_path):
    path = archive(tmp_path / "an4.tar.gz")
    path.write_bytes(path.read_bytes()[:-20000])
    with pytest.raises(
        data.ArchiveError, match=r"an4.tar.gz is truncated or damaged: \d+ recordings could be read"
    ):
        data.read(path)


def without_a_recording(files):
    del files["wav/an4_clstk/mabc/an2-mabc-b.raw"]


def without_lists(files):
    del files["etc/an4_test.fileids"]


def with_half_a_sample(files):
    files["wav/an4_clstk/mabc/an2-mabc-b.raw"] += b"\0"


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (without_a_recording, "incomplete: 1 of the 24 recordings .* an4_clstk/mabc/an2-mabc-b for one"),
        (without_lists, "no AN4 archive: expected etc/an4_test.fileids"),
        (with_half_a_sample, r"an4_clstk/mabc/an2-mabc-b has \d+ bytes; expected 16-bit samples"),
    ],
)
def test_a_spoiled_archive_is_refused_with_what_is_wrong(tmp_path, spoil, message):
    with pytest.raises(data.ArchiveError, match=message):
        data.read(archive(tmp_path / "an4.tar.gz", spoil=spoil))


def test_compressed_sphere_is_refused_with_the_mend(tmp_path):
    path = archive(tmp_path / "an4.tar.gz", "SPHERE", coding="pcm,embedded-shorten-v2.00")
    with pytest.raises(
        data.ArchiveError, match=r"sample_coding pcm,embedded.*; expected pcm. Convert it with sph2pipe"
    ):
        data.read(path)


def test_the_archive_is_found_by_argument_and_by_environment(tmp_path, monkeypatch):
    (tmp_path / "an4").mkdir()
    path = archive(tmp_path / "an4" / data.NAMES[1])
    assert data.find(path) == data.find(tmp_path) == data.find(tmp_path / "an4") == path
    monkeypatch.setenv("KERAS_ISS_DATA", str(tmp_path))
    assert data.find(None) == path
    with pytest.raises(data.ArchiveError, match="No AN4 archive in .*nowhere"):
        data.find(tmp_path / "nowhere")


def test_offline_the_download_fails_with_the_address_and_the_mend(offline):
    with pytest.raises(
        data.ArchiveError, match=r"speech.cs.cmu.edu.*can't be downloaded.*--data or KERAS_ISS_DATA"
    ):
        data.find(None)


def test_a_user_sees_one_line_and_exit_code_2(tmp_path, capsys):
    assert main.main(["--data", str(tmp_path / "nowhere"), "--output", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err.startswith("error: No AN4 archive in ")


@needs(f"an4/{data.NAMES[0]}", "the AN4 archive")
def test_the_real_archive_has_its_published_size():
    corpus = data.read(data.find(REAL))
    assert (len(corpus.train), len(corpus.test), corpus.form) == (948, 130, "big-endian")
    assert sum(len(u.text.split()) for u in corpus.test) == 773
    assert not {u.speaker for u in corpus.train} & {u.speaker for u in corpus.test}
    for utterance in corpus.train + corpus.test:
        decode.encode(utterance.text)


def test_held_out_speakers_are_nobody_elses():
    speakers = ["fash", "mdcs", "mdcs2", "mabc", "mdcs", "fxyz", "mdcs2", "mjjs2"]
    held = data.held_out(speakers, 0.3)
    inside = {s.rstrip("2") for s, h in zip(speakers, held, strict=True) if h}
    outside = {s.rstrip("2") for s, h in zip(speakers, held, strict=True) if not h}
    assert inside
    assert not inside & outside
    assert data.held_out(speakers, 0.3) == held
