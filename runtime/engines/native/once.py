"""What is made when it is asked for first, by one thread alone: :func:`functools.cached_property` has no lock since Python 3.12."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class once(Generic[T]):  # noqa: N801 -- a decorator, as property is
    def __init__(self, make: Callable[[Any], T]) -> None:
        self._make = make
        self._name = make.__name__
        self._lock = threading.RLock()
        self.__doc__ = make.__doc__

    def __get__(self, owner: Any, _kind: type | None = None) -> T:
        with self._lock:
            if self._name not in owner.__dict__:
                owner.__dict__[self._name] = self._make(owner)  # found there from now on, and this is not asked again
            made: T = owner.__dict__[self._name]
            return made
