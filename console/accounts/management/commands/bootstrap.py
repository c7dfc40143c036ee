"""The first admin and the demo tenant with its owner."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand
from django.db import transaction

from console.accounts import services
from console.accounts.models import Membership, Role, Tenant, User


class Command(BaseCommand):
    help = "Make the admin, the tenant demo and its owner demo, once; prints their generated passwords the first time."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--json", action="store_true", help="one JSON object instead of text")
        parser.add_argument(
            "--renew",
            action="store_true",
            help="new passwords for those of the two who never signed in: theirs were lost",
        )

    def handle(self, *_args: Any, **options: Any) -> None:
        created = [*(renew() if options["renew"] else []), *bootstrap()]
        if options["json"]:
            self.stdout.write(json.dumps({"created": created}))
        for person in created if not options["json"] else []:
            self.stdout.write(f"{person['role']}: {person['username']} / {person['password']}")


@transaction.atomic
def renew() -> list[dict[str, str]]:
    """For a first start that ended before it could show the passwords."""
    renewed = []
    for username, role in (("admin", "admin"), ("demo", "owner")):
        user = User.objects.filter(username=username, last_login=None).first()
        if user is not None:
            renewed.append({"username": username, "password": services.renew_password(user=user), "role": role})
    return renewed


@transaction.atomic
def bootstrap() -> list[dict[str, str]]:
    created = []
    if not User.objects.filter(is_superuser=True).exists():
        admin, password = services.create_user(actor=None, username="admin", admin=True)
        created.append({"username": admin.username, "password": password, "role": "admin"})
    if Tenant.objects.exists():
        return created
    tenant = services.create_tenant(actor=None, name="Demo", slug="demo")
    if not User.objects.filter(username="demo").exists():
        demo, password = services.create_user(actor=None, username="demo")
        created.append({"username": demo.username, "password": password, "role": "owner"})
    if not Membership.objects.filter(tenant=tenant, user__username="demo").exists():
        services.add_member(actor=None, tenant=tenant, username="demo", role=Role.OWNER)
    return created
