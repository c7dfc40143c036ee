"""What a service refuses, and how a runtime fault reads to a person.

Views map :class:`NotAllowed` to 403, :class:`Missing` to 404, :class:`Invalid` and :class:`Full` to 422 on the named field.
"""

from __future__ import annotations

from dataclasses import dataclass

from django.utils.translation import gettext as _

from console.core.sentences import told
from runtime.errors import RuntimeFault


class Refused(Exception):
    """``message`` is a translated sentence; ``field`` is the form's field or empty."""

    def __init__(self, message: str, *, field: str = "", hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.field = field
        self.hint = hint


class NotAllowed(Refused):
    pass


class Missing(Refused):
    def __init__(self, message: str = "") -> None:
        super().__init__(message or _("There is nothing here by that name."))


class Invalid(Refused):
    """``part``: what is wrong of a field that has several inputs, as the form names it (``address:back`` of ``networks``); or empty."""

    def __init__(self, field: str, message: str, *, hint: str = "", part: str = "") -> None:
        super().__init__(message, field=field, hint=hint)
        self.part = part


class Full(Refused):
    """A quota would be exceeded; ``field`` names what there is too little of."""


@dataclass(frozen=True, slots=True)
class Sentence:
    message: str
    hint: str = ""
    field: str = ""


def person(fault: RuntimeFault) -> Sentence:
    """The fault in the reader's language."""
    return Sentence(told(fault.message) or _("Something went wrong."), told(fault.hint), fault.field)
