"""The public interface as text, a line for each name with its signature: what a release promises to keep.

`python -m tests.api` records it in tests/api.txt, which tests/test_api.py compares.
"""

from __future__ import annotations

import argparse
import enum
import importlib
import inspect
import re
import types
from collections.abc import Iterator
from pathlib import Path

from keras_iss.arguments import parser

RECORD = Path(__file__).with_name("api.txt")
PACKAGES = ("keras_iss", "tflite_export")
COMMANDS = ("trace", "strip", "export", "bench", "report", "demo")


def public_interface() -> list[str]:
    """All public names of both packages and of the command line, sorted."""
    lines = [line for package in PACKAGES for line in of_module(importlib.import_module(package))]
    runs = dict.fromkeys(COMMANDS, print)
    return sorted({*lines, *of_parser(parser(runs))})


def of_module(module: types.ModuleType) -> Iterator[str]:
    """The names in `__all__`, modules among them with theirs."""
    for name in module.__all__:
        thing, dotted = getattr(module, name), f"{module.__name__}.{name}"
        if inspect.ismodule(thing):
            yield from of_module(thing)
        elif inspect.isclass(thing):
            yield from of_class(thing, dotted)
        else:
            yield f"{dotted}{signature_of(thing)}"


def of_class(cls: type, dotted: str) -> Iterator[str]:
    """The constructor, and what the class and its bases in this project define; what Keras defines is Keras's."""
    bases = ", ".join(base.__name__ for base in cls.__bases__)
    yield f"class {dotted}({bases})"
    ours = [base for base in cls.__mro__ if base.__module__.split(".")[0] in PACKAGES or base is cls]
    members = {name: thing for base in reversed(ours) for name, thing in vars(base).items()}
    if "__init__" in members and not issubclass(cls, enum.Enum):
        yield f"{dotted}{signature_of(cls.__init__, bound=True)}"
    for name, thing in members.items():
        if name.startswith("_"):
            continue
        if isinstance(thing, property):
            returns = thing.fget.__annotations__.get("return")
            yield f"{dotted}.{name}" + (f" -> {_annotation(returns)}" if returns else "")
        elif isinstance(thing, (classmethod, staticmethod)):
            yield f"{dotted}.{name}{signature_of(thing.__func__, bound=isinstance(thing, classmethod))}"
        elif inspect.isfunction(thing):
            yield f"{dotted}.{name}{signature_of(thing, bound=True)}"
        elif isinstance(thing, cls) and issubclass(cls, enum.Enum):
            yield f"{dotted}.{name} = {thing.value!r}"


def signature_of(function, *, bound: bool = False) -> str:
    """The signature, written alike by every version of Python; `bound` leaves out `self` or `cls`."""
    signature = inspect.signature(function)
    parameters = [
        parameter.replace(annotation=_Written(_annotation(parameter.annotation)))
        if parameter.annotation is not parameter.empty
        else parameter
        for parameter in signature.parameters.values()
        if not parameter.name.startswith("_")
    ]
    returns = signature.return_annotation
    plain = signature.replace(parameters=parameters[bound:], return_annotation=signature.empty)
    arrow = "" if returns is signature.empty else f" -> {_annotation(returns)}"
    return re.sub(r" at 0x[0-9a-f]+", "", f"{plain}{arrow}")


class _Written:
    """An annotation that is printed as it stands."""

    def __init__(self, text: str):
        self.text = text

    def __repr__(self) -> str:
        return self.text


def _annotation(annotation) -> str:
    if isinstance(annotation, type):
        return annotation.__name__
    return str(annotation)


def of_parser(words: argparse.ArgumentParser) -> Iterator[str]:
    """The command line: each command, its arguments and options, and what they may be."""
    for action in words._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                yield command.prog
                yield from of_parser(command)
        else:
            name = "/".join(action.option_strings) or action.metavar
            choices = "" if action.choices is None else f" {{{','.join(map(str, action.choices))}}}"
            required = " (required)" if action.required and action.option_strings else ""
            yield f"{words.prog} {name}{choices}{required}"


if __name__ == "__main__":
    RECORD.write_text("".join(f"{line}\n" for line in public_interface()), encoding="utf-8")
