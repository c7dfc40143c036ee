"""The virtual machines' way in and out: what is selected, how it is shared, what a report says when it brings all, a part, or nothing."""

from __future__ import annotations

import socket
import subprocess
import tarfile
import threading
from pathlib import Path

import pytest

from launcher.testing import judged
from tests import marks
from tests.vm import __main__ as vm
from tests.vm import machine, selection
from tests.vm.image import Image
from tests.vm.machine import command
from tests.vm.queue import Queue

REPORT = '<testsuites><testsuite name="pytest" tests="{}" failures="{}" errors="0" skipped="1"/></testsuites>'


def results(folder: Path, number: int, files: dict[str, str]) -> None:
    made = folder / f"results-{number}"
    with tarfile.open(made, "w") as archive:
        for name, text in files.items():
            (folder / name).write_text(text)
            archive.add(folder / name, name)
            (folder / name).unlink()
    with made.open("ab") as file:
        file.truncate(1 << 20)  # a disk is larger than what is on it


@pytest.mark.parametrize(
    ("second", "code", "counts"),
    [
        ({"runc.xml": REPORT.format(4, 0), "runc.code": "0"}, 0, (11, 0, 2)),
        ({"runc.xml": REPORT.format(4, 2), "runc.code": "1"}, 1, (9, 2, 2)),
        ({"runc.xml": REPORT.format(4, 0)}, 1, (11, 1, 2)),
        ({}, 1, (8, 1, 1)),
    ],
)
def test_the_reports_of_all_machines_are_one_part(
    tmp_path: Path, second: dict[str, str], code: int, counts: tuple[int, int, int]
) -> None:
    report = tmp_path / "joined.xml"
    results(tmp_path, 1, {"runc.xml": REPORT.format(9, 0), "runc.code": "0"})
    results(tmp_path, 2, second)
    brought = vm.bring(tmp_path, 2, ("runc",), report)
    part = judged("vm", brought, report, 1.0)
    assert (brought, (part.passed, part.failed, part.skipped)) == (code, counts)


def test_a_run_of_each_runtime_is_wanted(tmp_path: Path) -> None:
    results(tmp_path, 1, {"runc.xml": REPORT.format(9, 0), "runc.code": "0"})
    assert vm.bring(tmp_path, 1, ("runc", "crun"), None) == 1


def test_a_machine_that_brings_nothing_has_failed(tmp_path: Path) -> None:
    (tmp_path / "results-1").write_bytes(bytes(1 << 20))
    report = tmp_path / "joined.xml"
    code = vm.bring(tmp_path, 1, ("runc",), report)
    assert not judged("vm", code, report, 1.0).good


def test_each_test_is_given_to_one_machine(tmp_path: Path) -> None:
    queue = Queue({"runc": ["a", "b", "c"], "crun": ["d"]})
    servers = [queue.serve(tmp_path / name) for name in ("first", "second")]
    lines = [socket.socket(socket.AF_UNIX) for _ in servers]
    for line, name in zip(lines, ("first", "second"), strict=True):
        line.settimeout(10)
        line.connect(str(tmp_path / name))

    def asked(number: int, run: str) -> str:
        lines[number].sendall(f"{run}\n".encode())
        return lines[number].recv(100).decode()

    assert [asked(number, "runc") for number in (0, 1, 1, 0)] == ["a\n", "b\n", "c\n", "\n"]
    assert asked(1, "crun") == "d\n"
    assert queue.close() == 0
    for each in (*lines, *servers):
        each.close()


def test_what_nobody_asked_for_in_time_is_counted() -> None:
    queue = Queue({"runc": ["a", "b", "c"]})
    assert queue.next("runc") == "a"
    assert queue.close() == 2
    assert queue.next("runc") == ""


def test_what_is_not_marked_is_selected_and_the_rest_is_told_with_its_reason(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of a file that has both, the tree is one that can be sent: the source without what is made of it."""
    runs = vm.select(tmp_path, ("runc",), ["tests/conformance/test_volumes.py"])
    said = capsys.readouterr().out
    assert "tests/conformance/test_volumes.py::test_a_volumes_life[native]" in runs["runc"]
    assert not [test for test in runs["runc"] if "fake" in test or "names_its_field" in test]
    assert str(marks.refused_early.args[0]) in said
    assert selection.OF_THE_FAKE in said
    vm.send(tmp_path, runs)
    with tarfile.open(tmp_path / "source") as archive:
        names = set(archive.getnames())
        files = archive.extractfile("runs")
        assert files is not None
        assert files.read() == b"runc tests/conformance/test_volumes.py\n"
    assert {"runtime/kernel/cgroup.py", "tests/vm/guest.sh", "pyproject.toml", "environment"} <= names
    assert not [name for name in names if "node_modules" in name or "_cache" in name]


def test_what_cannot_be_collected_ends_the_run(tmp_path: Path) -> None:
    with pytest.raises(subprocess.CalledProcessError):
        vm.select(tmp_path, ("runc",), ["tests/conformance/test_no_such_file.py"])


def test_a_runtime_with_a_part_of_the_tests_has_a_part_that_is_there() -> None:
    for paths in vm.RUNTIMES.values():
        assert all((vm.SOURCE / path).exists() for path in paths)


def test_machines_end_when_the_run_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "command", lambda *_: ["sleep", "1000"])
    over = threading.Event()
    threading.Timer(0.2, over.set).start()
    assert machine.boot(Image(tmp_path), tmp_path, tmp_path, tmp_path, print, 500, over)


def test_a_machine_is_ended_at_its_deadline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "command", lambda *_: ["sleep", "1000"])
    assert not machine.boot(Image(tmp_path), tmp_path, tmp_path, tmp_path, print, 0.2, threading.Event())


def test_the_image_is_never_written_and_no_network_is_given(tmp_path: Path) -> None:
    words = command(Image(tmp_path), tmp_path / "source", tmp_path / "results", tmp_path / "line")
    assert any(
        word.startswith(f"if=none,id=system,file={tmp_path}/disk") and word.endswith("snapshot=on") for word in words
    )
    assert words[words.index("-nic") + 1] == "none"
