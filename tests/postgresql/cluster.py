"""A PostgreSQL of our own: Debian's server on a folder, a port and a password that nobody else has."""

from __future__ import annotations

import contextlib
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg

USER = "postgres"
"""Debian's; the server refuses to run as root."""
READY_WITHIN_S = 30.0


@dataclass(slots=True)
class Cluster:
    """``owner`` owns the database ``slipway``, with ``password``."""

    folder: Path
    port: int
    password: str
    owner: str = "owner of slipway"
    process: subprocess.Popen[bytes] | None = None

    def url(self, *, user: str = "", password: str = "", database: str = "slipway") -> str:
        name = (user or self.owner).replace(" ", "%20")
        return f"postgresql://{name}:{password or self.password}@127.0.0.1:{self.port}/{database}"

    def run(self, *statements: str, database: str = "postgres") -> None:
        """As the superuser."""
        with psycopg.connect(self.url(user=USER, database=database), autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement.encode())

    def start(self) -> None:
        self.process = subprocess.Popen(
            [_program("postgres"), "-D", str(self.folder / "data")],
            stdout=subprocess.DEVNULL, stderr=(self.folder / "log").open("ab"), **_as_postgres(),
        )  # fmt: skip
        deadline = time.monotonic() + READY_WITHIN_S
        while True:
            with contextlib.suppress(psycopg.OperationalError):
                psycopg.connect(self.url(user=USER, database="postgres")).close()
                return
            assert self.process.poll() is None, (self.folder / "log").read_text()
            assert time.monotonic() < deadline, "PostgreSQL is not ready"
            time.sleep(0.1)

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """SIGINT is its fast shutdown; SIGQUIT the one without goodbyes."""
        if self.process is not None:
            self.process.send_signal(how)
            self.process.wait(timeout=30)
            self.process = None


@contextmanager
def cluster() -> Iterator[Cluster]:
    """Running when it yields; stopped and removed afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="slipway-postgresql-", dir="/var/tmp"))
    account = pwd.getpwnam(USER)
    os.chown(folder, account.pw_uid, account.pw_gid)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    made = Cluster(folder, port, secrets.token_urlsafe(12))
    try:
        _initialise(made)
        made.start()
        made.run(
            f"CREATE ROLE \"{made.owner}\" LOGIN CREATEDB PASSWORD '{made.password}'",
            f'CREATE DATABASE slipway OWNER "{made.owner}"',
        )
        yield made
    finally:
        made.stop()
        shutil.rmtree(folder)


def _initialise(made: Cluster) -> None:
    secret = made.folder / "password"
    secret.write_text(made.password)
    secret.chmod(0o644)  # inside a folder that only the server's user enters
    _call(
        [
            *(_program("initdb"), "-D", str(made.folder / "data"), "-U", USER, f"--pwfile={secret}"),
            *("--auth=scram-sha-256", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync"),
        ]
    )
    with (made.folder / "data/postgresql.conf").open("a") as settings:
        settings.write(
            f"port = {made.port}\nlisten_addresses = '127.0.0.1'\nunix_socket_directories = '{made.folder}'\n"
        )


def _program(name: str) -> str:
    found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda path: int(path.parts[4]))
    assert found, f"{name} is not installed"
    return str(found[-1])


def _as_postgres() -> dict[str, object]:
    return {"user": USER, "group": USER, "extra_groups": [], "cwd": "/"}


def _call(command: Sequence[str]) -> None:
    subprocess.run(command, check=True, capture_output=True, timeout=120, **_as_postgres())  # type: ignore[call-overload]
