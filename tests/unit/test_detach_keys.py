"""The keys by which a person leaves a container that they are attached to."""

from __future__ import annotations

import pytest

from runtime.cli.attaching import DetachKeys
from runtime.errors import InvalidSpec


@pytest.mark.parametrize(
    ("keys", "typed", "passed", "left"),
    [
        ("ctrl-p,ctrl-q", [b"ab\x10\x11cd"], b"ab", True),
        ("ctrl-p,ctrl-q", [b"ab\x10", b"\x11"], b"ab", True),
        ("ctrl-p,ctrl-q", [b"\x10", b"x"], b"\x10x", False),
        ("ctrl-p,ctrl-q", [b"\x10\x10\x11"], b"\x10", True),
        ("ctrl-p,ctrl-p,ctrl-q", [b"\x10\x10\x10\x11"], b"\x10", True),
        ("q", [b"hello", b" q"], b"hello ", True),
        ("", [b"\x10\x11"], b"\x10\x11", False),
        ("ctrl-[,x", [b"\x1bx"], b"", True),
    ],
)
def test_they_are_found_in_what_is_typed(keys: str, typed: list[bytes], passed: bytes, left: bool) -> None:
    found = DetachKeys(keys)
    outcomes = [found.feed(part) for part in typed]
    assert b"".join(part for part, _ in outcomes) == passed
    assert [out for _, out in outcomes][-1] is left


@pytest.mark.parametrize("keys", ["ctrl-", "ctrl-1", "ab", "ctrl-p,", "ä"])
def test_what_is_no_key_is_refused(keys: str) -> None:
    with pytest.raises(InvalidSpec) as caught:
        DetachKeys(keys)
    assert caught.value.field == "--detach-keys"
