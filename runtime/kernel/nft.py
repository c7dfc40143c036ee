"""nftables through libnftables, in this process: a batch is one netlink transaction, all or nothing (libnftables(3)).

It waits by select(2), which ends the whole process at a descriptor above 1023.  Where nearly that many are open nft(8) does it, which costs
a program's start.
"""

from __future__ import annotations

import ctypes
import functools
import json
import os
import subprocess
import threading
from typing import Any

from runtime.errors import EngineFault, HostUnfit

OUTPUT_JSON = 1 << 4
SELECT_KNOWS, ROOM = 1024, 256
"""Descriptors that select(2) knows, and how many of them must be free: others may open files before libnftables has opened its own."""
DEADLINE_S = 60

_lock = threading.Lock()


class NftablesFault(EngineFault):
    code = "nftables_fault"


@functools.cache
def _library() -> ctypes.CDLL:
    try:
        library = ctypes.CDLL("libnftables.so.1")
    except OSError:
        raise HostUnfit("libnftables is missing.", hint="Install the package nftables.") from None
    library.nft_ctx_new.restype = ctypes.c_void_p
    library.nft_ctx_new.argtypes = [ctypes.c_uint32]
    library.nft_ctx_free.argtypes = [ctypes.c_void_p]
    library.nft_ctx_output_set_flags.argtypes = [ctypes.c_void_p, ctypes.c_uint]
    for name in ("nft_ctx_get_output_buffer", "nft_ctx_get_error_buffer"):
        getattr(library, name).restype = ctypes.c_char_p
        getattr(library, name).argtypes = [ctypes.c_void_p]
    for name in ("nft_ctx_buffer_output", "nft_ctx_buffer_error"):
        getattr(library, name).argtypes = [ctypes.c_void_p]
    library.nft_run_cmd_from_buffer.argtypes = [ctypes.c_void_p, ctypes.c_char_p]
    return library


def _run(commands: str, flags: int) -> str:
    with _lock:
        if not _crowded():
            return _by_library(commands, flags)
    return _by_program(commands, flags)


def _crowded() -> bool:
    """Counted: where some low ones were closed again the lowest that is free says nothing of the next."""
    names = os.listdir("/proc/self/fd")
    most = SELECT_KNOWS - ROOM
    return len(names) > most and sum(int(name) < SELECT_KNOWS for name in names) > most


def _by_program(commands: str, flags: int) -> str:
    # what it reads from a file is answered in JSON by nothing at all
    command = ["nft", "--json", commands] if flags & OUTPUT_JSON else ["nft", "--file", "-"]
    try:
        done = subprocess.run(
            command, check=False, input=commands, capture_output=True, text=True, errors="replace", timeout=DEADLINE_S
        )
    except FileNotFoundError:
        raise HostUnfit("libnftables is missing.", hint="Install the package nftables.") from None
    except subprocess.TimeoutExpired:
        raise NftablesFault(f"nftables refused a batch: no answer in {DEADLINE_S} s") from None
    return _answer(done.returncode, done.stdout, done.stderr)


def _by_library(commands: str, flags: int) -> str:
    library = _library()
    context = library.nft_ctx_new(0)
    try:
        library.nft_ctx_output_set_flags(context, flags)
        library.nft_ctx_buffer_output(context)
        library.nft_ctx_buffer_error(context)
        status = library.nft_run_cmd_from_buffer(context, commands.encode())
        error = (library.nft_ctx_get_error_buffer(context) or b"").decode(errors="replace")
        output = (library.nft_ctx_get_output_buffer(context) or b"").decode(errors="replace")
    finally:
        library.nft_ctx_free(context)
    return _answer(status, output, error)


def _answer(status: int, output: str, error: str) -> str:
    if status != 0:
        raise NftablesFault(f"nftables refused a batch: {error.strip() or 'no reason given'}")
    return output


def run(commands: str) -> None:
    """Raises NftablesFault with nft's own words; then nothing of the batch has happened."""
    _run(commands, 0)


def query(commands: str) -> list[dict[str, Any]]:
    """The objects of a ``list …`` command."""
    output = _run(commands, OUTPUT_JSON)
    return list(json.loads(output)["nftables"]) if output.strip() else []
