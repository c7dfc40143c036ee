"""The contract of runtime.api.ImageService, held against every engine."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import pytest

from runtime.api import ArchiveForm, Engine, EventKind, Step
from runtime.errors import Cancelled, InvalidSpec, NotFound
from tests import archives
from tests.conformance.test_engine import engine, make
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
