"""A question to a tenant's data set, in a sandbox that root makes and nobody runs.

bubblewrap gives it namespaces of its own (files, network, processes, IPC) with the system's and Python's folders read-only, the
tenant's tables at ``/data``, and no other file; setpriv makes it user 65534 without any capability; limits hold its memory, its
processor time and what it could write; a deadline ends it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import re
import sys
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

from console.live import frames
from console.live.agent.answers import answer
from console.metering.dataset.place import folder
from runtime.errors import Conflict, InvalidSpec, LimitExceeded

log = logging.getLogger(__name__)
WORKER = Path(__file__).resolve().parents[2] / "metering/dataset/worker.py"

NOBODY = "65534"
ADDRESS_SPACE = 3 << 29
"""DuckDB counts its buffers up to :data:`console.metering.dataset.worker.MEMORY`, and not what one text may grow to: this is the bound."""
CPU_S = 20
FIRST_LINE_S = 20.0
WHOLE_S = 600.0
"""Whoever downloads a long answer slowly has that long."""
AT_ONCE = 2
WAIT_S = 5.0
LONGEST_QUERY = 10_000
"""Bytes; escaped, they fit the line of a request."""
MOST_ROWS = 1_000_000
CHUNK = 64 << 10
FOLDER = re.compile(r"q-[0-9a-f]{24}")


class Queries:
    """At most AT_ONCE on the node, and one of a tenant; who comes then waits a little."""

    def __init__(self) -> None:
        self._free = asyncio.Semaphore(AT_ONCE)
        self._turns: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def run(
        self, tenant: str, args: dict[str, Any], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """The worker's lines as frames of data, to their end or until the client leaves.  Raises RuntimeFault before the first.

        ``args``: ``query``, ``folder`` (of links, see :mod:`console.metering.dataset.files`), ``most`` rows.
        """
        query, data, most = _asked(tenant, args)
        async with self._turn(tenant), _sandbox(data) as process:
            await answer(writer)
            answering = asyncio.ensure_future(_converse(process, {"query": query, "most": most}, writer))
            leaving = asyncio.ensure_future(reader.read(1))
            await asyncio.wait([answering, leaving], return_when=asyncio.FIRST_COMPLETED)
            for task in (answering, leaving):
                task.cancel()
            await asyncio.wait([answering, leaving])
            if not answering.cancelled():
                answering.result()

    @contextlib.asynccontextmanager
    async def _turn(self, tenant: str) -> AsyncIterator[None]:
        async with contextlib.AsyncExitStack() as held:
            try:
                async with asyncio.timeout(WAIT_S):
                    await held.enter_async_context(self._turns[tenant])
            except TimeoutError:
                hint = "Wait for its end."
                raise Conflict("Another question of this tenant is being answered.", hint=hint) from None
            try:
                async with asyncio.timeout(WAIT_S):
                    await held.enter_async_context(self._free)
            except TimeoutError:
                hint = "Try again in a few seconds."
                raise LimitExceeded("The node is answering other questions.", hint=hint) from None
            yield


def _asked(tenant: str, args: dict[str, Any]) -> tuple[str, Path, int]:
    query, name, most = args.get("query"), args.get("folder"), args.get("most")
    if not isinstance(query, str) or not query.strip():
        raise InvalidSpec("There is no question.", field="query")
    if len(query.encode("utf-8", "surrogatepass")) > LONGEST_QUERY:
        raise InvalidSpec("The question is too long.", hint=f"Ask with {LONGEST_QUERY} bytes at most.", field="query")
    if not isinstance(name, str) or not FOLDER.fullmatch(name) or not (folder(tenant) / name).is_dir():
        raise InvalidSpec("There is no such data.", field="folder")
    if not isinstance(most, int) or not 0 < most <= MOST_ROWS:
        raise InvalidSpec("So many rows are not answered.", field="most")
    return query, folder(tenant) / name, most


@contextlib.asynccontextmanager
async def _sandbox(data: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    """Nothing of it is left at the end, however that comes."""
    process = await asyncio.create_subprocess_exec(
        *_command(data), stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()  # the first process of its namespace of processes: all of it ends
        await _ended(process)


async def _ended(process: asyncio.subprocess.Process) -> None:
    """Until it is: asyncio tells of that once its pipes are at their end, and nobody reads a long answer any more."""
    assert process.stdin
    assert process.stdout
    assert process.stderr
    process.stdin.close()
    for pipe in (process.stdout, process.stderr):
        while await pipe.read(CHUNK):
            pass
    await process.wait()


def _command(data: Path) -> list[str]:
    return [
        "bwrap", "--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try",
        "--die-with-parent", "--new-session", "--clearenv", "--chdir", "/", "--hostname", "dataset",
        *_system(), "--proc", "/proc", "--dev", "/dev", "--ro-bind", str(WORKER), "/worker.py", "--ro-bind", str(data), "/data",
        "--remount-ro", "/", "--",
        "setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--bounding-set=-all", "--inh-caps=-all",
        "--no-new-privs",
        "prlimit", f"--as={ADDRESS_SPACE}", f"--cpu={CPU_S}", "--fsize=0", "--core=0", "--nofile=256",
        "/python/bin/python", "-I", "/worker.py",
    ]  # fmt: skip


def _system() -> Iterator[str]:
    """The programs and libraries that Python needs, at the same places, and its environment at ``/python``."""
    for path in map(Path, ("/usr", "/bin", "/sbin", "/lib", "/lib64", "/etc/ld.so.cache")):
        if path.is_symlink():
            yield from ("--symlink", str(path.readlink()), str(path))
        elif path.exists():
            yield from ("--ro-bind", str(path), str(path))
    if not sys.base_prefix.startswith("/usr"):
        yield from ("--ro-bind", sys.base_prefix, sys.base_prefix)
    yield from ("--ro-bind", sys.prefix, "/python")


async def _converse(process: asyncio.subprocess.Process, request: dict[str, Any], writer: asyncio.StreamWriter) -> None:
    assert process.stdin
    assert process.stdout
    assert process.stderr
    sent = 0
    try:
        async with asyncio.timeout(WHOLE_S):
            process.stdin.write(json.dumps(request).encode())
            process.stdin.close()
            async with asyncio.timeout(FIRST_LINE_S):
                content = await process.stdout.read(CHUNK)
            while content:
                writer.write(frames.frame(frames.DATA, content))
                await writer.drain()
                sent += len(content)
                content = await process.stdout.read(CHUNK)
    except TimeoutError:
        _fail(writer, "The answer takes too long: ask for less, or for a shorter time.")
    else:
        told = (await process.stderr.read(2000)).decode(errors="replace")
        if code := await process.wait():
            log.warning("a question ended with code %d: %s", code, told.strip())
            _fail(writer, "The question needs more memory or time than one may have: ask for less.")
    writer.write(frames.frame(frames.END))
    await writer.drain()


def _fail(writer: asyncio.StreamWriter, message: str) -> None:
    """Ends a line that was cut off, and tells why."""
    writer.write(frames.frame(frames.DATA, b"\n" + json.dumps({"error": message}).encode() + b"\n"))
