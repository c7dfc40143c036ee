"""qemu without a display: three disks in, lines of a serial console out.  Emulated (TCG): it needs nothing of the processor."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

from tests.vm.image import Image

MEMORY_MIB = 3072
PROCESSORS = 2
COMMAND_LINE = (
    "root=/dev/disk/by-id/virtio-system rw console=ttyS0 quiet loglevel=3 panic=-1"
    " systemd.unit=slipway-tests.service systemd.show_status=no"
)


def boot(image: Image, source: Path, results: Path, say: Callable[[str], None], deadline_s: float) -> bool:
    """Runs it until it switches itself off; whatever it wrote to ``results`` is there then.  False: it was ended at the deadline.

    Its processor and memory go with this process, however that ends.
    """
    process = subprocess.Popen(
        ["setpriv", "--pdeathsig", "KILL", *command(image, source, results)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    late = threading.Event()

    def end() -> None:
        late.set()
        process.kill()

    clock = threading.Timer(deadline_s, end)
    clock.start()
    try:
        for line in process.stdout or ():
            say(line.rstrip())
    finally:
        clock.cancel()
        process.kill()
        process.wait()
    return not late.is_set()


def command(image: Image, source: Path, results: Path) -> list[str]:
    def disk(name: str, file: Path, *options: str) -> list[str]:
        drive = ",".join((f"if=none,id={name},file={file},format=raw", *options))
        return ["-drive", drive, "-device", f"virtio-blk-pci,drive={name},serial={name}"]

    return [
        "qemu-system-x86_64", "-accel", "tcg,thread=multi", "-cpu", "max", "-smp", str(PROCESSORS), "-m", str(MEMORY_MIB),
        "-nodefaults", "-no-user-config", "-no-reboot", "-nic", "none", "-display", "none", "-serial", "stdio",
        "-kernel", str(image.kernel), "-initrd", str(image.initrd), "-append", COMMAND_LINE,
        *disk("system", image.disk, "snapshot=on"), *disk("source", source, "readonly=on"), *disk("results", results),
    ]  # fmt: skip
