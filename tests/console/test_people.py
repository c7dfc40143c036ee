"""Tenants, members and users: every mistake on its field, no way up for whoever has no right to it, and an owner and an admin always remain."""

from __future__ import annotations

import re
import threading

import pytest
from django.db import connection
from django.test import Client
from django.urls import reverse

from console.accounts import selectors, services
from console.accounts.models import AuditEvent, Membership, Quota, Role, Tenant, User
from console.core.errors import Invalid, Missing, NotAllowed

pytestmark = pytest.mark.django_db


def signed_in(user: User) -> Client:
    client = Client()
    client.force_login(user)
    return client


# ------------------------------------------------------------------------------------------------ members


@pytest.mark.parametrize("who", ["member", "viewer"])
def test_nobody_makes_themselves_owner(request: pytest.FixtureRequest, tenant: Tenant, owner: User, who: str) -> None:
    user = request.getfixturevalue(who)
    before = Membership.objects.get(user=user).role
    for asked in (
        {"action": "change", "username": user.username, "role": "owner"},
        {"action": "remove", "username": owner.username},
        {"action": "add", "username": "somebody", "role": "owner"},
    ):
        assert signed_in(user).post("/members/", asked).status_code == 403
    assert Membership.objects.get(user=user).role == before
    assert Membership.objects.filter(tenant=tenant, user=owner, role="owner").exists()


def test_an_owner_of_one_tenant_is_nothing_in_another(tenant: Tenant, owner: User, outsider: User) -> None:
    client = signed_in(outsider)
    assert client.post("/tenant/", {"tenant": tenant.id}).status_code == 404
    client.post("/members/", {"action": "add", "username": outsider.username, "role": "owner", "tenant": tenant.id})
    client.post("/members/", {"action": "remove", "username": owner.username})
    assert set(Membership.objects.filter(tenant=tenant).values_list("user__username", flat=True)) == {owner.username}


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        ({"action": "add", "username": "nobody", "role": "member"}, "There is no user of that name"),
        ({"action": "add", "username": "otto", "role": "emperor"}, "There is no such role"),
        ({"action": "add", "username": "olivia", "role": "member"}, "is a member already"),
        ({"action": "change", "username": "otto", "role": "member"}, "Nobody of that name is a member"),
        ({"action": "change", "username": "olivia", "role": "viewer"}, "A tenant needs an owner"),
        ({"action": "remove", "username": "olivia"}, "A tenant needs an owner"),
        ({"action": "crown", "username": "olivia", "role": "owner"}, "There is no such action"),
    ],
)
def test_a_change_of_members_that_cannot_be_says_why_on_the_spot(
    owner: User, outsider: User, asked: dict[str, str], sentence: str
) -> None:
    before = list(Membership.objects.order_by("pk").values_list("user", "tenant", "role"))
    answer = signed_in(owner).post("/members/", asked)
    assert answer.status_code == 422
    assert (
        sentence in answer.content.decode() or asked["username"] == "otto"
    )  # who is no member has no row to say it at
    assert list(Membership.objects.order_by("pk").values_list("user", "tenant", "role")) == before


def test_the_last_owner_who_can_sign_in_stays(tenant: Tenant, owner: User, member: User, admin: User) -> None:
    services.change_role(actor=owner, tenant=tenant, username=member.username, role=Role.OWNER)
    services.set_active(actor=admin, user=member, active=False)
    with pytest.raises(Invalid):
        services.remove_member(actor=owner, tenant=tenant, username=owner.username)


@pytest.mark.django_db(transaction=True)
def test_two_owners_who_remove_each_other_at_once_leave_one(tenant: Tenant, owner: User, member: User) -> None:
    Membership.objects.filter(user=member).update(role="owner")
    both = threading.Barrier(2)

    def remove(actor: User, other: User) -> None:
        both.wait(10)
        try:
            services.remove_member(actor=actor, tenant=tenant, username=other.username)
        except (Missing, NotAllowed, Invalid):
            return
        finally:
            connection.close()

    threads = [threading.Thread(target=remove, args=pair) for pair in ((owner, member), (member, owner))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert Membership.objects.filter(tenant=tenant, role="owner").count() == 1


# ------------------------------------------------------------------------------------------------ users


@pytest.mark.parametrize("name", ["", "   ", "a b", "x" * 65, "<script>", "ADA", "ａｄａ", "no/path"])
def test_a_user_name_that_cannot_be_is_said_on_its_field_and_comes_back(admin: User, tenant: Tenant, name: str) -> None:
    answer = signed_in(admin).post("/admin/users/", {"username": name, "tenant": tenant.id, "role": "viewer"})
    page = answer.content.decode()
    assert answer.status_code == 422
    assert "uname-problem" in page
    assert "<script>" not in page.split("</head>")[1]
    assert User.objects.count() == 1


@pytest.mark.parametrize("more", [{"tenant": "tnone", "role": "viewer"}, {"role": "emperor"}, {}])
def test_a_user_is_made_with_the_membership_or_not_at_all(admin: User, tenant: Tenant, more: dict[str, str]) -> None:
    answer = signed_in(admin).post("/admin/users/", {"username": "new", "tenant": tenant.id, **more})
    assert answer.status_code == 422
    assert not User.objects.filter(username="new").exists()
    assert not AuditEvent.objects.filter(target="new").exists()


def test_a_new_user_can_sign_in_with_the_password_that_is_shown_once(admin: User, tenant: Tenant) -> None:
    client = signed_in(admin)
    answer = client.post("/admin/users/", {"username": "new", "tenant": tenant.id, "role": "viewer"})
    password = answer.context["made"]["password"]
    assert answer.headers["Cache-Control"] == "no-store"
    assert password in answer.content.decode()
    assert password not in client.get("/admin/users/").content.decode()
    assert Client().login(username="new", password=password)
    assert selectors.role_in(User.objects.get(username="new"), tenant) is Role.VIEWER


def deed(admin: Client, user: User, verb: str) -> int:
    return admin.post(reverse("accounts:user-deed", args=[user.pk, verb])).status_code


def test_a_reset_password_ends_every_session_of_the_user(admin: User, member: User) -> None:
    theirs = signed_in(member)
    assert theirs.get("/containers/").status_code == 200
    answer = signed_in(admin).post(reverse("accounts:user-deed", args=[member.pk, "password"]))
    assert theirs.get("/containers/").status_code == 302
    assert not Client().login(username=member.username, password=member.username)
    assert Client().login(username=member.username, password=answer.context["made"]["password"])


def test_a_deactivated_user_is_out_at_once_and_comes_back_as_before(admin: User, member: User, tenant: Tenant) -> None:
    theirs, ours = signed_in(member), signed_in(admin)
    assert deed(ours, member, "deactivate") == 302
    assert theirs.get("/containers/").status_code == 302
    assert not Client().login(username=member.username, password=member.username)
    assert deed(ours, member, "activate") == 302
    assert Client().login(username=member.username, password=member.username)
    assert selectors.role_in(User.objects.get(pk=member.pk), tenant) is Role.MEMBER


def test_an_admin_is_made_and_unmade_by_another_and_never_by_oneself(admin: User, member: User) -> None:
    ours = signed_in(admin)
    for verb in ("deactivate", "revoke"):
        assert deed(ours, admin, verb) == 422
    assert deed(ours, member, "grant") == 302
    theirs = signed_in(member)
    assert theirs.get("/admin/users/").status_code == 200
    assert deed(ours, member, "revoke") == 302
    assert theirs.get("/admin/users/").status_code == 404
    assert deed(ours, member, "crown") == 404
    admin.refresh_from_db()
    assert admin.is_superuser
    assert admin.is_active


@pytest.mark.django_db(transaction=True)
def test_two_admins_who_deactivate_each_other_at_once_leave_one(admin: User, member: User) -> None:
    services.set_admin(actor=admin, user=member, admin=True)
    both = threading.Barrier(2)

    def deactivate(actor: User, other: User) -> None:
        both.wait(10)
        try:
            services.set_active(actor=actor, user=other, active=False)
        except Missing:
            return
        finally:
            connection.close()

    threads = [threading.Thread(target=deactivate, args=pair) for pair in ((admin, member), (member, admin))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert User.objects.filter(is_superuser=True, is_active=True).count() == 1


# ------------------------------------------------------------------------------------------------ tenants


@pytest.mark.parametrize(("name", "slug"), [("Löwe & Co", "lowe-co"), ("x" * 80, "x" * 36), ("acme!", "acme-2")])
def test_a_tenant_has_a_name_for_files(admin: User, tenant: Tenant, name: str, slug: str) -> None:
    assert services.create_tenant(actor=admin, name=name).slug == slug


def test_a_tenant_may_have_a_chinese_name(admin: User) -> None:
    answer = signed_in(admin).post("/admin/tenants/", {"name": "研发部"})
    assert answer.status_code == 302
    made = Tenant.objects.get(name="研发部")
    assert made.slug == made.id
    assert services.create_tenant(actor=admin, name="测试部").slug != made.slug


@pytest.mark.parametrize("name", ["", "y" * 81, "ACME"])
def test_a_tenants_name_that_cannot_be_is_said_on_its_field_and_comes_back(
    admin: User, tenant: Tenant, name: str
) -> None:
    answer = signed_in(admin).post("/admin/tenants/", {"name": name})
    assert answer.status_code == 422
    assert "tname-problem" in answer.content.decode()
    assert f'value="{name}"' in answer.content.decode()
    assert Tenant.objects.count() == 1


QUOTA = {
    "containers": "3", "memory_gib": "1.5", "cpu": "2.5", "published_ports": "4", "volumes": "5", "networks": "6",
    "disk_gib": "", "volume_gib": "0.5",
}  # fmt: skip


MAY_BE_EMPTY = ("disk_gib", "volume_gib")


@pytest.mark.parametrize(
    ("field", "typed"),
    [
        *((field, typed) for field in QUOTA for typed in ("many", "-1", "nan", "1e999", "9" * 5000)),
        *((field, "") for field in QUOTA if field not in MAY_BE_EMPTY),
        ("containers", "1.5"),
        ("containers", str(2**31)),
        ("published_ports", "65536"),
        ("memory_gib", str(2**33)),
        ("cpu", "1e15"),
    ],
)
def test_a_quota_that_cannot_be_is_said_on_its_field_and_changes_nothing(
    admin: User, tenant: Tenant, field: str, typed: str
) -> None:
    before = Quota.objects.values().get(tenant=tenant)
    answer = signed_in(admin).post(f"/admin/tenants/{tenant.id}/quota/", {**QUOTA, field: typed})
    assert answer.status_code == 422
    assert list(answer.context["errors"]) == [field]
    assert f"problem-{tenant.id}" in answer.content.decode()
    assert Quota.objects.values().get(tenant=tenant) == before


def test_a_quota_that_is_sent_back_as_it_is_shown_stays_as_it_is(admin: User, tenant: Tenant) -> None:
    Quota.objects.filter(tenant=tenant).update(memory_bytes=3 * 2**40 + 1, cpu_millis=1_234_567)
    before = Quota.objects.values().get(tenant=tenant)
    page = signed_in(admin).get("/admin/tenants/").content.decode()
    shown = dict(re.findall(r'<input[^>]* name="(\w+)"\s+value="([^"]*)" inputmode="decimal"', page))
    assert shown.keys() == set(QUOTA)
    assert signed_in(admin).post(f"/admin/tenants/{tenant.id}/quota/", shown).status_code == 302
    assert Quota.objects.values().get(tenant=tenant) == before


def test_a_refusal_without_a_field_is_a_page_that_says_why(member: User) -> None:
    answer = signed_in(member).post("/theme/", {"theme": "mauve"})
    assert answer.status_code == 422
    assert "That theme is not offered." in answer.content.decode()


def test_the_audit_log_names_what_a_person_knows(tenant: Tenant, owner: User) -> None:
    services.audit("registry.add", actor=owner, tenant=tenant, target="r0123", host="registry.example.org")
    services.audit("export.add", actor=owner, tenant=tenant, target="x0123", location="s3://bucket/usage")
    client = Client()
    client.force_login(owner)
    page = client.get("/audit/").content.decode()
    for known, id in (("registry.example.org", "r0123"), ("s3://bucket/usage", "x0123")):
        assert known in page
        assert id not in page


def test_who_is_in_no_tenant_is_offered_no_pages_of_one() -> None:
    """They would all be said not to exist."""
    client = Client()
    client.force_login(User.objects.create_user(username="nobodys"))
    page = client.get("/").content.decode()
    assert "You are in no tenant yet" in page
    assert 'href="/settings/"' in page
    for path in ("/containers/", "/volumes/", "/networks/", "/catalog/", "/operations/", "/usage/", "/members/"):
        assert f'href="{path}"' not in page
