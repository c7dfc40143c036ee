"""kill -9 between the steps of pull, load, push, save and removal: no image that has a name is ever less than whole, nothing is left."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from runtime.engines.native.engine import NativeEngine
from runtime.engines.native.failpoint import IMAGE_POINTS
from runtime.home import Home
from tests import archives
from tests.conftest import Place
from tests.kernel.real_registry import RealRegistry, real_registry
from tests.marks import files_only
from tests.traces import Traces, traces

pytestmark = [pytest.mark.root, files_only]
SOURCE = Path(__file__).parents[2]
LIFE = """
import sys
from pathlib import Path
from runtime.engines.native.engine import NativeEngine
from runtime.home import Home
engine = NativeEngine(Home.from_environment())
registry, folder = sys.argv[1], Path(sys.argv[2])
pulled = engine.pull(f"{registry}/app")
loaded = engine.load(folder / "in.tar", reference="test/loaded")[0]
engine.image_service.push(pulled.id, f"{registry}/pushed:{sys.argv[3]}")
engine.image_service.push(loaded.id, f"{registry}/loaded:{sys.argv[3]}")
with (folder / "out.tar").open("wb") as target:
    engine.image_service.save(["test/loaded", pulled.id], target)
engine.remove_image(pulled.id)
engine.load(folder / "out.tar")
engine.image_service.prune(named=True)
print("lived")
"""
STEADY = """
from runtime.api import ContainerSpec
from runtime.engines.native.engine import NativeEngine
from runtime.home import Home
engine = NativeEngine(Home.from_environment())
engine.create(ContainerSpec("csteady", "tenant1", "steady", engine.image("busybox").id, command=("sleep", "100000")))
engine.start("csteady")
"""


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealRegistry]:
    with real_registry(tmp_path_factory.mktemp("shop") / "registry") as running:
        running.push("app:latest", archives.layer({"a": os.urandom(50_000)}), archives.layer({"b": b"words " * 1000}))
        yield running


@pytest.fixture
def engine(place: Place) -> Iterator[NativeEngine]:
    made = NativeEngine(Home.from_environment())
    made.build("busybox")
    subprocess.run([sys.executable, "-c", STEADY], check=True, cwd=SOURCE)
    yield made
    made.teardown()


def life(shop: RealRegistry, folder: Path, point: str = "") -> subprocess.CompletedProcess[str]:
    """What is loaded and where it is pushed are new with each point, so that each step has something to do."""
    if not (folder / "in.tar").exists():
        archives.write(folder / "in.tar", layers=[archives.layer({"own": os.urandom(1000)})])
    environment = {**os.environ, "SLIPWAY_FAILPOINT": point}
    command = [sys.executable, "-c", LIFE, shop.address, str(folder), (point or "last").replace(".", "-")]
    return subprocess.run(command, env=environment, check=False, capture_output=True, text=True, cwd=SOURCE)


def all_whole(engine: NativeEngine) -> None:
    """Every image with a name has its layers unpacked and each blob is what its digest says."""
    for image in engine.images():
        assert all(folder.is_dir() for folder in engine.store.layer_folders(image)), image.references
        for digest in engine.store.blobs_of(image.id):
            with engine.store.blobs.path(digest).open("rb") as blob:
                assert f"sha256:{hashlib.file_digest(blob, 'sha256').hexdigest()}" == digest, image.references


def of_images(found: dict[str, list[str]]) -> list[str]:
    return [name for name in found.get("files", []) if "/images/" in name]


@pytest.mark.parametrize("point", IMAGE_POINTS)
def test_a_kill_at_any_point_leaves_whole_images_and_nothing_else(
    engine: NativeEngine, shop: RealRegistry, tmp_path: Path, point: str
) -> None:
    engine.image_service.prune(named=True)
    before: Traces = traces(engine.home)
    steady = engine.inspect("csteady")
    died = life(shop, tmp_path, point)
    assert died.returncode == -signal.SIGKILL, f"{point} was not passed: {died.stdout}{died.stderr}"
    again = NativeEngine(engine.home)
    again.reconcile()
    all_whole(again)
    assert again.inspect("csteady") == steady, "a running container was disturbed"
    kinds = traces(engine.home).new_since(before)
    kinds.pop("files", None)
    assert not kinds, kinds
    whole = life(shop, tmp_path)
    assert whole.stdout == "lived\n", whole.stderr
    all_whole(again)
    again.image_service.prune(named=True)
    left = traces(engine.home)
    assert of_images(left.new_since(before)) == []
    assert of_images(left.lost_since(before)) == []
    assert again.inspect("csteady") == steady


def test_what_a_killed_try_left_is_gone_without_a_next(
    engine: NativeEngine, shop: RealRegistry, tmp_path: Path
) -> None:
    engine.image_service.prune(named=True)
    before = traces(engine.home)
    for point in ("pull.downloaded", "unpack.written", "load.plain", "blob.copied", "gc.origins", "gc.blob"):
        assert life(shop, tmp_path, point).returncode == -signal.SIGKILL
    again = NativeEngine(engine.home)
    again.reconcile()
    again.image_service.prune(named=True)
    assert of_images(traces(engine.home).new_since(before)) == []


def test_every_point_of_images_has_a_name_of_its_own() -> None:
    print(f"{len(IMAGE_POINTS)} failpoints of images")
    assert len(set(IMAGE_POINTS)) == len(IMAGE_POINTS)
