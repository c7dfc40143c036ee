"""The one way in which the launcher says no."""

from __future__ import annotations


class Refusal(Exception):
    """Nothing was changed, or it stopped half way and says where.  ``message`` what happened, ``fix`` what to do."""

    def __init__(self, message: str, fix: str = "", *, exit_code: int = 1) -> None:
        super().__init__(message)
        self.message = message
        self.fix = fix
        self.exit_code = exit_code

    def __str__(self) -> str:
        gap = "" if self.message.endswith("\n") else " "
        return f"{self.message}{gap}{self.fix}".rstrip()
