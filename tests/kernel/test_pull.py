"""Pulling from a real registry: every way to name an image, progress, credentials, broken connections, crashes, platforms."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx
import pytest

from runtime.api import Credentials, Engine, Image, Step
from runtime.engines import open_engine
from runtime.errors import ImageDenied, ImageUnavailable, ImageUnsuitable
from runtime.home import Home
from tests import archives
from tests.conftest import patience
from tests.kernel.images import engine, home, noise
from tests.kernel.images import real_shop as shop
from tests.kernel.real_registry import LOGIN, RealRegistry, door, real_registry
from tests.marks import files_only
from tests.traces import traces

__all__ = ["engine", "home", "shop"]
pytestmark = [pytest.mark.root, files_only]

INDEX = "application/vnd.oci.image.index.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"


def content(home: Home, image: Image, name: str) -> bytes:
    """A file of the image's layers as they are unpacked."""
    folders = [home.images / "layers" / layer.diff_id.partition(":")[2] / "fs" for layer in image.layers]
    return next((folder / name).read_bytes() for folder in reversed(folders) if (folder / name).exists())


def parts(home: Home) -> list[Path]:
    return list((home.images / "ingest").iterdir())


@pytest.mark.parametrize("tail", ["", ":latest", ":other"])
def test_a_name_means_latest_and_a_tag_means_itself(engine: Engine, shop: RealRegistry, tail: str) -> None:
    latest, other = shop.push("named/one:latest", noise(1, 100)), shop.push("named/one:other", noise(2, 100))
    image = engine.pull(f"{shop.address}/named/one{tail}")
    assert image.id == (other if tail == ":other" else latest).partition("@")[2]
    assert engine.image(f"{shop.address}/named/one{tail}").id == image.id


def test_a_digest_stays_what_it_is_when_its_tag_moves(engine: Engine, home: Home, shop: RealRegistry) -> None:
    first = shop.push("moving:latest", archives.layer({"which": b"first"}))
    shop.push("moving:latest", archives.layer({"which": b"second"}))
    assert content(home, engine.pull(first), "which") == b"first"
    assert content(home, engine.pull(f"{shop.address}/moving"), "which") == b"second"


def test_a_tag_that_moved_is_pulled_anew(engine: Engine, home: Home, shop: RealRegistry) -> None:
    shop.push("again:latest", archives.layer({"which": b"first"}))
    engine.pull(f"{shop.address}/again")
    shop.push("again:latest", archives.layer({"which": b"second"}))
    assert content(home, engine.pull(f"{shop.address}/again"), "which") == b"second"


def test_progress_grows_to_the_whole_and_not_before_it_is_there(engine: Engine, shop: RealRegistry) -> None:
    shop.push("large:latest", *(noise(seed, 3 << 20) for seed in range(4)))
    steps: list[Step] = []
    with door(shop) as slow:
        slow.slow_s = 0.005
        image = engine.pull(f"{slow.address}/large", progress=steps.append)
    told = [step for step in steps if step.stage == "download"]
    done = [step.done for step in told]
    assert len(set(done)) > 10, "progress is told while it happens"
    assert done == sorted(done)
    assert {step.total for step in told} == {told[-1].done}
    assert image.size < told[-1].total <= image.size + 4096, "the layers and the configuration"


@pytest.mark.parametrize("compression", ["gzip", "zstd"])
def test_layers_of_either_compression_are_unpacked(
    engine: Engine, home: Home, shop: RealRegistry, compression: str
) -> None:
    shop.push("packed:latest", archives.layer({compression: b"words " * 10_000}), compression=compression)
    image = engine.pull(f"{shop.address}/packed")
    magic = {"gzip": b"\x1f\x8b", "zstd": b"\x28\xb5\x2f\xfd"}[compression]
    assert (home.images / "blobs" / "sha256" / image.layers[0].digest.partition(":")[2]).read_bytes().startswith(magic)
    assert content(home, image, compression) == b"words " * 10_000


def test_credentials_open_a_private_registry_and_nothing_else_does(engine: Engine, home: Home, tmp_path: Path) -> None:
    with real_registry(tmp_path / "private", private=True) as private:
        private.push("secret:latest", noise(5, 100))
        reference = f"{private.address}/secret"
        for wrong in (None, Credentials(LOGIN[0], "open barley"), Credentials("nobody", LOGIN[1])):
            before = traces(home)
            with pytest.raises(ImageDenied) as caught:
                engine.pull(reference, credentials=wrong)
            assert "open barley" not in str(caught.value)
            assert traces(home).new_since(before) == {}
        assert engine.pull(reference, credentials=Credentials(*LOGIN)).references == (f"{reference}:latest",)


def test_a_broken_connection_goes_on_where_it_was(engine: Engine, home: Home, shop: RealRegistry) -> None:
    """Cut five times in a 4 MiB layer: hardly more than 4 MiB pass, and progress never claims what is not there."""
    shop.push("cut:latest", noise(6, 4 << 20))
    steps: list[Step] = []
    with door(shop) as slamming:
        slamming.cut_after, slamming.cuts = 600_000, 5
        image = engine.pull(f"{slamming.address}/cut", progress=steps.append)
        assert slamming.cuts == 0, "it was cut as often as meant"
        assert slamming.passed < image.size + 500_000
    done = [step.done for step in steps if step.stage == "download"]
    assert done == sorted(done)
    assert len(content(home, image, "noise-6")) == 4 << 20
    assert parts(home) == []


def test_a_registry_that_dies_leaves_what_the_next_try_goes_on_from(
    engine: Engine, home: Home, shop: RealRegistry
) -> None:
    shop.push("dying:latest", noise(7, 4 << 20))
    with door(shop) as slamming:
        slamming.cut_after, slamming.cuts = 2_000_000, 1
        engine_sees = threading.Thread(target=close_after_the_cut, args=(slamming,))
        engine_sees.start()
        with pytest.raises(ImageUnavailable):
            engine.pull(f"{slamming.address}/dying")
        engine_sees.join()
        [part] = parts(home)
        kept = part.stat().st_size
        assert kept > 1_000_000
        slamming.cuts, slamming.passed = 0, 0
        image = engine.pull(f"{slamming.address}/dying")
        assert slamming.passed < image.size - kept + 100_000
    assert parts(home) == []


def close_after_the_cut(slamming: object) -> None:
    """From the first cut on, every connection is cut before its first byte."""
    while slamming.cuts:  # type: ignore[attr-defined]
        time.sleep(0.001)
    slamming.cut_after, slamming.cuts = 0, 1000  # type: ignore[attr-defined]


def test_a_pull_that_is_killed_is_finished_by_the_next(home: Home, engine: Engine, shop: RealRegistry) -> None:
    shop.push("killed:latest", noise(8, 4 << 20), noise(9, 4 << 20))
    program = (
        "import sys; from runtime.engines import open_engine; from runtime.home import Home\n"
        "open_engine('native', Home.from_environment()).pull(sys.argv[1])"
    )
    with door(shop) as slow:
        slow.slow_s = 0.01
        reference = f"{slow.address}/killed"
        process = subprocess.Popen([sys.executable, "-c", program, reference])
        deadline = time.monotonic() + patience(30)
        while slow.passed < 3 << 20:
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.wait()
        kept = sum(part.stat().st_size for part in parts(home))
        assert kept > 2 << 20
        slow.slow_s, slow.passed = 0, 0
        image = engine.pull(reference)
        assert slow.passed < image.size - kept + 100_000
    assert len(content(home, image, "noise-8")) == len(content(home, image, "noise-9")) == 4 << 20
    assert parts(home) == []


def test_two_who_want_the_same_image_download_it_once(home: Home, engine: Engine, shop: RealRegistry) -> None:
    shop.push("wanted:latest", noise(10, 4 << 20))
    ids: list[str] = []
    with door(shop) as slow:
        slow.slow_s = 0.002
        other = open_engine("native", home)
        threads = [
            threading.Thread(target=lambda by=by: ids.append(by.pull(f"{slow.address}/wanted").id))
            for by in (engine, other)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(timeout=patience(60))
        assert len(ids) == 2
        assert len(set(ids)) == 1
        assert slow.passed < engine.image(ids[0]).size + 100_000


def test_a_layer_that_fails_ends_the_others_at_once(engine: Engine, home: Home, shop: RealRegistry) -> None:
    """The second layer's blob is gone from the registry; the first, slow one is not waited for."""
    digest = shop.push("holed:latest", noise(11, 8 << 20), noise(12, 100)).partition("@")[2]
    manifest = httpx.get(f"http://{shop.address}/v2/holed/manifests/{digest}", headers={"Accept": MANIFEST}).json()
    blob = manifest["layers"][1]["digest"]
    hexadecimal = blob.partition(":")[2]
    (shop.folder / "data/docker/registry/v2/blobs/sha256" / hexadecimal[:2] / hexadecimal / "data").unlink()
    with door(shop) as slow:
        slow.slow_s = 0.02
        before = traces(home)
        with pytest.raises(Exception, match=r"lacks a part|answered with an error|ended the download"):
            engine.pull(f"{slow.address}/holed")
        assert slow.passed < 8 << 20
    engine.image_service.prune()  # what is for the next try, where the fault may pass
    assert traces(home).new_since(before) == {}


def test_an_index_gives_this_nodes_platform(engine: Engine, home: Home, shop: RealRegistry) -> None:
    _index(shop, "many", {"s390x": b"theirs", archives.architecture(): b"ours"})
    assert content(home, engine.pull(f"{shop.address}/many"), "which") == b"ours"


def test_an_index_without_it_says_what_there_is(engine: Engine, home: Home, shop: RealRegistry) -> None:
    _index(shop, "foreign", {"s390x": b"1", "ppc64le": b"2"})
    before = traces(home)
    with pytest.raises(ImageUnsuitable, match="linux/ppc64le, linux/s390x"):
        engine.pull(f"{shop.address}/foreign")
    assert traces(home).new_since(before) == {}


def _index(shop: RealRegistry, name: str, which: dict[str, bytes]) -> None:
    rows = []
    for architecture, said in which.items():
        pushed = shop.push(f"{name}:{architecture}", archives.layer({"which": said}), architecture=architecture)
        digest = pushed.partition("@")[2]
        size = len(
            httpx.get(f"http://{shop.address}/v2/{name}/manifests/{digest}", headers={"Accept": MANIFEST}).content
        )
        platform = {"architecture": architecture, "os": "linux"}
        rows.append({"mediaType": MANIFEST, "digest": digest, "size": size, "platform": platform})
    index = json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": rows}).encode()
    shop.put_manifest(name, "latest", index, INDEX)


def test_a_pull_into_an_image_that_is_here_moves_no_layer(engine: Engine, shop: RealRegistry) -> None:
    shop.push("here:latest", noise(13, 1 << 20))
    with door(shop) as counting:
        first = engine.pull(f"{counting.address}/here")
        counting.passed = 0
        assert engine.pull(f"{counting.address}/here").id == first.id
        assert counting.passed < 10_000


def test_a_layer_that_two_images_share_is_fetched_once(engine: Engine, shop: RealRegistry) -> None:
    base = noise(14, 1 << 20)
    shop.push("first:latest", base, archives.layer({"a": os.urandom(10)}))
    shop.push("second:latest", base, archives.layer({"b": os.urandom(10)}))
    with door(shop) as counting:
        first = engine.pull(f"{counting.address}/first")
        counting.passed = 0
        second = engine.pull(f"{counting.address}/second")
        assert counting.passed < 20_000
    assert first.layers[0] == second.layers[0]
