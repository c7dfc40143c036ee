"""What a person types at the command line and what a registry says in its headers, with anything in it: a value or a sentence."""

from __future__ import annotations

import contextlib

from hypothesis import example, given
from hypothesis import strategies as st

from runtime.cli import moments, options, placing
from runtime.errors import ImageFault, InvalidSpec, RuntimeFault
from runtime.image.reference import Reference
from runtime.image.registry import RegistryClient, may_sign_in_at
from tests.unit.fuzzing import ODD_TEXT, fuzzed

WORDS = ODD_TEXT | st.from_regex(
    r"[0-9]{1,7}(-[0-9]{1,7})?(:[0-9]{0,6}(-[0-9]{1,6})?)?(/(tcp|udp|sctp))?", fullmatch=True
)


@fuzzed(200)
@given(text=WORDS)
@example(text="0-99999:0-99999")
@example(text="[::1%eth0]:80:80")
def test_ports(text: str) -> None:
    with contextlib.suppress(InvalidSpec):
        found = placing.ports(text)
        assert 1 <= len(found) <= 100_000
        assert all(port.container_port >= 0 for port in found)


@fuzzed(200)
@given(text=ODD_TEXT | st.from_regex(r"[0-9.]{1,400}[kmgKMGdhs]?", fullmatch=True))
@example(text="9" * 400 + "g")
@example(text="9" * 400 + "d")
@example(text="9" * 400)
@example(text="9" * 5000 + ".5k")
def test_amounts_and_moments(text: str) -> None:
    for read in (
        placing.rate,
        lambda text: moments.moment(text, "since"),
        placing.attachment,
        options.ulimit,
        options.tmpfs,
        lambda text: options.pairs([text], "env"),
    ):
        with contextlib.suppress(RuntimeFault):
            read(text)


@fuzzed(100)
@given(cpus=st.floats())
def test_processors(cpus: float) -> None:
    with contextlib.suppress(RuntimeFault):
        assert isinstance(options.millis(cpus), int)


@fuzzed(150)
@given(
    challenge=ODD_TEXT
    | st.from_regex(r'(Bearer|bearer|Basic|Digest) (realm="[ -~]{0,30}",?)?(service="[a-z]{0,5}")?', fullmatch=True)
)
@example(challenge='Bearer realm="https://[::1"')
@example(challenge='Bearer realm="https://a:99999999/"')
@example(challenge='Bearer realm="http://127.0.0.1/"')
@example(challenge='Bearer realm="https://xn--a.example"')
def test_a_challenge_is_followed_to_nowhere_or_refused(challenge: str) -> None:
    """No registry is there: what would be asked is refused by the transport, as unreachable."""
    with (
        RegistryClient(Reference.parse("registry.invalid/a:b"), None, insecure=False) as client,
        contextlib.suppress(ImageFault),
    ):
        client._ask_for_token = lambda realm, query, headers: "token"  # type: ignore[method-assign]
        client._authenticate(challenge)
        assert client._authorization.startswith(("Bearer ", "Basic "))  # type: ignore[union-attr]


@fuzzed(150)
@given(registry=ODD_TEXT, realm=ODD_TEXT)
def test_whose_sign_in_it_is(registry: str, realm: str) -> None:
    assert may_sign_in_at(registry, realm) in {True, False}
