"""The package as a whole: who imports whom, what is public, and that it starts without TensorFlow."""

import ast
import importlib.metadata
import importlib.util
import inspect
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import keras_iss
import tflite_export

ROOT = Path(__file__).parents[1]
INSTALLED = Path(keras_iss.__file__).parents[1]  # this tree, unless the tests run on an installed wheel
HOMES = {"keras_iss": INSTALLED, "tflite_export": INSTALLED, "examples": ROOT}
PUBLIC = {
    "keras_iss": {
        *("trace", "prune", "strip", "report", "register", "sweep"),
        *("Trace", "Structure", "WeightSlice", "Report", "Sweep", "TraceError", "StripError"),
        *("callbacks", "layers", "optimizers", "regularizers"),
    },
    "tflite_export": {
        *("export", "benchmark", "compare"),
        *("ExportResult", "BenchmarkReport", "CompareReport", "ExportError"),
    },
    "keras_iss.callbacks": {"Backup", "GrowAndPrune", "ISSPruning", "SparsityLogger"},
    "keras_iss.layers": {
        *("HLSTM", "HLSTMCell", "RHN", "RHNCell"),
        *("StrippedLayerNormalization", "StrippedRMSNormalization"),
    },
    "keras_iss.optimizers": {"SparseOptimizer"},
    "keras_iss.regularizers": {"ISSGroupLasso"},
}
LOADED_WHEN_NEEDED = {
    "tensorflow",
    "tensorflow_model_optimization",
    "matplotlib",
    "torch",
    "jax",
    "onnxruntime",
    "ray",
}
USES_BOTH = {"keras_iss/__main__.py"}


def sources(*folders):
    paths = [path for folder in folders for path in sorted((HOMES[folder] / folder).rglob("*.py"))]
    assert paths
    return [pytest.param(path, id=relative(path).as_posix()) for path in paths]


def relative(path):
    """Where a source file lies in its package or folder: keras_iss/..., examples/..."""
    return next(path.relative_to(home) for home in HOMES.values() if home in path.parents)


def imports(path, *, everywhere=True):
    """Dotted names that a file imports; `everywhere=False` counts only what runs when the module is imported."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    folder = relative(path).parent.parts
    found = set()

    def visit(node):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            return
        if not everywhere and isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            return
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join((*folder[: len(folder) - node.level + 1], *filter(None, [node.module])))
            base = base if node.level else node.module
            found.update(f"{base}.{alias.name}" for alias in node.names)
        for child in ast.iter_child_nodes(node):
            visit(child)

    visit(tree)
    return found


def roots(names):
    return {name.partition(".")[0] for name in names}


@pytest.mark.parametrize("path", sources("keras_iss", "tflite_export", "examples"))
def test_no_private_part_of_keras_is_imported(path):
    assert not {name for name in imports(path) if name.startswith("keras.src")}


@pytest.mark.parametrize("path", sources("keras_iss"))
def test_keras_iss_does_not_import_tflite_export(path):
    place = relative(path)
    if place.as_posix() in USES_BOTH or place.parts[1] == "demo":
        assert "tflite_export" not in roots(imports(path, everywhere=False))
    else:
        assert "tflite_export" not in roots(imports(path))


@pytest.mark.parametrize("path", sources("keras_iss"))
def test_keras_iss_loads_nothing_heavy_when_imported(path):
    assert not LOADED_WHEN_NEEDED & roots(imports(path, everywhere=False))


@pytest.mark.parametrize("path", sources("tflite_export", "examples"))
def test_only_public_names_of_keras_iss_are_used(path):
    used = {name for name in imports(path) if name.startswith("keras_iss.")}
    assert used <= {f"keras_iss.{name}" for name in PUBLIC["keras_iss"]}


@pytest.mark.parametrize("path", sources("examples"))
def test_examples_use_only_public_names_of_tflite_export(path):
    used = {name for name in imports(path) if name.startswith("tflite_export.")}
    assert used <= {f"tflite_export.{name}" for name in PUBLIC["tflite_export"]}


@pytest.mark.parametrize("module", PUBLIC)
def test_public_names_are_those_of_the_contract(module):
    loaded = importlib.import_module(module)
    assert set(getattr(loaded, "__all__", dir(loaded))) >= PUBLIC[module]


PUBLIC_NAMES = [f"{module}.{name}" for module, names in PUBLIC.items() for name in sorted(names)]


@pytest.mark.parametrize("dotted", PUBLIC_NAMES)
def test_public_names_are_documented(dotted):
    module, _, name = dotted.rpartition(".")
    thing = getattr(importlib.import_module(module), name)
    assert inspect.getdoc(thing)
    if inspect.isclass(thing):
        assert thing.__doc__, "the class itself, not what it inherits"
        inherited = {name for base in thing.__mro__[1:] for name in vars(base)}
        for name, member in vars(thing).items():
            own = not name.startswith("_") and name not in inherited
            if own and (inspect.isfunction(member) or isinstance(member, property)):
                assert inspect.getdoc(getattr(thing, name)), name
    if inspect.isfunction(thing):
        for section in ("Args:", "Returns:", "Raises:"):
            has_nothing_to_say = section == "Returns:" and inspect.signature(thing).return_annotation in (
                None,
                "None",
            )
            assert section in thing.__doc__ or has_nothing_to_say, section


START_WITHOUT = """
import importlib.abc, os, sys
os.environ["KERAS_BACKEND"] = "jax"
class Missing(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {missing}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Missing())
import keras_iss
import keras
model = keras.Sequential([keras.Input((5, 3)), keras.layers.LSTM(8, name="lstm"), keras.layers.Dense(2)])
small = keras_iss.strip(keras_iss.prune(model, 0.5))
print(keras.backend.backend(), small.get_layer("lstm").units)
"""


def test_works_on_jax_where_tensorflow_is_not_installed():
    missing = {
        "tensorflow",
        "tensorflow_model_optimization",
        "tf_keras",
        "ai_edge_litert",
        "matplotlib",
        "torch",
    }
    done = subprocess.run(
        [sys.executable, "-c", START_WITHOUT.format(missing=missing)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.stdout.split() == ["jax", "4"], done.stderr[-2000:]


def test_import_leaves_the_environment_alone():
    code = (
        "import os, keras; before = dict(os.environ); import keras_iss, tflite_export;"
        "print({k: v for k, v in os.environ.items() if before.get(k) != v})"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout.strip() == "{}", done.stderr[-2000:]


def test_version_stands_in_one_place():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert "version" not in project["project"]
    assert project["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "keras_iss.__version__"}
    assert f"## [{keras_iss.__version__}]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


@pytest.mark.skipif(
    not importlib.util.find_spec("keras_iss").origin.startswith(str(ROOT))
    or not list(importlib.metadata.Distribution.discover(name="keras-iss")),
    reason="keras-iss is not installed from this tree",
)
def test_installed_version_is_the_package_s():
    assert importlib.metadata.version("keras-iss") == keras_iss.__version__


@pytest.mark.parametrize("package", [keras_iss, tflite_export], ids=lambda package: package.__name__)
def test_packages_are_typed(package):
    assert Path(package.__file__).with_name("py.typed").exists()


def test_readme_lists_every_layer_that_tracing_knows():
    import keras_iss.registry
    import keras_iss.rules

    table = (
        (ROOT / "README.md")
        .read_text(encoding="utf-8")
        .partition("## Supported layers")[2]
        .partition("## ")[0]
    )
    known = {layer.__name__ for layer in keras_iss.registry._rules if layer.__module__.startswith("keras.")}
    missing = {name for name in known if f"`{name}`" not in table and not name.endswith("Cell")}
    assert len(known) > 40
    assert not missing
