"""An image that a container is made of stays, whatever becomes of its name."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from runtime.api import ContainerSpec, ExecSpec, Image, Limits, State
from runtime.engines.native.engine import NativeEngine
from runtime.errors import Conflict, NotFound
from tests.kernel.bad_registry import Registry, busybox, layer
from tests.kernel.images import engine, home, shop
from tests.marks import records_only

__all__ = ["engine", "home", "shop"]
pytestmark = [pytest.mark.root, records_only]


def spec(image: Image, id: str) -> ContainerSpec:
    return ContainerSpec(id, "tenant1", id, image.id, command=("/bin/sleep", "1000"), limits=Limits(32 << 20))


def test_a_tag_that_moved_on_takes_no_image_from_its_containers(engine: NativeEngine, shop: Registry) -> None:
    old = engine.pull(shop.put("app", busybox()), insecure=True)
    for id in ("crunning", "cstopped"):
        engine.create(spec(old, id))
    engine.start("crunning")
    new = engine.pull(shop.put("app", layer({"bin/other": b"#"})), insecure=True)
    assert new.id != old.id
    engine.remove_image(new.id)  # and what nobody uses goes with it
    session = engine.exec("crunning", ExecSpec(("/bin/busybox", "echo", "still here")))
    assert session.stdout.read() == b"still here\n"
    session.close()
    assert engine.isolation("crunning").layers
    assert engine.start("cstopped").state is State.RUNNING
    with pytest.raises(Conflict):
        engine.remove_image(old.id)
    for id in ("crunning", "cstopped"):
        engine.remove(id, force=True)
    with pytest.raises(NotFound):
        engine.image(old.id)
    engine.store.gc()
    assert not list((engine.home.images / "layers").iterdir())


def test_removing_an_image_beside_removals_of_its_containers(engine: NativeEngine, shop: Registry) -> None:
    image = engine.pull(shop.put("app", busybox()), insecure=True)
    engine.create(spec(image, "cstays"))
    for number in range(30):
        engine.create(spec(image, f"c{number:03}"))

    def refused() -> None:
        with pytest.raises(Conflict):
            engine.remove_image(image.id)

    with ThreadPoolExecutor(4) as pool:
        removals = [pool.submit(engine.remove, f"c{number:03}") for number in range(30)]
        tries = [pool.submit(refused) for _ in range(60)]
        for done in (*removals, *tries):
            done.result()
    engine.start("cstays")
    assert engine.create(replace(spec(image, "clate"), name="late")).state is State.CREATED
