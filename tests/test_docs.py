"""The documentation: its code runs; its names, commands and messages exist; its links lead somewhere.

Blocks with `>>>` are run by pytest's doctest (testpaths in pyproject.toml), all other Python is run here, and so are the
notebooks. What is checked on the built site waits for `sphinx-build -W docs build/docs`.
"""

import ast
import contextlib
import functools
import importlib
import importlib.util
import inspect
import io
import pkgutil
import re
import shlex
import tomllib
from html.parser import HTMLParser
from pathlib import Path

import keras
import numpy as np
import pytest

import keras_iss
import tflite_export
from keras_iss.arguments import parser
from tests.api import COMMANDS, PACKAGES
from tests.tflite_export.conftest import phone  # noqa: F401 (a fixture)

ROOT = Path(__file__).parents[1]
DOCS, SITE = ROOT / "docs", ROOT / "build" / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]
NOTEBOOKS = sorted(DOCS.glob("notebooks/*.ipynb"))
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.M | re.S)

pytestmark = pytest.mark.skipif(not DOCS.is_dir(), reason="the documentation is not here")


def named(path):
    return path.relative_to(ROOT).as_posix()


@functools.cache
def read(path):
    return path.read_text(encoding="utf-8")


def blocks(page, *languages):
    return [code for language, code in BLOCK.findall(read(page)) if language in languages]


def programs(page):
    """The page's Python that isn't a doctest."""
    return [code for code in blocks(page, "python", "py") if ">>>" not in code]


def prose(page):
    return BLOCK.sub("", read(page))


def pages(having):
    return [pytest.param(page, id=named(page)) for page in PAGES if having(page)]


def project():
    return tomllib.loads(read(ROOT / "pyproject.toml"))


# ------------------------------------------------------------------------------------------------------ code


def test_every_page_with_doctests_is_collected():
    settings = project()["tool"]["pytest"]["ini_options"]
    collected = {path for place in settings["testpaths"] for path in ROOT.glob(place)}
    globs = [word.partition("=")[2] for word in settings["addopts"] if word.startswith("--doctest-glob")]
    with_doctests = [
        page for page in PAGES if any(">>> " in code for code in blocks(page, "python", "pycon"))
    ]
    assert len(with_doctests) > 5
    for page in with_doctests:
        assert page in collected, named(page)
        assert any(page.match(glob) for glob in globs), named(page)


def run(page, names, count=None):
    """Runs a page's (first) programs one after another, as a reader would; returns what they print."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        for number, code in enumerate(programs(page)[:count], 1):
            exec(compile(code, f"{named(page)}, program {number}", "exec"), names)
    return printed.getvalue()


def names_at_hand():
    """What the programs start from: the packages, a small model and its data."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(32, 6, 3)).astype("float32")
    y = (x[:, :, 0].sum(1, keepdims=True) > 0).astype("float32")
    model = keras.Sequential(
        [keras.Input((6, 3), name="x"), keras.layers.LSTM(6, name="lstm"), keras.layers.Dense(1, "sigmoid")]
    )
    model.compile("adam", "mse", metrics=["accuracy"])
    packages = {name: importlib.import_module(name) for name in ("keras", "keras_iss", "tflite_export")}
    return {**packages, "np": np, "model": model, "small": model, "x": x, "y": y, "held_out": (x, y)}


def of_readme(device):
    pytest.importorskip("ai_edge_quantizer")
    names = names_at_hand()
    tflite_export.export(names["model"], "float.tflite")
    names["x_test"], names["y_test"] = names["x"], np.full((32, 1), 2.0)  # of an accuracy 0 that can't drop
    assert "speech.tflite" in run(ROOT / "README.md", names)


def of_frontier(device):
    names = names_at_hand()
    x, y = names["held_out"]
    names["folder"] = "sweep"

    def build():
        layers = [keras.Input((6, 3)), keras.layers.LSTM(6), keras.layers.Dense(1)]
        model = keras.Sequential(layers)
        model.compile("adam", "mse", run_eagerly=True)
        return model

    def fit(model, callbacks):
        return model.fit(x, y, epochs=2, shuffle=False, verbose=0, callbacks=callbacks)

    names |= {"build": build, "fit": fit}
    printed = run(DOCS / "frontier.md", names)
    assert "file kB  ms per call" in printed
    assert printed.count("iss-0.5") == 2  # while it trains, and in the table
    assert Path("frontier.png").is_file()


def of_grow_and_prune(device):
    assert "GrowAndPrune: " in run(DOCS / "grow_and_prune.md", names_at_hand())


def of_phones(device):
    names = names_at_hand()
    for name in ("dense", "small"):
        tflite_export.export(names["model"], f"{name}.tflite")
    Path("android_aarch64_benchmark_model").write_bytes(device.runner.read_bytes())
    printed = run(DOCS / "phones.md", names)
    assert "Pixel 8" in printed
    assert "lstm_h" in printed


def of_raspberry_pi(device):
    model = keras.Sequential(
        [
            keras.Input((None, 40), name="x"),
            keras.layers.GRU(4, return_sequences=True),
            keras.layers.Dense(2, name="y"),
        ]
    )
    tflite_export.export(model, "model.tflite", streaming=True)
    tflite_export.export(model, "whole.tflite")
    frames = np.random.default_rng(0).normal(size=(3, 40)).astype("float32")
    printed = run(DOCS / "raspberry_pi.md", {"frames": list(frames)})
    said = np.array([float(number) for number in re.findall(r"-?\d+\.\d*(?:e-?\d+)?", printed)])
    expected = model.predict(frames[None], verbose=0).ravel()
    np.testing.assert_allclose(said, np.tile(expected, 2), atol=1e-5)  # step by step, then at once


def of_distributed(device):
    """The first program is for one host and TensorFlow; the calls of the others exist, tests/keras_iss/distributed runs them."""
    if keras.backend.backend() != "tensorflow":
        pytest.skip("needs the TensorFlow backend")
    tf = importlib.import_module("tensorflow")
    names = {**names_at_hand(), "tf": tf}
    names["build"] = lambda: keras.models.clone_model(names["model"])
    run(DOCS / "distributed.md", names, count=1)
    assert keras_iss.report(names["model"]).stripped["macs"] <= 0.3 * keras_iss.report(names["model"]).macs
    for code in programs(DOCS / "distributed.md"):
        for call in (node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Call)):
            root, *attributes = ast.unparse(call.func).split(".")
            if root in ("keras", "keras_iss", "tf"):
                function = functools.reduce(getattr, attributes, names[root])
                inspect.signature(function).bind_partial(**{word.arg: word.value for word in call.keywords})


RUN = {
    "README.md": of_readme,
    "docs/distributed.md": of_distributed,
    "docs/frontier.md": of_frontier,
    "docs/grow_and_prune.md": of_grow_and_prune,
    "docs/phones.md": of_phones,
    "docs/raspberry_pi.md": of_raspberry_pi,
}


@pytest.mark.parametrize("page", pages(programs))
def test_programs_of_a_page_run(page, phone, tmp_path, monkeypatch):  # noqa: F811
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # the rests between runs on a phone
    RUN[named(page)](phone)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_runs_and_holds_no_outputs(path, tmp_path, monkeypatch):
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    notebook = nbformat.read(path, as_version=4)
    assert not [cell for cell in notebook.cells if cell.cell_type == "code" and cell.outputs]
    assert not [cell for cell in notebook.cells if cell.cell_type == "code" and cell.execution_count]
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    nbclient.NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}}).execute()
    said = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    assert any(output.output_type == "stream" for output in said)


# ----------------------------------------------------------------------------------------------------- names


@pytest.mark.parametrize("page", pages(lambda page: True))
def test_names_in_the_text_exist(page):
    for dotted in set(re.findall(r"`((?:keras_iss|tflite_export)(?:\.[A-Za-z_]\w*)*)", prose(page))):
        pkgutil.resolve_name(dotted)


@functools.cache
def words():
    """The command line's parser, with commands that do nothing."""
    return parser(dict.fromkeys(COMMANDS, print))


def has_commands(page):
    return "keras-iss " in read(page)


@pytest.mark.parametrize("page", pages(has_commands))
def test_commands_exist(page, capsys):
    lines = [line.strip() for code in blocks(page, "sh", "bash") for line in code.splitlines()]
    lines = [line.split("&& ")[-1] for line in lines]
    for line in lines:
        command, *arguments = shlex.split(line, comments=True) or [""]
        if command.rpartition("/")[2] == "keras-iss":
            words().parse_args(arguments)
    commands = words()._subparsers._group_actions[0].choices
    for command, rest in re.findall(r"`keras-iss (\w+)([^`]*)`", prose(page)):
        options = set(re.findall(r"--[\w-]+", rest))
        assert options <= set(commands[command]._option_string_actions), (command, options)


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_scripts_and_extras_exist(page):
    for script in set(re.findall(r"python ((?:benchmarks|examples)/\S+?\.py)", read(page))):
        assert (ROOT / script).is_file(), script
    extras = {
        name for names in re.findall(r"(?:keras-iss|\.)\[([\w,]+)\]", read(page)) for name in names.split(",")
    }
    assert extras <= set(project()["project"]["optional-dependencies"])


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if not re.match(r"\w+:|#", target):
            assert (page.parent / target.partition("#")[0]).exists(), target


def test_names_of_tfmot_are_its_own():
    package = importlib.util.find_spec("tensorflow_model_optimization")
    if package is None:
        pytest.skip("tensorflow-model-optimization is not installed")
    api = Path(package.origin).parent / "python/core/api"
    text = read(DOCS / "migrating_from_tfmot.md")
    found = re.findall(r"`tfmot\.(\w+)\.keras\.(\w+)", text)
    assert len(found) > 8
    for part, name in found:
        tree = ast.parse(read(api / part / "keras/__init__.py"))
        offered = {
            alias.asname or alias.name for node in ast.walk(tree) for alias in getattr(node, "names", [])
        }
        assert name in offered, f"{part}.{name}"


# -------------------------------------------------------------------------------------------------- messages


@functools.cache
def texts_of_sources():
    """Every string in the packages, with … where a value is put in."""

    def text(node):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            return node.value
        if isinstance(node, ast.JoinedStr):
            return "".join(text(part) or "…" for part in node.values)
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
            return (text(node.left) or "…") + (text(node.right) or "…")
        return ""

    files = [
        file
        for package in PACKAGES
        for file in (Path(tflite_export.__file__).parents[1] / package).rglob("*.py")
    ]
    found = {text(node) for file in files for node in ast.walk(ast.parse(read(file)))}
    return [re.sub("…+", "…", " ".join(string.split())) for string in found]


def messages():
    page = DOCS / "troubleshooting.md"
    return re.findall(r"^> (.+)$", read(page), re.M) if page.exists() else []


@pytest.mark.parametrize("message", messages())
def test_message_is_one_of_ours(message):
    assert any(message.strip("… ") in text for text in texts_of_sources())


def test_messages_are_quoted():
    assert len(messages()) > 30


# ------------------------------------------------------------------------------------------------- the site


class Page(HTMLParser):
    """What a built page loads by itself, and the names that links may lead to."""

    def __init__(self, path):
        super().__init__()
        self.loads, self.anchors, self.tags = [], set(), set()
        self.feed(read(path))

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.tags.add(tag)
        self.anchors.add(attributes.get("id"))
        if tag != "a":
            self.loads += [attributes[name] for name in ("src", "href") if attributes.get(name)]


@pytest.fixture(scope="module")
def site():
    if not SITE.is_dir():
        pytest.skip("the site isn't built; pip install -e '.[docs]' && sphinx-build -W docs build/docs")
    return {path.relative_to(SITE).as_posix(): Page(path) for path in SITE.rglob("*.html")}


def test_site_loads_nothing_from_elsewhere(site):
    assert len(site) > 20
    outside = re.compile(r"(\w+:)?//")
    assert not {name: url for name, page in site.items() for url in page.loads if outside.match(url)}
    for sheet in SITE.rglob("*.css"):
        assert not re.search(r"(url\(|@import\s)['\"]?(https?:)?//", read(sheet)), sheet.name


def public_names(module):
    for name in module.__all__:
        thing = getattr(module, name)
        if inspect.ismodule(thing):
            yield from public_names(thing)
        else:
            yield f"{module.__name__}.{name}"


def test_site_describes_every_public_name(site):
    described = set().union(*(page.anchors for name, page in site.items() if name.startswith("reference/")))
    names = {name for package in PACKAGES for name in public_names(importlib.import_module(package))}
    assert len(names) > 20
    assert not names - described


def test_site_draws_formulas_without_a_script(site):
    assert "math" in site["how_iss_works.html"].tags
    assert "<mi>&</mi>" not in read(SITE / "how_iss_works.html")  # LaTeX that wasn't understood
