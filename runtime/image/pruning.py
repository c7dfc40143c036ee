"""Making room: by hand what nothing needs, and when the disk is nearly full what can be had again, the least recently used first.

Neither takes what a container is made of, nor what a lease of somebody at work holds.  What goes is decided and renamed away under the content
lock, which whoever makes a container holds too, so no container ever comes to be of an image that is going.
"""

from __future__ import annotations

import os
from collections.abc import Iterable

from runtime.api import Pruned
from runtime.errors import DeadlineExceeded, NotFound
from runtime.image.build import BUSYBOX, SYSTEM
from runtime.image.recipe import recipe
from runtime.image.reference import BUILT_IN, Reference
from runtime.image.store import ImageStore

WAIT_S = 10.0
YOUNG_S = 600.0
"""An image that was used within is not taken for want of room: whoever pulled it is about to make a container of it."""


def prune(store: ImageStore, *, named: bool, older_than_s: float) -> Pruned:
    """See :meth:`runtime.api.ImageService.prune`."""
    with store.alone(timeout_s=WAIT_S):
        nameless = store.uses.ids() - set(store.references().values()) - store.used_by_containers()
        young = {id for id in nameless if store.uses.since(id) < older_than_s}
        spare_tries = older_than_s > 0
        leased = store.leases.digests(abandoned=spare_tries)
        gone = sorted(id for id in nameless - young - leased if store.blobs.has(id))
        if named:
            gone += _untag(store, [id for id in _idle(store) if store.uses.since(id) >= older_than_s])
        store.bury(spared=young, abandoned=spare_tries)
    return Pruned(tuple(gone), store.empty_graves())


def make_room(store: ImageStore, *, above: float, down_to: float) -> Pruned:
    """See :meth:`runtime.api.ImageService.make_room`."""
    gone: list[str] = []
    freed = 0
    if _full(store) <= above:
        return Pruned((), 0)
    try:
        with store.alone(timeout_s=WAIT_S):
            store.bury(abandoned=False)
        freed += store.empty_graves()
        while _full(store) > down_to:
            with store.alone(timeout_s=WAIT_S):
                chosen = _next(store)
                if chosen is None:
                    break
                gone += _untag(store, [chosen])
                store.bury(abandoned=False)
            freed += store.empty_graves()
    except DeadlineExceeded:
        pass  # somebody is adding all the time: the next call goes on
    return Pruned(tuple(gone), freed)


def _full(store: ImageStore) -> float:
    """Percent of the disk, as df counts: of what others than root may have."""
    found = os.statvfs(store.blobs.root)
    used = found.f_blocks - found.f_bfree
    return 100 * used / max(1, used + found.f_bavail)


def _idle(store: ImageStore) -> list[str]:
    """Ids of images with a name that no container and nobody at work has, the least recently used first."""
    leased = store.leases.digests(abandoned=False)
    idle = set(store.references().values()) - store.used_by_containers() - leased
    return sorted(idle, key=lambda one: (store.uses.last(one), one))


def _next(store: ImageStore) -> str | None:
    names: dict[str, list[str]] = {}
    for name, id in store.references().items():
        names.setdefault(id, []).append(name)
    fitting = (id for id in _idle(store) if store.uses.since(id) >= YOUNG_S and _can_be_had_again(store, id, names[id]))
    return next(fitting, None)


def _can_be_had_again(store: ImageStore, id: str, names: Iterable[str]) -> bool:
    """Built from a recipe, or served whole by the registry of each of its names; what was loaded or committed may be the only one."""
    try:
        content = store.blobs_of(id)
    except NotFound:
        return True  # it is damaged, and worth nothing
    for name in names:
        known = Reference.parse(name)
        if known.registry == BUILT_IN:
            if not is_recipe(known):
                return False
        elif not all(store.blobs.came_from(digest, known.registry) for digest in content - {id}):
            return False
    return True


def is_recipe(reference: Reference) -> bool:
    """Whether this node builds it."""
    return reference in {SYSTEM, BUSYBOX} or recipe(reference.repository) is not None


def _untag(store: ImageStore, ids: list[str]) -> list[str]:
    """Returns the names that went."""
    gone = sorted(name for name, id in store.references().items() if id in ids)
    store.untag(gone)
    return gone
