"""Words of the templates: icons, sizes, times, states."""

from __future__ import annotations

import datetime as dt
import shlex
from collections.abc import Sequence
from typing import Any

from django import template
from django.templatetags.static import static
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

from console.core.sentences import told

register = template.Library()

UNITS = ("B", "KiB", "MiB", "GiB", "TiB")
COLOURS = {
    "running": "green", "pending": "azure", "exited": "secondary", "failed": "red", "removed": "secondary",
    "queued": "azure", "succeeded": "green", "ready": "green", "lost": "red", "removing": "azure", "making": "azure",
}  # fmt: skip


def _plain(number: float) -> str:
    """With all of its digits, so that a form that is sent back unchanged changes nothing."""
    return f"{number:.30f}".rstrip("0").rstrip(".") if number % 1 else f"{number:.0f}"


@register.simple_tag
def icon(name: str, css: str = "") -> SafeString:
    """From our own sprite; decorative, so hidden from readers of the page."""
    return format_html(
        '<svg class="icon {}" aria-hidden="true"><use href="{}#{}"></use></svg>', css, static("img/icons.svg"), name
    )


@register.filter
def size(value: float | None) -> str:
    """Bytes in IEC units with three digits."""
    if value is None:
        return "–"
    amount = float(value)
    for unit in UNITS:
        if abs(amount) < 1024 or unit == UNITS[-1]:
            return f"{amount:.0f} {unit}" if unit == "B" or amount >= 100 else f"{amount:.3g} {unit}"
        amount /= 1024
    return ""


@register.filter
def vcpu(millis: int | None) -> str:
    return "–" if millis is None else _plain(millis / 1000)


@register.filter
def moment(value: dt.datetime | None) -> SafeString | str:
    """A time that the page turns into the viewer's own; how long ago it was is on its face, the exact time in its title."""
    if value is None:
        return "–"
    iso = value.astimezone(dt.UTC).isoformat(timespec="seconds")
    return format_html(
        '<time datetime="{}" data-time title="{}">{}</time>', iso, iso, value.strftime("%Y-%m-%d %H:%M UTC")
    )


@register.filter
def window(value: dt.datetime | None, by: str) -> str:
    """The hour, day or month that a bill's row covers; bills are in UTC, whoever reads them."""
    if value is None:
        return "–"
    return value.astimezone(dt.UTC).strftime({"day": "%Y-%m-%d", "month": "%Y-%m"}.get(by, "%Y-%m-%d %H:00"))


@register.filter
def command(words: Sequence[str]) -> str:
    """As one would type it."""
    return shlex.join(words)


@register.filter
def badge(state: str) -> SafeString:
    """A state as a coloured word; the colour says nothing that the word does not."""
    words = {
        "running": _("Running"), "pending": _("Launching"), "exited": _("Stopped"), "failed": _("Failed"),
        "removed": _("Removed"), "queued": _("Queued"), "succeeded": _("Done"), "cancelled": _("Cancelled"),
        "paused": _("Paused"), "ready": _("Ready"), "lost": _("Lost"), "removing": _("Being removed"), "making": _("Being made"),
    }  # fmt: skip
    return format_html(
        '<span class="state state-{}">{}</span>', COLOURS.get(state, "secondary"), words.get(state, state)
    )


@register.filter
def get(mapping: Any, key: str) -> Any:
    return mapping.get(key) if mapping else None


@register.filter
def quota(share: Any) -> str:
    """``3 of 20`` in the share's own unit."""
    show = {"bytes": size, "millis": vcpu}.get(share.unit, str)
    return _("%(used)s of %(most)s") % {"used": show(share.used), "most": show(share.most)}


@register.simple_tag(takes_context=True)
def active(context: dict[str, Any], *prefixes: str) -> str:
    """``active`` when the page's path begins with one of the prefixes."""
    path = context["request"].path
    return "active" if any(path == prefix or (prefix != "/" and path.startswith(prefix)) for prefix in prefixes) else ""


@register.filter
def translated(sentence: str) -> str:
    """What the runtime said, in the reader's language."""
    return told(sentence)


@register.filter
def host_only(host: str) -> str:
    """A host name without its port."""
    return host.rsplit(":", 1)[0] if not host.endswith("]") else host


@register.filter
def secret_name(name: str) -> bool:
    """Whether a variable's name says that its value is not for every eye."""
    return any(word in name.upper() for word in ("PASSWORD", "SECRET", "TOKEN", "KEY"))


@register.filter
def gib(value: int) -> str:
    return _plain(value / 2**30)


@register.filter
def gib_or_none(value: int | None) -> str:
    """Empty where there is no ceiling."""
    return "" if value is None else gib(value)


@register.filter
def unlocalized(value: int) -> str:
    """A number as a form field takes it."""
    return str(value)
