"""How an image came about, as its configuration tells (image-spec, config.md, "history"): newest first, layers beside their steps."""

from __future__ import annotations

from runtime.api import HistoryRow
from runtime.image.store import ImageStore

MOST_TEXT = 2000


def history(store: ImageStore, text: str) -> tuple[HistoryRow, ...]:
    """See :meth:`runtime.api.ImageService.history`.  A configuration that tells of fewer steps than it has layers leaves the rest without."""
    image = store.image(text)
    manifest = store.blobs.json(image.id)
    config = store.blobs.json(manifest["config"]["digest"])
    rows, layers = [], list(image.layers)
    for row in config.get("history") or []:
        empty = bool(row.get("empty_layer")) or not layers
        layer = None if empty else layers.pop(0)
        rows.append(
            HistoryRow(
                created=_words(row.get("created")),
                created_by=_words(row.get("created_by")),
                comment=_words(row.get("comment")),
                size=layer.size if layer else 0,
                diff_id=layer.diff_id if layer else "",
            )
        )
    rows += [HistoryRow("", "", "", layer.size, layer.diff_id) for layer in layers]
    return tuple(reversed(rows))


def _words(value: object) -> str:
    return str(value)[:MOST_TEXT] if value else ""
