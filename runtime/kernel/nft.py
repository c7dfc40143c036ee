"""nftables through libnftables, in this process: a batch is one netlink transaction, all or nothing (libnftables(3)).

It waits by select(2), which ends the whole process at a descriptor above 1023.  So a thread that has none but the standard ones calls it.
"""

from __future__ import annotations

import ctypes
import functools
import json
import os
import threading
from typing import Any

from runtime.errors import EngineFault, HostUnfit
from runtime.kernel.apart import apart

OUTPUT_JSON = 1 << 4
FIRST_OF_OURS, LAST = 3, 2**32 - 1
CLOSE_RANGE_UNSHARE = 1 << 1
"""close_range(2): in a table of the calling thread's own, in which those that are closed never were."""

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
    return apart(lambda: _call(commands, flags))


def _leave_descriptors() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.close_range.argtypes = [ctypes.c_uint, ctypes.c_uint, ctypes.c_int]
    if libc.close_range(FIRST_OF_OURS, LAST, CLOSE_RANGE_UNSHARE):
        raise OSError(ctypes.get_errno(), f"close_range: {os.strerror(ctypes.get_errno())}")


def _call(commands: str, flags: int) -> str:
    library = _library()
    _leave_descriptors()
    with _lock:
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
