"""Signing in: how often a password may be tried, and a line in the audit log for each outcome.

Wrong passwords are counted in the database over :data:`WINDOW`: a few from one address for one user, some more for one user
from everywhere, and many from one address for all users.  Who is over a limit is told so before the password is looked at,
and what was refused so is not counted, so nobody can keep somebody else out for longer than the window.
"""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import Any

from django.contrib.auth.signals import user_logged_in, user_logged_out, user_login_failed
from django.dispatch import receiver
from django.http import HttpRequest
from django.utils import timezone

from console.accounts import address
from console.accounts.models import SignInAttempt, User
from console.accounts.services import audit

log = logging.getLogger(__name__)
WINDOW = timedelta(minutes=15)
MOST_OF_ONE = 10
"""For one user name from one address."""
MOST_OF_A_USER = 50
MOST_OF_AN_ADDRESS = 100


class TooOften(Exception):
    """Tried too often; the password was not looked at."""


def begin(username: str) -> SignInAttempt:
    """Counts the attempt before the password is looked at, so that many at once are no way around.  Raises TooOften."""
    since = timezone.now() - WINDOW
    SignInAttempt.objects.filter(at__lt=since).delete()
    name = User.normalize_username(username).casefold()[:150]
    attempt = SignInAttempt.objects.create(username=name, address=address.current() or "")
    recent = SignInAttempt.objects.filter(at__gte=since)
    by_user, by_address = recent.filter(username=name), recent.filter(address=attempt.address)
    if (
        by_user.filter(address=attempt.address).count() > MOST_OF_ONE
        or by_user.count() > MOST_OF_A_USER
        or by_address.count() > MOST_OF_AN_ADDRESS
    ):
        attempt.delete()
        log.warning("too many wrong passwords from %s", attempt.address or "an unknown address")
        raise TooOften
    return attempt


def succeeded(attempt: SignInAttempt) -> None:
    """Who knows the password has none of their own mistakes held against them."""
    SignInAttempt.objects.filter(username=attempt.username, address=attempt.address).delete()


@receiver(user_logged_in)
def _in(request: HttpRequest, user: User, **_: Any) -> None:
    request.session.clear_expired()
    audit("user.sign_in", actor=user, target=user.username)


@receiver(user_logged_out)
def _out(user: User | None, **_: Any) -> None:
    if user is not None:
        audit("user.sign_out", actor=user, target=user.username)


@receiver(user_login_failed)
def _failed(credentials: dict[str, Any], **_: Any) -> None:
    audit("user.sign_in_failed", actor=None, target=str(credentials.get("username", ""))[:150])
