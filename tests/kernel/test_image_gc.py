"""What collecting garbage takes and what it never takes: beside pulls, creations, pushes; by hand, and when the disk is nearly full."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from runtime.api import ContainerSpec, EventKind, Image, Limits, State
from runtime.engines.native.engine import NativeEngine
from runtime.errors import ImageUnavailable, NotFound
from runtime.image import leases, pruning
from tests import archives
from tests.conftest import patience
from tests.kernel.bad_registry import Registry, busybox, layer
from tests.kernel.images import engine, home, noise, shop
from tests.kernel.images import real_shop as store
from tests.kernel.real_registry import RealRegistry, door
from tests.kernel.test_pull import close_after_the_cut
from tests.kernel.upload_registry import shelf
from tests.marks import files_only

__all__ = ["engine", "home", "shop", "store"]
pytestmark = [pytest.mark.root, files_only]


@pytest.fixture
def full(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, float]]:
    """How full the disk says that it is; each removal of an image takes ten percent off."""
    state = {"full": 95.0}
    monkeypatch.setattr(pruning, "_full", lambda _store: state["full"])
    real = pruning._untag

    def untag(store: object, ids: list[str]) -> list[str]:
        state["full"] -= 10 * len(ids)
        return real(store, ids)  # type: ignore[arg-type]

    monkeypatch.setattr(pruning, "_untag", untag)
    return state


def aged(engine: NativeEngine, image: Image, seconds: float) -> None:
    file = engine.home.images / "used" / image.id.partition(":")[2]
    then = time.time() - seconds
    os.utime(file, (then, then))


def pulled(engine: NativeEngine, shop: Registry, name: str, *, age_s: float = 100_000) -> Image:
    image = engine.pull(shop.put(name, busybox() + layer({name: os.urandom(100)})))
    aged(engine, image, age_s)
    return image


def spec(image: Image, id: str) -> ContainerSpec:
    return ContainerSpec(id, "tenant1", id, image.id, command=("/bin/sleep", "1000"), limits=Limits(32 << 20))


def content(engine: NativeEngine) -> set[str]:
    folders = ("blobs/sha256", "layers", "ingest", "leases", "used", "origins")
    return {f"{name}/{entry.name}" for name in folders for entry in (engine.home.images / name).iterdir()}


# ------------------------------------------------------------------------------------------------ by hand


def test_a_prune_takes_what_has_no_name_and_says_what_that_frees(engine: NativeEngine, shop: Registry) -> None:
    old = engine.pull(shop.put("app", layer({"large": os.urandom(1 << 20)})))
    new = engine.pull(shop.put("app", layer({"other": b"#"})))
    pruned = engine.image_service.prune()
    assert pruned.gone == (old.id,)
    assert 2 << 20 < pruned.freed_bytes < 3 << 20, "its blob, and its layer as it was unpacked"
    assert engine.images() == (new,)
    assert engine.image_service.prune().gone == ()
    told = [event.subject for event in engine.events.read() if event.kind is EventKind.IMAGE_REMOVED]
    assert told == [old.id]


def test_a_prune_of_all_leaves_what_a_container_has(engine: NativeEngine, shop: Registry) -> None:
    kept, gone = pulled(engine, shop, "kept"), pulled(engine, shop, "gone")
    engine.create(spec(kept, "ckept"))
    assert engine.image_service.prune(named=True).gone == gone.references
    assert engine.images() == (kept,)
    engine.start("ckept")
    engine.remove("ckept", force=True)
    assert engine.image_service.prune(named=True).gone == kept.references
    assert content(engine) == set()


def test_a_prune_by_age_leaves_what_was_used_since(engine: NativeEngine, shop: Registry) -> None:
    old, young, had = (pulled(engine, shop, name) for name in ("old", "young", "had"))
    aged(engine, young, 50)
    engine.create(spec(had, "chad"))
    engine.remove("chad")
    assert engine.image_service.prune(named=True, older_than_s=1000).gone == old.references
    assert {image.id for image in engine.images()} == {young.id, had.id}
    nameless = engine.pull(shop.put("young", layer({"x": b"1"})))
    aged(engine, young, 50)
    assert engine.image_service.prune(older_than_s=1000).gone == ()
    assert young.id.partition(":")[2] in {path.name for path in (engine.home.images / "blobs/sha256").iterdir()}
    assert engine.image_service.prune(older_than_s=10).gone == (young.id,)
    assert engine.image(nameless.id).references


# ------------------------------------------------------------------------------------------------ leases


def test_gc_beside_a_pull_takes_nothing_of_it(engine: NativeEngine, store: RealRegistry) -> None:
    """A collection after another, of every kind, while four layers come: none waits for the pull, and no byte comes twice."""
    store.push("beside:latest", *(noise(seed, 1 << 20) for seed in range(30, 34)))
    collected = 0
    with door(store) as slow, ThreadPoolExecutor(1) as pool:
        slow.slow_s = 0.003
        pull = pool.submit(engine.pull, f"{slow.address}/beside")
        while not pull.done():
            engine.store.gc()
            engine.image_service.prune(named=True, older_than_s=3600)
            engine.image_service.make_room(above=0, down_to=0)
            collected += 1
            time.sleep(0.01)
        image = pull.result()
        assert slow.passed < image.size + 100_000
    assert collected > 5
    assert [row["purpose"] for row in rows(engine)] == []
    engine.create(spec(image, "cbeside"))


def rows(engine: NativeEngine) -> list[dict[str, object]]:
    return [json.loads(file.read_bytes()) for file in (engine.home.images / "leases").glob("*.json")]


def test_gc_beside_a_push_and_a_removal_takes_nothing_of_it(engine: NativeEngine, tmp_path: Path) -> None:
    image = engine.load(archives.write(tmp_path / "in.tar", layers=[noise(40, 1 << 20)]), reference="test/pushed")[0]
    with shelf() as there:
        begun, go = threading.Event(), threading.Event()

        def instead(method: str, _path: str, _headers: object) -> None:
            if method == "POST":
                begun.set()
                assert go.wait(patience(20))

        there.instead = instead
        with ThreadPoolExecutor(1) as pool:
            push = pool.submit(engine.image_service.push, image.id, f"{there.address}/app")
            assert begun.wait(patience(20))
            engine.remove_image(image.id)
            engine.image_service.prune(named=True)
            go.set()
            assert push.result().endswith(image.id)
    engine.store.gc()
    assert content(engine) == set()


def test_gc_beside_creations_never_takes_their_image(engine: NativeEngine, shop: Registry) -> None:
    """Either the container is made and its image whole, or there was no image any more."""
    reference = shop.put("app", busybox())
    outcomes = []
    for number in range(12):
        image = engine.pull(reference)
        barrier = threading.Barrier(2)

        def create(id: str, image: Image = image, barrier: threading.Barrier = barrier) -> str:
            barrier.wait()
            try:
                return engine.create(spec(image, id)).state
            except NotFound:
                return "none"

        def prune(barrier: threading.Barrier = barrier) -> None:
            barrier.wait()
            engine.image_service.prune(named=True)

        with ThreadPoolExecutor(2) as pool:
            created, pruned = pool.submit(create, f"c{number:03}"), pool.submit(prune)
            pruned.result()
            outcomes.append(created.result())
        if outcomes[-1] == State.CREATED:
            assert engine.start(f"c{number:03}").state is State.RUNNING
            engine.remove(f"c{number:03}", force=True)
    assert set(outcomes) <= {State.CREATED, "none"}


def test_what_a_killed_pull_had_is_kept_for_the_next_and_not_for_ever(
    engine: NativeEngine, store: RealRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.push("killed:latest", noise(41, 3 << 20), noise(42, 3 << 20))
    program = "import sys; from runtime.engines import open_engine; from runtime.home import Home\nopen_engine('native', Home.from_environment()).pull(sys.argv[1])"
    with door(store) as slow:
        slow.slow_s = 0.01
        process = subprocess.Popen([sys.executable, "-c", program, f"{slow.address}/killed"])
        deadline = time.monotonic() + patience(30)
        while slow.passed < 2 << 20:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.wait()
        before = content(engine)
        engine.store.gc()
        assert content(engine) == before, "kept for the next"
        monkeypatch.setattr(leases, "KEPT_S", 0.0)
        engine.reconcile()
        engine.store.gc()
        assert content(engine) == set()
        monkeypatch.undo()


def test_a_pull_that_failed_for_a_while_leaves_a_lease(engine: NativeEngine, store: RealRegistry) -> None:
    store.push("failing:latest", noise(43, 3 << 20))
    with door(store) as slamming:
        slamming.cut_after, slamming.cuts = 1_500_000, 1
        dying = threading.Thread(target=close_after_the_cut, args=(slamming,))
        dying.start()
        with pytest.raises(ImageUnavailable):
            engine.pull(f"{slamming.address}/failing")
        dying.join()
        engine.store.gc()
        kept = sum(part.stat().st_size for part in (engine.home.images / "ingest").glob("*.part"))
        assert kept > 0
        slamming.cuts, slamming.passed = 0, 0
        image = engine.pull(f"{slamming.address}/failing")
        assert slamming.passed < image.size - kept + 100_000
    engine.remove_image(image.id)
    assert content(engine) == set()


def test_a_lease_of_another_start_of_the_kernel_is_nobodys(engine: NativeEngine) -> None:
    made = leases.Lease(engine.home, "test")
    made.hold(["sha256:" + "1" * 64])
    [file] = (engine.home.images / "leases").iterdir()
    [held] = engine.store.leases.held()
    assert held.alive
    file.write_bytes(json.dumps(json.loads(file.read_bytes()) | {"boot": "another"}).encode())
    [held] = engine.store.leases.held()
    assert not held.alive
    assert 0 < held.left_s <= leases.KEPT_S
    os.utime(file, (1, 1))
    assert engine.store.leases.sweep() == (f"lease:{file.stem}",)


# ------------------------------------------------------------------------------------------------ the disk


def test_a_full_disk_takes_the_least_recently_used_first(
    engine: NativeEngine, shop: Registry, full: dict[str, float]
) -> None:
    images = {
        name: pulled(engine, shop, name, age_s=age) for name, age in (("new", 1000), ("old", 3000), ("mid", 2000))
    }
    assert engine.image_service.make_room(above=96, down_to=10).gone == ()
    pruned = engine.image_service.make_room(above=90, down_to=76)
    assert pruned.gone == (*images["old"].references, *images["mid"].references)
    assert pruned.freed_bytes > 0
    assert engine.images() == (images["new"],)


def test_a_full_disk_takes_only_what_nobody_has_and_what_can_be_had_again(
    engine: NativeEngine, shop: Registry, tmp_path: Path, full: dict[str, float]
) -> None:
    had, young, plain = pulled(engine, shop, "had"), pulled(engine, shop, "young"), pulled(engine, shop, "plain")
    engine.create(spec(had, "chad"))
    aged(engine, had, 100_000)
    aged(engine, young, 60)
    loaded = engine.load(archives.write(tmp_path / "in.tar", layers=[noise(44, 100)]), reference="test/loaded")[0]
    built = engine.build("busybox")
    for image in (loaded, built):
        aged(engine, image, 200_000)
    with engine.store.held([plain.id], "test"):
        assert engine.image_service.make_room(above=50, down_to=0).gone == built.references
    gone = engine.image_service.make_room(above=50, down_to=0).gone
    assert gone[-1:] == plain.references
    assert {image.id for image in engine.images()} >= {had.id, young.id, loaded.id}
    assert engine.build("busybox").references == built.references


def test_the_real_disk_is_asked(engine: NativeEngine, shop: Registry) -> None:
    image = pulled(engine, shop, "app")
    share = pruning._full(engine.store)
    assert 0 < share < 100
    assert engine.image_service.make_room(above=100, down_to=0).gone == ()
    assert engine.image_service.make_room(above=share / 2, down_to=share / 4).gone == image.references
