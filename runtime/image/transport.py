"""Requests to a registry and to where it sends us: each hop vetted, redirects followed, failures that may pass tried again, deadlines kept."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

import httpx

from runtime.errors import ImageUnavailable
from runtime.image.cutting import cut_after
from runtime.image.reach import Reach

logging.getLogger("httpx").setLevel(
    logging.WARNING
)  # it logs whole addresses, and those of blob stores are signed: as good as a password
TIMEOUT = httpx.Timeout(30, connect=10)
"""Of a connection, and of each read."""
ANSWER_WITHIN_S = 60.0
"""For an answer's head, and for all of a small answer."""
SLOWEST_UPLOAD = 16 << 10
"""Bytes a second, by which the above grows with what is sent."""
TRIES = 3
PAUSE_S = 0.5
MOST_REDIRECTS = 5

Params = Mapping[str, str | list[str]] | None
Content = bytes | Iterable[bytes] | None


def unavailable(registry: str, why: str) -> ImageUnavailable:
    return ImageUnavailable(
        f"The registry {registry} {why}.",
        hint="Check its address, and that it runs, then try again.",
        registry=registry,
    )


class Transport:
    """Close it after use.  Threads may share it."""

    def __init__(self, registry: str, reach: Reach) -> None:
        self._registry = registry
        self._reach = reach
        self._client = httpx.Client(timeout=TIMEOUT, follow_redirects=False, trust_env=True)
        self._streams: list[Any] = []

    def close(self) -> None:
        self._client.close()

    def get(self, url: str, headers: Mapping[str, str], params: Params = None) -> httpx.Response:
        return self.request("GET", url, headers, params)

    def request(
        self, method: str, url: str, headers: Mapping[str, str], params: Params = None, *, content: Content = None
    ) -> httpx.Response:
        """An open response.  Authorization goes to the first host only.  Raises httpx.HTTPError, ImageDenied, ImageUnavailable.

        What sends something is sent on nowhere: where uploads go, a registry says by ``Location``, which the next request vets.
        ``headers`` has the length of a ``content``.
        """
        request = self._client.build_request(method, url, headers=headers, params=params, content=content)
        within_s = ANSWER_WITHIN_S + int(headers.get("Content-Length", "0")) / SLOWEST_UPLOAD
        for _ in range(MOST_REDIRECTS + 1):
            response = self._hop(request, within_s)
            following = response.next_request
            if following is None:
                return response
            response.close()
            if method not in {"GET", "HEAD"}:
                raise unavailable(self._registry, "sends an upload on to another address")
            if request.url.scheme == "https" and following.url.scheme != "https":
                raise unavailable(self._registry, "sends us on to an address that is not safe")
            request = following
        raise unavailable(self._registry, "sends us from one address to another without end")

    def _hop(self, request: httpx.Request, within_s: float) -> httpx.Response:
        url = request.url
        self._reach.vet(url)

        def trace(event: str, info: Mapping[str, Any]) -> None:
            if event in {"connection.connect_tcp.complete", "connection.start_tls.complete"}:
                self._streams.append(info["return_value"])
            self._reach.met(url, event, info)

        request.extensions = {**request.extensions, "trace": trace}
        # a head that comes byte by byte meets each read's timeout; it does not meet this
        late = partial(unavailable, self._registry, "does not answer in time")
        with cut_after(within_s, self._streams, late):
            return self._client.send(request, stream=True)

    def patiently(self, send: Callable[[], httpx.Response]) -> httpx.Response:
        """Again, with pauses, while the failure looks like a passing one."""
        for attempt in range(TRIES):
            last = attempt + 1 == TRIES
            try:
                response = send()
            except httpx.ConnectError as error:
                raise _no_connection(self._registry, error) from None
            except httpx.TimeoutException:
                if last:
                    raise unavailable(self._registry, "does not answer in time") from None
            except (httpx.HTTPError, httpx.InvalidURL):
                if last:
                    raise unavailable(self._registry, "does not answer properly") from None
            else:
                if response.status_code < httpx.codes.INTERNAL_SERVER_ERROR or last:
                    return response
                response.close()
            time.sleep(PAUSE_S * 2**attempt)
        raise AssertionError("the last try returns or raises")

    def content(self, response: httpx.Response, most: int) -> bytes | None:
        """All of a small answer; None when it is larger.  Raises ImageUnavailable."""
        deadline = time.monotonic() + ANSWER_WITHIN_S
        held = bytearray()
        try:
            for chunk in response.iter_bytes():
                held += chunk
                if len(held) > most:
                    return None
                if time.monotonic() > deadline:
                    raise unavailable(self._registry, "does not answer in time")
        except httpx.HTTPError:
            raise unavailable(self._registry, "does not answer properly") from None
        return bytes(held)


def _no_connection(registry: str, error: httpx.ConnectError) -> ImageUnavailable:
    said = str(error)
    if "CERTIFICATE" in said:
        return unavailable(registry, "has a certificate that this node does not trust")
    if "SSL" in said or "TLS" in said:
        return unavailable(registry, "does not speak HTTPS; allow plain HTTP if that is meant")
    return unavailable(registry, "cannot be reached")
