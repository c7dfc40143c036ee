from __future__ import annotations

import datetime as dt
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from console.accounts.models import Tenant
from console.accounts.services import audit
from console.core.errors import Refused
from console.metering.models import Period
from console.metering.services import bundles, cycle, files, prices


class Command(BaseCommand):
    help = "Price books, closing and exports: prices FILE [--tenant T] | turn | export TENANT MONTH FOLDER"

    def add_arguments(self, parser: ArgumentParser) -> None:
        verbs = parser.add_subparsers(dest="verb", required=True)
        one = verbs.add_parser("prices", help="Publish a price book from a JSON file.")
        one.add_argument("file", type=Path)
        one.add_argument("--tenant", default="", help="Slug: the book is this tenant's contract.")
        verbs.add_parser("turn", help="Close what can be closed and rate what is open, as the schedule does.")
        one = verbs.add_parser("export", help="Everything of a tenant's month into a new folder.")
        one.add_argument("tenant", help="Slug.")
        one.add_argument("month", help="Such as 2026-11.")
        one.add_argument("folder", type=Path)

    def handle(self, *_args: Any, **chosen: Any) -> None:
        try:
            getattr(self, f"_{chosen['verb']}")(**chosen)
        except Refused as refused:
            raise CommandError(f"{refused.field}: {refused.message}" if refused.field else refused.message) from None
        except OSError as fault:
            raise CommandError(str(fault)) from None

    def _prices(self, *, file: Path, tenant: str, **_: Any) -> None:
        book = prices.publish(files.draft_from_json(file.read_text("utf-8"), _tenant(tenant) if tenant else None).pk)
        self.stdout.write(f"{book} holds from {book.valid_from:%Y-%m-%dT%H:%MZ}; sha256 {book.sha256}")

    def _turn(self, **_: Any) -> None:
        cycle.turn(timezone.now())

    def _export(self, *, tenant: str, month: str, folder: Path, **_: Any) -> None:
        try:
            starts_at = dt.datetime.strptime(month, "%Y-%m").replace(tzinfo=dt.UTC)
        except ValueError:
            raise CommandError("month: write it as 2026-11.") from None
        period = Period.objects.filter(tenant=_tenant(tenant), starts_at=starts_at).first()
        if period is None:
            raise CommandError(f"month: nothing of {tenant} was metered in {month}.")
        audit("invoice.export", actor=None, tenant=period.tenant, target=month, folder=str(folder))
        bundles.write(period.pk, folder, lambda file, lines: self.stdout.write(f"{file}: {lines}"))


def _tenant(slug: str) -> Tenant:
    found = Tenant.objects.filter(slug=slug).first()
    if found is None:
        raise CommandError(f"tenant: there is none called {slug}.")
    return found
