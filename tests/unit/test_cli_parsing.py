"""Numbers that a person gives the command line."""

from __future__ import annotations

import argparse

import pytest

from runtime.cli.parsing import natural, seconds


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
