"""The system user, the folders with their owners and modes, the secrets, and a copy of the code where it needs one."""

from __future__ import annotations

import base64
import grp
import os
import pwd
import secrets
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from launcher.output import Progress
from launcher.refusal import Refusal
from launcher.settings import Settings

USER = "slipway"
CODE = (
    "console",
    "runtime",
    "launcher",
    "templates",
    "static",
    "locale",
    "manage.py",
    "pyproject.toml",
    "package.json",
)


def user_exists() -> bool:
    try:
        pwd.getpwnam(USER)
        grp.getgrnam(USER)
    except KeyError:
        return False
    return True


def make_user() -> None:
    command = ["useradd", "--system", "--user-group", "--home-dir", "/nonexistent", "--no-create-home", "--shell"]
    made = subprocess.run([*command, "/usr/sbin/nologin", USER], check=False, capture_output=True, text=True)
    if made.returncode:
        raise Refusal(
            f"The system user {USER} cannot be made: {made.stderr.strip()}", "Make it with useradd and start again."
        )


def _folder(path: Path, owner: str, group: str, mode: int) -> None:
    try:
        path.mkdir(mode=mode, exist_ok=True)
        os.chmod(path, mode)
        os.chown(path, pwd.getpwnam(owner).pw_uid, grp.getgrnam(group).gr_gid)
    except OSError as error:
        raise Refusal(
            f"The folder {path} cannot be made: {(error.strerror or str(error)).lower()}.",
            "Choose another with --home.",
        ) from None


def make_folders(settings: Settings) -> None:
    """As the table in ARCHITECTURE.md says; twice is once."""
    home = settings.home
    home.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
    _folder(home, "root", "root", 0o755)
    _folder(home / "db", USER, USER, 0o700)
    _folder(home / "dataset", USER, USER, 0o700)
    _folder(home / "secrets", "root", USER, 0o750)
    _folder(home / "redis", USER, USER, 0o700)
    _folder(home / "static", USER, USER, 0o755)
    _folder(home / "stamps", "root", "root", 0o755)
    _folder(home / "runtime", "root", "root", 0o700)
    _folder(settings.run, "root", "root", 0o755)


def make_secrets(settings: Settings) -> list[str]:
    """Make those that are missing; returns their names.  One that exists is never written again."""
    makers: dict[str, Callable[[], str]] = {
        "django.key": lambda: secrets.token_urlsafe(64),
        "agent.key": lambda: secrets.token_urlsafe(64),
        "fernet.key": lambda: base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
    }
    made = []
    group = grp.getgrnam(USER).gr_gid
    for name, maker in makers.items():
        path = settings.home / "secrets" / name
        if path.exists() and path.stat().st_size:
            os.chown(path, 0, group)
            os.chmod(path, 0o640)
            continue
        temporary = path.with_name(f".{name}.new")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(maker() + "\n")
            os.fchown(file.fileno(), 0, group)
            os.fchmod(file.fileno(), 0o640)
            os.fsync(file.fileno())
        temporary.rename(path)
        made.append(name)
    return made


def readable_by_user(source: Path) -> bool:
    """Can the system user read the code?  Not when it was cloned under a closed folder, such as root's own."""
    # pwd and os only: a fork that does nothing else is safe.
    child = os.fork()
    if child == 0:
        code = 1
        try:
            entry = pwd.getpwnam(USER)
            os.initgroups(USER, entry.pw_gid)
            os.setgid(entry.pw_gid)
            os.setuid(entry.pw_uid)
            wanted = [source / "manage.py", source / "console/settings/__init__.py", source / "runtime/api.py"]
            code = 0 if all(os.access(path, os.R_OK) for path in wanted) else 1
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def code_for_user(settings: Settings) -> Path:
    """The folder that the children run from: the source itself, or its copy in the home."""
    return settings.source if readable_by_user(settings.source) else settings.home / "app"


def copy_code(source: Path, target: Path, progress: Progress) -> None:
    """Replace ``target`` by a copy that everybody can read, in one rename."""
    fresh = target.with_name(f".{target.name}.new")
    old = target.with_name(f".{target.name}.old")
    for path in (fresh, old):
        shutil.rmtree(path, ignore_errors=True)
    fresh.mkdir(mode=0o755)
    for name in CODE:
        progress.update(name)
        if (source / name).is_dir():
            shutil.copytree(source / name, fresh / name, ignore=shutil.ignore_patterns("__pycache__", "*.pyc"))
        elif (source / name).exists():
            shutil.copy2(source / name, fresh / name)
    for folder, _, files in os.walk(fresh):
        os.chmod(folder, 0o755)  # noqa: S103 -- the code is no secret
        for name in files:
            os.chmod(os.path.join(folder, name), 0o644)
    if target.exists():
        target.rename(old)
    fresh.rename(target)
    shutil.rmtree(old, ignore_errors=True)
