"""One signed POST to an address that a tenant chose: never to the node or inside its site unless an admin allowed that.

Signed is ``<timestamp>.<body>`` with HMAC-SHA256; the header ``Slipway-Signature`` is ``t=<unix seconds>,v1=<hex>``.  A receiver
computes it anew, compares in constant time, and refuses an old timestamp.  Redirects are not followed, proxies not used.
"""

from __future__ import annotations

import hashlib
import hmac
import socket
from collections.abc import Mapping
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import httpx

from runtime.image.cutting import cut_after
from runtime.image.reach import PUBLIC, depth

TIMEOUT = httpx.Timeout(10)
"""Of the connection, and of each read."""
WITHIN_S = 20.0
"""All of it."""
MOST_URL = 500


class Refused(Exception):
    """The address may not be spoken to: trying again does not help."""


class Failed(Exception):
    """Trying again may help.  Its sentence says what happened."""


def signature(secret: str, body: bytes, timestamp: int) -> str:
    signed = hmac.new(secret.encode(), f"{timestamp}.".encode() + body, hashlib.sha256)
    return f"t={timestamp},v1={signed.hexdigest()}"


def send(url: str, body: bytes, headers: Mapping[str, str], *, inside: bool, containers: str) -> None:
    """Returns once the receiver has said 2xx.  ``containers``: the block of their subnets.  Raises Refused, Failed."""
    known = urlsplit(url)
    if not inside:
        _vet(known.hostname or "", known.port or 443, containers)
    streams: list[Any] = []

    def trace(event: str, info: Mapping[str, Any]) -> None:
        """Once more, when the connection is there and before anything is sent on it: a name may lead elsewhere by now."""
        if event not in {"connection.connect_tcp.complete", "connection.start_tls.complete"}:
            return
        streams.append(info["return_value"])
        if not inside:
            _meet(str(info["return_value"].get_extra_info("server_addr")[0]), containers)

    try:
        late = partial(Failed, "The address did not answer in time.")
        client = httpx.Client(timeout=TIMEOUT, follow_redirects=False, trust_env=False)
        with client, cut_after(WITHIN_S, streams, late):
            request = client.build_request(
                "POST", url, content=body, headers=dict(headers), extensions={"trace": trace}
            )
            answer = client.send(request, stream=True)
            answer.close()
    except httpx.TimeoutException:
        raise Failed("The address did not answer in time.") from None
    except (httpx.HTTPError, httpx.InvalidURL):
        raise Failed("The address cannot be reached.") from None
    if not 200 <= answer.status_code < 300:
        raise Failed(f"The address answered with status {answer.status_code}.")


def literal_is_inside(host: str, containers: str) -> bool:
    """Whether it is an address, or ``localhost``, that lies on the node or inside its site.  A name is looked up when it is used."""
    try:
        return depth(host, containers) > PUBLIC
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def _vet(host: str, port: int, containers: str) -> None:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        raise Failed("The address cannot be found: its name has no address.") from None
    for address in {str(row[4][0]) for row in found}:
        _meet(address, containers)


def _meet(address: str, containers: str) -> None:
    if depth(address, containers) > PUBLIC:
        raise Refused("The address lies on the node or inside its site, where only an admin can allow it.")
