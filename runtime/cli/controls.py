"""Verbs of the command line on what runs."""

from __future__ import annotations

import argparse
from contextlib import suppress

from runtime.api import Engine, TenantLimits
from runtime.cli import options as written
from runtime.cli.containers import FOREVER_S, MIB, grace
from runtime.cli.ending import code_of
from runtime.cli.finding import all_ids, each, find
from runtime.cli.parsing import Declared, container, containers, seconds
from runtime.cli.table import table
from runtime.errors import NotFound


def pause(engine: Engine, options: argparse.Namespace) -> int:
    return each(engine, options.containers, engine.controls.pause)


def unpause(engine: Engine, options: argparse.Namespace) -> int:
    return each(engine, options.containers, engine.controls.resume)


def kill(engine: Engine, options: argparse.Namespace) -> int:
    return each(engine, options.containers, lambda one: engine.kill(one, options.signal))


def restart(engine: Engine, options: argparse.Namespace) -> int:
    return each(engine, options.containers, lambda one: engine.restart(one, grace_s=options.time))


def update(engine: Engine, options: argparse.Namespace) -> int:
    id = find(engine, options.container).id
    engine.controls.update(id, written.limits(options, engine.spec(id).limits))
    return 0


def rename(engine: Engine, options: argparse.Namespace) -> int:
    engine.controls.rename(find(engine, options.container).id, options.name)
    return 0


def wait(engine: Engine, options: argparse.Namespace) -> int:
    """Prints the exit code of each."""
    for id in all_ids(engine, options.containers):
        code = awaited(engine, id, FOREVER_S if options.time is None else options.time)
        print("-" if code is None else code)
    return 0


def awaited(engine: Engine, id: str, timeout_s: float) -> int | None:
    """The exit code of what runs, also where it is started anew or removed meanwhile.  None: nobody knows."""
    epoch = engine.inspect(id).epoch
    with suppress(NotFound):
        status = engine.controls.wait(id, timeout_s)
        if status.epoch == epoch:
            return status.exit_code
    return code_of(engine, id, epoch)


def top(engine: Engine, options: argparse.Namespace) -> int:
    rows = [("PID", "NODE PID", "USER", "CPU s", "RSS MiB", "COMMAND")]
    for one in engine.controls.top(find(engine, options.container).id):
        cpu, rss = f"{one.cpu_ns / 1e9:.2f}", f"{one.rss_bytes / MIB:.1f}"
        rows.append((str(one.pid), str(one.node_pid), one.user, cpu, rss, one.command))
    table(rows)
    return 0


def tenant(engine: Engine, options: argparse.Namespace) -> int:
    """Without options it tells the ceilings; with some it sets these and leaves the others."""
    limits = engine.controls.tenant_limits(options.tenant)
    if any(value is not None for value in (options.memory, options.cpus, options.cpu_weight, options.pids)):
        limits = _ceilings(options, limits)
        engine.controls.limit_tenant(options.tenant, limits)
    memory = None if limits.memory_bytes is None else limits.memory_bytes // MIB
    cpus = None if limits.cpu_millis is None else limits.cpu_millis / 1000
    shown = (memory, cpus, limits.cpu_weight, limits.pids)
    table([("MEMORY MiB", "CPUS", "CPU WEIGHT", "PIDS"), tuple("-" if one is None else str(one) for one in shown)])
    return 0


def _ceilings(options: argparse.Namespace, before: TenantLimits) -> TenantLimits:
    return TenantLimits(
        written.or_none(None if options.memory is None else options.memory * MIB, before.memory_bytes),
        written.or_none(None if options.cpus is None else written.millis(options.cpus), before.cpu_millis),
        written.or_none(options.cpu_weight, before.cpu_weight),
        written.or_none(options.pids, before.pids),
    )


def _signal(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-s", "--signal", default="SIGKILL")


def _at_most(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-t", "--time", type=seconds, help="seconds at most")


def _name(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name")


def _ceiling_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("tenant")
    parser.add_argument("--memory", type=int, help="MiB")
    parser.add_argument("--cpus", type=float)
    parser.add_argument("--cpu-weight", type=int, metavar="1-10000", help="its share of a busy processor")
    parser.add_argument("--pids", type=int)


VERBS = {
    "pause": Declared(pause, (containers,)),
    "unpause": Declared(unpause, (containers,)),
    "kill": Declared(kill, (containers, _signal)),
    "restart": Declared(restart, (containers, grace)),
    "wait": Declared(wait, (containers, _at_most)),
    "top": Declared(top, (container,)),
    "rename": Declared(rename, (container, _name)),
    "update": Declared(update, (container, written.add_limits)),
    "tenant": Declared(tenant, (_ceiling_options,)),
}
