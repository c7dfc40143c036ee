from __future__ import annotations

import io
import json

import pytest
from django.core.management import call_command
from django.utils import timezone

from console.accounts.models import User
from console.core import secrets


def _run(*flags: str) -> list[dict[str, str]]:
    out = io.StringIO()
    call_command("bootstrap", "--json", *flags, stdout=out, skip_checks=True)
    created: list[dict[str, str]] = json.loads(out.getvalue())["created"]
    return created


@pytest.mark.django_db
def test_makes_an_admin_and_a_demo_owner_once() -> None:
    first = _run()
    assert [(p["username"], p["role"]) for p in first] == [("admin", "admin"), ("demo", "owner")]
    assert all(User.objects.get(username=p["username"]).check_password(p["password"]) for p in first)
    assert _run() == []


@pytest.mark.django_db
def test_passwords_that_nobody_saw_are_renewed_but_no_others() -> None:
    first = {person["username"]: person["password"] for person in _run("--renew")}
    admin = User.objects.get(username="admin")
    admin.last_login = timezone.now()
    admin.save()
    renewed = _run("--renew")
    assert [(person["username"], person["role"]) for person in renewed] == [("demo", "owner")]
    demo = User.objects.get(username="demo")
    assert demo.check_password(renewed[0]["password"])
    assert not demo.check_password(first["demo"])
    assert User.objects.get(username="admin").check_password(first["admin"])


def test_a_password_comes_back_and_is_not_stored_in_clear() -> None:
    stored = secrets.encrypt("hunter2")
    assert b"hunter2" not in stored
    assert secrets.decrypt(stored) == "hunter2"
