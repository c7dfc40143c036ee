"""Pushing to Debian's docker-registry: what arrives is what was here, what is there is not sent, what breaks goes on."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from runtime.api import Credentials, Engine, EventKind, Step
from runtime.errors import Cancelled, ImageDenied, ImageUnavailable, ImageUnsuitable, InvalidSpec, NotFound
from runtime.home import Home
from runtime.image import upload
from tests import archives
from tests.conftest import patience
from tests.kernel.images import engine, home, noise
from tests.kernel.images import real_shop as shop
from tests.kernel.real_registry import LOGIN, RealRegistry, door, real_registry
from tests.marks import files_only
from tests.traces import traces

__all__ = ["engine", "home", "shop"]
pytestmark = [pytest.mark.root, files_only]
MANIFEST = "application/vnd.oci.image.manifest.v1+json"


def loaded(engine: Engine, folder: Path, *layers: bytes) -> str:
    """The id of an image of these layers, plain tars."""
    archive = archives.write(folder / "image.tar", layers=layers)
    return engine.load(archive, reference="test/loaded")[0].id


def content(shop: RealRegistry, name: str, reference: str) -> bytes:
    return httpx.get(f"http://{shop.address}/v2/{name}/manifests/{reference}", headers={"Accept": MANIFEST}).content


def test_what_is_pushed_is_what_another_pulls(engine: Engine, shop: RealRegistry, tmp_path: Path) -> None:
    """Layers as they were made here (plain tar), and as a registry once compressed them."""
    made = loaded(engine, tmp_path, noise(1, 100_000), archives.layer({"a": b"words"}))
    shop.push("zipped:latest", archives.layer({"b": b"words " * 1000}))
    pulled = engine.pull(f"{shop.address}/zipped").id
    for image, name in ((made, "made:one"), (pulled, "zipped-again:one")):
        pushed = engine.image_service.push(image, f"{shop.address}/{name}")
        assert pushed == f"{shop.address}/{name.partition(':')[0]}@{image}"
    engine.remove_image(made)
    engine.remove_image(pulled)
    for image, name in ((made, "made:one"), (pulled, "zipped-again:one")):
        assert engine.pull(f"{shop.address}/{name}").id == image
    told = [event.name for event in engine.events.read() if event.kind is EventKind.PUSHED]
    assert told == [f"{shop.address}/made:one", f"{shop.address}/zipped-again:one"]


def test_skopeo_reads_what_was_pushed(engine: Engine, shop: RealRegistry, tmp_path: Path) -> None:
    loaded(engine, tmp_path, noise(2, 100_000))
    engine.image_service.push("test/loaded", f"{shop.address}/skopeo")
    source = f"docker://{shop.address}/skopeo:latest"
    command = [
        "skopeo",
        "copy",
        "--quiet",
        "--insecure-policy",
        "--src-tls-verify=false",
        source,
        f"dir:{tmp_path}/out",
    ]
    subprocess.run(command, check=True, timeout=patience(60))


def test_what_the_registry_has_is_not_sent_again(engine: Engine, shop: RealRegistry, tmp_path: Path) -> None:
    base = noise(3, 2 << 20)
    first = loaded(engine, tmp_path, base)
    with door(shop) as counting:
        engine.image_service.push(first, f"{counting.address}/base")
        assert counting.sent > 2 << 20
        counting.sent = 0
        engine.image_service.push(first, f"{counting.address}/base:again")
        assert counting.sent < 20_000
        more = loaded(engine, tmp_path, base, archives.layer({"more": b"x"}))
        counting.sent = 0
        engine.image_service.push(more, f"{counting.address}/base:more")
        assert counting.sent < 50_000, "only the new layer, the configuration and the manifest"


def test_what_another_repository_has_is_mounted(engine: Engine, shop: RealRegistry) -> None:
    """This node knows it to be there, as it pulled the image from it."""
    shop.push("origin:latest", noise(4, 2 << 20))
    with door(shop) as counting:
        image = engine.pull(f"{counting.address}/origin").id
        counting.sent = 0
        engine.image_service.push(image, f"{counting.address}/other/name")
        assert counting.sent < 20_000
    assert content(shop, "other/name", "latest") == content(shop, "origin", "latest")


def test_a_mount_that_is_refused_becomes_an_upload(engine: Engine, shop: RealRegistry) -> None:
    digest = shop.push("vanishing:latest", noise(5, 1 << 20)).partition("@")[2]
    image = engine.pull(f"{shop.address}/vanishing")
    links = shop.folder / "data/docker/registry/v2/repositories/vanishing/_layers/sha256"
    for layer in image.layers:
        (links / layer.digest.partition(":")[2] / "link").unlink()
    engine.image_service.push(image.id, f"{shop.address}/third/name")
    assert image.id == digest
    assert content(shop, "third/name", "latest")


def test_a_large_layer_goes_in_pieces_and_progress_never_goes_back(
    engine: Engine, shop: RealRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upload, "PIECE", 1 << 20)
    image = loaded(engine, tmp_path, noise(6, (4 << 20) + 5))
    steps: list[Step] = []
    with door(shop) as slow:
        slow.slow_s = 0.002
        engine.image_service.push(image, f"{slow.address}/pieces", progress=steps.append)
    done = [step.done for step in steps if step.stage == "upload"]
    assert len(set(done)) > 4
    assert done == sorted(done)
    assert done[-1] == steps[-1].total > 4 << 20
    engine.remove_image(image)
    assert engine.pull(f"{shop.address}/pieces").id == image


def test_a_broken_upload_goes_on(
    engine: Engine, shop: RealRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cut three times, each within a piece: what was whole before is not sent again."""
    monkeypatch.setattr(upload, "PIECE", 1 << 20)
    image = loaded(engine, tmp_path, noise(7, 8 << 20))
    with door(shop) as slamming:
        slamming.cut_sent_after, slamming.cuts = (2 << 20) + 500_000, 3
        engine.image_service.push(image, f"{slamming.address}/cut")
        assert slamming.cuts == 0
        print(f"{slamming.sent} bytes were sent of {8 << 20}")
    engine.remove_image(image)
    assert engine.pull(f"{shop.address}/cut").id == image


def test_a_registry_that_is_gone_is_said_so_and_nothing_is_left(
    engine: Engine, home: Home, shop: RealRegistry, tmp_path: Path
) -> None:
    image = loaded(engine, tmp_path, noise(8, 1 << 20))
    before = traces(home)
    with door(shop) as slamming:
        slamming.cut_sent_after, slamming.cuts = 300_000, 1000
        with pytest.raises(ImageUnavailable, match="broke off the upload"):
            engine.image_service.push(image, f"{slamming.address}/dying")
        slamming.cuts = 0
        engine.image_service.push(image, f"{slamming.address}/dying")
    assert set(traces(home).new_since(before)) <= {"files"}
    assert [path for path in traces(home).new_since(before).get("files", []) if "/images/" in path] == []


def test_a_push_that_is_cancelled_gives_no_name(engine: Engine, shop: RealRegistry, tmp_path: Path) -> None:
    image = loaded(engine, tmp_path, noise(9, 4 << 20))

    def cancel(step: Step) -> None:
        if step.stage == "upload" and step.done:
            raise Cancelled("Enough.")

    with pytest.raises(Cancelled):
        engine.image_service.push(image, f"{shop.address}/cancelled", progress=cancel)
    assert b"MANIFEST_UNKNOWN" in content(shop, "cancelled", "latest") or b"NAME_UNKNOWN" in content(
        shop, "cancelled", "latest"
    )


def test_a_push_that_is_killed_is_finished_by_the_next(
    engine: Engine, home: Home, shop: RealRegistry, tmp_path: Path
) -> None:
    image = loaded(engine, tmp_path, noise(10, 1 << 20), noise(11, 4 << 20))
    program = (
        "import sys; from runtime.engines import open_engine; from runtime.home import Home\n"
        "open_engine('native', Home.from_environment()).image_service.push(sys.argv[1], sys.argv[2])"
    )
    with door(shop) as slow:
        slow.slow_s = 0.01
        process = subprocess.Popen([sys.executable, "-c", program, image, f"{slow.address}/killed"])
        deadline = time.monotonic() + patience(30)
        while slow.sent < 3 << 20:
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert b"errors" in content(shop, "killed", "latest")
        slow.slow_s, slow.sent = 0, 0
        engine.image_service.push(image, f"{slow.address}/killed")
        assert slow.sent < (4 << 20) + 100_000, "the layer that was there is not sent again"
    assert engine.image(image).id == image


def test_only_who_may_push_does(engine: Engine, tmp_path: Path) -> None:
    image = loaded(engine, tmp_path, noise(12, 100))
    with real_registry(tmp_path / "private", private=True) as private:
        name = f"{private.address}/secret"
        for wrong in (None, Credentials(LOGIN[0], "open barley")):
            with pytest.raises(ImageDenied) as caught:
                engine.image_service.push(image, name, credentials=wrong)
            assert "open barley" not in str(caught.value)
        assert engine.image_service.push(image, name, credentials=Credentials(*LOGIN)) == f"{name}@{image}"
        assert engine.pull(name, credentials=Credentials(*LOGIN)).id == image


def test_damage_on_this_node_reaches_no_registry(
    engine: Engine, home: Home, shop: RealRegistry, tmp_path: Path
) -> None:
    image = loaded(engine, tmp_path, noise(13, 100_000))
    blob = home.images / "blobs/sha256" / engine.image(image).layers[0].digest.partition(":")[2]
    damaged = bytearray(blob.read_bytes())
    damaged[5000] ^= 1
    blob.write_bytes(damaged)
    with pytest.raises(ImageUnsuitable, match="DIGEST_INVALID"):
        engine.image_service.push(image, f"{shop.address}/damaged")
    assert b"errors" in content(shop, "damaged", "latest")


@pytest.mark.parametrize(
    ("image", "reference", "kind"),
    [
        ("test/loaded", "slipway.local/mine", InvalidSpec),
        ("test/loaded", "Not a name", InvalidSpec),
        ("test/loaded", f"127.0.0.1:1/a@sha256:{'0' * 64}", InvalidSpec),
        ("test/nothing", "127.0.0.1:1/a", NotFound),
    ],
)
def test_a_bad_name_is_refused_before_anything_is_sent(
    engine: Engine, tmp_path: Path, image: str, reference: str, kind: type[Exception]
) -> None:
    loaded(engine, tmp_path, noise(14, 100))
    with pytest.raises(kind) as caught:
        engine.image_service.push(image, reference)
    assert caught.value.field in {"image", "reference"}  # type: ignore[attr-defined]
