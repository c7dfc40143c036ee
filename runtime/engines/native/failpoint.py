"""Named points between the steps of a verb at which a test can have this process die as by kill -9."""

from __future__ import annotations

from runtime.failpoint import failpoint

__all__ = [
    "CONNECT_POINTS",
    "CONTROLS",
    "DAMAGE_POINTS",
    "FILE_POINTS",
    "IMAGE_POINTS",
    "NETWORK_POINTS",
    "POINTS",
    "VOLUME_POINTS",
    "failpoint",
]

POINTS = (
    "create.claimed", "create.held", "create.prepared", "create.renamed", "start.marked", "start.reserved", "start.mounted", "start.bundled", "start.creating", "start.created",
    "attach.pinned", "attach.linked", "start.attached", "start.started", "start.saved", "stop.noted", "stop.told", "stop.sent", "settle.stored", "release.deleted", "release.removed", "release.expelled",
    "release.unlinked", "release.freed", "release.detached", "release.unmounted", "settle.released", "settle.saved", "restart.due", "remove.marked", "remove.told", "remove.renamed",
    "remove.unnamed", "remove.freed",
)  # fmt: skip
DAMAGE_POINTS = (
    "damage.ended", "damage.stored", "release.deleted", "release.removed", "release.expelled", "release.unlinked", "release.freed",
    "release.detached", "release.unmounted", "damage.released", "damage.died", "remove.told", "remove.renamed", "remove.unnamed",
    "remove.freed",
)  # fmt: skip
"""Of the removal of a container whose files are damaged: its own, and those that it shares."""

CONTROLS = (
    "pause.frozen", "resume.thawed", "update.marked", "update.applied", "update.written", "rename.taken", "rename.written",
    "tenant.applied",
)  # fmt: skip
"""Of the verbs on what runs."""

NETWORK_POINTS = (
    "network.created", "bridge.rules", "bridge.made", "bridge.names", "network.forgotten", "network.silenced", "network.unlinked",
)  # fmt: skip
"""Of a network's life, from its creation over its first container to its removal."""
CONNECT_POINTS = (
    "connect.held", "connect.claimed", "connect.placed", "connect.admitted", "connect.attached", "connect.opened", "connect.written", "disconnect.written",
    "disconnect.closed", "disconnect.counted", "disconnect.unlinked", "disconnect.expelled", "disconnect.dropped", "disconnect.freed", "networks.followed",
)  # fmt: skip
"""Of a container that comes onto a network and leaves one while it runs."""
VOLUME_POINTS = ("volume.prepared", "volume.filled", "volume.used", "volume.buried")
FILE_POINTS = ("view.mounted", "commit.packed")
IMAGE_POINTS = (
    "lease.written", "pull.resolved", "pull.downloaded", "blob.arrived", "pull.configured", "unpack.begun", "unpack.written", "unpack.renamed",
    "pull.fetched", "adopt.stored", "adopt.named", "load.plain", "blob.copied", "push.held", "push.begun", "push.blobs", "push.named",
    "save.held", "save.layer", "gc.untagged", "gc.origins", "gc.blob", "gc.layer", "gc.emptied",
)  # fmt: skip
"""Of images: coming by a registry or an archive, going to one, and removed."""
