"""Data from a stranger, and what a phone says: refused in one line; nothing runs code or writes elsewhere."""

import gzip
import io
import pickle
import subprocess
import tarfile
import zipfile

import pytest

import tflite_export
from keras_iss.loading import LoadingError, load_arrays
from keras_iss.masking import read_masks
from tests.test_hostile import Touch
from tflite_export import device_adb, device_output

# -------------------------------------------------------------------------------------------- an AN4 archive


def tar(path, members):
    with tarfile.open(path, "w:gz") as archive:
        for member, content in members:
            member = tarfile.TarInfo(member) if isinstance(member, str) else member
            if content is not None:
                member.size = len(content)
            archive.addfile(member, None if content is None else io.BytesIO(content))
    return path


def link(name, kind):
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, "/etc/passwd"
    return member


class TestSpeechArchive:
    def test_members_that_lead_out_are_never_written(self, tmp_path):
        from an4_speech import data

        inner = tmp_path / "a" / "b"
        inner.mkdir(parents=True)
        members = [
            ("../evil.raw", b"ab"),
            (str(tmp_path / "evil.raw"), b"ab"),
            (link("x/y/evil.raw", tarfile.SYMTYPE), None),
            (link("x/y/hard.raw", tarfile.LNKTYPE), None),
            (link("x/y/pipe.fileids", tarfile.FIFOTYPE), None),
        ]
        with pytest.raises(data.ArchiveError, match="is no AN4 archive"):
            data.read(tar(inner / "an4.tar.gz", members))
        assert sorted(p.name for p in tmp_path.rglob("*")) == ["a", "an4.tar.gz", "b"]

    def test_a_bomb_is_not_unpacked(self, tmp_path, monkeypatch):
        from an4_speech import data

        monkeypatch.setattr(data, "_MOST", 1_000_000)
        for member in ("x/y/z.raw", "x/y/z.txt"):
            path = tar(tmp_path / "an4.tar.gz", [(member, bytes(3_000_000))])
            with pytest.raises(data.ArchiveError, match="unpacks to more than 1,000,000 bytes"):
                data.read(path)

    def test_lists_that_are_no_text(self, tmp_path):
        from an4_speech import data

        with pytest.raises(data.ArchiveError, match="damaged"):
            data.read(tar(tmp_path / "an4.tar.gz", [("etc/an4_train.fileids", b"\xff\xfe")]))

    def test_something_else_that_is_packed(self, tmp_path):
        from an4_speech import data

        with gzip.open(tmp_path / "an4.tar.gz", "w") as file:
            file.write(b"no tar archive" * 999)
        with pytest.raises(data.ArchiveError, match="damaged"):
            data.read(tmp_path / "an4.tar.gz")

    def test_a_damaged_cache_of_features_is_computed_again(self, tmp_path):
        from an4_speech import features

        for content in (b"", b"PK\3\4 no zip", pickle.dumps(Touch(tmp_path / "mark"))):
            (tmp_path / "features.npz").write_bytes(content)
            assert features._read(tmp_path / "features.npz", "key") is None
        assert not (tmp_path / "mark").exists()


# ------------------------------------------------------------------------- what fuzzing found, beside the above


def archive(path, members):
    with zipfile.ZipFile(path, "w") as packed:
        for name, content in members.items():
            packed.writestr(name, content)
    return path


def npy(header):
    text = header.encode()
    return b"\x93NUMPY\1\0" + len(text).to_bytes(2, "little") + text


BROKEN_HEADER = npy("{'descr': '<f4', 'fortran_order': False, 'shape': (3, 50\n")


@pytest.mark.parametrize(
    ("name", "content"),
    [("x", b"no array"), ("x.npy", BROKEN_HEADER), ("x.npy", npy("{'descr': '<U4', 'fortran_order': False, 'shape': ()}\n"))],
    ids=["a member that is no array", "a header cut short", "text"],
)  # fmt: skip
def test_an_archive_of_something_else_than_numbers(name, content, tmp_path):
    path = archive(tmp_path / "inputs.npz", {name: content})
    with pytest.raises(LoadingError, match="holds no arrays"):
        load_arrays(path)
    with pytest.raises(ValueError, match="mask file"):
        read_masks(path, {"x": (3, 50)})


class TestPhone:
    @pytest.mark.parametrize("line", ["ABC123", "ABC123\t", "\0"])
    def test_adb_lists_a_phone_without_a_state(self, line, monkeypatch):
        said = subprocess.CompletedProcess([], 0, f"List of devices attached\n{line}\n", "")
        monkeypatch.setattr(device_adb, "_run", lambda words, timeout: said)
        monkeypatch.setattr(device_adb, "_find_adb", lambda: "adb")
        with pytest.raises(tflite_export.ExportError, match="adb finds no phone"):
            device_adb.find_phone(None)

    @pytest.mark.parametrize(
        "text", ["count=5 first=700", "count=5 min=1 max=2", "count=5 min=1e avg=-", "count=5 avg=1-2 min=1", "count=9 curr=."]
    )  # fmt: skip
    def test_the_runner_s_figures_are_cut_short(self, text):
        assert device_output.read_text(text) is None

    @pytest.mark.parametrize("data", [b"\x10\x05", b"\x15abcd", b"\x12\xff", b"\x0a", b"\xff" * 40])
    def test_the_runner_s_result_file_is_garbled(self, data):
        assert device_output.read_result(data) is None


class TestQuestions:
    @pytest.mark.parametrize(
        "content",
        [
            b'{"data": [{"paragraphs": [{"context": "a", "qas": [{"id": 1, "question": "q", "answers": '
            b'[{"text": "a", "answer_start": "x"}]}]}]}]}',
            b'{"data": [{"paragraphs": [{"context": "a", "qas": [{"id": 1, "question": "q", "answers": '
            b'[{"text": "a", "answer_start": Infinity}]}]}]}]}',
            b"[" * 100_000,
            b"\xff",
        ],
        ids=["a start that is no number", "an infinite start", "nested too deep", "no text"],
    )
    def test_a_set_that_is_damaged(self, content, tmp_path):
        from squad_bidaf import data

        (tmp_path / "train.json").write_bytes(content)
        with pytest.raises(data.DataError, match="train.json"):
            data.read(tmp_path / "train.json")

    @pytest.mark.parametrize("content", [b"w" + b" x" * 50, b"w\xff" + b" 1" * 49 + b" 0>5"])
    def test_vectors_that_are_no_numbers(self, content, tmp_path):
        from squad_bidaf import data

        (tmp_path / "vectors.txt").write_bytes(content + b"\n")
        with pytest.raises(data.DataError, match=r"Line 1 of .*vectors.txt"):
            data.vectors(tmp_path / "vectors.txt", {"w", "w\ufffd"})

    def test_a_table_of_vectors_that_is_cut_short(self, tmp_path):
        from squad_bidaf import data

        (tmp_path / "vectors.npy").write_bytes(BROKEN_HEADER)
        (tmp_path / "vectors.words.txt").write_text("w\n")
        with pytest.raises(data.DataError, match="vectors.npy"):
            data.vectors(tmp_path / "vectors.npy", {"w"})


def test_images_features_that_are_no_arrays(tmp_path):
    from captioning import data

    archive(tmp_path / data.FEATURES, {"names": b"a", "features": b"b"})
    (tmp_path / data.CAPTIONS).write_text("a#0\tdog\n")
    with pytest.raises(data.DataError, match="expected 'names'"):
        data.read(tmp_path)
