"""An enemy's container among others: its neighbour of the same tenant, a stranger of another, and the node around them."""

from __future__ import annotations

import io
import os
import secrets
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from runtime.api import ContainerSpec, State
from runtime.engines.native.engine import NativeEngine
from tests import archives
from tests.blocks import free_block
from tests.conftest import Place, patience
from tests.kernel import containers

MIB = 2**20
SOURCES = Path(__file__).with_name("hostile")


@pytest.fixture(scope="session")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with each of :data:`SOURCES`: brought along, or compiled here."""
    brought = os.environ.get("SLIPWAY_TEST_ATTACKS")
    if brought:
        return Path(brought)
    if not shutil.which("gcc"):
        pytest.skip("there is no gcc: the attacks that need a program of their own cannot be made")
    return compiled(tmp_path_factory.mktemp("attacks"))


def compiled(folder: Path) -> Path:
    """To need nothing of an image."""
    for source in SOURCES.glob("*.c"):
        command = ["gcc", "-O1", "-Wall", "-Werror", "-static", "-o", str(folder / source.stem), str(source)]
        subprocess.run(command, check=True, timeout=patience(60))
    return folder


class Scene:
    def __init__(self, engine: NativeEngine, programs: Path | None = None) -> None:
        self.engine = engine
        self._programs = programs

    def spec(self, **changes: object) -> ContainerSpec:
        return containers.spec(self.engine, **changes)

    def run(self, **changes: object) -> str:
        """The id of a new container that runs."""
        return containers.run(self.engine, self.spec(**changes))

    def arm(self, id: str, *names: str) -> None:
        """Bring compiled attacks into the container's ``/bin``."""
        assert self._programs
        rows = [archives.file(name, (self._programs / name).read_bytes(), mode=0o755) for name in names]
        self.engine.files.copy_in(id, "/bin", io.BytesIO(archives.entries(*rows)))

    def inside(self, id: str, script: str) -> str:
        return containers.inside(self.engine, id, script)

    def ended(self, id: str, seconds: float = 20) -> list[str]:
        """Lines of the log of a container that comes to its end."""
        deadline = time.monotonic() + patience(seconds)
        while self.engine.settle(id).state is State.RUNNING:
            assert time.monotonic() < deadline, "it goes on"
            time.sleep(0.02)
        return [line.text for line in self.engine.logs(id)]

    def said(self, id: str, word: str, seconds: float = 20) -> None:
        """Wait until its log has the line."""
        deadline = time.monotonic() + patience(seconds)
        while word not in [line.text for line in self.engine.logs(id)]:
            assert time.monotonic() < deadline, f"it does not say {word!r}"
            time.sleep(0.05)

    def alive(self, *ids: str) -> bool:
        """Whether these answer as if nothing were the matter."""
        return all(self.inside(id, "echo alive") == "alive" for id in ids)


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NativeEngine]:
    """One for all tests of a file; what they leave is looked for at its end."""
    folder = tmp_path_factory.mktemp("hostile")
    folder.chmod(0o755)
    with free_block() as block, pytest.MonkeyPatch.context() as patch:
        chosen = Place(
            f"t{secrets.token_hex(4)}", folder / "home", block, 0x50000000 + secrets.randbelow(0x1000) * 65536
        )
        for name, value in chosen.environment().items():
            patch.setenv(name, value)
        with containers.fresh_engine() as made:
            yield made


@pytest.fixture
def scene(engine: NativeEngine) -> Iterator[Scene]:
    """For what needs nothing but a shell."""
    yield from _cleared(Scene(engine))


@pytest.fixture
def armed(engine: NativeEngine, programs: Path) -> Iterator[Scene]:
    """For attacks with programs of their own."""
    yield from _cleared(Scene(engine, programs))


def _cleared(made: Scene) -> Iterator[Scene]:
    before = {status.id for status in made.engine.list()}
    yield made
    for status in made.engine.list():
        if status.id not in before:
            made.engine.remove(status.id, force=True)
