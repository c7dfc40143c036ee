"""A verb of the command line loads what it has a use for: loading is most of what a small one takes.

What is loaded while a verb does its work on a real engine is in tests/kernel/test_cli.py.
"""

from __future__ import annotations

import subprocess
import sys

import pytest

from runtime import api
from runtime.cli import VERBS, declared, given, parser

LOADED = """
import sys
from runtime.cli import parser
import runtime.engines.native.engine
parser(sys.argv[1]).parse_args(sys.argv[1:])
print(*sys.modules)
"""
NOBODY = frozenset({"asyncio", "django", "httpx", "pyroute2", "runtime.engines.fake", "ssl"})
"""Of the facets of all small verbs."""
FEW = frozenset({
    "concurrent.futures", "ctypes", "hashlib", "isal", "platform", "random", "runtime.api.controls", "runtime.api.engine", "runtime.api.files",
    "runtime.engines.native.controls", "runtime.engines.native.creation", "runtime.engines.native.files", "runtime.engines.native.lifecycle",
    "runtime.engines.native.recovery", "runtime.engines.native.starting", "runtime.image.store", "runtime.keeper", "runtime.network",
    "socket", "subprocess", "tarfile", "tempfile", "tomllib", "zstandard",
})  # fmt: skip
"""Before the work itself begins."""


@pytest.mark.parametrize(
    "words", [("exec", "box", "true"), ("rm", "-f", "box"), ("stop", "box"), ("ps",)], ids=lambda words: words[0]
)
def test_what_is_not_loaded_before_a_small_verb_begins(words: tuple[str, ...]) -> None:
    loaded = _loaded(*words)
    assert {"runtime.cli.containers", "runtime.engines.native.engine"} <= loaded
    assert loaded & (NOBODY | FEW) == set()
    assert {name for name in loaded if name.startswith("runtime.cli.")} == {
        "runtime.cli.containers",
        "runtime.cli.finding",
        "runtime.cli.parsing",
    }


def test_what_is_not_loaded_before_a_launch_begins() -> None:
    loaded = _loaded("run", "-d", "busybox")
    assert "runtime.cli.running" in loaded
    assert loaded & (NOBODY | {"isal", "runtime.keeper", "tarfile", "tomllib", "zstandard"}) == set()


def _loaded(*words: str) -> set[str]:
    done = subprocess.run([sys.executable, "-c", LOADED, *words], check=True, capture_output=True, text=True)
    return set(done.stdout.split())


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_is_declared_and_its_parser_made(verb: str) -> None:
    assert callable(declared(verb).work)
    assert f"{verb} " in parser(verb).format_help() + " "
    assert parser(verb).prog == parser(None).prog


def test_a_facet_declares_no_verb_that_cannot_be_given() -> None:
    from runtime import cli

    facets = {module for module, _ in VERBS.values()}
    for facet in facets:
        declared(next(verb for verb, (module, _) in VERBS.items() if module == facet))
        assert set(getattr(cli, facet).VERBS) == {verb for verb, (module, _) in VERBS.items() if module == facet}


@pytest.mark.parametrize(
    ("arguments", "verb"),
    [
        (("ps",), "ps"),
        (("--home", "/srv", "rm", "box"), "rm"),
        (("--home=/srv", "rm", "box"), "rm"),
        (("exec", "box", "ps"), "exec"),
        (("--home", "ps"), None),
        (("--ho", "ps", "rm", "box"), None),
        (("-h",), None),
        (("nonesuch",), None),
        ((), None),
    ],
)
def test_the_verb_is_told_without_a_parser(arguments: tuple[str, ...], verb: str | None) -> None:
    assert given(arguments) == verb


def test_all_verbs_are_in_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        parser(given(["--help"])).parse_args(["--help"])
    assert left.value.code == 0
    told = capsys.readouterr().out.split()
    assert set(VERBS) <= set(told)


def test_a_wrong_verb_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        parser(given(["nonesuch"])).parse_args(["nonesuch"])
    assert left.value.code == 2
    assert "nonesuch" in capsys.readouterr().err


def test_an_option_has_its_whole_name(capsys: pytest.CaptureFixture[str]) -> None:
    """An abbreviation would be understood by the parser alone, which had not been told the verb then."""
    with pytest.raises(SystemExit) as left:
        parser(given(["--hom", "/srv", "ps"])).parse_args(["--hom", "/srv", "ps"])
    assert left.value.code == 2
    assert "--hom" in capsys.readouterr().err


def test_the_names_of_the_api_are_those_it_can_load() -> None:
    assert sorted(api.__all__) == sorted(api._MODULE_OF)
    for name in api.__all__:
        assert hasattr(api, name)
    with pytest.raises(AttributeError, match="nonesuch"):
        _ = api.nonesuch
