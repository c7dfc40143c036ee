"""Redis and PostgreSQL from the catalog, used by their own clients over published ports."""

from __future__ import annotations

import os
import subprocess
import time

import pytest

from tests.stack import Stack

SECRET = "a \"test\" \\ 'password' $HOME"
"""With what shells and configuration files take for their own."""


def _client(command: list[str], environment: dict[str, str] | None = None, within_s: float = 60) -> str:
    """What it prints, once the service accepts it."""
    deadline = time.monotonic() + within_s
    while True:
        done = subprocess.run(
            command, check=False, capture_output=True, text=True, env={**os.environ, **(environment or {})}, timeout=20
        )
        if done.returncode == 0:
            return done.stdout
        assert time.monotonic() < deadline, done.stderr
        time.sleep(0.5)


def _launched(running: Stack, item: str, name: str, environment: dict[str, str]) -> int:
    running.wait_for_image(item)
    with running.signed_in("demo") as member:
        member.launch(f"recipe:{item}", name, environment)
    running._until(lambda: name in running.running(), 60, f"running: {name}")
    ports = next(one.ports for one in running.engine.list() if one.name == name)
    assert ports
    assert ports[0].host_port
    return ports[0].host_port


def test_redis_answers_redis_cli(running: Stack) -> None:
    port = str(_launched(running, "redis", "cache", {"REDIS_PASSWORD": SECRET}))
    base = ["redis-cli", "-e", "-h", "127.0.0.1", "-p", port, "--no-auth-warning", "-a", SECRET]
    assert _client([*base, "SET", "key", "kept"]).strip() == "OK"
    assert _client([*base, "GET", "key"]).strip() == "kept"


@pytest.mark.timeout(900)
def test_postgresql_answers_psql(running: Stack) -> None:
    """The password comes from the launch form's environment."""
    port = str(_launched(running, "postgresql", "database", {"POSTGRES_PASSWORD": SECRET}))
    base = ["psql", "-h", "127.0.0.1", "-p", port, "-U", "app", "-At", "-c"]
    said = _client([*base, "select 6 * 7"], {"PGPASSWORD": SECRET})
    assert said.strip() == "42"
