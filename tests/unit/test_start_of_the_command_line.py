"""A verb of the command line does not wait for libraries that it has no use for: they take longer to load than a launch takes."""

from __future__ import annotations

import subprocess
import sys

import pytest

LOADED = "import sys, runtime.cli, runtime.engines.native.engine; print(*sys.modules)"


@pytest.mark.parametrize("library", ["httpx", "pyroute2", "asyncio", "django"])
def test_what_is_loaded_only_by_those_who_need_it(library: str) -> None:
    done = subprocess.run([sys.executable, "-c", LOADED], check=True, capture_output=True, text=True)
    loaded = set(done.stdout.split())
    assert "runtime.engines.native.lifecycle" in loaded
    assert library not in loaded
