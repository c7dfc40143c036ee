"""Host checks: what is judged how, and that every verdict but ok comes with a fix."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from launcher import checks
from launcher.checks import Finding, existing, judge_system, kernel_version, parse_os_release
from launcher.doctor import doctor
from launcher.lock import Lock
from launcher.output import Output
from launcher.prepare import refuse_unfit
from launcher.refusal import Refusal
from launcher.settings import Settings, load


def at(home: Path, **more: str) -> Settings:
    return load({"SLIPWAY_HOME": str(home), **more}, {})


@pytest.mark.parametrize(
    ("name", "version", "apt", "level"),
    [
        ("debian", "12", True, "ok"),
        ("debian", "13", True, "ok"),
        ("ubuntu", "24.04", True, "ok"),
        ("debian", "11", True, "fail"),
        ("ubuntu", "22.04", True, "fail"),
        ("ubuntu", "26.04", True, "warn"),
        ("debian", "", True, "warn"),
        ("linuxmint", "22", True, "warn"),
        ("fedora", "41", False, "fail"),
        ("", "", False, "fail"),
    ],
)
def test_which_systems_are_served(name: str, version: str, apt: bool, level: str) -> None:
    found = judge_system({"ID": name, "VERSION_ID": version}, has_apt=apt)
    assert found.level == level
    assert level == "ok" or "Debian 12 and 13" in found.fix


def test_os_release_is_read_with_and_without_quotes() -> None:
    text = 'ID=debian\nVERSION_ID="12"\nPRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\n# comment\n'
    assert parse_os_release(text) == {
        "ID": "debian",
        "VERSION_ID": "12",
        "PRETTY_NAME": "Debian GNU/Linux 12 (bookworm)",
    }


@pytest.mark.parametrize(
    ("release", "version"), [("6.1.0-27-amd64", (6, 1)), ("5.19-rc1", (5, 19)), ("6.18.44-x", (6, 18)), ("odd", (0, 0))]
)
def test_kernel_versions(release: str, version: tuple[int, int]) -> None:
    assert kernel_version(release) == version


def test_an_old_kernel_fails(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(checks.platform, "release", lambda: "5.15.0-100-generic")
    (found,) = checks.kernel(at(tmp_path))
    assert found.level == "fail"
    assert "5.19" in found.fix


def test_a_taken_port_fails_with_the_way_out(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        number = taken.getsockname()[1]
        (found,) = checks.port(at(tmp_path, SLIPWAY_PORT=str(number)))
        assert found.level == "fail"
        assert "--port" in found.fix
        lock = Lock(tmp_path / "up.lock")
        lock.acquire("the home")
        (found,) = checks.port(at(tmp_path, SLIPWAY_PORT=str(number)))
        lock.release()
        assert found.level == "ok", "doctor beside a running Slipway finds its port held by that one"
    (found,) = checks.port(at(tmp_path, SLIPWAY_PORT=str(number)))
    assert found.level == "ok"


def test_a_privileged_port_fails(tmp_path: Path) -> None:
    found = list(checks.port(at(tmp_path, SLIPWAY_PORT="80")))
    assert any(one.level == "fail" for one in found)


def test_a_home_under_a_closed_folder_fails(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    (found,) = checks.home(at(closed / "slipway"))
    assert found.level == "fail"
    assert str(closed) in found.found + found.fix


def test_a_home_that_is_a_file_fails(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (found,) = checks.home(at(tmp_path / "file"))
    assert found.level == "fail"
    assert "not a folder" in found.found


def test_the_nearest_existing_folder(tmp_path: Path) -> None:
    assert existing(tmp_path / "a/b/c") == tmp_path


def test_little_space_warns_and_none_fails(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    class Usage:
        f_frsize, f_files, f_favail = 4096, 10**6, 10**6
        f_bavail = 0

    monkeypatch.setattr(checks.os, "statvfs", lambda _: Usage)
    for blocks, level in ((0, "fail"), (2 * 2**30 // 4096, "warn"), (20 * 2**30 // 4096, "ok")):
        Usage.f_bavail = blocks
        (found,) = checks.disk(at(tmp_path))
        assert found.level == level


def _findings(*given: Finding) -> checks.Check:
    def check(_: Settings) -> Iterator[Finding]:
        yield from given

    return check


GOOD = Finding("kernel", "ok", "Linux 6.1")
WARN = Finding("disk", "warn", "4 GiB free", "Free some space.")
BAD = Finding("overlayfs", "fail", "missing", "Load the module overlay.")


def test_doctor_prints_each_with_its_fix_and_ends_with_a_code(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert doctor(at(tmp_path), Output(colour=False), (_findings(GOOD, WARN, BAD),)) == 1
    said = capsys.readouterr().out
    assert "ok    kernel" in said
    assert "-> Free some space." in said
    assert "-> Load the module overlay." in said
    assert "3 checks: 1 failed, 1 with a warning" in said
    assert doctor(at(tmp_path), Output(colour=False), (_findings(GOOD, WARN),)) == 0


def test_up_refuses_with_every_fix_at_once(tmp_path: Path) -> None:
    with pytest.raises(Refusal) as refused:
        refuse_unfit(at(tmp_path), (_findings(BAD, WARN), _findings(BAD)))
    assert str(refused.value).count("overlayfs: missing. Load the module overlay.") == 2
    assert "disk" not in str(refused.value)
    assert refuse_unfit(at(tmp_path), (_findings(GOOD, WARN),)) == [WARN]


@pytest.mark.root
def test_every_check_on_this_machine_says_something(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    for found in checks.examine(at(tmp_path)):
        assert found.found
        assert found.level == "ok" or found.fix, found
    assert list(tmp_path.iterdir()) == [], "the probe leaves nothing"
