"""Where cgroups are mounted, and of which version."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Literal

ROOT = Path("/sys/fs/cgroup")


@functools.cache
def version() -> Literal[1, 2]:
    """2 only where the unified hierarchy is the one that controls memory."""
    return 2 if (ROOT / "cgroup.controllers").exists() else 1
