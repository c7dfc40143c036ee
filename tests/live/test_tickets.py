from __future__ import annotations

import time
from unittest.mock import patch

import pytest
from django.core import signing
from hypothesis import given
from hypothesis import strategies as st

from console.live import tickets
from console.live.tickets import BadTicket, Verifier, sign


def test_a_ticket_names_user_container_and_verb() -> None:
    found = Verifier().verify(sign(7, "c1", "logs"))
    assert (found.user, found.container, found.verb) == (7, "c1", "logs")


def test_a_ticket_works_once() -> None:
    verifier, ticket = Verifier(), sign(7, "c1", "exec")
    verifier.verify(ticket)
    with pytest.raises(BadTicket, match="used"):
        verifier.verify(ticket)


def test_a_ticket_expires() -> None:
    with patch("time.time", return_value=time.time() - tickets.LIFETIME_S - 2):
        old = sign(7, "c1", "logs")
    with pytest.raises(BadTicket, match="expired"):
        Verifier().verify(old)


def test_another_key_and_another_salt_are_not_ours() -> None:
    body = {"u": 1, "c": "c1", "v": "exec", "n": "x"}
    for forged in (signing.dumps(body, key="other", salt=tickets.SALT), signing.dumps(body, key="other", salt="other")):
        with pytest.raises(BadTicket):
            Verifier().verify(forged)


def test_an_unknown_verb() -> None:
    with pytest.raises(BadTicket, match="verb"):
        Verifier().verify(sign(1, "c1", "format-the-disk"))


@given(st.text(max_size=300))
def test_garbage_is_a_bad_ticket(text: str) -> None:
    with pytest.raises(BadTicket):
        Verifier().verify(text)
