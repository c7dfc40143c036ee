"""``./slipway up`` on PostgreSQL: refused by name before anything starts, and the main job with it."""

from __future__ import annotations

import csv
import io
import os
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from runtime.api import State
from tests.postgresql.cluster import Cluster, cluster
from tests.stack import SOURCE, Stack, stack

pytestmark = [pytest.mark.root, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def server() -> Iterator[Cluster]:
    with cluster() as made:
        yield made


@pytest.fixture(scope="module")
def empty_home() -> Iterator[Path]:
    """One for all refusals: the set-up up to there is done once."""
    with tempfile.TemporaryDirectory(prefix="slipway-refused-", dir="/var/tmp") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


def refused(home: Path, **settings: str) -> str:
    """What ``up`` says; it ends by itself, and no process of it was started."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("SLIPWAY_", "DJANGO_"))}
    ready = {name: os.environ[name] for name in ("SLIPWAY_VENV", "SLIPWAY_NODE_MODULES") if os.environ.get(name)}
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    own = {"SLIPWAY_HOME": str(home), "SLIPWAY_INSTANCE": "refused", "SLIPWAY_PORT": str(port), "NO_COLOR": "1"}
    done = subprocess.run(
        [str(SOURCE / "slipway"), "up"], cwd=SOURCE, env={**kept, **ready, **own, **settings}, check=False,
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    said = done.stdout + done.stderr
    assert done.returncode != 0, said
    assert "Traceback" not in said
    assert "ready in" not in said
    assert not (home / "db/slipway.sqlite3").exists(), "SQLite instead, in silence"
    return said


def test_a_wrong_password_is_named_and_not_shown(server: Cluster, empty_home: Path) -> None:
    said = refused(empty_home, SLIPWAY_DATABASE_URL=server.url(password="open-barley"))
    assert f"SLIPWAY_DATABASE_URL: the database 'slipway' at 127.0.0.1:{server.port} cannot be used" in said
    assert "password authentication failed" in said
    assert "open-barley" not in said


def test_a_database_that_does_not_exist_is_named(server: Cluster, empty_home: Path) -> None:
    assert 'database "nowhere" does not exist' in refused(
        empty_home, SLIPWAY_DATABASE_URL=server.url(database="nowhere")
    )


def test_a_server_that_is_down_is_told(empty_home: Path) -> None:
    with socket.socket() as held:  # bound and not listening: refuses, and nobody else takes it
        held.bind(("127.0.0.1", 0))
        url = f"postgresql://me:secret@127.0.0.1:{held.getsockname()[1]}/slipway"
        said = refused(empty_home, SLIPWAY_DATABASE_URL=url)
    assert "refused" in said
    assert "see to it that PostgreSQL runs" in said


def test_a_user_who_may_create_nothing_is_told_what_to_grant(server: Cluster, empty_home: Path) -> None:
    server.run("CREATE ROLE guest LOGIN PASSWORD 'guest'")
    said = refused(empty_home, SLIPWAY_DATABASE_URL=server.url(user="guest", password="guest"))
    assert "may not create tables" in said
    assert "GRANT CREATE ON SCHEMA public TO guest" in said


def test_another_encoding_is_told(server: Cluster, empty_home: Path) -> None:
    server.run(
        f"CREATE DATABASE old OWNER \"{server.owner}\" ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0"
    )
    assert "its encoding is LATIN1" in refused(empty_home, SLIPWAY_DATABASE_URL=server.url(database="old"))


@pytest.mark.parametrize(
    "url", ["postgresql://me:secret@host", "postgresql://me:secret@host:99999/name", "mysql://me:secret@host/name"]
)
def test_a_url_that_cannot_be_right_is_refused_at_once(empty_home: Path, url: str) -> None:
    said = refused(empty_home, SLIPWAY_DATABASE_URL=url)
    assert "SLIPWAY_DATABASE_URL" in said
    assert "secret" not in said


def test_a_redis_that_is_down_is_named(empty_home: Path) -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        said = refused(empty_home, SLIPWAY_REDIS_URL=f"redis://127.0.0.1:{held.getsockname()[1]}")
    assert "SLIPWAY_REDIS_URL: this Redis cannot be used" in said


def test_the_main_job_on_postgresql_and_through_its_restart(server: Cluster) -> None:
    """Launch, the server goes and comes back, launch again, stop, remove, and the bill has both."""
    with stack({"SLIPWAY_DATABASE_URL": server.url()}) as running:
        running.wait_for_image("busybox")
        with running.signed_in("demo") as member:
            member.launch("recipe:busybox", "before", command="sleep 100000")
        until(lambda: "before" in running.running(), 60, running)
        server.stop()
        time.sleep(3)
        server.start()
        with running.signed_in("demo") as member:
            member.launch("recipe:busybox", "after", command="sleep 100000")
            until(lambda: set(running.running()) == {"before", "after"}, 90, running)
            ids = [one.id for one in running.engine.list() if one.state is State.RUNNING]

            def stopped() -> bool:
                """The launch that lost its database may still be open until its lease ends; a stop is refused till then."""
                for id in ids:
                    member.post(f"/containers/{id}/stop/").raise_for_status()
                return not running.running()

            def removed() -> bool:
                for one in running.engine.list():
                    member.post(f"/containers/{one.id}/remove/").raise_for_status()
                return not running.engine.list()

            until(stopped, 90, running)
            until(removed, 90, running)
        with running.signed_in("admin") as admin:
            rows = list(csv.DictReader(io.StringIO(admin.client.get("/usage/export.csv?all=1").text)))
        assert {row[name] for row in rows for name in row if row[name] in ids} == set(ids)


def until(true: object, within_s: float, running: Stack) -> None:
    deadline = time.monotonic() + within_s
    while not true():  # type: ignore[operator]
        assert time.monotonic() < deadline, running.tail()
        time.sleep(0.5)
