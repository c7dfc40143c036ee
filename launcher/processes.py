"""The processes of one node, as ARCHITECTURE.md lists them, with what each needs to be ready."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

from launcher.folders import USER
from launcher.settings import Settings
from launcher.supervisor import Child, Probe

CONNECT_S = 2.0
REDIS_ROUTINE = re.compile(
    "oO0OoO0OoO0Oo|Redis version=|Configuration loaded|Server initialized|Memory overcommit"
    "|SIGTERM|User requested|bye bye"
)
CELERY_ROUTINE = re.compile(r"INFO/\w+\] (Task |Connected to|mingle|Scheduler)|INFO celery")
"""Two lines for every sweep, every five seconds; what an operation did is on its page."""


def children(settings: Settings, code: Path) -> tuple[Child, ...]:
    """Redis first, then everything; the doors close first and Redis last."""
    environment = settings.environment()
    redis = () if settings.values["SLIPWAY_REDIS_URL"] else (_redis(settings, environment),)
    python = str(settings.python)
    celery = [python, "-m", "celery", "--quiet", "-A", "console.celery", "--skip-checks"]
    verbose = settings.values["SLIPWAY_LOG"] == "DEBUG"
    # Celery warns of root whatever it accepts; ours accepts JSON only, and root is what the worker is for.
    root_warning = {"PYTHONWARNINGS": "ignore:You're running the worker with superuser privileges"}
    return (
        *redis,
        Child(
            name="web",
            command=[python, "-m", "uvicorn", *_uvicorn(settings)],
            user=USER,
            environment=environment,
            folder=code,
            start_stage=2,
            stop_stage=1,
            probe=answers_200(settings.connect_address, settings.port, "/healthz/"),
        ),
        # The node's worker takes beat's queue too: reconciliation needs root's rights and the engine.
        Child(
            name="worker",
            command=[*celery, "worker", *_worker(settings)],
            environment={**environment, **root_warning},
            folder=code,
            start_stage=2,
            stop_stage=2,
            ready_line=" ready.",
            mute=None if verbose else CELERY_ROUTINE,
        ),
        Child(
            name="beat",
            command=[*celery, "beat", "--loglevel", "WARNING", "--pidfile=", "-s", f"{settings.home}/db/beat-schedule"],
            user=USER,
            environment=environment,
            folder=code,
            start_stage=3,  # nobody waits for it, so it leaves the processors to those that are waited for
            stop_stage=1,
        ),
        Child(
            name="agent",
            command=[python, "manage.py", "agent"],
            environment=environment,
            folder=code,
            start_stage=2,
            stop_stage=2,
            probe=listens(Path(environment.get("SLIPWAY_AGENT_SOCKET") or settings.run / "agent.sock")),
        ),
    )


def _redis(settings: Settings, environment: dict[str, str]) -> Child:
    folder = settings.home / "redis"
    options = {
        "--port": "0",
        "--unixsocket": f"{folder}/redis.sock",
        "--unixsocketperm": "700",
        "--dir": str(folder),
        "--appendonly": "yes",
        "--appendfsync": "everysec",
        "--save": "",
        "--daemonize": "no",
        "--maxmemory": "256mb",
        "--maxmemory-policy": "noeviction",
        "--loglevel": "warning",
    }
    return Child(
        name="redis",
        command=["redis-server", *(word for pair in options.items() for word in pair)],
        user=USER,
        environment=environment,
        folder=folder,
        start_stage=1,
        stop_stage=3,
        probe=listens(folder / "redis.sock"),
        mute=REDIS_ROUTINE,
    )


def _uvicorn(settings: Settings) -> list[str]:
    verbose = settings.values["SLIPWAY_LOG"] == "DEBUG"
    return [
        "console.asgi:application",
        *("--host", settings.listen, "--port", str(settings.port)),
        *("--ws", "websockets-sansio", "--loop", "uvloop", "--http", "httptools", "--lifespan", "off"),
        *("--timeout-graceful-shutdown", "2", "--log-level", "info" if verbose else "warning"),
        *(["--access-log"] if verbose else ["--no-access-log"]),
    ]


def _worker(settings: Settings) -> list[str]:
    return [
        *("--pool", "threads", "-c", "16", "-Q", f"node.{settings.node},beat", "-n", f"worker@{settings.node}"),
        *("--without-gossip", "--without-mingle", "--without-heartbeat", "--loglevel", "INFO"),
    ]


def answers_200(address: str, port: int, path: str) -> Probe:
    """True once an HTTP GET there is answered with 200.  It asks as a TLS proxy would, lest it be redirected."""
    request = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nX-Forwarded-Proto: https\r\nConnection: close\r\n\r\n"

    async def probe() -> bool:
        try:
            async with asyncio.timeout(CONNECT_S):
                reader, writer = await asyncio.open_connection(address, port)
                try:
                    writer.write(request.encode())
                    status = await reader.readline()
                finally:
                    writer.close()
        except (OSError, TimeoutError):
            return False
        return status.split(b" ")[1:2] == [b"200"]

    return probe


def listens(path: Path) -> Probe:
    """True once somebody accepts connections on the unix socket."""

    async def probe() -> bool:
        try:
            async with asyncio.timeout(CONNECT_S):
                _, writer = await asyncio.open_unix_connection(path)
        except (OSError, TimeoutError):
            return False
        writer.close()
        return True

    return probe
