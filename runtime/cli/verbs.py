"""What each verb of the command line does; each takes the engine and its options, and returns the exit code."""

from __future__ import annotations

import argparse
import json
import os
import secrets
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

from runtime.api import ContainerSpec, ContainerStatus, Engine, ExecSpec, Image, Limits, LogLine, State
from runtime.cli import health, placing, streams, volumes, watching
from runtime.cli import options as written
from runtime.cli.images import tell
from runtime.cli.moments import moment
from runtime.cli.table import table
from runtime.errors import Conflict, NotFound, RuntimeFault
from runtime.image.recipe import recipe

TENANT = "cli"
MIB = 2**20
FOREVER_S = 10.0**9


def find(engine: Engine, text: str) -> ContainerStatus:
    here = engine.list()
    found = [status for status in here if status.id == text] or [status for status in here if status.name == text]
    if not found:
        raise NotFound(f"There is no container {text!r}.", hint="See: python -m runtime ps.")
    if len(found) > 1:  # of different tenants
        ids = ", ".join(status.id for status in found)
        raise Conflict(f"Several containers are named {text!r}.", hint=f"Give the id of one: {ids}.")
    return found[0]


def all_ids(engine: Engine, texts: Sequence[str]) -> list[str]:
    """Every one is found before anything is done to the first."""
    return [find(engine, text).id for text in texts]


def _image(engine: Engine, text: str) -> Image:
    if recipe(text) is not None:
        return engine.build(text, progress=tell)
    if Path(text).is_file():
        return engine.load(Path(text), progress=tell)[0]
    try:
        return engine.image(text)
    except NotFound:
        return engine.pull(text, progress=tell)


def run(engine: Engine, options: argparse.Namespace) -> int:
    id = "c" + secrets.token_hex(6)
    spec = ContainerSpec(
        id=id,
        tenant=TENANT,
        name=options.name or id,
        image=_image(engine, options.image).id,
        entrypoint=None if options.entrypoint is None else tuple(filter(None, [options.entrypoint])),
        command=tuple(options.command) or None,
        env=dict(row.split("=", 1) if "=" in row else (row, os.environ.get(row, "")) for row in options.env),
        working_dir=options.workdir,
        user=options.user,
        hostname=options.hostname,
        labels=written.pairs(options.label, "--label"),
        limits=replace(written.limits(options, Limits()), disk_bytes=volumes.disk(options)),
        ports=tuple(port for text in options.publish for port in placing.ports(text)),
        networks=tuple(placing.attachment(text) for text in options.network),
        terminal=options.terminal,
        stdin=options.interactive,
        restart=watching.policy(options.restart),
        read_only=options.read_only,
        stop_signal=options.stop_signal,
        stop_grace_s=options.stop_time,
        init=not options.no_init,
        ulimits=tuple(map(written.ulimit, options.ulimit)),
        capabilities_add=tuple(options.cap_add),
        capabilities_drop=tuple(options.cap_drop),
        sysctls=written.pairs(options.sysctl, "--sysctl"),
        tmpfs=tuple(map(written.tmpfs, options.tmpfs)),
        health=health.wanted(options),
        volumes=volumes.mounts(engine, options.volume),
    )
    engine.create(spec)
    try:
        status = engine.start(id, progress=tell)
    except RuntimeFault:
        engine.remove(id, force=True)
        raise
    if options.detach:
        print(id, *(f"{port.host_port}->{port.container_port}/{port.protocol}" for port in status.ports))
        return 0
    try:
        _follow(engine, id)
    except KeyboardInterrupt:
        engine.stop(id)  # what a person expects of Ctrl-C
    code = engine.settle(id).exit_code
    if options.rm:
        engine.remove(id)
    return code if code is not None else 1


def _follow(engine: Engine, id: str) -> None:
    for line in engine.logs(id, follow=True):
        _show(line)
        if engine.inspect(id).state is State.RUNNING:
            engine.settle(id)


def _show(line: LogLine, *, timestamps: bool = False) -> None:
    end = "" if line.partial and not timestamps else "\n"
    print(
        f"{line.at} {line.text}" if timestamps else line.text,
        end=end,
        file=sys.stderr if line.stream == "stderr" else sys.stdout,
        flush=True,
    )


def ps(engine: Engine, _options: argparse.Namespace) -> int:
    rows = [("ID", "NAME", "STATE", "CODE", "ADDRESS", "PORTS")]
    for one in engine.list():
        ports = " ".join(f"{port.host_port}->{port.container_port}" for port in one.ports if port.host_port)
        rows.append(
            (
                one.id,
                one.name,
                _state(one),
                "" if one.exit_code is None else str(one.exit_code),
                one.address or "",
                ports,
            )
        )
    table(rows)
    return 0


def _state(status: ContainerStatus) -> str:
    if status.paused:
        return "paused"
    return f"{status.state} ({status.health})" if status.health else str(status.state)


def logs(engine: Engine, options: argparse.Namespace) -> int:
    id = find(engine, options.container).id
    lines = engine.logs(
        id,
        tail=options.tail,
        since=moment(options.since, "--since"),
        until=moment(options.until, "--until"),
        stream=options.stream,
        follow=options.follow,
    )
    for line in lines:
        _show(line, timestamps=options.timestamps)
    return 0


def exec(engine: Engine, options: argparse.Namespace) -> int:
    columns, rows = streams.terminal_size()
    command = tuple(options.command) or ("/bin/sh",)
    spec = ExecSpec(command, user=options.user, terminal=options.terminal, columns=columns, rows=rows)
    session = engine.exec(find(engine, options.container).id, spec)
    try:
        if options.terminal:
            streams.interact(session)
        else:
            streams.pipe(session, stdin=options.interactive)
        return session.wait(FOREVER_S)
    finally:
        session.close()


def stop(engine: Engine, options: argparse.Namespace) -> int:
    for id in all_ids(engine, options.containers):
        engine.stop(id, grace_s=options.time)
    return 0


def start(engine: Engine, options: argparse.Namespace) -> int:
    for id in all_ids(engine, options.containers):
        engine.start(id)
    return 0


def rm(engine: Engine, options: argparse.Namespace) -> int:
    for id in all_ids(engine, options.containers):
        engine.remove(id, force=options.force)
    return 0


def inspect(engine: Engine, options: argparse.Namespace) -> int:
    status = find(engine, options.container)
    shown: dict[str, object] = {"status": asdict(status), "spec": asdict(engine.spec(status.id))}
    if status.state is State.RUNNING:
        shown["isolation"] = asdict(engine.isolation(status.id))
    print(json.dumps(shown, indent=2, default=str))
    return 0


def stats(engine: Engine, _options: argparse.Namespace) -> int:
    before = engine.counters()
    time.sleep(1)
    rows: list[tuple[str, ...]] = [("ID", "CPU", "MEMORY MiB", "PIDS", "RX", "TX", "READ", "WRITTEN")]
    for id, now in engine.counters().items():
        was = before.get(id)
        cpu = "-"
        if was and was.cpu_ns is not None and now.cpu_ns is not None:
            cpu = f"{(now.cpu_ns - was.cpu_ns) / (now.boottime_ns - was.boottime_ns):.3f}"
        figures = (now.pids, now.net_rx_bytes, now.net_tx_bytes, now.block_read_bytes, now.block_write_bytes)
        memory = f"{(now.memory_bytes or 0) / MIB:.1f}"
        rows.append((id, cpu, memory, *("-" if value is None else str(value) for value in figures)))
    table(rows)
    return 0


def reconcile(engine: Engine, _options: argparse.Namespace) -> int:
    print(json.dumps(asdict(engine.reconcile())))
    return 0


def down(engine: Engine, _options: argparse.Namespace) -> int:
    engine.teardown()
    return 0
