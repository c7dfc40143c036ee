"""Loggers that cost nothing until something is logged: loading :mod:`logging` takes 6 ms, and most processes of one verb log nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, cast

if TYPE_CHECKING:
    from logging import Logger


def hush() -> None:
    """What these loggers are given is shown nowhere from now on, unless this process sets :mod:`logging` up; else it is on stderr."""
    _Later.hushed = True


def of(module: str) -> Logger:
    """As ``logging.getLogger(module)``."""
    return cast("Logger", _Later(module))


class _Later:
    __slots__ = ("_module",)
    hushed: ClassVar[bool] = False

    def __init__(self, module: str) -> None:
        self._module = module

    def __getattr__(self, name: str) -> Any:
        import logging

        if self.hushed and not logging.root.handlers:
            logging.root.addHandler(logging.NullHandler())
        return getattr(logging.getLogger(self._module), name)
