"""A month's bundle for a person, as of now: of an open month its charges are those of the records that are in it."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path

from console.core.errors import NotAllowed
from console.metering.exports import bundle
from console.metering.models import Period, UsageRecord
from console.metering.services.rating import carry_on

TRIES = 3
"""Usage may come while an open month is written; of one in which it always does the last try is given as it is."""


def write(period_id: int, folder: Path, progress: bundle.Progress = lambda _file, _lines: None) -> None:
    """As ``bundle.write``.  An open month is rated before, for its last rating may be an hour old, and again where usage came meanwhile."""
    for left in reversed(range(TRIES)):
        before = _known(period_id)
        with contextlib.suppress(NotAllowed):  # closed: it is rated for good
            carry_on(period_id)
        bundle.write(Period.objects.select_related("tenant", "run").get(pk=period_id), folder, progress)
        if not left or _known(period_id) == before:
            return
        shutil.rmtree(folder)


def _known(period_id: int) -> tuple[str, int]:
    """State, and how many records: none is ever changed or taken away."""
    return Period.objects.get(pk=period_id).state, UsageRecord.objects.filter(billed_in=period_id).count()
