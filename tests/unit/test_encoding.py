"""State files say the same as the standard library's copy of a dataclass would."""

from __future__ import annotations

import json
from dataclasses import asdict

import pytest

from runtime.api import Attachment, ContainerSpec, HealthCheck, Limits, Port, RestartPolicy, State, Tmpfs
from runtime.encoding import encode
from runtime.engines.native.records import Record, decode_spec, encode_spec

SPEC = ContainerSpec(
    "c1a", "tenant1", "web", "sha256:" + "0" * 64, command=("sleep", "1"), env={"B": "2", "A": "ü"}, labels={"x": "y"},
    limits=Limits(net_rx_bps=5), ports=(Port(80), Port(53, "udp", 5353)), tmpfs=(Tmpfs("/t", 1 << 20),), networks=(Attachment("front", aliases=("a", "b")),),
    restart=RestartPolicy("on-failure", 3), health=HealthCheck("command", command=("true",)),
)  # fmt: skip


@pytest.mark.parametrize("value", [SPEC, Record(State.RUNNING, 1.5, ports=(Port(80),), sizes=()), Limits()])
def test_as_the_standard_library_does_it(value: object) -> None:
    assert encode(value) == json.dumps(asdict(value)).encode()  # type: ignore[call-overload]


def test_sorted_at_every_depth() -> None:
    assert encode(SPEC, sort_keys=True) == json.dumps(asdict(SPEC), sort_keys=True).encode()


def test_a_spec_comes_back() -> None:
    assert decode_spec(encode_spec(SPEC)) == SPEC


def test_what_json_cannot_say_is_refused() -> None:
    with pytest.raises(TypeError):
        encode({"a": object()})
