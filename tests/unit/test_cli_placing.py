"""Ports, networks and bandwidth as a person writes them at the command line."""

from __future__ import annotations

import pytest

from runtime.api import Attachment, Port
from runtime.cli.containers import published
from runtime.cli.placing import attachment, ports, rate
from runtime.errors import InvalidSpec


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("80", (Port(80),)),
        ("8080:80", (Port(80, "tcp", 8080),)),
        ("53:53/udp", (Port(53, "udp", 53),)),
        ("127.0.0.1:8080:80", (Port(80, "tcp", 8080, "127.0.0.1"),)),
        ("127.0.0.1::80", (Port(80, "tcp", None, "127.0.0.1"),)),
        ("[::]:8080:80", (Port(80, "tcp", 8080, "::"),)),
        ("[fd00::1]:80", (Port(80, "tcp", None, "fd00::1"),)),
        ("8000-8001:9000-9001", (Port(9000, "tcp", 8000), Port(9001, "tcp", 8001))),
        ("127.0.0.1:9100-9200:80", (Port(80, "tcp", None, "127.0.0.1", 9100, 9200),)),
        ("9000-9001/udp", (Port(9000, "udp"), Port(9001, "udp"))),
    ],
)
def test_ports(text: str, expected: tuple[Port, ...]) -> None:
    assert ports(text) == expected


@pytest.mark.parametrize(
    "text",
    ["", "x", "80/sctp", "8000-8002:9000-9001", "8000:9000-9001", "9001-9000", "1.2.3:80:80", "::80", "80:", "[::1:80"],
)
def test_what_is_no_port(text: str) -> None:
    with pytest.raises(InvalidSpec):
        ports(text)


def test_networks() -> None:
    assert attachment("back") == Attachment("back")
    assert attachment("back,ip=10.0.0.7,ip6=fd00::7,alias=db,alias=sql") == Attachment(
        "back", "10.0.0.7", "fd00::7", ("db", "sql")
    )
    for wrong in ("back,mac=1", "back,alias", "back,ip"):
        with pytest.raises(InvalidSpec):
            attachment(wrong)


@pytest.mark.parametrize(
    ("text", "expected"), [(None, None), ("8000", 8000), ("500k", 500_000), ("1.5M", 1_500_000), ("1g", 10**9)]
)
def test_bandwidth(text: str | None, expected: int | None) -> None:
    assert rate(text) == expected


def test_what_is_no_bandwidth() -> None:
    for wrong in ("", "fast", "-1", "1T"):
        with pytest.raises(InvalidSpec):
            rate(wrong)


@pytest.mark.parametrize(
    ("port", "shown"),
    [
        (Port(80, "tcp", 8080), "8080->80/tcp"),
        (Port(53, "udp", 53, "127.0.0.1"), "127.0.0.1:53->53/udp"),
        (Port(80, "tcp", 80, "::"), "[::]:80->80/tcp"),
    ],
)
def test_a_published_port_is_shown_with_its_address(port: Port, shown: str) -> None:
    assert published(port) == shown
