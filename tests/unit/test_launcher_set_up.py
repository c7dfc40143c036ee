"""The set-up's parts: fingerprints and stamps, packages, secrets, the copied code, accounts."""

from __future__ import annotations

import os
import pwd
import stat
from pathlib import Path

import pytest

from launcher import folders, packages
from launcher.commands import run
from launcher.lock import Lock
from launcher.output import Output
from launcher.packages import Package
from launcher.prepare import Setup, Step, parse_accounts
from launcher.refusal import Refusal
from launcher.settings import load
from launcher.stamps import Stamps, fingerprint

ROOT = Path(__file__).parents[2]


def test_a_fingerprint_follows_content_and_folders(tmp_path: Path) -> None:
    lock, folder = tmp_path / "lock", tmp_path / "folder"
    lock.write_text("a", encoding="ascii")
    folder.mkdir()
    (folder / "x").write_text("1", encoding="ascii")
    marks = [fingerprint("3.11", lock, folder)]
    lock.write_text("b", encoding="ascii")
    marks.append(fingerprint("3.11", lock, folder))
    (folder / "y").touch()
    marks.append(fingerprint("3.11", lock, folder))
    marks.append(fingerprint("3.12", lock, folder))
    assert len(set(marks)) == 4
    (folder / "__pycache__").mkdir()
    (folder / "__pycache__/x.pyc").touch()
    assert fingerprint("3.12", lock, folder) == marks[-1]


def test_a_step_is_done_once_until_what_it_depends_on_changes(tmp_path: Path) -> None:
    done: list[str] = []
    setup = Setup(load({"SLIPWAY_HOME": str(tmp_path)}, {}), Output(colour=False))

    def step(mark: str, *, there: bool = True) -> Step:
        return Step("database", "database", "why", mark, lambda _: done.append(mark), there)

    for mark in ("one", "one", "two"):
        setup._apply(step(mark))
    assert done == ["one", "two"]
    setup._apply(step("two", there=False))
    assert done == ["one", "two", "two"], "its result is gone, so it is done again"


def test_a_step_that_fails_is_done_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    setup = Setup(load({"SLIPWAY_HOME": str(tmp_path)}, {}), Output(colour=False))

    def fail(_: object) -> None:
        raise Refusal("It broke.")

    setup.stamps.put("venv", "new")
    with pytest.raises(Refusal):
        setup._apply(Step("venv", "Python environment", "why", "newer", fail))
    assert not setup.stamps.fresh("venv", "new")
    assert not setup.stamps.fresh("venv", "newer")
    assert "Python environment: failed after" in capsys.readouterr().out


def test_stamps_of_nothing(tmp_path: Path) -> None:
    assert not Stamps(tmp_path / "none").fresh("venv", "x")


@pytest.mark.parametrize("damage", [b"", b"\xff\xfe\x00", b"another mark"])
def test_a_damaged_stamp_means_once_more(tmp_path: Path, damage: bytes) -> None:
    stamps = Stamps(tmp_path)
    stamps.put("venv", "mark")
    assert stamps.fresh("venv", "mark")
    (tmp_path / "venv").write_bytes(damage)
    assert not stamps.fresh("venv", "mark")


def test_a_lock_under_a_file_is_held_by_nobody(tmp_path: Path) -> None:
    """``--home`` names a file: the checks say so in a sentence, so nothing may fail before them."""
    (tmp_path / "file").touch()
    assert Lock(tmp_path / "file/up.lock").holder() == ""


def test_passwords_that_were_not_shown_are_made_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    settings = load({"SLIPWAY_HOME": str(tmp_path)}, {})
    (tmp_path / "db").mkdir()
    (tmp_path / "stamps").mkdir()
    (tmp_path / "db/slipway.sqlite3").touch()
    asked: list[tuple[str, ...]] = []

    def manage(self: Setup, _progress: object, *arguments: str) -> str:
        asked.append(arguments)
        return '{"created": []}'

    monkeypatch.setattr(Setup, "manage", manage)

    def start(*, showing: bool) -> None:
        setup = Setup(settings, Output(colour=False))
        setup._apply(setup._accounts_step())
        if showing:
            setup.passwords_were_shown()

    start(showing=False)
    start(showing=True)
    start(showing=True)
    assert asked == [("bootstrap", "--json"), ("bootstrap", "--json", "--renew")]


def test_a_failed_program_shows_its_last_lines(capsys: pytest.CaptureFixture[str]) -> None:
    with Output(colour=False).step("x", "y") as progress, pytest.raises(Refusal) as refused:
        run(["sh", "-c", "seq 100; echo the reason >&2; exit 4"], progress, what="pip install", fix="Do that.")
    said = str(refused.value)
    assert "pip install failed (exit code 4). It said:" in said
    assert "    the reason\n" in said
    assert "    76\n" not in said
    assert "    77\n" in said
    assert said.endswith("Do that.")


def test_a_package_is_missing_when_its_program_is() -> None:
    wanted = (
        Package("dash", "a shell", program="sh"),
        Package("nothing", "not there", program="no-such-program"),
        Package("a-file", "there", file="/etc/host*"),
        Package("no-file", "not there", file="/etc/no-such-*"),
    )
    assert [package.name for package in packages.missing(wanted)] == ["nothing", "no-file"]


def test_every_package_says_why_and_how_it_is_known() -> None:
    for package in (*packages.RUN, *packages.TEST, *packages.BENCH):
        assert package.why
        assert bool(package.program) != bool(package.file), package.name


def test_ubuntu_calls_the_browser_otherwise(tmp_path: Path) -> None:
    wanted = [package for package in packages.TEST if package.program in ("chromium", "skopeo")]
    release = tmp_path / "os-release"
    release.write_text('PRETTY_NAME="Ubuntu 24.04 LTS"\nID=ubuntu\nID_LIKE=debian\n', encoding="ascii")
    assert set(packages.names_here(wanted, release)) == {"chromium-browser", "skopeo"}
    release.write_text("ID=debian\n", encoding="ascii")
    assert set(packages.names_here(wanted, release)) == {"chromium", "skopeo"}


def test_without_apt_the_missing_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages.shutil, "which", lambda *_, **__: None)
    with pytest.raises(Refusal, match="no apt-get: conmon, nftables"):
        packages.install([Package("conmon", ""), Package("nftables", "")], Output(colour=False))


def test_services_stay_off_while_packages_are_set_up(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    policy, asked = tmp_path / "policy-rc.d", []
    monkeypatch.setattr(packages, "POLICY", policy)
    monkeypatch.setattr(packages.shutil, "which", lambda *_, **__: "/bin/systemctl")
    monkeypatch.setattr(packages.subprocess, "run", lambda command, **_: asked.append(command))
    with packages._services_stay_off(["redis-server.service"]):
        assert os.access(policy, os.X_OK)
        assert "exit 101" in policy.read_text(encoding="ascii")
    assert not policy.exists()
    assert asked == [["systemctl", "disable", "--quiet", "redis-server.service"]]
    policy.write_text(packages.POLICY_TEXT, encoding="ascii")
    with packages._services_stay_off([]):
        pass
    assert not policy.exists(), "a killed set-up left it, and no service of the machine would ever start again"
    policy.write_text("somebody else's", encoding="ascii")
    with packages._services_stay_off(["redis-server.service"]):
        pass
    assert policy.read_text(encoding="ascii") == "somebody else's"


def test_an_interrupted_installation_is_finished_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """dpkg refuses everything until then; so does apt-get."""
    log, broken = tmp_path / "log", tmp_path / "broken"
    broken.touch()
    for name, script in {
        "apt-get": f'echo "$0 $*" >> {log}; [ ! -e {broken} ]',
        "dpkg": f'echo "$0 $*" >> {log}; rm {broken}',
    }.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n", encoding="ascii")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    packages.install([Package("conmon", "")], Output(colour=False))
    words = [line.removeprefix(f"{tmp_path}/") for line in log.read_text(encoding="ascii").splitlines()]
    assert "dpkg --configure -a" in words
    assert words[-1].startswith("apt-get")
    assert words[-1].endswith("install -y --no-install-recommends conmon")


def test_accounts_come_from_the_last_line_that_is_json() -> None:
    said = 'a warning {\n{"created": [{"username": "admin", "password": "p", "role": "admin"}]}\n'
    assert parse_accounts(said) == [{"username": "admin", "password": "p", "role": "admin"}]
    assert parse_accounts('{"created": []}') == []
    with pytest.raises(Refusal, match="did not say"):
        parse_accounts("nothing")


def test_a_lock_names_its_holder_and_ends_with_it(tmp_path: Path) -> None:
    first, second = Lock(tmp_path / "up.lock"), Lock(tmp_path / "up.lock")
    assert second.holder() == ""
    first.acquire("the home")
    assert second.holder() == f"process {os.getpid()}"
    with pytest.raises(Refusal, match=rf"already running over the home .*process {os.getpid()}"):
        second.acquire("the home")
    first.release()
    second.acquire("the home")
    second.release()


@pytest.fixture
def ordinary_user(monkeypatch: pytest.MonkeyPatch) -> pwd.struct_passwd:
    """Stands in for the system user, which a test machine may not have."""
    monkeypatch.setattr(folders, "USER", "nobody")
    entry = pwd.getpwnam("nobody")
    monkeypatch.setattr(folders.grp, "getgrnam", lambda _: type("Group", (), {"gr_gid": entry.pw_gid}))
    return entry


@pytest.mark.root
def test_folders_and_secrets_have_owners_and_modes(ordinary_user: pwd.struct_passwd, tmp_path: Path) -> None:
    settings = load({"SLIPWAY_HOME": str(tmp_path / "home"), "SLIPWAY_INSTANCE": "tsetup"}, {})
    try:
        for _ in range(2):
            folders.make_folders(settings)
    finally:
        settings.run.rmdir()
    made = folders.make_secrets(settings)
    assert made == ["django.key", "agent.key", "fernet.key"]
    home = settings.home
    seen = {path.name: (path.stat().st_uid, stat.S_IMODE(path.stat().st_mode)) for path in home.iterdir()}
    assert seen["db"] == seen["redis"] == (ordinary_user.pw_uid, 0o700)
    assert seen["static"] == (ordinary_user.pw_uid, 0o755)
    assert seen["secrets"] == (0, 0o750)
    assert seen["runtime"] == (0, 0o700)
    key = home / "secrets/fernet.key"
    assert (key.stat().st_uid, key.stat().st_gid) == (0, ordinary_user.pw_gid)
    assert stat.S_IMODE(key.stat().st_mode) == 0o640
    before = key.read_bytes()
    assert folders.make_secrets(settings) == []
    assert key.read_bytes() == before


@pytest.mark.root
def test_code_under_a_closed_folder_is_copied_to_where_it_can_be_read(
    ordinary_user: pwd.struct_passwd, tmp_path: Path
) -> None:
    for folder in (tmp_path, tmp_path.parent):
        folder.chmod(0o755)
    closed, home = tmp_path / "closed", tmp_path / "home"
    for name in ("console/settings/__init__.py", "runtime/api.py", "manage.py"):
        (closed / "code" / name).parent.mkdir(parents=True, exist_ok=True)
        (closed / "code" / name).write_text("x = 1\n", encoding="ascii")
    (closed / "code/console/__pycache__").mkdir()
    home.mkdir()
    closed.chmod(0o700)
    assert not folders.readable_by_user(closed / "code")
    with Output(colour=False).step("copy", "why") as progress:
        for _ in range(2):
            folders.copy_code(closed / "code", home / "app", progress)
    assert sorted(str(path.relative_to(home / "app")) for path in (home / "app").rglob("*.py")) == [
        "console/settings/__init__.py",
        "manage.py",
        "runtime/api.py",
    ]
    assert not list((home / "app").rglob("__pycache__"))
    assert [path.name for path in home.iterdir()] == ["app"]


def test_the_lock_files_name_no_host_and_no_path() -> None:
    for name in ("base", "dev", "node", "focus-validator", "focus-validator-itself"):
        text = (ROOT / f"requirements/{name}.txt").read_text(encoding="utf-8")
        assert "://" not in text
        assert "--hash=sha256:" in text
        assert "\n/" not in text
    assert '"resolved"' not in (ROOT / "package-lock.json").read_text(encoding="utf-8")


def test_the_test_environment_includes_what_runs() -> None:
    def pins(name: str) -> set[str]:
        lines = (ROOT / f"requirements/{name}.txt").read_text(encoding="utf-8").splitlines()
        return {line.split(" ")[0] for line in lines if "==" in line and not line.startswith((" ", "#"))}

    assert pins("base")
    assert pins("base") <= pins("dev")
