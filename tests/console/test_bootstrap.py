from __future__ import annotations

import io
import json

import pytest
from django.core.management import call_command

from console.accounts.models import User
from console.core import secrets


def _run() -> list[dict[str, str]]:
    out = io.StringIO()
    call_command("bootstrap", "--json", stdout=out, skip_checks=True)
    created: list[dict[str, str]] = json.loads(out.getvalue())["created"]
    return created


@pytest.mark.django_db
def test_makes_an_admin_and_a_demo_owner_once() -> None:
    first = _run()
    assert [(p["username"], p["role"]) for p in first] == [("admin", "admin"), ("demo", "owner")]
    assert all(User.objects.get(username=p["username"]).check_password(p["password"]) for p in first)
    assert _run() == []


def test_a_password_comes_back_and_is_not_stored_in_clear() -> None:
    stored = secrets.encrypt("hunter2")
    assert b"hunter2" not in stored
    assert secrets.decrypt(stored) == "hunter2"
