"""A word that the runtime knows, or a figure of the kernel's headers, is written down in one module."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

import runtime

ROOT = Path(runtime.__file__).parent


def constants(file: Path) -> Iterator[tuple[str, ast.expr]]:
    """What a module names in capitals, with how it says the value."""
    for statement in ast.parse(file.read_text()).body:
        if isinstance(statement, ast.Assign):
            (target,), value = statement.targets, statement.value
            pairs = [(target, value)]
            if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
                pairs = list(zip(target.elts, value.elts, strict=True))
            yield from ((name.id, said) for name, said in pairs if isinstance(name, ast.Name) and name.id.isupper())


def twins(folder: Path, counts: Callable[[str, ast.expr], bool]) -> dict[str, list[str]]:
    found = defaultdict(list)
    for file in sorted(folder.rglob("*.py")):
        for name, said in constants(file):
            if counts(name, said):
                found[f"{name} = {ast.unparse(said)}"].append(file.relative_to(folder).as_posix())
    assert found
    return {constant: files for constant, files in found.items() if len(files) > 1}


def test_words_have_one_home() -> None:
    assert twins(ROOT, lambda _, said: isinstance(said, ast.Constant) and isinstance(said.value, str)) == {}


def test_what_the_kernel_s_headers_say_has_one_home() -> None:
    """Not a module's own deadlines: that two are equal means nothing."""
    assert twins(ROOT / "kernel", lambda name, _: not name.endswith("_S")) == {}


def test_a_twin_is_found(tmp_path: Path) -> None:
    (tmp_path / "one.py").write_text('NAME, SIZE = "name", 3\nPOLL_S = 1.0\n')
    (tmp_path / "two.py").write_text('NAME = "name"\nSIZE = 4\nPOLL_S = 1.0\n')
    assert twins(tmp_path, lambda name, _: not name.endswith("_S")) == {"NAME = 'name'": ["one.py", "two.py"]}
