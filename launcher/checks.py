"""What this machine must have.  ``doctor`` prints every check, ``up`` refuses on the ones that fail.

A check looks and changes nothing that lasts.  Each result says what was found and, unless all is well, the fix.
"""

from __future__ import annotations

import ipaddress
import os
import platform
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from launcher import packages
from launcher.settings import Settings
from launcher.subnets import BRIDGE, own_bridges, routed

Level = Literal["ok", "warn", "fail"]
GIB = 2**30


@dataclass(frozen=True, slots=True)
class Finding:
    name: str
    level: Level
    found: str
    fix: str = ""


Check = Callable[[Settings], Iterator[Finding]]


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def _verdict(name: str, good: bool, found: str, fix: str, *, otherwise: Level = "fail") -> Finding:
    return Finding(name, "ok", found) if good else Finding(name, otherwise, found, fix)


# ------------------------------------------------------------------------------------------------ system


def root(_: Settings) -> Iterator[Finding]:
    good = os.geteuid() == 0
    yield _verdict("root", good, f"user id {os.geteuid()}", "Run it as root: sudo ./slipway up.")


def parse_os_release(text: str) -> dict[str, str]:
    pairs = (line.split("=", 1) for line in text.splitlines() if "=" in line)
    return {key: value.strip().strip('"') for key, value in pairs}


def judge_system(release: dict[str, str], *, has_apt: bool) -> Finding:
    """Debian 12 and 13 and Ubuntu 24.04 are served; relatives with apt may work; others are refused."""
    name, version = release.get("ID", ""), release.get("VERSION_ID", "")
    shown = release.get("PRETTY_NAME", name or "unknown system")
    number = float(version) if re.fullmatch(r"\d+(\.\d+)?", version) else 0.0
    oldest = {"debian": 12.0, "ubuntu": 24.04}.get(name)
    served = "Slipway runs on Debian 12 and 13 and on Ubuntu 24.04."
    if oldest is not None and number and number < oldest:
        return Finding("system", "fail", f"{shown} is too old", served)
    if {"debian": {"12", "13"}, "ubuntu": {"24.04"}}.get(name, set()) & {version}:
        return Finding("system", "ok", shown)
    if has_apt:
        return Finding("system", "warn", f"{shown} is not among the tested systems", served)
    return Finding("system", "fail", f"{shown} is not supported", served)


def system(_: Settings) -> Iterator[Finding]:
    yield judge_system(parse_os_release(_read("/etc/os-release")), has_apt=shutil.which("apt-get") is not None)


def python(_: Settings) -> Iterator[Finding]:
    found = f"Python {platform.python_version()} at {sys.executable}"
    yield _verdict("python", sys.version_info >= (3, 11), found, "Install Python 3.11 or newer.")


def clock(_: Settings) -> Iterator[Finding]:
    now = time.time()
    good = now > Path(__file__).stat().st_mtime - 86400
    yield _verdict(
        "time",
        good,
        time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(now)),
        "The clock is behind this program's own files, and bills need right hours: set it.",
        otherwise="warn",
    )


# ------------------------------------------------------------------------------------------------ kernel


def kernel_version(release: str) -> tuple[int, int]:
    match = re.match(r"(\d+)\.(\d+)", release)
    return (int(match[1]), int(match[2])) if match else (0, 0)


def kernel(_: Settings) -> Iterator[Finding]:
    release = platform.release()
    good = sys.platform == "linux" and kernel_version(release) >= (5, 19)
    yield _verdict(
        "kernel", good, f"Linux {release}", "Linux 5.19 or newer is needed, for id-mapped layers under overlayfs."
    )


def overlayfs(_: Settings) -> Iterator[Finding]:
    if "\toverlay" not in _read("/proc/filesystems") and shutil.which("modprobe"):
        subprocess.run(["modprobe", "--quiet", "overlay"], check=False, capture_output=True)
    good = "\toverlay" in _read("/proc/filesystems")
    yield _verdict(
        "overlayfs", good, "in the kernel" if good else "missing", "Load the module overlay, or use another kernel."
    )


def user_namespaces(_: Settings) -> Iterator[Finding]:
    allowed = _read("/proc/sys/user/max_user_namespaces")
    good = os.path.exists("/proc/self/ns/user") and allowed not in ("", "0")
    found = f"user.max_user_namespaces = {allowed}" if allowed else "the kernel has none"
    yield _verdict("user namespaces", good, found, "sysctl -w user.max_user_namespaces=15000, or use another kernel.")
    restricted = _read("/proc/sys/kernel/apparmor_restrict_unprivileged_userns")
    if restricted == "1":
        yield Finding(
            "user namespaces", "ok", "AppArmor restricts those of ordinary users, which does not concern root's"
        )
    if _read("/proc/sys/kernel/unprivileged_userns_clone") == "0":
        yield Finding("user namespaces", "ok", "ordinary users may not make them, which does not concern root's")


def idmapped_mounts(settings: Settings) -> Iterator[Finding]:
    """Tries it: an overlay over an id-mapped folder, in a mount namespace that goes away with the probe."""
    fix = "Linux 5.19 or newer, and a home on ext4, xfs or btrfs. Inside a container, that one must be privileged."
    if os.geteuid() != 0:
        yield Finding("id-mapped mounts", "warn", "not tried", "Only root can try; run doctor as root.")
        return
    probe = subprocess.run(
        [sys.executable, "-I", str(settings.source / "launcher/probe.py"), str(existing(settings.home))],
        check=False,
        capture_output=True,
        text=True,
        timeout=30,
    )
    found = (probe.stdout + probe.stderr).strip().splitlines()
    yield _verdict("id-mapped mounts", probe.returncode == 0, found[-1] if found else "the probe said nothing", fix)


def cgroups(_: Settings) -> Iterator[Finding]:
    if os.path.exists("/sys/fs/cgroup/cgroup.controllers"):
        present = set(_read("/sys/fs/cgroup/cgroup.controllers").split())
        wanted, shown = {"cpu", "memory", "pids", "io"}, "version 2"
    else:
        rows = [line.split() for line in _read("/proc/cgroups").splitlines() if not line.startswith("#")]
        present = {row[0] for row in rows if row[-1] == "1" and os.path.ismount(f"/sys/fs/cgroup/{row[0]}")}
        present |= {name for name in ("cpu", "cpuacct") if os.path.ismount("/sys/fs/cgroup/cpu,cpuacct")}
        wanted, shown = {"cpu", "cpuacct", "memory", "pids", "blkio", "devices", "freezer"}, "version 1"
    lacking = sorted(wanted - present)
    found = f"{shown}, " + (f"without {', '.join(lacking)}" if lacking else f"with {', '.join(sorted(wanted))}")
    needed = {"cpu", "memory", "pids"}
    level: Level = "fail" if needed & set(lacking) else "warn"
    fix = (
        "Mount the cgroup controllers (systemd does) and boot without cgroup_disable=. Bills lack what is not counted."
    )
    yield _verdict("cgroups", not lacking, found, fix, otherwise=level)
    place = "/sys/fs/cgroup" if shown == "version 2" else "/sys/fs/cgroup/memory"
    if os.path.isdir(place) and os.statvfs(place).f_flag & os.ST_RDONLY:
        fix = f"Mount {place} writable. Inside a container, that one must be privileged."
        yield Finding("cgroups", "fail", f"{place} is mounted read-only", fix)


def nftables(_: Settings) -> Iterator[Finding]:
    program = shutil.which("nft", path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    if program is None:
        yield Finding(
            "nftables", "warn", "nft is not installed, so the kernel's side was not tried", "./slipway up installs it."
        )
        return
    if os.geteuid() != 0:
        yield Finding("nftables", "warn", "not tried", "Only root can try; run doctor as root.")
        return
    rules = "add table inet slipway_probe\nadd chain inet slipway_probe c { type nat hook postrouting priority 100; }\n"
    rules += "add rule inet slipway_probe c masquerade\nadd table bridge slipway_probe\n"
    tried = subprocess.run([program, "--check", "-f", "-"], input=rules, check=False, capture_output=True, text=True)
    said = tried.stderr.strip().splitlines()
    fix = "Use a kernel with nf_tables, nft_masq and nf_tables_bridge (Debian's and Ubuntu's have them)."
    yield _verdict(
        "nftables", tried.returncode == 0, "works" if tried.returncode == 0 else (said or ["failed"])[0], fix
    )


def forwarding(_: Settings) -> Iterator[Finding]:
    value = _read("/proc/sys/net/ipv4/ip_forward")
    found = {"1": "on", "0": "off; Slipway switches it on with the first network"}.get(value, "unknown")
    yield _verdict("ip_forward", value in ("0", "1"), found, "Check /proc/sys/net/ipv4/ip_forward.", otherwise="warn")


# ------------------------------------------------------------------------------------------- programs, files, ports


def _version_of(program: str) -> str:
    flags = {"nft": "--version", "ip": "-V", "busybox": "--help"}
    try:
        said = subprocess.run(
            [program, flags.get(os.path.basename(program), "--version")],
            check=False,
            capture_output=True,
            text=True,
            timeout=10,
        )
    except (OSError, subprocess.TimeoutExpired):
        return "does not run"
    lines = (said.stdout or said.stderr).strip().splitlines()
    return lines[0][:80] if lines else "says nothing"


def programs(_: Settings) -> Iterator[Finding]:
    absent = {package.name for package in packages.missing(packages.RUN)}
    path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    for package in packages.RUN:
        name = package.program or package.name
        if package.name in absent:
            yield Finding(
                name, "warn", f"missing ({package.why})", f"./slipway up installs the package {package.name}."
            )
        elif package.program:
            yield Finding(name, "ok", _version_of(shutil.which(package.program, path=path) or package.program))
        else:
            yield Finding(name, "ok", package.why)


def oci_runtime(_: Settings) -> Iterator[Finding]:
    present = [
        name
        for name in ("crun", "runc")
        if shutil.which(name, path="/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin")
    ]
    if not present:
        yield Finding("OCI runtime", "warn", "neither runc nor crun", "./slipway up installs both.")
    else:
        yield Finding("OCI runtime", "ok", f"{' and '.join(present)}; the one that passes the self-test is used")


def seccomp(_: Settings) -> Iterator[Finding]:
    if "seccomp" not in _read("/proc/sys/kernel/seccomp/actions_avail") and "Seccomp:" not in _read(
        "/proc/self/status"
    ):
        yield Finding("seccomp", "fail", "the kernel has none", "Use a kernel with CONFIG_SECCOMP_FILTER.")
    else:
        yield Finding("seccomp", "ok", "in the kernel")


def existing(path: Path) -> Path:
    """The path, or the nearest folder above it that exists."""
    while not path.exists():
        path = path.parent
    return path


def disk(settings: Settings) -> Iterator[Finding]:
    place = existing(settings.home)
    usage = os.statvfs(place)
    free, inodes = usage.f_bavail * usage.f_frsize, usage.f_favail
    found = f"{free / GIB:.1f} GiB free for {settings.home}"
    fix = "Free some space, or choose a --home on a larger disk."
    level: Level = "fail" if free < GIB else "warn"
    yield _verdict("disk", free >= 5 * GIB, found, f"Images need several GiB. {fix}", otherwise=level)
    if usage.f_files and inodes < 100_000:
        yield Finding("disk", "warn", f"{inodes} inodes free", fix)


def home(settings: Settings) -> Iterator[Finding]:
    place = existing(settings.home)
    found = f"{settings.home}"
    if not place.is_dir():
        yield Finding("home", "fail", f"{place} is not a folder", "Choose another folder with --home.")
        return
    if os.geteuid() != 0:
        yield Finding("home", "warn", f"{found}: not tried", "Only root can try; run doctor as root.")
        return
    read_only = bool(os.statvfs(place).f_flag & os.ST_RDONLY)
    if read_only or not os.access(place, os.W_OK):
        yield Finding("home", "fail", f"{place} cannot be written", "Choose another folder with --home.")
        return
    closed = next((str(part) for part in [place, *place.parents] if not part.stat().st_mode & 0o001), None)
    if closed is not None and closed != str(settings.home):
        fix = f"Choose a --home outside {closed}, for example /var/lib/slipway: the console runs as the user slipway."
        yield Finding("home", "fail", f"{closed} is closed to other users than its owner", fix)
        return
    yield Finding("home", "ok", found)


def subnets(settings: Settings) -> Iterator[Finding]:
    """Another network of this machine inside our block would get our containers' traffic, or we its."""
    block = ipaddress.IPv4Network(settings.values["SLIPWAY_SUBNETS"])
    ours = own_bridges(settings)
    others = [(device, other) for device, other in routed(_read("/proc/net/route")) if device not in ours]
    taken = [f"{other} by {device}" for device, other in others if other.subnet_of(block)]
    around = [f"{other} by {device}" for device, other in others if other != block and block.subnet_of(other)]
    fix = "Choose another block with SLIPWAY_SUBNETS, such as 10.90.0.0/16."
    if any(device.startswith(BRIDGE) for device, _ in others):
        fix += (
            f" A device {BRIDGE}… is another Slipway's, or was left by one whose home is gone: ip link delete it then."
        )
    if taken:
        said = f"{block} is in use: {', '.join(taken[:3])}"
        yield Finding("subnets", "fail", said, fix)
    elif around:
        said = f"{block} lies inside {', '.join(around[:3])}"
        yield Finding("subnets", "warn", said, f"If machines there have addresses in {block}: {fix}")
    else:
        yield Finding("subnets", "ok", f"{block} is free")


def port(settings: Settings) -> Iterator[Finding]:
    name = f"port {settings.port}"
    family = socket.AF_INET6 if ":" in settings.listen else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((settings.listen, settings.port))
            probe.listen(1)
        except PermissionError:
            fix = "The console is not root: choose a port from 1024 on, behind a proxy if need be."
            yield Finding(name, "fail", "not allowed", fix)
        except OSError as error:
            if _held_by_us(settings):
                yield Finding(name, "ok", "held by the Slipway that runs over this home")
                return
            fix = "Choose another with --port or SLIPWAY_PORT, or another address with --listen."
            yield Finding(
                name, "fail", f"{settings.listen} port {settings.port}: {(error.strerror or str(error)).lower()}", fix
            )
        else:
            yield Finding(name, "ok", f"free on {settings.listen}")
    if settings.port < 1024:
        yield Finding(
            name,
            "fail",
            "is kept for root, and the console is not root",
            "Choose a port from 1024 on, and a proxy in front.",
        )


def _held_by_us(settings: Settings) -> bool:
    from launcher.lock import Lock

    try:
        return bool(Lock(settings.home / "up.lock").holder())
    except OSError:
        return False


CHECKS: tuple[Check, ...] = (
    root,
    system,
    python,
    kernel,
    overlayfs,
    user_namespaces,
    idmapped_mounts,
    cgroups,
    seccomp,
    nftables,
    forwarding,
    programs,
    oci_runtime,
    home,
    disk,
    subnets,
    port,
    clock,
)
QUICK: tuple[Check, ...] = (
    root,
    system,
    python,
    kernel,
    overlayfs,
    user_namespaces,
    idmapped_mounts,
    cgroups,
    seccomp,
    home,
    disk,
    subnets,
    port,
)
"""Before the set-up changes anything; :data:`AFTER_PACKAGES` follow when what they try with is there."""
AFTER_PACKAGES: tuple[Check, ...] = (nftables,)


def examine(settings: Settings, checks: tuple[Check, ...] = CHECKS) -> list[Finding]:
    return [finding for check in checks for finding in check(settings)]
