"""Opening below a folder out of which somebody moves what is opened: the kernel meets that race too rarely to wait for it here."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from runtime.kernel import beneath


@pytest.mark.parametrize(
    ("said", "told"),
    [(errno.EXDEV, errno.ENOENT), (errno.EAGAIN, errno.ENOENT), (errno.ENOTDIR, errno.ENOTDIR), (errno.EIO, errno.EIO)],
)
def test_what_is_moved_out_meanwhile_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: int, told: int
) -> None:
    def refuse(*_: object) -> int:
        raise OSError(said, os.strerror(said), "d")

    monkeypatch.setattr(beneath, "_open", refuse)
    root = os.open(tmp_path, beneath.FOLDER)
    try:
        with pytest.raises(OSError, match=os.strerror(told)) as found:
            beneath.open_in_root(root, "d", beneath.FOLDER)
    finally:
        os.close(root)
    assert found.value.errno == told
