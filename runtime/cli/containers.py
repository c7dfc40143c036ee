"""The plain verbs on containers: each takes the engine and its options, and returns the exit code."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from runtime.cli.finding import TENANT, each, find, here, tell
from runtime.cli.parsing import Declared, command, container, containers, env, environment, natural, seconds
from runtime.errors import Conflict, NotFound, RuntimeFault

if TYPE_CHECKING:
    from runtime.api import ContainerStatus, Engine, LogLine, Port

MIB = 2**20
FOREVER_S = 10.0**9


def show(line: LogLine, *, timestamps: bool = False) -> None:
    if line.lost_before:
        print(f"(about {line.lost_before} bytes of the log were replaced before they could be read)", file=sys.stderr)
    end = "" if line.partial and not timestamps else "\n"
    print(
        f"{line.at} {line.text}" if timestamps else line.text,
        end=end,
        file=sys.stderr if line.stream == "stderr" else sys.stdout,
        flush=True,
    )


def ps(engine: Engine, _options: argparse.Namespace) -> int:
    from runtime.cli.table import table

    rows = [("ID", "NAME", "STATE", "CODE", "ADDRESS", "PORTS")]
    for one in here(engine):
        ports = " ".join(published(port) for port in one.ports if port.host_port)
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


def published(port: Port) -> str:
    """``127.0.0.1:8080->80/tcp``; what is published at all addresses of IPv4 says none."""
    from runtime.api import ANY_ADDRESS

    address = f"[{port.host_address}]" if ":" in port.host_address else port.host_address
    where = "" if port.host_address == ANY_ADDRESS else f"{address}:"
    return f"{where}{port.host_port}->{port.container_port}/{port.protocol}"


def _state(status: ContainerStatus) -> str:
    if status.paused:
        return "paused"
    return f"{status.state} ({status.health})" if status.health else str(status.state)


def logs(engine: Engine, options: argparse.Namespace) -> int:
    from runtime.cli.moments import moment

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
        show(line, timestamps=options.timestamps)
    return 0


def exec(engine: Engine, options: argparse.Namespace) -> int:
    from runtime.api import ExecSpec
    from runtime.cli import streams

    columns, rows = streams.terminal_size()
    command = tuple(options.command) or ("/bin/sh",)
    spec = ExecSpec(
        command, environment(options), options.user, options.workdir, options.terminal, columns=columns, rows=rows
    )
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
    return each(engine, options.containers, lambda one: engine.stop(one, grace_s=options.time))


def start(engine: Engine, options: argparse.Namespace) -> int:
    return each(engine, options.containers, engine.start)


def rm(engine: Engine, options: argparse.Namespace) -> int:
    return each(engine, options.containers, lambda one: engine.remove(one, force=options.force))


def prune(engine: Engine, _options: argparse.Namespace) -> int:
    """What waits for its restart policy, and what was never started, stays.  What cannot be removed is told, and keeps no other."""
    from runtime.api import State

    code = 0
    for one in here(engine):
        if one.tenant == TENANT and one.state is State.EXITED and one.restart_at is None:
            try:
                engine.remove(one.id)
            except (Conflict, NotFound):  # started meanwhile, or gone
                continue
            except RuntimeFault as fault:
                tell(one.name, fault)
                code = 1
            else:
                print(one.name)
    return code


def inspect(engine: Engine, options: argparse.Namespace) -> int:
    import json
    from dataclasses import asdict

    from runtime.api import State

    status = engine.inspect(find(engine, options.container).id)
    shown: dict[str, object] = {"status": asdict(status), "spec": asdict(engine.spec(status.id))}
    if status.state is State.RUNNING:
        shown["isolation"] = asdict(engine.isolation(status.id))
    print(json.dumps(shown, indent=2, default=str))
    return 0


def stats(engine: Engine, _options: argparse.Namespace) -> int:
    import time

    from runtime.cli.table import table

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
    import json
    from dataclasses import asdict

    print(json.dumps(asdict(engine.reconcile())))
    return 0


def down(engine: Engine, _options: argparse.Namespace) -> int:
    engine.teardown()
    return 0


def _log_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-f", "--follow", action="store_true")
    parser.add_argument("-n", "--tail", type=natural)
    parser.add_argument(
        "--since", help="a time as 2026-01-31T12:00:00Z, seconds since the epoch, or how long ago: 10m, 2h30m"
    )
    parser.add_argument("--until", help="likewise")
    parser.add_argument("-T", "--timestamps", action="store_true", help="show each line's time")
    parser.add_argument("--stream", choices=("stdout", "stderr"), help="only this one")


def _exec_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-i", "--interactive", action="store_true", help="pass standard input on")
    parser.add_argument("-t", "--terminal", action="store_true", help="with a terminal")
    parser.add_argument("-u", "--user")
    parser.add_argument("-w", "--workdir", help="the working directory (default: the container's)")
    env(parser)


def grace(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-t", "--time", type=seconds, help="seconds of grace")


def _force(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-f", "--force", action="store_true")


VERBS = {
    "ps": Declared(ps),
    "logs": Declared(logs, (container, _log_options)),
    "exec": Declared(exec, (container, _exec_options, command)),
    "stop": Declared(stop, (containers, grace)),
    "start": Declared(start, (containers,)),
    "rm": Declared(rm, (containers, _force)),
    "prune": Declared(prune),
    "inspect": Declared(inspect, (container,)),
    "stats": Declared(stats),
    "reconcile": Declared(reconcile),
    "down": Declared(down),
}
