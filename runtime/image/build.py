"""Built-in images, made of the node's own Debian or Ubuntu packages.

Three kinds of layer, each shared by all images above it: busybox (seconds), a minimal system by mmdebstrap, the application by
apt in an overlay over both.  The overlay is mounted in a mount namespace of the build's own, so even a killed build leaves no mount.
"""

from __future__ import annotations

import datetime as dt
import os
import re
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

from runtime import logs
from runtime.api import Image, Progress, Step, no_progress
from runtime.errors import DeadlineExceeded, EngineFault, HostUnfit, ImageUnavailable, NotFound
from runtime.home import Home
from runtime.image.collection import BUILD
from runtime.image.recipe import Recipe
from runtime.image.reference import BUILT_IN, Reference
from runtime.image.room import disk_full, out_of_space
from runtime.image.store import ImageStore
from runtime.kernel.tree import remove_tree
from runtime.validation import MEMORY_LABEL

logger = logs.of(__name__)

RECIPE_LABEL = "io.slipway.recipe"
SYSTEM = Reference(BUILT_IN, "system", "latest")
BUSYBOX = Reference(BUILT_IN, "busybox-base", "latest")
BUILD_DEADLINE_S = 1800
TIED = ("setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "--pid", "--fork", "--kill-child")
"""Prefix of a build's command: in namespaces of its own, so that all of it ends with the process that asked for it."""
KEYRINGS = ("debian-archive-keyring.gpg", "ubuntu-archive-keyring.gpg")
EXCLUDED = ("/usr/share/man/*", "/usr/share/locale/*", "/usr/share/doc/*", "/usr/share/info/*", "/usr/share/lintian/*")
LEFTOVERS = (
    "tmp/", "var/tmp/", "var/cache/apt/", "var/cache/debconf/", "var/lib/apt/lists/", "var/log/", "run/", "proc", "dev", "sys",
    "etc/resolv.conf", "usr/sbin/policy-rc.d", "root/.bash_history", "var/cache/ldconfig/", "etc/machine-id",
)  # fmt: skip

INSIDE = """
set -e
mount -t overlay overlay -o "lowerdir=$LOWER,upperdir=$UPPER,workdir=$WORK,redirect_dir=off" "$ROOT"
mount -t proc proc "$ROOT/proc"
mount -t tmpfs -o size=64k,mode=755 tmpfs "$ROOT/dev"
for node in null zero full random urandom tty; do touch "$ROOT/dev/$node"; mount --bind "/dev/$node" "$ROOT/dev/$node"; done
ln -s /proc/self/fd "$ROOT/dev/fd"
exec chroot "$ROOT" /usr/bin/env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 \
  DEBIAN_FRONTEND=noninteractive PACKAGES="$PACKAGES" /bin/sh -c "$SCRIPT"
"""
"""Run by unshare in namespaces of its own; everything comes by the environment, nothing is spliced into the text."""

INSTALL = """
set -e
printf '#!/bin/sh\\nexit 101\\n' > /usr/sbin/policy-rc.d; chmod 755 /usr/sbin/policy-rc.d
if [ -n "$PACKAGES" ]; then
  apt-get -q update
  apt-get -q -y -o APT::Status-Fd=1 -o Dpkg::Use-Pty=0 -o Dpkg::Options::=--force-confold install --no-install-recommends $PACKAGES
fi
"""


def is_built(recipe: Recipe, store: ImageStore) -> bool:
    """Whether this very recipe's image is here."""
    try:
        labels = store.image(str(recipe.reference)).config.get("Labels")
    except NotFound:
        return False
    return isinstance(labels, dict) and labels.get(RECIPE_LABEL) == recipe.digest


def build(recipe: Recipe, store: ImageStore, home: Home, *, progress: Progress = no_progress) -> Image:
    """The image of a recipe; made already: returned at once.

    Raises HostUnfit (a tool is missing), ImageUnavailable (packages cannot be had), OutOfSpace, EngineFault.
    """
    with home.lock(f"build-{recipe.slug}", timeout_s=BUILD_DEADLINE_S):
        if is_built(recipe, store):
            return store.image(str(recipe.reference))
        progress(Step("build", 0, 100, "busybox"))
        bottom = _busybox(store)
        rows: list[tuple[BinaryIO | str, str]] = [(bottom.layers[0].digest, "busybox")]
        if not recipe.packages:
            return store.commit(recipe.reference, rows, _config(recipe), _now())
        system = _system(store, home, bottom, progress)
        rows.append((system.layers[1].digest, "minimal system by mmdebstrap"))
        # the lowers of its overlay stay, whatever becomes of their name
        with store.held([system.id], "build"), _application(recipe, store, system, progress) as layer:
            rows.append((layer, "packages: " + " ".join(recipe.packages)))
            return store.commit(recipe.reference, rows, _config(recipe), _now())


def _now() -> str:
    return dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _config(recipe: Recipe) -> dict[str, object]:
    config: dict[str, object] = {
        "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]
        + [f"{variable.name}={variable.default}" for variable in recipe.environment if variable.default],
        "Entrypoint": list(recipe.entrypoint),
        "Cmd": list(recipe.command),
        "ExposedPorts": {f"{port.port}/{port.protocol}": {} for port in recipe.ports},
        "WorkingDir": recipe.working_dir or "/",
        "User": recipe.user,
        "Labels": {RECIPE_LABEL: recipe.digest, MEMORY_LABEL: str(recipe.memory_needed)},
    }
    if recipe.stop_signal:
        config["StopSignal"] = recipe.stop_signal
    return config


# ------------------------------------------------------------------------------------------------ layers


def _known(store: ImageStore, reference: Reference) -> Image | None:
    try:
        return store.image(str(reference))
    except NotFound:
        return None


def _busybox(store: ImageStore) -> Image:
    known = _known(store, BUSYBOX)
    if known is not None:
        return known
    from runtime.image import layers

    with tempfile.TemporaryFile(dir=store.blobs.ingest) as layer:
        layers.busybox(cast("BinaryIO", layer))
        layer.seek(0)
        return store.commit(BUSYBOX, [(cast("BinaryIO", layer), "busybox")], {}, "1970-01-01T00:00:00Z")


def _system(store: ImageStore, home: Home, bottom: Image, progress: Progress) -> Image:
    """busybox and the minimal system; made once, however many builds want it."""
    with home.lock("build-system", timeout_s=BUILD_DEADLINE_S):
        known = _known(store, SYSTEM)
        if known is not None:
            return known
        progress(Step("build", 0, 100, "minimal system"))
        with _workplace(store) as place:
            sources = place / "sources.list"
            sources.write_text("".join(_sources()), encoding="utf-8")
            target = place / "system.tar"
            excluded = [f"--dpkgopt=path-exclude={pattern}" for pattern in EXCLUDED]
            command = [
                *TIED,
                "--mount-proc",
                "mmdebstrap",
                "--variant=minbase",
                "--mode=root",
                "--skip=output/dev",
                *excluded,
            ]
            if shutil.which("mmdebstrap") is None:
                raise HostUnfit("mmdebstrap is missing.", hint="Install the package mmdebstrap.")
            _run(
                [*command, "--format=tar", _codename(), str(target), str(sources)],
                {"TMPDIR": str(place)},
                progress,
                "minimal system",
            )
            with target.open("rb") as layer:
                rows: list[tuple[BinaryIO | str, str]] = [
                    (bottom.layers[0].digest, "busybox"), (layer, "minimal system by mmdebstrap"),
                ]  # fmt: skip
                return store.commit(SYSTEM, rows, {}, _now())


def _codename() -> str:
    release = dict(
        line.split("=", 1) for line in Path("/etc/os-release").read_text(encoding="utf-8").splitlines() if "=" in line
    )
    name = release.get("VERSION_CODENAME", "").strip('"')
    if not name:
        raise HostUnfit(
            "The node's system does not say which release it is.", hint="Use Debian 12 or 13, or Ubuntu 24.04."
        )
    return name


def _sources() -> list[str]:
    """The node's own package sources for its release."""
    keyring = next((path for name in KEYRINGS if (path := Path("/usr/share/keyrings", name)).exists()), None)
    option = f"[signed-by={keyring}] " if keyring else ""
    listing = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(REPO_URI) $(RELEASE) $(COMPONENT)", "Created-By: Packages"],
        capture_output=True, text=True, check=False, timeout=60,
    ).stdout  # fmt: skip
    rows = sorted({row for row in listing.splitlines() if row.split()[1].startswith(_codename())})
    if not rows:
        raise ImageUnavailable(
            "The node has no package source for its release.", hint="Run apt-get update on the node."
        )
    return [f"deb {option}{row}\n" for row in rows if row.split()[2] in {"main", "universe"}]


@contextmanager
def _application(recipe: Recipe, store: ImageStore, system: Image, progress: Progress) -> Iterator[BinaryIO]:
    from runtime.image import layers

    with _workplace(store) as place:
        for name in ("upper", "work", "root"):
            (place / name).mkdir()
            (place / name).chmod(0o755)
        upper = place / "upper"
        for path, text in {"etc/resolv.conf": _resolver(), **recipe.files}.items():
            file = upper / path.lstrip("/")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
            file.chmod(0o755 if text.startswith("#!") else 0o644)
        environment = {
            "LOWER": ":".join(str(path) for path in reversed(store.layer_folders(system))),
            "UPPER": str(upper),
            "WORK": str(place / "work"),
            "ROOT": str(place / "root"),
            "PACKAGES": " ".join(recipe.packages),
            "SCRIPT": INSTALL + recipe.setup,
        }
        command = [*TIED, "--uts", "--ipc", "sh", "-c", INSIDE]
        _run(command, environment, progress, recipe.title)
        layers.prune(upper, LEFTOVERS)
        target = place / "layer.tar"
        with target.open("w+b") as layer:
            layers.from_upper(upper, layer)
            layer.seek(0)
            yield layer


def _resolver() -> str:
    try:
        return Path("/etc/resolv.conf").read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""


@contextmanager
def _workplace(store: ImageStore) -> Iterator[Path]:
    place = Path(tempfile.mkdtemp(prefix=f"{BUILD}{os.getpid()}.", dir=store.blobs.ingest))
    try:
        yield place
    except OSError as error:
        raise (out_of_space() if disk_full(error) else error) from None
    finally:
        remove_tree(place)


# ------------------------------------------------------------------------------------------------ running

_STATUS = re.compile(r"(?:dl|pm)status:[^:]*:([0-9.]+):(.*)")


def _run(command: list[str], environment: dict[str, str], progress: Progress, title: str) -> None:
    """Run a build's command, telling how far it is; its last words explain a failure."""
    path = os.environ.get("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
    with subprocess.Popen(
        command, env={"PATH": path, "LC_ALL": "C.UTF-8", **environment}, stdin=subprocess.DEVNULL, text=True, errors="replace",
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True, cwd="/",
    ) as child:  # fmt: skip
        late = threading.Event()

        def end() -> None:
            late.set()
            child.kill()

        timer = threading.Timer(BUILD_DEADLINE_S, end)
        timer.daemon = True
        timer.start()
        try:
            words = _follow(child.stdout or (), progress, title)
        except BaseException:
            child.kill()
            raise
        finally:
            timer.cancel()
    if late.is_set():
        raise DeadlineExceeded(
            "Building the image took too long.", hint="Check the node's package sources and network."
        )
    if child.returncode != 0:
        raise _failure(words, title)


def _follow(lines: Iterable[str], progress: Progress, title: str) -> list[str]:
    """Tells how far it is; returns the last words."""
    words: list[str] = []
    for line in lines:
        status = _STATUS.match(line)
        if status:
            progress(Step("build", int(float(status[1])), 100, f"{title}: {status[2].strip()}"[:150]))
            continue
        words = [*words[-20:], line.strip()]
        if line.startswith("I: "):
            progress(Step("build", 0, None, f"{title}: {line[3:].strip()}"[:150]))
    return words


def _failure(words: list[str], title: str) -> Exception:
    text = "\n".join(words)
    if re.search(r"No space left on device|not enough free space", text, re.IGNORECASE):
        return out_of_space()
    if re.search(
        r"Could not resolve|Failed to fetch|Unable to (connect|locate)|Temporary failure|not have a Release", text
    ):
        return ImageUnavailable(
            "The packages that the image is made of could not be fetched.",
            hint="Check the node's package sources and network with apt-get update, then try again.",
        )
    logger.warning("the build of %s failed; its last words:\n%s", title, text)
    last = next((line for line in reversed(words) if line.startswith("E:")), words[-1] if words else "no reason given")
    return EngineFault(
        f"Building the image of {title} failed: {last[:200]}", hint="Try again; the node's log has more."
    )
