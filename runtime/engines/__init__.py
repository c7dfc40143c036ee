"""Implementations of :class:`runtime.api.Engine`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from runtime.errors import InvalidSpec

if TYPE_CHECKING:
    from runtime.api import Engine
    from runtime.home import Home


def open_engine(name: str, home: Home) -> Engine:
    """``native`` or ``fake``.  Raises InvalidSpec."""
    if name == "native":
        from runtime.engines.native.engine import NativeEngine

        return NativeEngine(home)
    if name == "fake":
        from runtime.engines.fake.engine import FakeEngine

        return FakeEngine(home)
    raise InvalidSpec(f"There is no engine {name!r}.", hint="Use native or fake.", field="SLIPWAY_ENGINE")
