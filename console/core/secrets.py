"""Encryption of what must be given back in clear: passwords of registries."""

from __future__ import annotations

from cryptography.fernet import Fernet, InvalidToken
from django.conf import settings
from django.utils.translation import gettext as _

from console.core.errors import Refused


def encrypt(text: str) -> bytes:
    return _fernet().encrypt(text.encode())


def decrypt(data: bytes) -> str:
    try:
        return _fernet().decrypt(bytes(data)).decode()
    except InvalidToken as error:
        raise Refused(
            _("The stored password cannot be read: the key it was stored with is gone."),
            hint=_("Enter the password again."),
        ) from error


def _fernet() -> Fernet:
    if not settings.FERNET_KEY:
        raise Refused(
            _("Passwords cannot be stored yet: the encryption key is missing."), hint=_("Run `./slipway up`.")
        )
    return Fernet(settings.FERNET_KEY)
