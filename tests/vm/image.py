"""The disk that the virtual machine boots: Debian by mmdebstrap, the tests' Python packages, one unit that runs what it is given.

Made once, and again when something changes that it is made of.
"""

from __future__ import annotations

import fcntl
import hashlib
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

SOURCE = Path(__file__).parents[2]
LOCK = SOURCE / "requirements/dev.txt"
UNIT = Path(__file__).with_name("slipway-tests.service")
PACKAGES = (
    "systemd-sysv", "linux-image-cloud-amd64", "python3", "iproute2", "nftables", "runc", "crun", "conmon", "tini",
    "golang-github-containers-common", "busybox-static", "dnsmasq-base", "procps", "e2fsprogs", "kmod", "apparmor",
)  # fmt: skip
PYTHON_PACKAGES = frozenset({
    "anyio", "certifi", "h11", "httpcore", "httpx", "idna", "iniconfig", "isal", "packaging", "pluggy", "pygments", "pyroute2", "pytest",
    "pytest-timeout", "typing-extensions", "zstandard",
})  # fmt: skip
"""What the runtime and its tests import, of those that the development environment has."""
EXCLUDED = ("/usr/share/doc/*", "/usr/share/man/*", "/usr/share/locale/*")
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
MIRROR = "http://deb.debian.org/debian"
DISK_BYTES = 3 * 2**30
"""Sparse; what the guest writes goes to a layer of its own that is thrown away."""
DEADLINE_S = 900
TIED = ("setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "--mount-proc", "--pid", "--fork", "--kill-child")
"""In namespaces of its own, so that it ends with this process and no mount of it stays: the next would delete the folder below."""


@dataclass(frozen=True, slots=True)
class Image:
    """``kernel`` and ``initrd`` are the release's cloud kernel's, as qemu boots them without a boot loader."""

    folder: Path

    @property
    def disk(self) -> Path:
        return self.folder / "disk"

    @property
    def kernel(self) -> Path:
        return self.folder / "kernel"

    @property
    def initrd(self) -> Path:
        return self.folder / "initrd"


def image(release: str, home: Path) -> Image:
    """The image of a Debian release, made when it isn't there.  Raises CalledProcessError with the tool's words on standard error."""
    home.mkdir(parents=True, exist_ok=True)
    found = Image(home / f"{release}-{_mark(release)}")
    with _lock(home / f"{release}.lock"):
        if not found.folder.exists():
            for old in home.glob(f"{release}-*"):
                shutil.rmtree(old)
            _make(release, found)
    return found


def _mark(release: str) -> str:
    digest = hashlib.sha256(f"{release} {sys.version_info[:2]} {_sources(release)} {_requirements()}".encode())
    for file in (Path(__file__), UNIT):
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


def _requirements() -> str:
    """Of the lock file what the machine gets."""
    blocks = re.split(r"\n(?=[A-Za-z0-9])", LOCK.read_text(encoding="utf-8"))
    return "\n".join(block for block in blocks if block.partition("==")[0] in PYTHON_PACKAGES)


@contextmanager
def _lock(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _make(release: str, made: Image) -> None:
    building = made.folder.with_name(f"{release}-new")
    root = building / "root"
    root.mkdir(parents=True)
    _system(release, root)
    _python(root)
    shutil.copy(UNIT, root / "etc/systemd/system")
    for name, pattern in (("kernel", "vmlinuz-*"), ("initrd", "initrd.img-*")):
        (found,) = (root / "boot").glob(pattern)
        shutil.move(found, building / name)
    for folder in ("etc", "var"):  # nothing is to be brought up to date at a start (systemd-update-done)
        (root / folder / ".updated").touch()
    _run(
        [
            "mke2fs",
            "-q",
            "-t",
            "ext4",
            "-O",
            "^has_journal",
            "-d",
            str(root),
            str(building / "disk"),
            f"{DISK_BYTES // 1024}k",
        ]
    )
    shutil.rmtree(root)
    building.rename(made.folder)


def _system(release: str, root: Path) -> None:
    excluded = [f"--dpkgopt=path-exclude={pattern}" for pattern in EXCLUDED]
    _run(
        ["mmdebstrap", "--quiet", "--variant=apt", "--mode=root", f"--include={','.join(PACKAGES)}", *excluded,
         "--aptopt=Apt::Install-Recommends false", release, str(root), "-"],
        sources(release),
    )  # fmt: skip


def sources(release: str) -> str:
    """As apt's list of sources has them."""
    return "".join(f"deb [signed-by={KEYRING}] {source} main\n" for source in _sources(release))


def _sources(release: str) -> list[str]:
    """``<address> <suite>`` of the release, its updates and its security fixes, where this machine's own packages come from."""
    listed = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages"],
        check=False, capture_output=True, text=True, timeout=60,
    ).stdout.split()  # fmt: skip
    main = next((address.rstrip("/") for address in listed if re.search(r"/debian/?$", address)), MIRROR)
    return [f"{main} {release}", f"{main} {release}-updates", f"{main}-security {release}-security"]


def _python(root: Path) -> None:
    """Wheels for the guest's Python, put into place by this machine's pip: nothing in the guest needs a network."""
    version = (root / "usr/bin/python3").readlink().name.removeprefix("python")
    wanted = root / "requirements.txt"
    wanted.write_text(_requirements(), encoding="utf-8")
    _run(
        [sys.executable, "-m", "pip", "install", "--quiet", "--compile", "--disable-pip-version-check", "--no-input", "--require-hashes", "--no-deps",
         "--target", str(root / "opt/python"), "--python-version", version, "--implementation", "cp", "--only-binary", ":all:",
         "-r", str(wanted)],
    )  # fmt: skip


def _run(command: list[str], words: str = "") -> None:
    subprocess.run([*TIED, *command], check=True, input=words, text=True, timeout=DEADLINE_S, stdout=sys.stderr)
