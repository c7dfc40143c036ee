"""What folders hold of the disk, counted in a bounded time."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from runtime.storage import usage
from tests.conftest import patience

SLOW = """#!/bin/sh
for folder; do case $folder in
*slow*) exec sleep 1000;;
/*) [ -d "$folder" ] && printf '7\\t%s\\n' "$folder";;
esac; done
"""


def folders(under: Path, *names: str) -> list[Path]:
    made = [under / name for name in names]
    for one in made:
        one.mkdir()
    return made


def soon() -> float:
    return time.monotonic() + patience(20)


def test_bytes_and_names_at_any_depth(tmp_path: Path) -> None:
    one, other = folders(tmp_path, "one", "other\tname")
    (one / "deep" / "deeper").mkdir(parents=True)
    (one / "deep" / "deeper" / "file").write_bytes(bytes(100_000))
    (one / "link").symlink_to(other)
    (other / "file").write_bytes(bytes(200_000))
    assert usage.held([one, other], "inodes", soon()) == {one: 5, other: 2}
    held = usage.held([one, other], "bytes", soon())
    assert 100_000 <= held[one] < 200_000 <= held[other]


@pytest.mark.parametrize("at_once", [1, 2, 500])
def test_one_that_is_gone_is_left_out(tmp_path: Path, at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(usage, "AT_ONCE", at_once)
    here = folders(tmp_path, "a", "c", "e")
    assert usage.held([here[0], tmp_path / "b", *here[1:], tmp_path / "f"], "inodes", soon()) == dict.fromkeys(here, 1)


@pytest.mark.parametrize("at_once", [1, 2, 500])
def test_one_that_takes_too_long_takes_no_others_turn(
    tmp_path: Path, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those before it and after it are counted; one that comes last is given up as well."""
    monkeypatch.setattr(usage, "AT_ONCE", at_once)
    tool = tmp_path / "bin"
    tool.mkdir()
    (tool / "du").write_text(SLOW)
    (tool / "du").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tool}:/usr/bin:/bin")
    quick = folders(tmp_path, "a", "b", "c", "d")
    slow = folders(tmp_path, "slow1", "slow2")
    order = [quick[0], slow[0], *quick[1:], slow[1]]
    assert usage.held(order, "bytes", time.monotonic() + patience(3)) == dict.fromkeys(quick, 7)


def test_without_time_nothing_is_counted(tmp_path: Path) -> None:
    assert usage.held([tmp_path], "bytes", time.monotonic()) == {}
