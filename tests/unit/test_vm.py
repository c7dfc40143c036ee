"""The virtual machine's way in and out: what is sent, what a report says when it brings all, a part, or nothing."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest

from launcher.testing import judged
from tests.vm import __main__ as vm
from tests.vm.image import Image
from tests.vm.machine import command

REPORT = '<testsuites><testsuite name="pytest" tests="{}" failures="{}" errors="0" skipped="1"/></testsuites>'


def results(folder: Path, files: dict[str, str]) -> Path:
    made = folder / "results"
    with tarfile.open(made, "w") as archive:
        for name, text in files.items():
            (folder / name).write_text(text)
            archive.add(folder / name, name)
            (folder / name).unlink()
    with made.open("ab") as file:
        file.truncate(1 << 20)  # a disk is larger than what is on it
    return made


@pytest.mark.parametrize(
    ("files", "code", "counts"),
    [
        ({"runc.xml": REPORT.format(9, 0), "runc.code": "0", "crun.xml": REPORT.format(4, 0), "crun.code": "0"}, 0, (11, 0, 2)),
        ({"runc.xml": REPORT.format(9, 2), "runc.code": "1", "crun.xml": REPORT.format(4, 0), "crun.code": "0"}, 1, (9, 2, 2)),
        ({"runc.xml": REPORT.format(9, 0), "runc.code": "0"}, 1, (8, 1, 1)),
    ],
)  # fmt: skip
def test_the_runs_of_one_machine_are_one_part(
    tmp_path: Path, files: dict[str, str], code: int, counts: tuple[int, int, int]
) -> None:
    report = tmp_path / "joined.xml"
    brought = vm._bring(results(tmp_path, files), tmp_path, ("runc", "crun"), report)
    part = judged("vm", brought, report, 1.0)
    assert (brought, (part.passed, part.failed, part.skipped)) == (code, counts)


def test_a_machine_that_brings_nothing_has_failed(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.write_bytes(bytes(1 << 20))
    report = tmp_path / "joined.xml"
    code = vm._bring(empty, tmp_path, ("runc",), report)
    assert not judged("vm", code, report, 1.0).good


def test_the_source_goes_without_what_is_made_of_it(tmp_path: Path) -> None:
    vm._send(tmp_path / "source", {"crun": "-k 'not fake'"})
    with tarfile.open(tmp_path / "source") as archive:
        names = set(archive.getnames())
        said = archive.extractfile("selections")
        assert said is not None
        assert said.read() == b"crun -k 'not fake'\n"
    assert {"runtime/kernel/cgroup.py", "tests/vm/guest.sh", "pyproject.toml", "environment"} <= names
    assert not [name for name in names if "__pycache__" in name]


def test_paths_of_ones_own_replace_the_selection() -> None:
    assert vm._arguments("crun", ["tests/kernel/test_cgroup.py", "-k", "a or b"]).endswith(
        "tests/kernel/test_cgroup.py -k 'a or b'"
    )
    assert vm._arguments("crun", ["-x"]).startswith("tests/")


def test_the_image_is_never_written_and_no_network_is_given(tmp_path: Path) -> None:
    words = command(Image(tmp_path), tmp_path / "source", tmp_path / "results")
    assert any(
        word.startswith(f"if=none,id=system,file={tmp_path}/disk") and word.endswith("snapshot=on") for word in words
    )
    assert words[words.index("-nic") + 1] == "none"
