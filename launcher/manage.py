"""``./slipway manage``: manage.py in the children's environment, as the user who owns what it touches."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from launcher import folders
from launcher.child import become
from launcher.settings import Settings
from launcher.up import needs_set_up

AS_ROOT = frozenset({"agent", "reconcile", "makemessages", "compilemessages", "makemigrations"})
"""These touch the kernel or the source; everything else writes the database and must own what it writes."""


def manage(settings: Settings, arguments: Sequence[str]) -> int:
    """Replaces this process; never returns when it works."""
    needs_set_up(settings)
    code = folders.code_for_user(settings) if os.geteuid() == 0 else settings.source
    environment = settings.environment()
    command = [str(settings.python), str(code / "manage.py"), *arguments]
    os.chdir(code)
    sys.stdout.flush()
    if os.geteuid() == 0 and (arguments[:1] or [""])[0] not in AS_ROOT:
        become(folders.USER)
    os.execve(command[0], command, environment)  # noqa: S606 -- the point of the command
