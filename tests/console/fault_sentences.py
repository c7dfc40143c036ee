"""All sentences that the runtime's source can tell a person, read from its syntax tree.

A fault's message and hint are literals or f-strings there; each value that is filled in becomes ``{}``.  Where such a value
is the function's own parameter or the variable of a loop over a table, the words that it can be are sentences too.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import runtime
from runtime import errors
from runtime.engines.native.oci import _MEANINGS

SOURCE = Path(runtime.__file__).parent
NOT_FOR_THE_CONSOLE = ("cli",)
FINISHED_ELSEWHERE = ("unavailable", "bad_entry")
"""Functions that other modules call with the end of a sentence."""
FAULTS = {name for name, one in vars(errors).items() if isinstance(one, type) and issubclass(one, errors.RuntimeFault)}
Function = ast.FunctionDef | ast.AsyncFunctionDef


def sentences() -> set[str]:
    found = {message.replace("{what!r}", "{}") for _, _, message, _, _ in _MEANINGS}
    found |= {hint for _, _, _, hint, _ in _MEANINGS}
    paths = [path for path in SOURCE.rglob("*.py") if path.relative_to(SOURCE).parts[0] not in NOT_FOR_THE_CONSOLE]
    modules = [ast.parse(path.read_text(encoding="utf-8")) for path in paths]
    everywhere = ast.Module(body=[node for module in modules for node in module.body], type_ignores=[])
    faults = _names_of_faults(modules)
    for module in modules:
        found |= set(_of_module(module, faults, everywhere))
    return found - {"", "{}"}


def _names_of_faults(modules: list[ast.Module]) -> set[str]:
    """Of the tree in ``runtime.errors``, and of what other modules derive from it."""
    names = set(FAULTS)
    for module in modules:
        for node in ast.walk(module):
            if isinstance(node, ast.ClassDef) and any(
                isinstance(base, ast.Name) and base.id in names for base in node.bases
            ):
                names.add(node.name)
    return names


def _of_module(module: ast.Module, faults: set[str], everywhere: ast.Module) -> Iterator[str]:
    functions = [node for node in ast.walk(module) if isinstance(node, Function)]
    for function in functions:
        for call in _calls(function, faults):
            texts = [*call.args[:1], *(word.value for word in call.keywords if word.arg == "hint")]
            for text in texts:
                yield from _expanded(text, function, everywhere if function.name in FINISHED_ELSEWHERE else module)
    for keyword in (node for node in ast.walk(module) if isinstance(node, ast.keyword) and node.arg == "reason"):
        yield from _shapes(keyword.value)


def _calls(within: ast.AST, names: set[str]) -> Iterator[ast.Call]:
    for node in ast.walk(within):
        if isinstance(node, ast.Call):
            called = node.func
            name = (
                called.id if isinstance(called, ast.Name) else called.attr if isinstance(called, ast.Attribute) else ""
            )
            if name in names:
                yield node


def _expanded(text: ast.expr, function: Function, module: ast.Module) -> Iterator[str]:
    """The text's shapes, with the words that its first value can be put in where it begins with that, else told apart."""
    values = (
        [part.value for part in text.values if isinstance(part, ast.FormattedValue)]
        if isinstance(text, ast.JoinedStr)
        else []
    )
    words = {
        index: list(_possible(value.id, function, module))
        for index, value in enumerate(values)
        if isinstance(value, ast.Name)
    }
    for shape in _shapes(text):
        if words.get(0) and shape.startswith("{}"):
            yield from (word + shape[2:] for word in words[0])
        else:
            yield shape
            for several in words.values():
                yield from several


def _shapes(text: ast.expr) -> Iterator[str]:
    if isinstance(text, ast.Constant) and isinstance(text.value, str):
        yield text.value
    elif isinstance(text, ast.JoinedStr):
        yield "".join(str(part.value) if isinstance(part, ast.Constant) else "{}" for part in text.values)
    elif isinstance(text, ast.IfExp):
        yield from _shapes(text.body)
        yield from _shapes(text.orelse)


def _possible(name: str, function: Function, module: ast.Module) -> Iterator[str]:
    parameters = [one.arg for one in function.args.args]
    if name in parameters:
        number = parameters.index(name)
        defaults = [None] * (len(parameters) - len(function.args.defaults)) + function.args.defaults
        if (default := defaults[number]) is not None:
            yield from _shapes(default)
        for call in _calls(module, {function.name}):
            for value in [*call.args[number : number + 1], *(one.value for one in call.keywords if one.arg == name)]:
                yield from _shapes(value)
    for loop in (
        node for node in ast.walk(function) if isinstance(node, ast.For) and isinstance(node.target, ast.Tuple)
    ):
        targets = [one.id for one in loop.target.elts if isinstance(one, ast.Name)]  # type: ignore[attr-defined]
        if name in targets and isinstance(loop.iter, ast.Name):
            yield from _column(loop.iter.id, targets.index(name), function)


def _column(table: str, number: int, function: Function) -> Iterator[str]:
    for node in ast.walk(function):
        named = isinstance(node, ast.Assign) and any(
            isinstance(one, ast.Name) and one.id == table for one in node.targets
        )
        if named and isinstance(node.value, ast.Tuple):  # type: ignore[attr-defined]
            for row in node.value.elts:  # type: ignore[attr-defined]
                if isinstance(row, ast.Tuple):
                    yield from _shapes(row.elts[number])
