"""What a release is made of: the sdist, the wheel built from it, and the wheel away from this tree."""

import configparser
import email
import importlib.metadata
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

import keras_iss

ROOT = Path(__file__).parents[1]
PACKAGES = ("keras_iss", "tflite_export")
FOLDERS = (*PACKAGES, "tests", "examples", "benchmarks", "docs")
VERSION = keras_iss.__version__
BUILD = """
import sys
from setuptools import build_meta
print(getattr(build_meta, sys.argv[1])(sys.argv[2]))
"""

pytestmark = pytest.mark.skipif(
    not (ROOT / "pyproject.toml").exists() or not (ROOT / "keras_iss").is_dir(),
    reason="this is not the source tree",
)


def build(kind, tree, folder):
    """Runs what `python -m build --no-isolation` does: the build backend in the tree, in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", BUILD, kind, str(folder)], cwd=tree, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return folder / done.stdout.splitlines()[-1]


@pytest.fixture(scope="module")
def release(tmp_path_factory):
    """The sdist, made from a copy of this tree, and the wheel, made from the sdist."""
    try:
        found = importlib.metadata.version("setuptools")
    except importlib.metadata.PackageNotFoundError:
        found = "0"
    if int(found.partition(".")[0]) < 77:
        pytest.skip(f"building needs setuptools 77 or newer; pip install -U setuptools (found: {found})")
    folder = tmp_path_factory.mktemp("release")
    tree = folder / "tree"
    for name in FOLDERS:
        shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns("*.egg-info"))
    for path in ROOT.iterdir():
        if path.suffix in (".py", ".toml", ".md", ".in") or path.name == "LICENSE":
            shutil.copy(path, tree)
    sdist = build("build_sdist", tree, folder)
    with tarfile.open(sdist) as packed:
        packed.extractall(folder, filter="data")
    return sdist, build("build_wheel", folder / f"keras_iss-{VERSION}", folder)


def files(*folders, without=()):
    """The files of the tree that belong to a release."""
    return {
        path.relative_to(ROOT).as_posix()
        for folder in folders
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and path.suffix not in without
    }


def test_the_wheel_holds_both_packages_whole_and_nothing_else(release):
    with zipfile.ZipFile(release[1]) as wheel:
        names = set(wheel.namelist())
    about = {name for name in names if name.startswith(f"keras_iss-{VERSION}.dist-info/")}
    assert names - about == files(*PACKAGES)
    assert {"keras_iss/py.typed", "tflite_export/py.typed", "keras_iss/demo/page.css"} <= names
    assert {Path(name).name for name in about} == {
        *("METADATA", "WHEEL", "RECORD", "entry_points.txt", "top_level.txt", "LICENSE")
    }


def test_the_sdist_holds_what_the_tests_need(release):
    with tarfile.open(release[0]) as packed:
        names = {path.partition("/")[2] for path in packed.getnames()}
    wanted = files(*FOLDERS, without=(".keras", ".tflite", ".pyc"))
    top = {
        "pyproject.toml",
        "setup.py",
        "conftest.py",
        "LICENSE",
        "README.md",
        "CHANGELOG.md",
        "CONTRIBUTING.md",
    }
    assert wanted | top <= names
    assert not {
        name for name in names if "__pycache__" in name or name.endswith((".pyc", ".keras", ".tflite"))
    }


def test_the_wheel_tells_version_licence_and_program(release):
    with zipfile.ZipFile(release[1]) as wheel:
        read = {
            Path(name).name: wheel.read(name).decode() for name in wheel.namelist() if ".dist-info/" in name
        }
    about = email.message_from_string(read["METADATA"])
    assert (about["Name"], about["Version"]) == ("keras-iss", VERSION)
    assert (about["License-Expression"], about["License-File"]) == ("Apache-2.0", "LICENSE")
    assert about["Requires-Python"] == ">=3.11"
    assert about.get_payload().startswith("# keras-iss")
    programs = configparser.ConfigParser()
    programs.read_string(read["entry_points.txt"])
    assert dict(programs["console_scripts"]) == {"keras-iss": "keras_iss.__main__:console"}


def test_the_wheel_runs_away_from_this_tree(release, tmp_path):
    with zipfile.ZipFile(release[1]) as wheel:
        wheel.extractall(tmp_path / "site")
    code = (
        "import sys; sys.argv = ['keras-iss', '--version']\n"
        f"sys.path.insert(0, {str(tmp_path / 'site')!r})\n"
        "import keras_iss.__main__\n"
        "try: keras_iss.__main__.main()\n"
        "finally: print(keras_iss.__file__)"
    )
    done = subprocess.run([sys.executable, "-I", "-c", code], cwd=tmp_path, capture_output=True, text=True)
    told = ["keras-iss", VERSION, str(tmp_path / "site" / "keras_iss" / "__init__.py")]
    assert done.stdout.split() == told, done.stderr
