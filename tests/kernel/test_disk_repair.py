"""A disk of a size whose file system the node's full disk has damaged: repaired before it is mounted again, by nobody while it is mounted."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from runtime.errors import EngineFault
from runtime.kernel import mount
from runtime.storage import disk
from tests.marks import no_cgroup

pytestmark = [pytest.mark.root, no_cgroup]


def change(image: Path, *requests: str) -> None:
    for request in requests:
        subprocess.run(["debugfs", "-w", "-R", request, str(image)], check=True, capture_output=True)


@pytest.fixture
def image(tmp_path: Path) -> Iterator[Path]:
    """With one file that is sound, and an entry in a folder that leads to none."""
    made = tmp_path / disk.FILE
    disk.make(made, 16 << 20, {"data": 0})
    points = [tmp_path / name for name in ("one", "two")]
    for point in points:
        point.mkdir()
    disk.show(made, points[0])
    for name in ("sound", "lost"):
        (points[0] / "data" / name).write_text("hello")
    mount.unmount(points[0])
    assert disk._free(made)
    change(made, "clri data/lost", "ssv state 3")
    yield made
    for point in points:
        mount.unmount(point, lazy=True)


def test_it_is_repaired_before_it_is_mounted(image: Path) -> None:
    disk.show(image, image.parent / "one")
    assert os.listdir(image.parent / "one" / "data") == ["sound"]
    assert (image.parent / "one" / "data" / "sound").read_text() == "hello"
    mount.unmount(image.parent / "one")
    assert not disk._has_errors(image)


def test_what_is_mounted_already_is_left_alone(image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk, "_has_errors", lambda _image: False)
    disk.show(image, image.parent / "one")
    monkeypatch.undo()
    monkeypatch.setattr(disk, "CLEARED_S", 0.1)
    monkeypatch.setattr(disk, "FSCK", "false")
    disk.show(image, image.parent / "two")
    assert (image.parent / "two" / "data" / "sound").read_text() == "hello"


def test_what_cannot_be_repaired_is_not_mounted(image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk, "FSCK", "false")
    monkeypatch.setattr(disk, "MENDED", frozenset({0}))
    with pytest.raises(EngineFault, match="could not be repaired"):
        disk.show(image, image.parent / "one")
    assert not os.path.ismount(image.parent / "one")
