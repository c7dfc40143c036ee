"""Decimals that the database keeps digit by digit: SQLite would make them floating-point numbers."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any

from django.core.exceptions import ValidationError
from django.db import models

if TYPE_CHECKING:
    _Text = models.Field[Any, Any]
else:
    _Text = models.CharField


def plain(value: Decimal) -> str:
    """Without an exponent and without trailing zeros: one value has one text."""
    text = f"{value:f}"
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return "0" if text in {"-0", ""} else text


class ExactDecimalField(_Text):
    """A Decimal in Python, its digits in the database.  Sums are made in Python."""

    if TYPE_CHECKING:
        _pyi_private_set_type: Decimal | str | int
        _pyi_private_get_type: Decimal

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs.setdefault("max_length", 96)
        super().__init__(*args, **kwargs)

    def from_db_value(self, value: str | None, *_: object) -> Decimal | None:
        return None if value is None else Decimal(value)

    def to_python(self, value: Any) -> Decimal | None:
        if value is None or isinstance(value, Decimal):
            return value
        if isinstance(value, float):
            raise ValidationError("A floating-point number is no exact decimal.")
        try:
            return Decimal(value)
        except InvalidOperation:
            raise ValidationError("This is not a decimal.") from None

    def get_prep_value(self, value: Any) -> str | None:
        found = self.to_python(value)
        return None if found is None else plain(found)
