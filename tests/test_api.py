"""The public interface is the recorded one: a change is made on purpose, and a user can see it."""

import difflib
import enum

import pytest

import keras_iss
from tests.api import RECORD, of_class, of_module, public_interface, signature_of


def test_public_names_and_signatures_are_those_recorded():
    recorded = RECORD.read_text(encoding="utf-8").splitlines()
    changes = difflib.unified_diff(recorded, public_interface(), "recorded", "now", lineterm="", n=0)
    changes = [line for line in changes if not line.startswith("@@")]
    if changes:
        pytest.fail(
            "\n".join(
                [
                    "The public interface has changed. If that is meant, record it with `python -m tests.api`, and",
                    "tell users in CHANGELOG.md; a name or an argument that goes away breaks their programs.",
                    *changes,
                ]
            ),
            pytrace=False,
        )


ANYTHING = object()


class Base:
    def inherited(self, like=ANYTHING):
        return self


class Kind(enum.Enum):
    ONE = "one"
    _OWN = "own"


class Shown(Base):
    """Stands for a public class."""

    def __init__(self, size: int, *, kind: "Kind | None" = None, rule=len):
        self._size = size

    @property
    def size(self) -> int:
        return self._size

    @classmethod
    def of(cls, text: str = "a"):
        return cls(len(text))

    def _private(self):
        return self


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (
            lambda: of_class(Shown, "here.Shown"),
            [
                "class here.Shown(Base)",
                "here.Shown(size: int, *, kind: Kind | None = None, rule=<built-in function len>)",
                "here.Shown.size -> int",
                "here.Shown.of(text: str = 'a')",
            ],
        ),
        (lambda: of_class(Kind, "here.Kind"), ["class here.Kind(Enum)", "here.Kind.ONE = 'one'"]),
        (lambda: [signature_of(Base.inherited)], ["(self, like=<object object>)"]),
    ],
    ids=["class", "enumeration", "function"],
)
def test_what_a_user_can_write_is_recorded_and_nothing_of_where_it_lies(made, expected):
    assert list(made()) == expected


def test_modules_among_the_names_are_looked_into():
    assert any(line.startswith("keras_iss.layers.HLSTM(units") for line in of_module(keras_iss))
