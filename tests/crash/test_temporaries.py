"""kill -9 amid the writing of a state file, wherever the runtime writes one: the file beside it is swept."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from runtime.api import (
    Attachment,
    CommitSpec,
    ContainerSpec,
    Limits,
    NetworkSpec,
    TenantLimits,
    VolumeMount,
    VolumeSpec,
)
from runtime.engines.native.engine import NativeEngine
from tests import archives
from tests.conftest import Place
from tests.kernel.containers import fresh_engine
from tests.kernel.real_registry import real_registry
from tests.marks import files_only

pytestmark = [pytest.mark.root, files_only]


@pytest.fixture
def engine(place: Place) -> Iterator[NativeEngine]:
    with fresh_engine() as made:
        yield made


def _live(engine: NativeEngine, folder: Path) -> None:
    """One of each verb that keeps something, with what it keeps left in place."""
    with real_registry(folder / "registry") as shop:
        shop.push("app:latest", archives.layer({"a": b"a"}))
        pulled = engine.pull(f"{shop.address}/app")
    archives.write(folder / "in.tar")
    engine.load(folder / "in.tar", reference="test/loaded")
    with (folder / "out.tar").open("wb") as target:
        engine.image_service.save([pulled.id], target)
    engine.volumes.create(VolumeSpec("tenant1", "data", 16 << 20))
    engine.networks.create(NetworkSpec("tenant1", "back"))
    engine.controls.limit_tenant("tenant1", TenantLimits(memory_bytes=256 << 20))
    spec = ContainerSpec(
        "cone", "tenant1", "one", engine.image("busybox").id, command=("sleep", "100000"),
        limits=Limits(32 << 20), volumes=(VolumeMount("data", "/data"),), networks=(Attachment("default"), Attachment("back")),
    )  # fmt: skip
    engine.create(spec)
    engine.start("cone")
    engine.files.copy_in("cone", "/", io.BytesIO(archives.entries(archives.file("new", b"#"))))
    engine.files.commit("cone", CommitSpec("test/committed"))
    engine.controls.update("cone", Limits(48 << 20))
    engine.controls.rename("cone", "two")
    engine.stop("cone", grace_s=0)
    engine.start("cone")


def _gone() -> int:
    """A process that is no more."""
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    return pid


def test_what_a_kill_amid_a_write_leaves_is_swept(
    engine: NativeEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of every file that a life of all verbs replaced by one beside it."""
    written: set[Path] = set()
    real = os.replace

    def replace(source: str | Path, target: str | Path, **of: int) -> None:
        if f".{os.getpid()}." in Path(source).name:
            written.add(Path(target))
        real(source, target, **of)

    monkeypatch.setattr(os, "replace", replace)
    _live(engine, tmp_path)
    folders = {file.parent.name for file in written if file.parent.is_dir()}
    assert {"cone", "data", "endpoints", "bridges", "ceilings", "final", "sha256", "origins", "leases"} <= folders
    pid = _gone()
    planted = [file.with_name(f".{file.name}.{pid}.1") for file in written if file.parent.is_dir()]
    for file in planted:
        file.touch()
    NativeEngine(engine.home).reconcile()
    assert sorted(str(file.relative_to("/")) for file in planted if file.exists()) == []
