"""Scheduled exports: set up by owners for their tenant, by admins for any or for all; each deed is in the audit log."""

from __future__ import annotations

import datetime as dt
import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from django.conf import settings
from django.db import IntegrityError, transaction
from django.utils import timezone
from django.utils.translation import gettext as _

from console.accounts.models import Role, Tenant, User
from console.accounts.services import audit, require, require_admin
from console.core import secrets
from console.core.errors import Full, Invalid, NotAllowed
from console.metering.models import ExportDelivery, ExportSchedule
from console.metering.selectors.exports import due_since, last_ended, period_name, period_of
from console.metering.services.budgets import containers
from console.metering.webhooks import literal_is_inside

Place, Every = ExportSchedule.Place, ExportSchedule.Every
MOST = 20
"""Of one tenant."""
FOLDER = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*(/[A-Za-z0-9_-][A-Za-z0-9._-]*){0,7}")
BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
WORD = re.compile(r"[\x21-\x7e]+")
"""Printable ASCII without spaces."""


@dataclass(frozen=True, slots=True)
class Wish:
    """As a person wrote it."""

    name: str
    contents: tuple[str, ...]
    every: str
    hour: str
    place: str
    folder: str = ""
    root: str = ""
    endpoint: str = ""
    region: str = ""
    bucket: str = ""
    access_key: str = ""
    secret: str = ""
    inside: bool = False
    """Only an admin's counts."""


def may_change(tenant: Tenant | None, actor: User) -> None:
    """``tenant`` None: what is of all tenants.  Raises Missing, NotAllowed."""
    if tenant is None:
        require_admin(actor)
    else:
        require(actor, tenant, Role.OWNER)


@transaction.atomic
def add(*, tenant: Tenant | None, actor: User, wish: Wish) -> ExportSchedule:
    """Raises Missing, NotAllowed, Full, Invalid on the field that is wrong; then nothing was written."""
    may_change(tenant, actor)
    if ExportSchedule.objects.filter(tenant=tenant).count() >= MOST:
        raise Full(_("There are %(most)d exports already: remove one first.") % {"most": MOST}, field="name")
    made = ExportSchedule(tenant=tenant, name=_name(wish.name), contents=_contents(wish.contents))
    made.every, made.hour = _one_of("every", wish.every, Every.values), _hour(wish.hour)
    made.place, made.folder = _one_of("place", wish.place, Place.values), _folder(wish.folder)
    made.created_at = timezone.now()
    if made.place == Place.FOLDER:
        _set_folder(made, wish)
    else:
        _set_store(made, wish, actor)
    try:
        with transaction.atomic():
            made.save(force_insert=True)
    except IntegrityError:
        raise Invalid("folder", _("Another export goes to this place already: name a folder of its own.")) from None
    audit("export.add", actor=actor, tenant=tenant, target=made.pk, name=made.name, location=made.location)
    return made


@transaction.atomic
def remove(*, schedule: ExportSchedule, actor: User) -> None:
    """What it has delivered stays where it is.  Raises Missing, NotAllowed."""
    may_change(schedule.tenant, actor)
    audit(
        "export.remove", actor=actor, tenant=schedule.tenant, target=schedule.pk, name=schedule.name,
        location=schedule.location,
    )  # fmt: skip
    schedule.delete()


@transaction.atomic
def set_paused(*, schedule: ExportSchedule, actor: User, paused: bool) -> None:
    """What has become due meanwhile is made up for afterwards.  Raises Missing, NotAllowed."""
    may_change(schedule.tenant, actor)
    ExportSchedule.objects.filter(pk=schedule.pk).update(paused=paused)
    verb = "export.pause" if paused else "export.resume"
    audit(verb, actor=actor, tenant=schedule.tenant, target=schedule.pk, name=schedule.name)


@transaction.atomic
def change_credentials(*, schedule: ExportSchedule, actor: User, access_key: str, secret: str) -> None:
    """Raises Missing, NotAllowed, Invalid."""
    may_change(schedule.tenant, actor)
    if schedule.place != Place.S3:
        raise NotAllowed(_("A folder needs no credentials."))
    _set_credentials(schedule, access_key, secret)
    schedule.save(update_fields=["access_key", "secret_encrypted"])
    audit("export.credentials", actor=actor, tenant=schedule.tenant, target=schedule.pk, name=schedule.name)


@transaction.atomic
def run_now(
    *, schedule: ExportSchedule, actor: User, period: str = "", now: dt.datetime | None = None
) -> ExportDelivery:
    """The last period that has ended, or the one named (``2026-11-24``, ``2026-11``), as soon as can be; delivered already: anew.

    Raises Missing, NotAllowed, Invalid.
    """
    may_change(schedule.tenant, actor)
    if schedule.paused:
        raise NotAllowed(_("This export is paused: resume it first."))
    now = now or timezone.now()
    start, end = _named(schedule.every, period.strip(), now) if period.strip() else last_ended(schedule.every, now)
    plan(schedule, now)
    fresh = {"state": ExportDelivery.State.WAITING, "attempts": 0, "due_at": now, "error": ""}
    found, _new = ExportDelivery.objects.update_or_create(
        schedule=schedule, starts_at=start, defaults=fresh, create_defaults={**fresh, "ends_at": end}
    )
    audit(
        "export.run", actor=actor, tenant=schedule.tenant, target=schedule.pk, name=schedule.name,
        period=period_name(schedule, start),
    )  # fmt: skip
    return found


def plan(schedule: ExportSchedule, now: dt.datetime) -> int:
    """A delivery for each period that has become due, before any later one is asked for; returns how many are new."""
    made = 0
    for start, end in due_since(schedule, now):
        _delivery, new = ExportDelivery.objects.get_or_create(
            schedule=schedule, starts_at=start, defaults={"ends_at": end, "due_at": now}
        )
        made += new
    return made


def _named(every: str, text: str, now: dt.datetime) -> tuple[dt.datetime, dt.datetime]:
    form, example = ("%Y-%m", "2026-11") if every == Every.MONTH else ("%Y-%m-%d", "2026-11-24")
    try:
        start, end = period_of(every, dt.datetime.strptime(text, form).replace(tzinfo=dt.UTC))
    except (ValueError, OverflowError):
        raise Invalid("period", _("Write it as %(example)s, or leave it empty.") % {"example": example}) from None
    if end > now:
        raise Invalid("period", _("This period has not ended yet."))
    return start, end


# ------------------------------------------------------------------------------------------------ fields


def _name(text: str) -> str:
    name = text.strip()
    if not name or len(name) > 80 or not name.isprintable():
        raise Invalid("name", _("Give it a name of up to 80 characters."))
    return name


def _contents(chosen: tuple[str, ...]) -> list[str]:
    known = ExportSchedule.Content.values
    if not chosen or not set(chosen) <= set(known):
        raise Invalid("contents", _("Choose what is exported: at least one."))
    return [one for one in known if one in chosen]


def _one_of(field: str, value: str, values: list[str]) -> str:
    if value not in values:
        raise Invalid(field, _("Choose one of these."))
    return value


def _hour(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 2 and int(text) < 24):
        raise Invalid("hour", _("Choose an hour from 0 to 23, UTC."))
    return int(text)


def _folder(text: str) -> str:
    folder = text.strip().strip("/")
    if folder and (len(folder) > 200 or not FOLDER.fullmatch(folder)):
        raise Invalid(
            "folder", _("Write up to eight names of letters, digits, dots, dashes and underscores, joined by /.")
        )
    return folder


def _set_folder(made: ExportSchedule, wish: Wish) -> None:
    if wish.root not in settings.EXPORT_ROOTS:
        raise Invalid("root", _("Choose a folder that the node's admin allows (SLIPWAY_EXPORT_ROOTS)."))
    made.root = wish.root
    whose = made.tenant_id or "all"
    made.location = "/".join(part for part in (made.root.rstrip("/"), whose, made.folder) if part)


def _set_store(made: ExportSchedule, wish: Wish, actor: User) -> None:
    made.inside = wish.inside and actor.is_superuser
    made.endpoint = _endpoint(wish.endpoint.strip(), inside=made.inside)
    made.region, made.bucket = _region(wish.region.strip()), wish.bucket.strip()
    if not BUCKET.fullmatch(made.bucket):
        raise Invalid("bucket", _("A bucket's name has 3 to 63 lower-case letters, digits, dots and dashes."))
    _set_credentials(made, wish.access_key, wish.secret)
    made.location = "/".join(part for part in (made.endpoint, made.bucket, made.folder) if part)


def _region(text: str) -> str:
    if not re.fullmatch(r"[a-z0-9-]{0,40}", text):
        raise Invalid("region", _("A region is like eu-central-1; many stores need none."))
    return text


def _endpoint(url: str, *, inside: bool) -> str:
    try:
        known = urlsplit(url)
        host, _port = known.hostname or "", known.port
    except ValueError:
        host = ""
    bare = host and not (known.username or known.password or known.query or known.fragment or known.path.strip("/"))
    if not bare or len(url) > 300 or not WORD.fullmatch(url) or known.scheme not in {"http", "https"}:
        raise Invalid("endpoint", _("Write the store's address such as https://s3.example.org, and nothing behind it."))
    if known.scheme != "https" and not inside:
        raise Invalid("endpoint", _("The address begins with https://, so that nobody reads along."))
    if not inside and literal_is_inside(host, containers()):
        raise Invalid("endpoint", _("This address lies on the node or inside its site: only an admin can allow it."))
    return url.rstrip("/")


def _set_credentials(made: ExportSchedule, access_key: str, secret: str) -> None:
    for field, text in (("access_key", access_key.strip()), ("secret", secret.strip())):
        if not WORD.fullmatch(text) or len(text) > 128:
            raise Invalid(field, _("Enter it as the store gave it, without spaces."))
    made.access_key, made.secret_encrypted = access_key.strip(), secrets.encrypt(secret.strip())
