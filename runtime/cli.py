"""The runtime's own command line, for one tenant named ``cli``; it needs no Django and no running Slipway.

Exit codes: 0 done, 1 refused with a sentence, 2 wrong usage; ``exec`` and an attached ``run`` end with the program's own.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import select
import shutil
import sys
import termios
import time
import tty
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from runtime.api import ContainerSpec, ContainerStatus, Engine, ExecSession, ExecSpec, Image, Limits, Port, State, Step
from runtime.engines import open_engine
from runtime.errors import InvalidSpec, NotFound, RuntimeFault
from runtime.home import Home
from runtime.image.recipe import recipe

TENANT = "cli"
MIB = 2**20
FOREVER_S = 10.0**9


def main(arguments: Sequence[str]) -> int:
    options = _parser().parse_args(arguments)
    if os.geteuid() != 0:
        print("The runtime needs root: run it with sudo.", file=sys.stderr)
        return 1
    if options.home:
        os.environ["SLIPWAY_HOME"] = options.home
    try:
        code: int = options.verb(open_engine("native", Home.from_environment()), options)
    except RuntimeFault as fault:
        print(fault, file=sys.stderr)
        return 1
    except (KeyboardInterrupt, BrokenPipeError):
        return 130
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m runtime", description="Run containers with Slipway's runtime.")
    parser.add_argument("--home", help="where state is kept (default: SLIPWAY_HOME, else /var/lib/slipway)")
    verbs = parser.add_subparsers(required=True, metavar="verb")

    def verb(name: str, function: object, text: str, *, container: bool = False) -> argparse.ArgumentParser:
        added = verbs.add_parser(name, help=text, description=text)
        added.set_defaults(verb=function)
        if container:
            added.add_argument("container", help="id or name")
        return added

    run = verb("run", _run, "launch an image: a built-in name, a reference of a registry, or an archive's path")
    run.add_argument("-d", "--detach", action="store_true", help="print the id and leave it running")
    run.add_argument("--rm", action="store_true", help="remove it when it has ended")
    run.add_argument("--name")
    run.add_argument("-e", "--env", action="append", default=[], metavar="NAME=VALUE")
    run.add_argument("-p", "--publish", action="append", default=[], metavar="[HOST:]CONTAINER[/udp]")
    run.add_argument("--memory", type=int, default=256, help="MiB")
    run.add_argument("--cpus", type=float, default=1.0)
    run.add_argument("--pids", type=int, default=256)
    run.add_argument("image")
    run.add_argument("command", nargs=argparse.REMAINDER)
    verb("ps", _ps, "list containers")
    logs = verb("logs", _logs, "show a container's log", container=True)
    logs.add_argument("-f", "--follow", action="store_true")
    logs.add_argument("-n", "--tail", type=int)
    execute = verb("exec", _exec, "run a further program in a container", container=True)
    execute.add_argument("-t", "-i", "-it", "--terminal", action="store_true", help="with a terminal")
    execute.add_argument("-u", "--user")
    execute.add_argument("command", nargs=argparse.REMAINDER)
    verb("stop", _stop, "stop a container", container=True).add_argument(
        "-t", "--time", type=float, help="seconds of grace"
    )
    verb("start", _start, "start a stopped container", container=True)
    verb("rm", _rm, "remove a container", container=True).add_argument("-f", "--force", action="store_true")
    verb("inspect", _inspect, "all that is known of a container, as JSON", container=True)
    verb("stats", _stats, "the counters of what runs")
    verb("images", _images, "list images")
    verb("reconcile", _reconcile, "compare what should be with what is, and put it right")
    verb("down", _down, "remove every container and network")
    return parser


# ------------------------------------------------------------------------------------------------ verbs


def _find(engine: Engine, text: str) -> ContainerStatus:
    found = [status for status in engine.list() if text in {status.id, status.name}]
    if not found:
        raise NotFound(f"There is no container {text!r}.", hint="See: python -m runtime ps.")
    return found[0]


def _tell(step: Step) -> None:
    if sys.stderr.isatty():
        share = f" {step.done * 100 // step.total}%" if step.total else ""
        print(
            f"\r\x1b[K{step.stage}{share} {step.detail}"[: shutil.get_terminal_size().columns], end="", file=sys.stderr
        )
        if step.stage == "start":
            print("\r\x1b[K", end="", file=sys.stderr)


def _image(engine: Engine, text: str) -> Image:
    if recipe(text) is not None:
        return engine.build(text, progress=_tell)
    if Path(text).is_file():
        return engine.load(Path(text), progress=_tell)[0]
    try:
        return engine.image(text)
    except NotFound:
        return engine.pull(text, progress=_tell)


def _port(text: str) -> Port:
    body, _, protocol = text.partition("/")
    outer, _, inner = body.rpartition(":")
    try:
        return Port(int(inner), "udp" if protocol == "udp" else "tcp", int(outer) if outer else None)
    except ValueError:
        raise InvalidSpec(f"{text!r} is not a port.", hint="Write 8080:80, or 80 for a free one.") from None


def _run(engine: Engine, options: argparse.Namespace) -> int:
    id = "c" + secrets.token_hex(6)
    spec = ContainerSpec(
        id=id,
        tenant=TENANT,
        name=options.name or id,
        image=_image(engine, options.image).id,
        command=tuple(options.command) or None,
        env=dict(row.split("=", 1) if "=" in row else (row, os.environ.get(row, "")) for row in options.env),
        limits=Limits(options.memory * MIB, round(options.cpus * 1000), options.pids),
        ports=tuple(_port(text) for text in options.publish),
    )
    engine.create(spec)
    try:
        status = engine.start(id, progress=_tell)
    except RuntimeFault:
        engine.remove(id, force=True)
        raise
    if options.detach:
        print(id, *(f"{port.host_port}->{port.container_port}/{port.protocol}" for port in status.ports))
        return 0
    for line in engine.logs(id, follow=True):
        print(line.text, file=sys.stderr if line.stream == "stderr" else sys.stdout, flush=True)
        if engine.inspect(id).state is State.RUNNING:
            engine.settle(id)
    code = engine.settle(id).exit_code
    if options.rm:
        engine.remove(id)
    return code if code is not None else 1


def _ps(engine: Engine, _options: argparse.Namespace) -> int:
    rows = [("ID", "NAME", "STATE", "CODE", "ADDRESS", "PORTS")]
    for one in engine.list():
        ports = " ".join(f"{port.host_port}->{port.container_port}" for port in one.ports if port.host_port)
        rows.append(
            (
                one.id,
                one.name,
                str(one.state),
                "" if one.exit_code is None else str(one.exit_code),
                one.address or "",
                ports,
            )
        )
    _table(rows)
    return 0


def _table(rows: Sequence[tuple[str, ...]]) -> None:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _logs(engine: Engine, options: argparse.Namespace) -> int:
    for line in engine.logs(_find(engine, options.container).id, tail=options.tail, follow=options.follow):
        print(line.text, file=sys.stderr if line.stream == "stderr" else sys.stdout, flush=True)
    return 0


def _exec(engine: Engine, options: argparse.Namespace) -> int:
    size = shutil.get_terminal_size()
    command = tuple(options.command) or ("/bin/sh",)
    spec = ExecSpec(command, user=options.user, terminal=options.terminal, columns=size.columns, rows=size.lines)
    session = engine.exec(_find(engine, options.container).id, spec)
    try:
        if options.terminal:
            _interact(session)
        else:
            session.stdin.close()
            _copy_output(session)
        return session.wait(FOREVER_S)
    finally:
        session.close()


def _copy_output(session: ExecSession) -> None:
    streams = {session.stdout.fileno(): sys.stdout.buffer}
    if session.stderr is not None:
        streams[session.stderr.fileno()] = sys.stderr.buffer
    while streams:
        for descriptor in select.select(list(streams), [], [])[0]:
            content = os.read(descriptor, 65536)
            if content:
                streams[descriptor].write(content)
                streams[descriptor].flush()
            else:
                del streams[descriptor]


def _interact(session: ExecSession) -> None:
    """The person's terminal in raw mode, until the program ends."""
    own, other = sys.stdin.fileno(), session.stdout.fileno()
    before = termios.tcgetattr(own) if os.isatty(own) else None
    try:
        if before:
            tty.setraw(own)
        while session.poll() is None:
            for descriptor in select.select([own, other], [], [], 0.2)[0]:
                try:
                    content = os.read(descriptor, 65536)
                except OSError:
                    return
                if not content:
                    return
                os.write(other if descriptor == own else sys.stdout.fileno(), content)
    finally:
        if before:
            termios.tcsetattr(own, termios.TCSADRAIN, before)


def _stop(engine: Engine, options: argparse.Namespace) -> int:
    engine.stop(_find(engine, options.container).id, grace_s=options.time)
    return 0


def _start(engine: Engine, options: argparse.Namespace) -> int:
    engine.start(_find(engine, options.container).id)
    return 0


def _rm(engine: Engine, options: argparse.Namespace) -> int:
    engine.remove(_find(engine, options.container).id, force=options.force)
    return 0


def _inspect(engine: Engine, options: argparse.Namespace) -> int:
    status = _find(engine, options.container)
    shown: dict[str, object] = {"status": asdict(status), "spec": asdict(engine.spec(status.id))}
    if status.state is State.RUNNING:
        shown["isolation"] = asdict(engine.isolation(status.id))
    print(json.dumps(shown, indent=2, default=str))
    return 0


def _stats(engine: Engine, _options: argparse.Namespace) -> int:
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
    _table(rows)
    return 0


def _images(engine: Engine, _options: argparse.Namespace) -> int:
    rows = [("IMAGE", "ID", "LAYERS", "MiB")]
    for image in engine.images():
        rows += [(name, image.id[7:19], str(len(image.layers)), f"{image.size / MIB:.1f}") for name in image.references]
    _table(rows)
    return 0


def _reconcile(engine: Engine, _options: argparse.Namespace) -> int:
    print(json.dumps(asdict(engine.reconcile())))
    return 0


def _down(engine: Engine, _options: argparse.Namespace) -> int:
    engine.teardown()
    return 0
