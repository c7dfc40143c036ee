"""Pull and unpack of an image of 200 MB from a registry on loopback, beside ``docker pull``, ``podman pull`` and ``skopeo copy``, in turn.

The image is made of this machine's own programs and libraries, in four layers that gzip has made smaller.  Ours and the engines' end with the
image unpacked and ready to run, and so does skopeo's copy into a containers-storage.  Its copy into an OCI layout, which nobody unpacks, is told beside
them without a goal: it is the download alone.  What a round has pulled is removed before the next.
"""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from runtime.api import Engine
from tests.bench import _ours
from tests.bench._docker import Docker, descendants, docker
from tests.bench._report import Row, compare, main, note
from tests.kernel.real_registry import RealRegistry, real_registry

SIZE = 200 << 20
LAYERS = 4
NAME = "bench/large:latest"
SOURCES = ("/usr/bin", "/usr/lib")
GOAL = 1.0
DOWNLOAD = "skopeo to an OCI layout, nothing unpacked"


def measure(quick: bool) -> list[Row]:
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="slipway-bench-pull-", dir="/var/tmp")))
        shop = stack.enter_context(real_registry(folder / "registry"))
        tars = [_layer(part) for part in _parts()]
        shop.push(NAME, *tars)
        sent = sum(file.stat().st_size for file in (shop.folder / "data").rglob("data"))
        note(f"{sum(map(len, tars)) >> 20} MiB in {len(tars)} layers, {sent >> 20} MiB as they are sent")
        engine, _home = stack.enter_context(_ours.engine())
        peer = stack.enter_context(docker())
        stack.enter_context(_beside(peer, shop))
        ways = {
            "ours": lambda: _pull(engine, shop),
            peer.description(): lambda: _docker_pull(peer, shop),
            f"{_version('skopeo')} to containers-storage": lambda: _skopeo_unpacked(shop, folder),
            DOWNLOAD: lambda: _skopeo(shop, folder),
        }
        if shutil.which("podman"):
            ways[_version("podman")] = lambda: _podman(shop, folder)
        times = _in_turn(ways, 3 if quick else 9)
    ours = times.pop("ours")
    return [
        row
        for name, theirs in times.items()
        for row in compare(
            "pull and unpack", "s", ours, theirs, peer_name=name, goal=None if name == DOWNLOAD else GOAL
        )
    ]


def _in_turn(ways: dict[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Each once in every round, after one that does not count."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds + 1):
        for name, way in ways.items():
            os.sync()  # nobody waits for what another has written
            took = way()
            if number:
                times[name].append(took)
        note(f"round {number} of {rounds}: " + ", ".join(f"{way.split()[0]} {took[-1]:.2f}" for way, took in times.items() if took))  # fmt: skip
    return times


def _timed(deed: Callable[[], object]) -> float:
    began = time.perf_counter()
    deed()
    return time.perf_counter() - began


# ------------------------------------------------------------------------------------------------ the image


def _parts() -> list[list[Path]]:
    """Files of this machine, of an equal number of bytes each time; no more than the image has."""
    parts: list[list[Path]] = [[] for _ in range(LAYERS)]
    taken = 0
    for root in SOURCES:
        for folder, folders, names in os.walk(root):
            folders.sort()
            for name in sorted(names):
                path = Path(folder, name)
                if path.is_symlink() or not path.is_file():
                    continue
                parts[taken * LAYERS // SIZE].append(path)
                taken += path.stat().st_size
                if taken >= SIZE:
                    return parts
    raise RuntimeError(f"this machine has less than {SIZE >> 20} MiB of programs")


def _layer(paths: list[Path]) -> bytes:
    held = io.BytesIO()
    with tarfile.open(fileobj=held, mode="w") as archive:
        for path in paths:
            archive.add(path, str(path).lstrip("/"), recursive=False)
    return held.getvalue()


# ------------------------------------------------------------------------------------------------ who pulls


def _pull(engine: Engine, shop: RealRegistry) -> float:
    reference = f"{shop.address}/{NAME}"
    took = _timed(lambda: engine.pull(reference))
    engine.remove_image(reference)
    return took


def _docker_pull(peer: Docker, shop: RealRegistry) -> float:
    reference = f"{shop.address}/{NAME}"
    took = _timed(lambda: peer.run("pull", reference))
    peer.run("rmi", reference)
    return took


def _skopeo(shop: RealRegistry, folder: Path) -> float:
    target = folder / "layout"
    source = f"docker://{shop.address}/{NAME}"
    command = ["skopeo", "copy", "--insecure-policy", "--src-tls-verify=false", source, f"oci:{target}:latest"]
    took = _timed(lambda: subprocess.run(command, check=True, capture_output=True))
    shutil.rmtree(target)
    return took


def _skopeo_unpacked(shop: RealRegistry, folder: Path) -> float:
    """Into a store of its own, each layer an overlay's folder as podman has it."""
    stores = [folder / "skopeo", folder / "skopeo-run"]
    target = f"containers-storage:[overlay@{stores[0]}+{stores[1]}]localhost/{NAME}"
    source = f"docker://{shop.address}/{NAME}"
    command = ["skopeo", "copy", "--insecure-policy", "--src-tls-verify=false", source, target]
    took = _timed(lambda: subprocess.run(command, check=True, capture_output=True))
    subprocess.run(["umount", str(stores[0] / "overlay")], check=False, capture_output=True)
    for store in stores:
        shutil.rmtree(store)
    return took


def _podman(shop: RealRegistry, folder: Path) -> float:
    """With a store and a run folder of its own, overlay as it is for root."""
    stores = ["--root", str(folder / "podman"), "--runroot", str(folder / "podman-run"), "--storage-driver", "overlay"]
    reference = f"{shop.address}/{NAME}"
    command = ["podman", *stores, "pull", "--tls-verify=false", reference]
    took = _timed(lambda: subprocess.run(command, check=True, capture_output=True))
    subprocess.run(["podman", *stores, "rmi", "--force", reference], check=True, capture_output=True)
    subprocess.run(["umount", str(folder / "podman" / "overlay")], check=False, capture_output=True)
    return took


def _version(program: str) -> str:
    said = subprocess.run([program, "--version"], check=True, capture_output=True, text=True).stdout.split()
    return f"{program} {said[2]}"


@contextlib.contextmanager
def _beside(peer: Docker, shop: RealRegistry) -> Iterator[None]:
    """The registry once more, at the same address, where dockerd is: in its own network namespace there is only loopback."""
    inner = next(pid for pid in sorted(peer.processes()) if _command(pid) == "dockerd")
    process = subprocess.Popen(
        ["nsenter", f"--net=/proc/{inner}/ns/net", "docker-registry", "serve", str(shop.folder / "config.yml")],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        yield
    finally:
        for pid in descendants(process.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, 15)
        process.wait(timeout=10)


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text(encoding="ascii").strip()
    except OSError:
        return ""


if __name__ == "__main__":
    sys.exit(main("pull", measure))
