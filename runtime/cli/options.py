"""Options of ``run`` and ``update`` as a person writes them, and what they mean for a spec.  The engine judges the values."""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Sequence

from runtime.api import Limits, Tmpfs, Ulimit
from runtime.cli import placing
from runtime.errors import InvalidSpec

MIB = 2**20
UNITS = {"": 1, "k": 2**10, "m": MIB, "g": 2**30, "t": 2**40}
AMOUNT = re.compile(r"(\d{1,12})([kmgt]?)i?b?", re.ASCII | re.IGNORECASE)
RATES = ("read-bps", "write-bps", "read-iops", "write-iops")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Of what a container is, besides its limits."""
    parser.add_argument("--entrypoint", help="in place of the image's")
    parser.add_argument("-u", "--user", help="NAME|UID[:GROUP|GID]")
    parser.add_argument("-w", "--workdir", help="the working directory")
    parser.add_argument("--hostname")
    parser.add_argument("-l", "--label", metavar="NAME=VALUE", action="append", default=[])
    parser.add_argument("--stop-signal")
    parser.add_argument("--stop-time", type=float, default=10.0, help="seconds between that and SIGKILL")
    parser.add_argument("--no-init", action="store_true", help="the program is the first process itself")
    parser.add_argument("--read-only", action="store_true", help="the root; /run and /tmp are in memory then")
    parser.add_argument("--tmpfs", metavar="PATH[:size=64m,mode=1777,exec]", action="append", default=[])
    parser.add_argument("--ulimit", metavar="NAME=SOFT[:HARD]", help="-1: none", action="append", default=[])
    parser.add_argument("--cap-add", metavar="NAME", action="append", default=[])
    parser.add_argument("--cap-drop", metavar="NAME|ALL", action="append", default=[])
    parser.add_argument("--sysctl", metavar="NAME=VALUE", action="append", default=[])


def add_limits(parser: argparse.ArgumentParser) -> None:
    """None is what was not said."""
    parser.add_argument("--memory", type=int, help="MiB")
    parser.add_argument("--swap", type=int, help="MiB, beside the memory")
    parser.add_argument("--cpus", type=float)
    parser.add_argument("--cpuset", metavar="0-2,5", help="the processors it may run on; '' for all")
    parser.add_argument("--cpu-weight", type=int, metavar="1-10000", help="its share of a busy processor; 0: by --cpus")
    parser.add_argument("--pids", type=int)
    parser.add_argument("--io-weight", type=int, metavar="1-1000", help="its share of a busy disk; 0: the usual")
    for name in RATES:
        unit = "operations" if name.endswith("iops") else "bytes (10m)"
        parser.add_argument(f"--{name}", metavar="N", help=f"{unit} a second of the node's disk; 0: any")
    parser.add_argument("--net-in", metavar="RATE", help="bits a second that reach it: 500k, 10M, 1G; 0: any")
    parser.add_argument("--net-out", metavar="RATE", help="bits a second that it sends; 0: any")


def limits(options: argparse.Namespace, base: Limits) -> Limits:
    """``base`` with what was said.  Raises InvalidSpec."""
    swap, thousandths = options.swap, None if options.cpus is None else millis(options.cpus)
    rates = [_amount(getattr(options, name.replace("-", "_")), f"--{name}") for name in RATES]
    return Limits(
        memory_bytes=base.memory_bytes if options.memory is None else options.memory * MIB,
        cpu_millis=base.cpu_millis if thousandths is None else thousandths,
        pids=base.pids if options.pids is None else options.pids,
        log_bytes=base.log_bytes,
        swap_bytes=base.swap_bytes if swap is None else swap * MIB,
        cpuset=base.cpuset if options.cpuset is None else options.cpuset,
        cpu_weight=or_none(options.cpu_weight, base.cpu_weight),
        io_weight=or_none(options.io_weight, base.io_weight),
        read_bps=or_none(rates[0], base.read_bps),
        write_bps=or_none(rates[1], base.write_bps),
        read_iops=or_none(rates[2], base.read_iops),
        write_iops=or_none(rates[3], base.write_iops),
        disk_bytes=base.disk_bytes,
        net_rx_bps=or_none(placing.rate(options.net_in), base.net_rx_bps),
        net_tx_bps=or_none(placing.rate(options.net_out), base.net_tx_bps),
    )


def or_none(said: int | None, base: int | None) -> int | None:
    """0 takes a limit away."""
    return base if said is None else said or None


def millis(cpus: float) -> int:
    """The engine judges the number; what is none is told here."""
    if not math.isfinite(cpus * 1000):
        raise InvalidSpec(f"{cpus} is not a number of processors.", hint="Give one such as 0.5.", field="--cpus")
    return round(cpus * 1000)


def _amount(text: str | None, field: str) -> int | None:
    if text is None:
        return None
    written = AMOUNT.fullmatch(text)
    if written is None:
        raise InvalidSpec(f"{text!r} is not an amount.", hint="Write 1000, 64k, 10m or 1g.", field=field)
    return int(written[1]) * UNITS[written[2].lower()]


def pairs(texts: Sequence[str], field: str) -> dict[str, str]:
    """Of ``NAME=VALUE``."""
    for text in texts:
        if "=" not in text:
            raise InvalidSpec(f"{text!r} has no value.", hint="Write NAME=VALUE.", field=field)
    return dict(text.split("=", 1) for text in texts)


def ulimit(text: str) -> Ulimit:
    written = re.fullmatch(r"([a-z]+)=(-?\d{1,19})(?::(-?\d{1,19}))?", text, re.ASCII)
    if written is None:
        raise InvalidSpec(f"{text!r} is not a ulimit.", hint="Write nofile=1024:4096 or core=0.", field="--ulimit")
    return Ulimit(written[1], int(written[2]), int(written[3] or written[2]))


def tmpfs(text: str) -> Tmpfs:
    path, _, rest = text.partition(":")
    said = dict(word.partition("=")[::2] for word in rest.split(",") if word)
    plain = Tmpfs(path)
    mode = said.pop("mode", f"{plain.mode:o}")
    size = _amount(said.pop("size", None), "--tmpfs")
    executable = said.pop("exec", None) is not None
    if said or not re.fullmatch("[0-7]{1,4}", mode):
        raise InvalidSpec(f"{text!r} is not a tmpfs.", hint="Write /cache:size=64m,mode=700.", field="--tmpfs")
    return Tmpfs(path, plain.size_bytes if size is None else size, int(mode, 8), executable)
