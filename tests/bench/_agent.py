"""The real agent over a bench's containers: a process of its own, a real Redis, a database that knows and meters them all, and
somebody who watches, so that it samples at 1 Hz."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import redis

from runtime.home import Home
from tests.bench import _ours

SOURCE = Path(__file__).resolve().parents[2]
READY_WITHIN_S = 120.0
TICK_HZ = os.sysconf("SC_CLK_TCK")
ROWS = """
from console.accounts.models import Tenant
from console.workloads.models import Container
from tests.bench import _ours
for name in dict.fromkeys(_ours.tenant(n) for n in range({count})):
    Tenant.objects.create(id=name, slug=name, name=name)
Container.objects.bulk_create([Container(id=f"d{{n:05d}}", tenant_id=_ours.tenant(n), node="bench", name=f"d{{n:05d}}",
    image_reference="x", memory_bytes=1 << 26, cpu_millis=1000) for n in range({count})])
"""


@contextlib.contextmanager
def agent(home: Home, count: int) -> Iterator[int]:
    """Its pid, once it has adopted the ``count`` containers ``d00000``…"""
    with tempfile.TemporaryDirectory(prefix="slipway-bench-agent-", dir="/var/tmp") as name:
        folder = Path(name)
        for part in ("db", "secrets", "static"):
            (home.root / part).mkdir(exist_ok=True)
        for key in ("django.key", "agent.key"):
            (home.root / "secrets" / key).write_text("a key of a bench, used by nobody else" * 2)
        environment = _environment(home, folder)
        with _running(["redis-server", "--port", "0", "--unixsocket", f"{folder}/redis.sock", "--save", ""], folder):
            _wait((folder / "redis.sock").exists, "redis")
            _manage(environment, "migrate", "--verbosity", "0")
            _manage(environment, "shell", "-c", ROWS.format(count=count))
            with _running([sys.executable, "manage.py", "agent"], folder, environment) as process:
                log = folder / "log"
                _wait(lambda: b"agent ready" in log.read_bytes() or process.poll() is not None, "the agent")
                if process.poll() is not None:
                    raise RuntimeError(f"the agent ended:\n{log.read_text()}")
                watching = redis.Redis(unix_socket_path=f"{folder}/redis.sock", db=3)
                for number in range(0, count, _ours.EACH):
                    watching.set(f"slipway:watch:{_ours.tenant(number)}", "1")
                yield process.pid


def _environment(home: Home, folder: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("SLIPWAY_", "DJANGO_"))}
    return {
        **kept,
        "SLIPWAY_HOME": str(home.root),
        "SLIPWAY_INSTANCE": home.instance,
        "SLIPWAY_SUBNETS": home.subnets,
        "SLIPWAY_UID_BASE": hex(home.uid_base),
        "SLIPWAY_NODE": "bench",
        "SLIPWAY_REDIS_URL": f"unix://{folder}/redis.sock",
        "SLIPWAY_AGENT_SOCKET": f"{folder}/agent.sock",
        "DJANGO_SETTINGS_MODULE": "console.settings",
    }


@contextlib.contextmanager
def _running(
    command: list[str], folder: Path, environment: dict[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    with (folder / "log").open("ab") as log:
        process = subprocess.Popen(
            command, cwd=SOURCE if environment else folder, env=environment, stdout=log, stderr=log
        )
    try:
        yield process
    finally:
        process.terminate()
        process.wait(timeout=20)


def _manage(environment: dict[str, str], *words: str) -> None:
    subprocess.run([sys.executable, "manage.py", *words], cwd=SOURCE, env=environment, check=True, capture_output=True)


def _wait(true: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + READY_WITHIN_S
    while not true():
        if time.monotonic() > deadline:
            raise RuntimeError(f"{what} is not ready within {READY_WITHIN_S:g} s")
        time.sleep(0.05)


def cpu_s(pid: int) -> float:
    """User and system time of all its threads until now."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICK_HZ
