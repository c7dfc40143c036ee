"""Tickets: what the web process may ask the agent for, once, within half a minute.

Signed with ``agent.key``, which only the two have.  A ticket names one user, one container and one verb.
"""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass

from django.conf import settings
from django.core import signing

LIFETIME_S = 30
VERBS = frozenset({"history", "logs", "exec", "isolation", "top", "copy_out", "copy_in", "counters", "query", "ping"})
SALT = "slipway.agent.ticket"


class BadTicket(Exception):
    """The message says which way it is bad, without saying what would be good."""


@dataclass(frozen=True, slots=True)
class Ticket:
    user: int
    container: str
    """For ``counters`` and ``query`` a tenant's id: they are of all that the tenant has."""
    verb: str
    nonce: str


def sign(user_id: int, container_id: str, verb: str) -> str:
    body = {"u": user_id, "c": container_id, "v": verb, "n": secrets.token_hex(12)}
    return signing.dumps(body, key=settings.AGENT_KEY, salt=SALT)


class Verifier:
    """Remembers the tickets that were used until they would have expired anyway."""

    def __init__(self) -> None:
        self._used: dict[str, float] = {}

    def verify(self, ticket: str) -> Ticket:
        """Raises BadTicket."""
        if not settings.AGENT_KEY:
            raise BadTicket("the agent has no key")
        try:
            body = signing.loads(ticket, key=settings.AGENT_KEY, salt=SALT, max_age=LIFETIME_S)
            found = Ticket(int(body["u"]), str(body["c"]), str(body["v"]), str(body["n"]))
        except signing.SignatureExpired:
            raise BadTicket("expired") from None
        except (signing.BadSignature, KeyError, TypeError, ValueError):
            raise BadTicket("not ours") from None
        if found.verb not in VERBS:
            raise BadTicket("unknown verb")
        now = time.monotonic()
        self._used = {nonce: until for nonce, until in self._used.items() if until > now}
        if found.nonce in self._used:
            raise BadTicket("used already")
        self._used[found.nonce] = now + LIFETIME_S + 1
        return found
