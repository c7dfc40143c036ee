"""Docker archives, which ``docker load``, ``skopeo copy`` and ``Engine.load`` read; by default of this machine's static busybox."""

from __future__ import annotations

import hashlib
import io
import json
import platform
import subprocess
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path

REFERENCE = "bench/busybox:latest"
BUSYBOX = Path("/bin/busybox")
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


def architecture() -> str:
    """Of this machine, as OCI names it."""
    return ARCHITECTURES[platform.machine()]


def _add(archive: tarfile.TarFile, name: str, data: bytes, mode: int = 0o644) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(data), mode
    archive.addfile(entry, io.BytesIO(data))


def busybox() -> bytes:
    applets = subprocess.run([BUSYBOX, "--list"], check=True, capture_output=True, text=True).stdout.split()
    held = io.BytesIO()
    with tarfile.open(fileobj=held, mode="w") as archive:
        for folder in ("bin", "etc", "dev", "proc", "sys", "tmp", "root"):
            entry = tarfile.TarInfo(folder)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            archive.addfile(entry)
        _add(archive, "bin/busybox", BUSYBOX.read_bytes(), 0o755)
        for applet in applets:
            if applet != "busybox":
                entry = tarfile.TarInfo(f"bin/{applet}")
                entry.type, entry.linkname, entry.mode = tarfile.LNKTYPE, "bin/busybox", 0o755
                archive.addfile(entry)
        _add(archive, "etc/passwd", b"root:x:0:0:root:/root:/bin/sh\n")
        _add(archive, "etc/group", b"root:x:0:\n")
    return held.getvalue()


def layer(files: Mapping[str, bytes]) -> bytes:
    """An uncompressed tar."""
    held = io.BytesIO()
    with tarfile.open(fileobj=held, mode="w") as archive:
        for name, data in files.items():
            _add(archive, name, data)
    return held.getvalue()


def file(
    name: str, content: bytes = b"", *, mode: int = 0o644, uid: int = 0, gid: int = 0
) -> tuple[tarfile.TarInfo, bytes]:
    made = tarfile.TarInfo(name)
    made.size, made.mode, made.uid, made.gid = len(content), mode, uid, gid
    return made, content


def folder(name: str, *, mode: int = 0o755, uid: int = 0, gid: int = 0) -> tuple[tarfile.TarInfo, bytes]:
    made, _ = file(name, mode=mode, uid=uid, gid=gid)
    made.type = tarfile.DIRTYPE
    return made, b""


def link(name: str, target: str) -> tuple[tarfile.TarInfo, bytes]:
    made, _ = file(name, mode=0o777)
    made.type, made.linkname = tarfile.SYMTYPE, target
    return made, b""


def hard_link(name: str, target: str) -> tuple[tarfile.TarInfo, bytes]:
    made, _ = file(name)
    made.type, made.linkname = tarfile.LNKTYPE, target
    return made, b""


def entries(*rows: tuple[tarfile.TarInfo, bytes]) -> bytes:
    """An uncompressed tar of any kinds of entry."""
    held = io.BytesIO()
    with tarfile.open(fileobj=held, mode="w") as archive:
        for entry, content in rows:
            archive.addfile(entry, io.BytesIO(content))
    return held.getvalue()


def write(
    path: Path,
    *,
    reference: str = REFERENCE,
    layers: Sequence[bytes] | None = None,
    architecture: str = "",
    says: Mapping[str, object] | None = None,
) -> Path:
    """``layers`` (tars) and ``architecture`` replace the honest ones; ``says``: in its configuration."""
    tars = [busybox()] if layers is None else list(layers)
    config = {
        "architecture": architecture or ARCHITECTURES[platform.machine()],
        "os": "linux",
        "created": "2026-01-01T00:00:00Z",
        "config": {"Env": ["PATH=/bin"], "Cmd": ["/bin/sh"], "WorkingDir": "/", **(says or {})},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(tar).hexdigest()}" for tar in tars]},
        "history": [
            {"created": "2026-01-01T00:00:00Z", "created_by": f"layer {number}"} for number in range(len(tars))
        ],
    }
    raw = json.dumps(config).encode()
    name = f"{hashlib.sha256(raw).hexdigest()}.json"
    names = [f"layer{number}/layer.tar" for number in range(len(tars))]
    manifest = [{"Config": name, "RepoTags": [reference], "Layers": names}]
    with tarfile.open(path, "w") as archive:
        for inside, tar in zip(names, tars, strict=True):
            _add(archive, inside, tar)
        _add(archive, name, raw)
        _add(archive, "manifest.json", json.dumps(manifest).encode())
    return path
