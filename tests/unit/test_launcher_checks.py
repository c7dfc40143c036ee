"""Host checks: what is judged how, and that every verdict but ok comes with a fix."""

from __future__ import annotations

import hashlib
import ipaddress
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
from launcher.subnets import own_bridges
from runtime.home import Home


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


@pytest.mark.root
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


def _host(monkeypatch: pytest.MonkeyPatch, **files: str) -> None:
    """What ``checks`` reads of the kernel's files, by the last part of their path; the rest is not there."""
    monkeypatch.setattr(checks, "_read", lambda path: files.get(path.rpartition("/")[2], ""))


def test_a_kernel_without_overlayfs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(checks.shutil, "which", lambda *_, **__: None)
    _host(monkeypatch, filesystems="nodev\tproc\n\text4")
    (found,) = checks.overlayfs(at(tmp_path))
    assert (found.level, found.found) == ("fail", "missing")
    assert "Load the module overlay" in found.fix
    _host(monkeypatch, filesystems="nodev\tproc\nnodev\toverlay")
    assert [one.level for one in checks.overlayfs(at(tmp_path))] == ["ok"]


@pytest.mark.parametrize("allowed", ["0", ""])
def test_user_namespaces_switched_off(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, allowed: str) -> None:
    _host(monkeypatch, max_user_namespaces=allowed)
    (found,) = checks.user_namespaces(at(tmp_path))
    assert found.level == "fail"
    assert "sysctl -w user.max_user_namespaces" in found.fix


def test_what_only_concerns_ordinary_users_is_no_obstacle(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Ubuntu 24.04 has the first, hardened Debians the second."""
    _host(
        monkeypatch,
        max_user_namespaces="15000",
        apparmor_restrict_unprivileged_userns="1",
        unprivileged_userns_clone="0",
    )
    assert [found.level for found in checks.user_namespaces(at(tmp_path))] == ["ok", "ok", "ok"]


@pytest.mark.parametrize(
    ("controllers", "level"),
    [("cpu io memory pids", "ok"), ("cpu memory pids", "warn"), ("cpu io pids", "fail"), ("", "fail")],
)
def test_cgroup_controllers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, controllers: str, level: str) -> None:
    monkeypatch.setattr(checks.os.path, "exists", lambda path: path == "/sys/fs/cgroup/cgroup.controllers")
    monkeypatch.setattr(checks.os.path, "isdir", lambda _: False)
    files = {"cgroup.controllers": controllers}
    _host(monkeypatch, **files)
    (found,) = checks.cgroups(at(tmp_path))
    assert found.level == level
    assert level == "ok" or "Mount the cgroup controllers" in found.fix


def test_cgroups_that_cannot_be_written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As in an ordinary container."""
    monkeypatch.setattr(checks.os.path, "exists", lambda path: path == "/sys/fs/cgroup/cgroup.controllers")
    monkeypatch.setattr(checks.os.path, "isdir", lambda _: True)
    monkeypatch.setattr(checks.os, "statvfs", lambda _: type("Usage", (), {"f_flag": checks.os.ST_RDONLY}))
    files = {"cgroup.controllers": "cpu io memory pids"}
    _host(monkeypatch, **files)
    found = list(checks.cgroups(at(tmp_path)))
    assert [one.level for one in found] == ["ok", "fail"]
    assert "writable" in found[1].fix


def test_a_kernel_without_what_nftables_needs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    nft = tmp_path / "nft"
    nft.write_text("#!/bin/sh\necho 'Error: Could not process rule: No such file or directory' >&2; exit 1\n")
    nft.chmod(0o755)
    monkeypatch.setattr(checks.os, "geteuid", lambda: 0)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    (found,) = checks.nftables(at(tmp_path))
    assert (found.level, found.found) == ("fail", "Error: Could not process rule: No such file or directory")
    assert "nf_tables" in found.fix
    monkeypatch.setattr(checks.shutil, "which", lambda *_, **__: None)
    (found,) = checks.nftables(at(tmp_path))
    assert (found.level, found.fix) == ("warn", "./slipway up installs it.")


def test_anyone_but_root_is_told_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(checks.os, "geteuid", lambda: 1000)
    (found,) = checks.root(at(tmp_path))
    assert (found.level, found.fix) == ("fail", "Run it as root: sudo ./slipway up.")
    for check in (checks.idmapped_mounts, checks.nftables, checks.home):
        assert [one.level for one in check(at(tmp_path))] == ["warn"]


ROUTES = """Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT
eth0\t00000000\t0100000A\t0003\t0\t0\t0\t00000000\t0\t0\t0
{rows}"""


def _route(device: str, destination: str) -> str:
    network = ipaddress.IPv4Network(destination)
    address, mask = (int(part).to_bytes(4, "little").hex() for part in (network.network_address, network.netmask))
    return f"{device}\t{address.upper()}\t00000000\t0001\t0\t0\t0\t{mask.upper()}\t0\t0\t0\n"


@pytest.mark.parametrize(
    ("device", "destination", "level"),
    [
        ("eth0", "192.168.1.0/24", "ok"),
        ("eth0", "10.89.0.0/16", "fail"),
        ("swb0123456789", "10.89.3.0/24", "fail"),
        ("tun0", "10.0.0.0/8", "warn"),
        ("swb" + hashlib.sha256(b"slipway/t1").hexdigest()[:10], "10.89.0.0/24", "ok"),
    ],
)
def test_another_network_in_our_block(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, device: str, destination: str, level: str
) -> None:
    (tmp_path / "runtime/tenants").mkdir(parents=True)
    (tmp_path / "runtime/tenants/t1.json").touch()
    _host(monkeypatch, route=ROUTES.format(rows=_route(device, destination)))
    (found,) = checks.subnets(at(tmp_path))
    assert found.level == level
    if level != "ok":
        assert destination in found.found
        assert device in found.found
        assert "SLIPWAY_SUBNETS" in found.fix
        assert ("another Slipway's" in found.fix) == device.startswith("swb")


def test_bridges_are_named_as_the_runtime_names_them(tmp_path: Path) -> None:
    (tmp_path / "runtime/tenants").mkdir(parents=True)
    (tmp_path / "runtime/tenants/t1.json").touch()
    (tmp_path / "runtime/networks/t1").mkdir(parents=True)
    (tmp_path / "runtime/networks/t1/back.json").touch()
    home = Home(root=tmp_path, instance="slipway")
    assert own_bridges(at(tmp_path)) == {home.bridge("t1"), home.bridge("t1", "back")}


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
