"""The documentation as a site: `pip install -e ".[docs]" && sphinx-build -W docs build/docs`. It needs no network to be read."""

import re
import sys
from pathlib import Path

import docutils.nodes
from latex2mathml.converter import convert
from sphinx.util.docutils import SphinxDirective

sys.path.insert(0, str(Path(__file__).parents[1]))  # this tree, installed or not

import keras_iss
from keras_iss.arguments import parser

project = "keras-iss"
author = "the keras-iss authors"
release = version = keras_iss.__version__

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_copybutton"]
exclude_patterns = ["android/**", "results/**"]
html_theme = "furo"
html_title = f"keras-iss {release}"
html_copy_source = False
html_show_copyright = False
html_math_renderer = "mathml"

myst_fence_as_directive = ["math"]  # GitHub draws the same blocks
myst_heading_anchors = 3
nb_execution_mode = "off"  # tests/test_docs.py runs the notebooks
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

autodoc_default_options = {"members": True, "member-order": "bysource", "show-inheritance": True}
autodoc_typehints_format = "short"
default_role = "py:obj"  # `name` in a docstring: a link where the name is public, else code
napoleon_numpy_docstring = False
napoleon_use_ivar = True
python_maximum_signature_line_length = 90
smartquotes = False  # messages are searched for as they are printed
suppress_warnings = ["ref.python"]  # several classes have a `to_dict`


class CommandLine(SphinxDirective):
    """`{command-line} export`: what `keras-iss export --help` prints."""

    required_arguments = 0
    optional_arguments = 1

    def run(self):
        """A literal block."""
        words = parser(dict.fromkeys(("trace", "strip", "report", "export", "bench", "demo"), print))
        for command in self.arguments:
            words = words._subparsers._group_actions[0].choices[command]
        help_text = words.format_help().rstrip()
        return [docutils.nodes.literal_block(help_text, help_text, language="text")]


def plain_docstring(app, what, name, thing, options, lines):
    """Docstrings here are plain text with `code`: what else reStructuredText would read into them is escaped."""
    text = re.sub(  # names of arguments may go over several lines
        r"(?m)^( {4})(\w+(?:,\s+\w+)+):",
        lambda names: f"{names[1]}{' '.join(names[2].split())}:",
        "\n".join(lines),
    )
    doctest_or_code = r"^\s*>>> .*(?:\n.+)*|`[^`]*`"
    special = re.compile(rf"({doctest_or_code})|(\||(?<=\w)_(?!\w))", re.M)
    lines[:] = special.sub(lambda found: found[1] or f"\\{found[2]}", text).split("\n")


def inline_formula(translator, node):
    """LaTeX becomes MathML, which browsers draw without a script."""
    translator.body.append(convert(node.astext()))
    raise docutils.nodes.SkipNode


def formula(translator, node):
    """The same for a block."""
    drawn = convert(node.astext(), display="block")
    translator.body.append(drawn.replace('columnalign="', 'style="text-align: '))  # as browsers have it
    raise docutils.nodes.SkipNode


def setup(app):
    """What Sphinx calls first."""
    app.connect("autodoc-process-docstring", plain_docstring, priority=400)  # before napoleon
    app.add_directive("command-line", CommandLine)
    app.add_html_math_renderer(
        "mathml", inline_renderers=(inline_formula, None), block_renderers=(formula, None)
    )
