"""The contract of runtime.api.ImageService, held against every engine."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from runtime import keeper
from runtime.api import ArchiveForm, Engine, EventKind, Pruned, Step
from runtime.errors import Cancelled, InvalidSpec, NotFound
from tests import archives
from tests.conformance.test_engine import Make, engine, make
from tests.kernel.upload_registry import Shelf, shelf
from tests.marks import files_only

__all__ = ["engine", "make"]

pytestmark = files_only


@pytest.fixture
def shop() -> Iterator[Shelf]:
    with shelf() as running:
        yield running


def test_a_push_tells_its_progress_its_digest_and_its_event(engine: Engine, shop: Shelf) -> None:
    image = engine.image("busybox")
    steps: list[Step] = []
    pushed = engine.image_service.push("busybox", f"{shop.address}/app:v1", progress=steps.append)
    assert pushed == f"{shop.address}/app@{image.id}"
    done = [step.done for step in steps if step.stage == "upload"]
    assert done == sorted(done)
    assert done[-1] == steps[-1].total
    told = [event for event in engine.events.read() if event.kind is EventKind.PUSHED]
    assert [(event.subject, event.name) for event in told] == [(image.id, f"{shop.address}/app:v1")]
    assert engine.image_service.push(image.id, f"{shop.address}/app:v1") == pushed


@pytest.mark.parametrize("reference", ["slipway.local/mine", "NOT A NAME", None])
def test_a_push_needs_a_registrys_name(engine: Engine, reference: str | None) -> None:
    for image in ("busybox", engine.image("busybox").id):
        if reference is None and image == "busybox":
            continue
        with pytest.raises(InvalidSpec) as caught:
            engine.image_service.push(image, reference)
        assert caught.value.field in {"reference", "image"}


def test_what_is_not_here_is_not_pushed(engine: Engine, shop: Shelf) -> None:
    with pytest.raises(NotFound):
        engine.image_service.push("nothing", f"{shop.address}/app")


def test_a_push_can_be_cancelled(engine: Engine, shop: Shelf) -> None:
    def cancel(step: Step) -> None:
        if step.stage == "upload":
            raise Cancelled("Enough.")

    with pytest.raises(Cancelled):
        engine.image_service.push("busybox", f"{shop.address}/app", progress=cancel)
    assert shop.manifests == {}


@pytest.mark.parametrize("form", ["oci", "docker"])
def test_what_is_saved_is_loaded_again(engine: Engine, tmp_path: Path, form: ArchiveForm) -> None:
    archive = tmp_path / "image.tar"
    image = engine.load(archives.write(tmp_path / "in.tar"), reference="test/saved:1")[0]
    steps: list[Step] = []
    with archive.open("wb") as target:
        engine.image_service.save(["test/saved:1"], target, form=form, progress=steps.append)
    assert {step.stage for step in steps} == {"save"}
    engine.remove_image("test/saved:1")
    [again] = engine.load(archive)
    assert again.references == image.references
    if form == "oci":
        assert again.id == image.id


def test_a_save_names_what_is_here_and_a_form(engine: Engine) -> None:
    for images, form, kind in (
        ([], "oci", InvalidSpec), (["busybox"], "zip", InvalidSpec), (["busybox", "nothing"], "oci", NotFound),
    ):  # fmt: skip
        target = io.BytesIO()
        with pytest.raises(kind):
            engine.image_service.save(images, target, form=form)  # type: ignore[arg-type]
        assert target.getvalue() == b""


def test_history_tells_each_layer_newest_first(engine: Engine) -> None:
    image = engine.image("busybox")
    told = [one.diff_id for one in engine.image_service.history("busybox") if one.diff_id]
    assert told == [layer.diff_id for layer in reversed(image.layers)]
    with pytest.raises(NotFound):
        engine.image_service.history("nothing")


def test_a_prune_leaves_names_and_what_containers_have(engine: Engine, make: Make, tmp_path: Path) -> None:
    engine.load(archives.write(tmp_path / "in.tar"), reference="test/unused")
    spec = make()
    engine.create(spec)
    assert engine.image_service.prune().gone == ()
    assert engine.image_service.prune(named=True, older_than_s=3600).gone == ()
    pruned = engine.image_service.prune(named=True)
    assert "docker.io/test/unused:latest" in pruned.gone
    assert pruned.freed_bytes > 0
    assert engine.image(spec.image).id == spec.image


@pytest.mark.parametrize(("above", "down_to"), [(50, 60), (101, 50), (50, -1)])
def test_marks_that_are_none_are_refused(engine: Engine, above: float, down_to: float) -> None:
    with pytest.raises(InvalidSpec) as caught:
        engine.image_service.make_room(above=above, down_to=down_to)
    assert caught.value.field == "down_to"


def test_the_keeper_makes_room(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[float, float]] = []
    looked = threading.Event()

    def make_room(*, above: float, down_to: float) -> Pruned:
        asked.append((above, down_to))
        looked.set()
        return Pruned((), 0)

    monkeypatch.setattr(engine.image_service, "make_room", make_room)
    monkeypatch.setattr(keeper, "ROOM_EVERY_S", 0.01)
    kept = keeper.Keeper(engine, image_marks=(70, 60))
    thread = threading.Thread(target=kept.run)
    thread.start()
    assert looked.wait(10)
    kept.stop()
    thread.join(10)
    assert not thread.is_alive()
    assert set(asked) == {(70, 60)}
