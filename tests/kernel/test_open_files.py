"""Files that have no name any more, as processes hold them: by a descriptor, by one of a thread's own, by a mapping."""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import os
import secrets
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from runtime.kernel import open_files
from runtime.kernel.open_files import OpenFiles
from tests.conftest import patience

pytestmark = pytest.mark.root
SIZE = 256 * 2**10
CLONE_FILES = 0x400


@pytest.fixture
def nameless(tmp_path: Path) -> Iterator[int]:
    """A descriptor, for writing, of a file of :data:`SIZE` without a name."""
    with tempfile.TemporaryFile(dir=tmp_path) as handle:
        handle.write(bytes(SIZE))
        handle.flush()
        yield handle.fileno()


def seen(descriptor: int, *pids: int) -> OpenFiles:
    return open_files.of(pids or (os.getpid(),), {os.fstat(descriptor).st_dev}, time.monotonic() + patience(20))


def inode(descriptor: int) -> open_files.Inode:
    at = os.fstat(descriptor)
    return at.st_dev, at.st_ino


def test_one_that_several_hold_is_there_once_with_what_it_takes(nameless: int) -> None:
    with contextlib.ExitStack() as stack:
        others = [stack.enter_context(holder(nameless)) for _ in range(2)]
        found = seen(nameless, os.getpid(), *(other.pid for other in others))
    assert found.unlinked[inode(nameless)] == os.fstat(nameless).st_blocks * 512 >= SIZE
    assert inode(nameless) in found.writable


@contextlib.contextmanager
def holder(descriptor: int) -> Iterator[subprocess.Popen[bytes]]:
    """A process that holds it as its standard input."""
    with subprocess.Popen(
        ["sleep", "1000"], stdin=descriptor, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def test_what_has_a_name_is_none_and_yet_tells_who_writes(tmp_path: Path) -> None:
    with (tmp_path / "named (deleted)").open("wb") as handle:
        found = seen(handle.fileno())
        assert inode(handle.fileno()) not in found.unlinked
        assert inode(handle.fileno())[0] in found.writing


def test_one_that_can_only_be_read_is_held_and_not_written(nameless: int) -> None:
    with Path(f"/proc/self/fd/{nameless}").open("rb") as reader, holder(reader.fileno()) as process:
        found = seen(nameless, process.pid)
    assert inode(nameless) in found.unlinked
    assert not found.writable
    assert not found.writing


@pytest.mark.parametrize("access", [mmap.ACCESS_READ, mmap.ACCESS_WRITE, mmap.ACCESS_COPY])
def test_a_mapping_holds_it(tmp_path: Path, access: int) -> None:
    """Without the descriptors, of which Python keeps one of its own."""
    script = (
        "import mmap, os, sys, time; f = os.open(sys.argv[1], os.O_RDWR); os.unlink(sys.argv[1]);"
        f"m = mmap.mmap(f, 0, access={access}); os.closerange(3, 100); print('mapped', flush=True); time.sleep(1000)"
    )
    file = tmp_path / "file"
    file.write_bytes(bytes(SIZE))
    at = file.stat()
    with subprocess.Popen(
        [sys.executable, "-c", script, str(file)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"mapped\n"
            found = open_files.of([process.pid], {at.st_dev}, time.monotonic() + patience(20))
        finally:
            process.kill()
    assert found.unlinked == {(at.st_dev, at.st_ino): at.st_blocks * 512}
    assert bool(found.writable) == (access == mmap.ACCESS_WRITE)


def test_a_thread_with_descriptors_of_its_own_hides_none(tmp_path: Path) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    opened: list[open_files.Inode] = []
    ready, over = threading.Event(), threading.Event()

    def hold() -> None:
        assert libc.unshare(CLONE_FILES) == 0
        with tempfile.TemporaryFile(dir=tmp_path) as handle:
            opened.append(inode(handle.fileno()))
            ready.set()
            over.wait(patience(60))

    thread = threading.Thread(target=hold)
    thread.start()
    try:
        assert ready.wait(patience(20))
        found = open_files.of([os.getpid()], {opened[0][0]}, time.monotonic() + patience(20))
    finally:
        over.set()
        thread.join()
    assert opened[0] in found.unlinked


@pytest.mark.parametrize("way", ["received late", "not accepted yet", "in another message"])
def test_descriptors_in_a_message_are_told_of(nameless: int, way: str) -> None:
    """Whatever they are; what was received is seen as any other is."""
    with contextlib.ExitStack() as held:
        near, far = map(held.enter_context, socket.socketpair())
        assert not seen(nameless).in_flight
        if way == "not accepted yet":
            far = held.enter_context(socket.socket(socket.AF_UNIX))
            far.bind(b"\0" + secrets.token_bytes(8))
            far.listen(1)
            near = held.enter_context(socket.socket(socket.AF_UNIX))
            near.connect(far.getsockname())
        socket.send_fds(near, [b"x"], [nameless])
        if way == "in another message":
            over, _last = map(held.enter_context, socket.socketpair())
            socket.send_fds(over, [b"x"], [far.fileno(), near.fileno()])
            far.close()
            near.close()
        assert seen(nameless).in_flight
        if way == "received late":
            _, (received,), _, _ = socket.recv_fds(far, 1, 1)
            os.close(received)
            assert not seen(nameless).in_flight


def test_too_many_to_look_at_in_time(nameless: int) -> None:
    with pytest.raises(TimeoutError):
        open_files.of([os.getpid()], {os.fstat(nameless).st_dev}, time.monotonic())


def test_one_that_has_ended_holds_nothing(nameless: int) -> None:
    with holder(nameless) as process:
        pass
    assert seen(nameless, process.pid) == OpenFiles()
    assert open_files.written([process.pid]) == 0


def test_written_are_bytes_of_files_also_those_of_children() -> None:
    """On a disk: of a file in memory none is ever dirty."""
    before = open_files.written([os.getpid()])
    with tempfile.NamedTemporaryFile(dir="/var/tmp") as file:
        subprocess.run(["dd", "if=/dev/zero", f"of={file.name}", "bs=64k", "count=4"], check=True, capture_output=True)
    assert open_files.written([os.getpid()]) - before >= SIZE
