"""Exits as conmon's files tell them."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from runtime.telemetry.exits import ExitWatch, exit_code


@pytest.fixture
def watch(tmp_path: Path) -> Iterator[ExitWatch]:
    made = ExitWatch(tmp_path / "exits")
    yield made
    made.close()


def _exit(watch: ExitWatch, container: str) -> None:
    (watch.folder / f".{container}.new").write_text("0", encoding="ascii")
    (watch.folder / f".{container}.new").rename(watch.folder / container)


def test_each_exit_once_and_no_temporary_name(watch: ExitWatch) -> None:
    _exit(watch, "c1")
    _exit(watch, "c2")
    assert watch.read() == ("c1", "c2")
    assert watch.read() == ()


def test_a_folder_that_was_taken_away_is_watched_again(watch: ExitWatch) -> None:
    """``./slipway down`` beside a running console takes it away."""
    shutil.rmtree(watch.folder)
    assert watch.read() == (), "the folder's end is no container's"
    _exit(watch, "c1")
    assert watch.read() == ("c1",)


@pytest.mark.parametrize(
    "content", [b"", b"x", b"--5", b"\xff\xfe", b"\xb2", "\N{ARABIC-INDIC DIGIT THREE}".encode(), b"9" * 5000]
)
def test_what_is_no_exit_code_is_none(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "c1").write_bytes(content)
    assert exit_code(tmp_path, "c1") is None


def test_an_exit_code_is_read(tmp_path: Path) -> None:
    (tmp_path / "c1").write_bytes(b"137\n")
    assert exit_code(tmp_path, "c1") == 137
    assert exit_code(tmp_path, "c2") is None
