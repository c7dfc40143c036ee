"""The door itself: how often a password may be tried, what a session survives, where one is led, and what the audit log says."""

from __future__ import annotations

import threading
from datetime import timedelta

import pytest
from django.contrib.sessions.models import Session
from django.db import connection
from django.test import Client
from django.utils import timezone

from console.accounts import signing_in
from console.accounts.models import AuditEvent, SignInAttempt, User

pytestmark = pytest.mark.django_db
FROM = "192.0.2.7"


def tried(name: str, password: str, address: str = FROM, client: Client | None = None) -> int:
    answer = (client or Client()).post(
        "/sign-in/", {"username": name, "password": password}, REMOTE_ADDR=address
    )  # fmt: skip
    return answer.status_code


def test_a_password_is_not_guessed_from_one_address(member: User) -> None:
    for _ in range(signing_in.MOST_OF_ONE):
        assert tried("max", "wrong") == 422
    assert tried("max", "max") == 429
    assert tried("MAX", "max") == 429
    assert tried("max", "max", "192.0.2.8") == 302


def test_after_the_window_it_may_be_tried_again(member: User) -> None:
    for _ in range(signing_in.MOST_OF_ONE + 3):
        tried("max", "wrong")
    SignInAttempt.objects.update(at=timezone.now() - signing_in.WINDOW - timedelta(seconds=1))
    assert tried("max", "max") == 302
    assert SignInAttempt.objects.count() == 0


def test_what_was_refused_unseen_makes_the_wait_no_longer(member: User) -> None:
    for _ in range(signing_in.MOST_OF_ONE + 30):
        tried("max", "wrong")
    assert SignInAttempt.objects.count() == signing_in.MOST_OF_ONE


def test_a_password_is_not_guessed_from_many_addresses(member: User) -> None:
    for number in range(signing_in.MOST_OF_A_USER):
        assert tried("max", "wrong", f"198.51.100.{number}") == 422
    assert tried("max", "max", "203.0.113.1") == 429


def test_one_address_does_not_try_many_names(member: User) -> None:
    for number in range(signing_in.MOST_OF_AN_ADDRESS):
        assert tried(f"name{number}", "wrong") == 422
    assert tried("max", "max") == 429


def test_who_signs_in_starts_anew(member: User) -> None:
    for _ in range(signing_in.MOST_OF_ONE - 1):
        tried("max", "wrong")
    assert tried("max", "max") == 302
    assert tried("max", "wrong") == 422


@pytest.mark.django_db(transaction=True)
def test_many_at_once_are_no_way_around(member: User) -> None:
    codes: list[int] = []

    def one() -> None:
        try:
            codes.append(tried("max", "wrong"))
        finally:
            connection.close()

    threads = [threading.Thread(target=one) for _ in range(3 * signing_in.MOST_OF_ONE)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(codes) == {422, 429}
    assert codes.count(422) <= signing_in.MOST_OF_ONE


def test_the_sentence_is_on_the_page(member: User) -> None:
    for _ in range(signing_in.MOST_OF_ONE):
        tried("max", "wrong")
    answer = Client().post("/sign-in/", {"username": "max", "password": "max"}, REMOTE_ADDR=FROM)
    assert "Wait a quarter of an hour" in answer.content.decode()


def test_a_session_from_before_the_sign_in_is_worth_nothing(member: User) -> None:
    client = Client()
    client.get("/sign-in/")
    session = client.session
    session["planted"] = "yes"
    session.save()
    client.cookies["slipway_session"] = planted = session.session_key
    assert tried("max", "max", client=client) == 302
    assert client.cookies["slipway_session"].value != planted
    assert not Session.objects.filter(session_key=planted).exists()


@pytest.mark.parametrize(
    "elsewhere",
    ["https://elsewhere.example/", "//elsewhere.example/", "/\\elsewhere.example", "javascript:alert(1)", "http:///x"],
)
def test_signing_in_and_switching_lead_nowhere_else(member: User, elsewhere: str) -> None:
    client = Client()
    answer = client.post(f"/sign-in/?next={elsewhere}", {"username": "max", "password": "max", "next": elsewhere})
    assert answer.headers["Location"] == "/"
    for path, asked in (("/language/", {"language": "en"}), ("/theme/", {"theme": "dark"})):
        assert client.post(path, {**asked, "next": elsewhere}).headers["Location"] == "/"


def test_a_changed_password_ends_the_other_sessions_and_not_this_one(member: User) -> None:
    this, other = Client(), Client()
    this.force_login(member)
    other.force_login(member)
    new = "a longer one 1234"
    answer = this.post("/settings/", {"old_password": "max", "new_password1": new, "new_password2": new})
    assert answer.status_code == 302
    assert this.get("/containers/").status_code == 200
    assert other.get("/containers/").status_code == 302
    assert AuditEvent.objects.filter(verb="user.password", user=member).count() == 1


@pytest.mark.parametrize(("old", "new", "again"), [("wrong", "good enough 1", "good enough 1"), ("max", "short", "short"),
                                                   ("max", "good enough 1", "another one 2")])  # fmt: skip
def test_a_password_that_cannot_be_changed_says_why(member: User, old: str, new: str, again: str) -> None:
    client = Client()
    client.force_login(member)
    answer = client.post("/settings/", {"old_password": old, "new_password1": new, "new_password2": again})
    assert answer.status_code == 422
    assert 'class="problem"' in answer.content.decode()
    member.refresh_from_db()
    assert member.check_password("max")


def test_who_came_in_and_from_where_is_in_the_audit_log(member: User) -> None:
    client = Client()
    tried("max", "wrong")
    tried("max", "max", client=client)
    client.post("/sign-out/", REMOTE_ADDR=FROM)
    events = AuditEvent.objects.order_by("pk").values_list("verb", "target", "address")
    assert list(events) == [
        ("user.sign_in_failed", "max", FROM), ("user.sign_in", "max", FROM), ("user.sign_out", "max", FROM),
    ]  # fmt: skip


def test_sessions_that_ended_do_not_pile_up(member: User) -> None:
    Client().get("/sign-in/")
    for _ in range(3):
        tried("max", "max")
    Session.objects.update(expire_date=timezone.now() - timedelta(days=1))
    tried("max", "max")
    assert Session.objects.filter(expire_date__lt=timezone.now()).count() == 0
