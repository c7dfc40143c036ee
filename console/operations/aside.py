"""Work that waits for others' servers, in threads of its own beside the worker's: however slow they are, no operation waits."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from django.db import close_old_connections, connections

log = logging.getLogger(__name__)
_threads: dict[str, threading.Thread] = {}
_lock = threading.Lock()


def begin(name: str, work: Callable[[], object]) -> bool:
    """Returns at once.  False: the last of this name is still at it, and this one is left out.

    The process's end waits for none of them: what they do must be claimed under a lease, as deliveries are.
    """
    with _lock:
        before = _threads.get(name)
        if before is not None and before.is_alive():
            return False
        _threads[name] = threading.Thread(target=_run, args=(name, work), name=name, daemon=True)
        _threads[name].start()
    return True


def _run(name: str, work: Callable[[], object]) -> None:
    close_old_connections()
    try:
        work()
    except Exception:
        log.exception("%s failed in an unforeseen way; what it left is tried again later", name)
    finally:
        connections.close_all()
