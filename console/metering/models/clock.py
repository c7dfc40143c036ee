"""Whether the clock of a machine that closes months can be believed."""

from __future__ import annotations

from django.db import models


class MachineClock(models.Model):
    """Of one boot of a machine: how far its clock is ahead of the time since the boot, which nobody can set.  Microseconds."""

    boot_id = models.CharField(max_length=40, primary_key=True)
    ahead_us = models.BigIntegerField()
    """As it is believed."""
    doubted_us = models.BigIntegerField(null=True)
    """As it is since somebody set it forward; null: it is believed."""
    doubted_since_us = models.BigIntegerField(default=0)
    """Time since the boot."""
    seen_us = models.BigIntegerField(default=0)
    """Wall time at which it was believed last."""

    def __str__(self) -> str:
        return f"clock of boot {self.boot_id}"
