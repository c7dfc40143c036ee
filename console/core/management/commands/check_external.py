"""``manage.py check_external``: can the database and the Redis that were given by URL be used?  For the launcher."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from django.core.management.base import BaseCommand

from console.core.external import problems


class Command(BaseCommand):
    help = "Prints one line of JSON: the problems of the database and of Redis given by URL."
    requires_system_checks = []

    def handle(self, *_args: Any, **_options: Any) -> None:
        self.stdout.write(json.dumps({"problems": [asdict(problem) for problem in problems()]}))
