"""``create`` and ``run``: an image as a container; one that is run is left running, or followed to its end."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from runtime.api import ContainerSpec, Limits, State
from runtime.cli import health, placing, restarting, storing
from runtime.cli import options as written
from runtime.cli.containers import published, show
from runtime.cli.ending import code_of
from runtime.cli.finding import TENANT
from runtime.cli.parsing import Declared, Take, command, env, environment
from runtime.cli.progress import tell
from runtime.errors import InvalidSpec, NotFound, RuntimeFault
from runtime.image import slugs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from runtime.api import AttachSession, Engine, Image, Step

INTERRUPTS = {signal.SIGINT, signal.SIGTERM}


def _image(engine: Engine, text: str) -> Image:
    if slugs.known(text):
        return engine.build(text, progress=tell)
    if Path(text).is_file():
        return engine.load(Path(text), progress=tell)[0]
    try:
        return engine.image(text)
    except NotFound:
        return engine.pull(text, progress=tell)


def _spec(engine: Engine, options: argparse.Namespace) -> ContainerSpec:
    """Gets the image."""
    id = "c" + os.urandom(6).hex()
    image = _image(engine, options.image)
    return ContainerSpec(
        id=id,
        tenant=TENANT,
        name=options.name or id,
        image=image.id,
        entrypoint=None if options.entrypoint is None else tuple(filter(None, [options.entrypoint])),
        command=tuple(options.command) or None,
        env=environment(options),
        working_dir=options.workdir,
        user=options.user,
        hostname=options.hostname,
        labels=written.pairs(options.label, "--label"),
        limits=storing.limits(options, written.limits(options, Limits())),
        ports=tuple(port for text in options.publish for port in placing.ports(text)),
        networks=tuple(placing.attachment(text) for text in options.network),
        terminal=options.terminal,
        stdin=options.interactive,
        restart=restarting.policy(options.restart),
        read_only=options.read_only,
        stop_signal=options.stop_signal,
        stop_grace_s=options.stop_time,
        init=not options.no_init,
        ulimits=tuple(map(written.ulimit, options.ulimit)),
        capabilities_add=tuple(options.cap_add),
        capabilities_drop=tuple(options.cap_drop),
        sysctls=written.pairs(options.sysctl, "--sysctl"),
        tmpfs=tuple(map(written.tmpfs, options.tmpfs)),
        health=health.wanted(options, image),
        volumes=storing.mounts(options.volume),
    )


def create(engine: Engine, options: argparse.Namespace) -> int:
    spec = _spec(engine, options)
    with storing.made(engine, spec.volumes):
        engine.create(spec)
    print(spec.id)
    return 0


def run(engine: Engine, options: argparse.Namespace) -> int:
    if options.rm and (options.detach or options.restart != "no"):
        raise InvalidSpec(
            "--rm removes what is waited for here, once it has ended.",
            hint="Leave out --rm, or -d and --restart.",
            field="--rm",
        )
    talks = options.interactive and not options.detach
    spec = replace(_spec(engine, options), stdin_once=talks and not options.terminal)
    id = spec.id
    sessions: list[AttachSession] = []

    def told(step: Step) -> None:
        tell(step)
        if talks and step.stage == "start":  # its program has not begun, so nothing that it says is missed
            sessions.append(_attached(engine, spec))

    with storing.made(engine, spec.volumes):
        engine.create(spec)
        try:
            status = engine.start(id, progress=told)
        except RuntimeFault:
            engine.remove(id, force=True)
            raise
    if options.detach:
        print(id, *map(published, status.ports))
        return 0
    with _interrupts_stop(engine, id):
        if sessions and _talk(sessions[0], spec):
            return 0  # the person has left it running
        if not sessions:
            _follow(engine, id)
    code = code_of(engine, id, status.epoch)
    if options.rm:
        engine.remove(id)
    return code if code is not None else 1


def _attached(engine: Engine, spec: ContainerSpec) -> AttachSession:
    """What reads for it takes no interrupts, see :func:`_interrupts_stop`; what is started from here on still does."""
    from runtime.cli.streams import terminal_size

    before = signal.pthread_sigmask(signal.SIG_BLOCK, INTERRUPTS)
    try:
        session = engine.attachments.open(spec.id)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    if spec.terminal:
        session.resize(*terminal_size())
    return session


def _talk(session: AttachSession, spec: ContainerSpec) -> bool:
    """Until it has ended, or the person left by the keys: then True."""
    from runtime.cli import attaching
    from runtime.cli.streams import END_OF_TRANSMISSION

    last = END_OF_TRANSMISSION if spec.terminal else b""
    return attaching.held(session, attaching.detach_keys(), terminal=spec.terminal, takes_input=True, last=last)


def _follow(engine: Engine, id: str) -> None:
    """Until it has ended."""
    for line in engine.logs(id, follow=True):
        show(line)
        with suppress(NotFound):
            if engine.inspect(id).state is State.RUNNING:
                engine.settle(id)


@contextmanager
def _interrupts_stop(engine: Engine, id: str) -> Iterator[None]:
    """Ctrl-C or SIGTERM stops the container, and a second one kills it; what they do is over at the end.

    An interrupt that is raised amid what is done here could leave a lock held, which the stop would wait for.  So none is raised any
    more: a thread takes them, and what the container says while it ends is shown, too.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, INTERRUPTS)
    deeds: list[threading.Thread] = []
    threading.Thread(target=_at_interrupts, args=(engine, id, deeds), daemon=True).start()
    yield
    for deed in deeds:
        deed.join()


def _at_interrupts(engine: Engine, id: str, deeds: list[threading.Thread]) -> None:
    for verb in (engine.stop, engine.kill):
        signal.sigwait(INTERRUPTS)
        deeds.append(threading.Thread(target=_attempted, args=(verb, id)))
        deeds[-1].start()


def _attempted(verb: Callable[[str], object], id: str) -> None:
    try:
        verb(id)
    except RuntimeFault as fault:  # as that it has ended meanwhile
        print(fault, file=sys.stderr)


def _following(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-d", "--detach", action="store_true", help="print the id and leave it running")
    parser.add_argument("--rm", action="store_true", help="remove it when it has ended")


def _options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-i", "--interactive", action="store_true", help="with an input: ours, or that of who attaches")
    parser.add_argument("-t", "--terminal", action="store_true", help="with a terminal")
    parser.add_argument("--name")


def _image_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("image")


TAKES: tuple[Take, ...] = (
    _options,
    env,
    placing.add_options,
    restarting.options,
    storing.options,
    health.options,
    written.add_options,
    written.add_limits,
    _image_argument,
    command,
)
VERBS = {"create": Declared(create, TAKES), "run": Declared(run, (_following, *TAKES))}
