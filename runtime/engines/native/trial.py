"""The self-test of a container runtime: what it makes is like a real container, and is never run."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
from pathlib import Path

from runtime.api import ContainerSpec
from runtime.api.options import DEFAULT_CAPABILITIES
from runtime.engines.native import apparmor, bundle, seccomp
from runtime.engines.native.choice import TRIAL
from runtime.engines.native.oci import DEADLINE_S, Runtime, fault
from runtime.engines.native.passwd import Identity
from runtime.errors import DeadlineExceeded
from runtime.home import Home
from runtime.kernel import cgroup, idmap
from runtime.kernel.mount import MS_NODEV, mount, unmount


def run(home: Home, runtime: Runtime) -> None:
    """Create a container with the namespaces, cgroups and mounts of a real one, and delete it unstarted.  Raises RuntimeFault."""
    folder = home.run / TRIAL / "bundle"
    _clear(folder)
    trial = Runtime(runtime.path, folder / "state")
    group, parent = cgroup.Cgroup(home.cgroup(TRIAL, TRIAL)), cgroup.Cgroup(f"/{home.instance}")
    first = not parent.exists()
    try:
        with idmap.beside(home.uid_base) as userns:
            _prepare(home, folder, userns.path() if userns else None)
            cgroup.ensure_parent(f"/{home.instance}/{TRIAL}")
            _create(trial, folder)
        group.kill()
        trial.delete(TRIAL)
    finally:
        group.kill()
        with contextlib.suppress(OSError):
            cgroup.Cgroup(f"/{home.instance}/{TRIAL}").remove()
        if first:
            parent.remove_empty()
        _clear(folder)


def _clear(folder: Path) -> None:
    if (folder / "root").exists():
        unmount(folder / "root", lazy=True)
    shutil.rmtree(folder, ignore_errors=True)


def _prepare(home: Home, folder: Path, userns: Path | None) -> None:
    """A bundle whose root holds a program that is never run; a mount of its own, since RUN's may forbid to execute."""
    root = folder / "root"
    root.mkdir(parents=True, mode=0o755)
    for parent in (home.run, folder.parent, folder, root):
        parent.chmod(0o755)  # whatever the umask
    mount("tmpfs", root, "tmpfs", MS_NODEV, f"size=64k,mode=755,uid={home.uid_base},gid={home.uid_base}")
    program = root / "program"
    program.touch(mode=0o755)
    program.chmod(0o755)
    for name in ("hosts", "hostname", "resolv.conf"):
        (folder / name).touch()
    host = bundle.Host(
        root=root,
        folder=folder,
        cgroup=home.cgroup(TRIAL, TRIAL),
        uid_base=home.uid_base,
        userns=userns,
        cgroup_version=cgroup.version(),
        seccomp=seccomp.profile(frozenset(DEFAULT_CAPABILITIES)),
        volumes=folder,
        open_files=1024,
        apparmor=apparmor.profile()[0],
    )
    spec = ContainerSpec(id=TRIAL, tenant=TRIAL, name=TRIAL, image="", command=("/program",), init=False)
    configuration = bundle.configuration(spec, {}, Identity(0, 0), host)
    (folder / "config.json").write_text(json.dumps(configuration), encoding="utf-8")


def _create(trial: Runtime, folder: Path) -> None:
    words = folder / "log"
    command = [trial.path, "--root", str(trial.root), "--log", str(words), "create", "--bundle", str(folder), TRIAL]
    try:
        with open(folder / "streams", "w+b") as own:  # crun gives its streams away to the container, even /dev/null
            done = subprocess.run(command, stdin=own, stdout=own, stderr=own, timeout=DEADLINE_S, check=False, cwd="/")
    except subprocess.TimeoutExpired:
        raise DeadlineExceeded("It did not create a container in time.") from None
    if done.returncode != 0:
        raise fault(words.read_text(encoding="utf-8", errors="replace") if words.exists() else "", "It refused")
