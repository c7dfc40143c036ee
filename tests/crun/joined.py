"""A pytest plugin: containers' user namespaces are made by the engine and joined by the runtime.

The engine makes none where root has no CAP_SYS_RESOURCE, since runc then cannot set its containers' limits; crun sets them before.
"""

from __future__ import annotations

import pytest

from runtime.kernel import idmap


def pytest_configure() -> None:
    patch = pytest.MonkeyPatch()
    patch.setattr(idmap, "owned_apart", lambda: True)
