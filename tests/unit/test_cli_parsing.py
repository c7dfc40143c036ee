"""Numbers that a person gives the command line."""

from __future__ import annotations

import argparse

import pytest

from runtime.cli.parsing import environment, natural, seconds


@pytest.mark.parametrize(("text", "number"), [("0", 0.0), ("1.5", 1.5), ("1e9", 1e9), ("inf", float("inf"))])
def test_seconds(text: str, number: float) -> None:
    assert seconds(text) == number


@pytest.mark.parametrize("text", ["-1", "nan", "-inf", "soon"])
def test_what_is_no_number_of_seconds(text: str) -> None:
    with pytest.raises((ValueError, argparse.ArgumentTypeError)):
        seconds(text)


def test_what_is_less_than_none() -> None:
    assert natural("0") == 0
    for text in ("-1", "1.5", "many"):
        with pytest.raises((ValueError, argparse.ArgumentTypeError)):
            natural(text)


def test_a_variable_without_a_value_is_as_it_is_here_or_not_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HERE", "a=b")
    monkeypatch.delenv("AWAY", raising=False)
    given = argparse.Namespace(env=["HERE", "AWAY", "EMPTY=", "SAID=x=y"])
    assert environment(given) == {"HERE": "a=b", "EMPTY": "", "SAID": "x=y"}
