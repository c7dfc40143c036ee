"""The system packages that Slipway needs, and why; installing them without starting the services they bring."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from launcher.commands import run
from launcher.output import Output, Progress
from launcher.refusal import Refusal

POLICY = Path("/usr/sbin/policy-rc.d")
POLICY_TEXT = "#!/bin/sh\n# Slipway, while it installs packages: start nothing.\nexit 101\n"
WHOLE = "a package that is set up half way breaks the system's other packages"


@dataclass(frozen=True, slots=True)
class Package:
    """``program`` is what we call; one from elsewhere serves as well.  ``unit`` would start by itself."""

    name: str
    why: str
    program: str = ""
    file: str = ""
    unit: str = ""
    ubuntu: str = ""
    """The package's name there, where it differs; its program may have that name as well."""


RUN: tuple[Package, ...] = (
    Package("python3-venv", "the console's Python environment", file="/usr/lib/python3*/ensurepip/__init__.py"),
    Package("runc", "starts containers, the OCI way", program="runc"),
    Package("crun", "starts containers where it passes the self-test: smaller and quicker than runc", program="crun"),
    Package("conmon", "stays with each container: its output, its exit code", program="conmon"),
    Package("tini", "the init in each container: passes signals on, buries orphans", program="tini-static"),
    Package("nftables", "published ports, NAT and walls between tenants", program="nft"),
    Package("dnsmasq-base", "names of containers on their networks", program="dnsmasq"),
    Package("iproute2", "looking at networks when something is wrong", program="ip"),
    Package("mount", "mounts what a build of an image needs; a minimal Debian 13 lacks it", program="mount"),
    Package("passwd", "makes the system user that the console runs as", program="useradd"),
    Package(
        "golang-github-containers-common",
        "the seccomp profile that containers run under",
        file="/usr/share/containers/seccomp.json",
    ),
    Package(
        "apparmor",
        "loads the profile that containers run under, where the kernel has AppArmor",
        program="apparmor_parser",
        unit="apparmor.service",
    ),
    Package(
        "redis-server", "messages between the console's processes", program="redis-server", unit="redis-server.service"
    ),
    Package("e2fsprogs", "makes the disks of volumes and containers that have a size", program="mkfs.ext4"),
    Package("busybox-static", "the first image of the catalog", file="/bin/busybox"),
    Package("mmdebstrap", "makes the catalog's other images from this system's packages", program="mmdebstrap"),
    Package("bubblewrap", "the sandbox of questions in SQL", program="bwrap"),
    Package("gettext", "compiles the translations", program="msgfmt"),
    Package("ca-certificates", "checks registries' TLS certificates", file="/etc/ssl/certs/ca-certificates.crt"),
)

REGISTRY = Package(
    "docker-registry",
    "the real registry that pulls are tested against",
    "docker-registry",
    unit="docker-registry.service",
)
SKOPEO = Package("skopeo", "pushes test images to it, and is a peer of the bench of pulls", program="skopeo")

TEST: tuple[Package, ...] = (
    REGISTRY,
    Package("gcc", "compiles the attacks that containers are tested against", program="gcc"),
    Package("libc6-dev", "the same", file="/usr/lib/*/libc.a"),
    SKOPEO,
    Package("chromium", "the browser of the end-to-end tests", program="chromium", ubuntu="chromium-browser"),
    Package(
        "fonts-noto-cjk",
        "Chinese in the browser's pictures",
        file="/usr/share/fonts/opentype/noto/NotoSansCJK-Regular.ttc",
    ),
    Package("postgresql", "tests on PostgreSQL", file="/usr/lib/postgresql/*/bin/initdb", unit="postgresql.service"),
    Package("postgresql-client", "a real client of a launched PostgreSQL", program="psql"),
    Package("redis-tools", "a real client of a launched Redis", program="redis-cli"),
    Package("qemu-system-x86", "a virtual machine: the runtime on cgroup version 2", program="qemu-system-x86_64"),
    Package("prometheus", "its promtool reads our metrics", program="promtool", unit="prometheus.service"),
    Package(
        "debian-archive-keyring", "checks the packages in it", file="/usr/share/keyrings/debian-archive-keyring.gpg"
    ),
)

BENCH: tuple[Package, ...] = (
    Package(
        "docker.io",
        "the peer that the benches compare with",
        program="dockerd",
        unit="docker.service docker.socket containerd.service",
    ),
    Package(
        "podman",
        "the other peer",
        program="podman",
        unit="podman.service podman.socket podman-auto-update.timer podman-restart.service",
    ),
    Package("netavark", "its networks", file="/usr/lib/podman/netavark"),
    REGISTRY,
    SKOPEO,
)
BENCH_SPLIT: tuple[Package, ...] = (
    Package("docker-cli", "its command line, a package of its own since Debian 13", "docker"),
)
"""Asked for only when it is still missing: Debian 12 has no such package."""


def missing(packages: tuple[Package, ...]) -> list[Package]:
    return [package for package in packages if not _present(package)]


def _present(package: Package) -> bool:
    path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    programs = [name for name in (package.program, package.program and package.ubuntu) if name]
    if any(shutil.which(name, path=path) for name in programs):
        return True
    return bool(package.file) and any(Path("/").glob(package.file.lstrip("/")))


def names_here(packages: list[Package], release: Path = Path("/etc/os-release")) -> list[str]:
    """As this system calls them."""
    ubuntu = release.exists() and "\nID=ubuntu\n" in "\n" + release.read_text(encoding="utf-8") + "\n"
    return [package.ubuntu if ubuntu and package.ubuntu else package.name for package in packages]


def install(packages: list[Package], output: Output) -> None:
    """Install, with the reason for each, and leave the services they bring stopped and disabled.  Raises Refusal."""
    names = names_here(packages)
    if not shutil.which("apt-get"):
        raise Refusal(
            f"These programs are missing and this system has no apt-get: {', '.join(names)}.",
            "Install them with the system's own package manager and start again.",
        )
    output.line("Installing system packages:")
    for name, package in zip(names, packages, strict=True):
        output.line(f"    {name:<34}{package.why}")
    units = [unit for package in packages for unit in package.unit.split()]
    if units:
        output.line(f"    Their services stay off: {', '.join(units)}.")
    with output.step("packages", "apt-get install") as progress, _services_stay_off(units):
        _apt(names, progress)


def _apt(names: list[str], progress: Progress) -> None:
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "NEEDRESTART_SUSPEND": "1", "LC_ALL": "C.UTF-8"}
    options = ["-o", "DPkg::Lock::Timeout=300", "-o", "Dpkg::Use-Pty=0"]
    command = ["apt-get", *options, "install", "-y", "--no-install-recommends", *names]
    fix = "Check the network and the files in /etc/apt; on Ubuntu some packages need the universe section."
    try:
        run(command, progress, what="apt-get install", environment=environment, whole=WHOLE)
    except Refusal:
        progress.update("finishing what an interrupted installation left, and updating the package index")
        run(["dpkg", "--configure", "-a"], progress, what="dpkg --configure -a", environment=environment, whole=WHOLE)
        run(["apt-get", *options, "update"], progress, what="apt-get update", environment=environment, fix=fix)
        what = " ".join(["apt-get install", *names])
        run(command, progress, what=what, fix=fix, environment=environment, whole=WHOLE)


@contextmanager
def _services_stay_off(units: list[str]) -> Iterator[None]:
    """While packages are set up, Debian asks policy-rc.d whether a service may start; afterwards they are disabled.

    One of ours that a killed set-up left is taken over, and so taken away; anybody else's stays as it is.
    """
    left = POLICY.exists() and POLICY.read_bytes() == POLICY_TEXT.encode()
    ours = left or (bool(units) and not POLICY.exists())
    if ours:
        POLICY.write_text(POLICY_TEXT, encoding="ascii")
        POLICY.chmod(0o755)
    try:
        yield
    finally:
        if ours:
            POLICY.unlink(missing_ok=True)
    if units and shutil.which("systemctl"):
        subprocess.run(["systemctl", "disable", "--quiet", *units], check=False, capture_output=True)
