"""Words of strangers on a person's terminal: names of files, output of checks, what an image or a registry says."""

from __future__ import annotations


def plain(text: str) -> str:
    """In one line, and nothing that a terminal obeys: control characters and bytes that are no text as Python writes them."""
    return text if text.isprintable() else "".join(one if one.isprintable() else ascii(one)[1:-1] for one in text)
