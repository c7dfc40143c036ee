"""What overlayfs writes into an upper folder to say that something below it is gone (overlayfs.rst)."""

from __future__ import annotations

import errno
import os
import stat

OPAQUE_XATTR = "trusted.overlay.opaque"


def is_opaque(folder: int) -> bool:
    """Whether it hides all that the folders of the same name below it have.  Raises OSError."""
    try:
        return os.getxattr(folder, OPAQUE_XATTR) == b"y"
    except OSError as error:
        if error.errno not in {errno.ENODATA, errno.ENOTSUP}:
            raise
        return False


def is_whiteout(found: os.stat_result) -> bool:
    """Whether it stands for a name that is gone."""
    return stat.S_ISCHR(found.st_mode) and found.st_rdev == 0
