"""A native engine's node made ready at once: what every test would make alike is made by the first and copied for the others.

That is the image of busybox and the verdict of the self-test; both have tests of their own (test_image_store, test_self_test), which
make them anew.
"""

from __future__ import annotations

import atexit
import functools
import secrets
import shutil
import subprocess
import tempfile
from pathlib import Path

from runtime.api import Engine, Image
from runtime.engines.native import choice
from runtime.engines.native.engine import NativeEngine
from runtime.home import Home


def busybox(engine: Engine) -> Image:
    """The image in the engine's store."""
    if isinstance(engine, NativeEngine) and not engine.images():
        _copy(_images(), engine.home.images)
        tested(engine.home)
    return engine.build("busybox")


def tested(home: Home) -> None:
    """The self-test's verdict, as the first of this session's homes was given it."""
    folder = home.run / choice.TRIAL
    folder.mkdir(parents=True, exist_ok=True)
    home.run.chmod(0o755)
    (folder / "passed.json").write_bytes(_verdict())


def _copy(source: Path, target: Path) -> None:
    shutil.rmtree(target)
    subprocess.run(["cp", "-a", "--reflink=auto", source, target], check=True)


@functools.cache
def _home() -> Home:
    root = Path(tempfile.mkdtemp(prefix="slipway-prepared-"))
    root.chmod(0o755)
    home = Home(root, f"t{secrets.token_hex(4)}", uid_base=0x50000000)
    atexit.register(shutil.rmtree, root)
    atexit.register(shutil.rmtree, home.run)
    return home


@functools.cache
def _images() -> Path:
    engine = NativeEngine(_home())
    engine.build("busybox")
    return engine.home.images


@functools.cache
def _verdict() -> bytes:
    home = _home()
    choice.choose(home)
    return (home.run / choice.TRIAL / "passed.json").read_bytes()
