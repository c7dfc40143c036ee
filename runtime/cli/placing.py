"""What ``run`` is told of networks, ports and bandwidth, as a person writes it.  The engine judges the values."""

from __future__ import annotations

import argparse
import re
from typing import Literal

from runtime.api import ANY_ADDRESS, Attachment, Port
from runtime.errors import InvalidSpec

PORT = re.compile(
    r"(?:(?:\[(?P<six>[0-9A-Fa-f:.]+)\]|(?P<four>\d+\.\d+\.\d+\.\d+)):)?"
    r"(?:(?P<outer>\d{1,5}(?:-\d{1,5})?)?:)?(?P<inner>\d{1,5}(?:-\d{1,5})?)(?:/(?P<protocol>tcp|udp))?",
    re.ASCII,
)
RATE = re.compile(r"(\d{1,15}(?:\.\d{1,15})?)([kmg]?)", re.ASCII | re.IGNORECASE)
FACTORS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9}


def ports(text: str) -> tuple[Port, ...]:
    """``[ADDRESS:][[HOST[-HOST]]:]CONTAINER[-CONTAINER][/udp]``, an IPv6 address in brackets.

    One container port with a range of host ports gets a free one of these.  Raises InvalidSpec.
    """
    written = PORT.fullmatch(text)
    if written is None:
        raise InvalidSpec(
            f"{text!r} is not a port.",
            hint="Write 8080:80, 80 for a free one, 53:53/udp, 8000-8010:8000-8010, or 127.0.0.1:8080:80.",
        )
    inner, outer = _range(written["inner"]), _range(written["outer"]) if written["outer"] else None
    protocol: Literal["tcp", "udp"] = "udp" if written["protocol"] == "udp" else "tcp"
    address = written["six"] or written["four"] or ANY_ADDRESS
    if outer is not None and len(inner) == 1 < len(outer):
        return (Port(inner[0], protocol, None, address, outer[0], outer[-1]),)
    if outer is not None and len(outer) != len(inner):
        raise InvalidSpec(
            f"{text!r} has ranges of different lengths.",
            hint="Give as many host ports as container ports, or one container port.",
        )
    numbers = outer if outer is not None else [None] * len(inner)
    return tuple(Port(inside, protocol, outside, address) for inside, outside in zip(inner, numbers, strict=True))


def _range(text: str) -> range:
    first, _, last = text.partition("-")
    if last and int(last) < int(first):
        raise InvalidSpec(f"The range {text} ends before it begins.", hint="Write the lower port first.")
    return range(int(first), int(last or first) + 1)


def attachment(text: str) -> Attachment:
    """``NAME[,ip=ADDRESS][,ip6=ADDRESS][,alias=NAME]...``.  Raises InvalidSpec."""
    name, *words = text.split(",")
    pairs = [word.partition("=")[::2] for word in words]
    known = dict(pairs)
    if not set(known) <= {"ip", "ip6", "alias"} or not all(value for _, value in pairs):
        raise InvalidSpec(
            f"{text!r} is not a network.", hint="Write it as back,ip=10.0.0.7,alias=db.", field="--network"
        )
    aliases = tuple(value for key, value in pairs if key == "alias")
    return Attachment(name, known.get("ip"), known.get("ip6"), aliases)


def rate(text: str | None) -> int | None:
    """Bits per second: ``500k``, ``10M``, ``1.5G``.  Raises InvalidSpec."""
    if text is None:
        return None
    written = RATE.fullmatch(text)
    if written is None:
        raise InvalidSpec(f"{text!r} is not a bandwidth.", hint="Write 500k, 10M or 1G, in bits per second.")
    return round(float(written[1]) * FACTORS[written[2].lower()])


def add_options(run: argparse.ArgumentParser) -> None:
    run.add_argument(
        "-p", "--publish", action="append", default=[], metavar="[ADDRESS:][HOST:]CONTAINER[/udp]",
        help="a port or a range such as 8000-8010:8000-8010; of 8000-8010:80 a free one",
    )  # fmt: skip
    run.add_argument(
        "--network", action="append", default=[], metavar="NAME[,ip=ADDRESS][,ip6=ADDRESS][,alias=NAME]",
        help="may be given several times; the first that leads out has the default route",
    )  # fmt: skip
