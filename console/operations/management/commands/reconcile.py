from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand

from console.operations.tasks import reconcile


class Command(BaseCommand):
    help = "Compare the database with the engine, as the schedule does each five minutes."

    def handle(self, *_args: Any, **_options: Any) -> None:
        reconcile()
