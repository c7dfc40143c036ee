"""A client of the OCI distribution protocol (distribution-spec 1.1): manifests and blobs, basic and token authentication."""

from __future__ import annotations

import contextlib
import json
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Self

import httpx

from runtime.api import Credentials
from runtime.errors import ImageCorrupt, ImageDenied, ImageFault, NotFound
from runtime.image.blobs import MANIFEST_LIMIT
from runtime.image.reach import Reach
from runtime.image.reference import DOCKER_HUB, Reference
from runtime.image.transport import Content, Params, Transport, unavailable

INDEXES = ("application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json")
MANIFESTS = ("application/vnd.oci.image.manifest.v1+json", "application/vnd.docker.distribution.manifest.v2+json")
LOOPBACK = {"localhost", "127.0.0.1", "::1"}
DOCKER_HUB_ENDPOINT = "registry-1.docker.io"
TOKEN_LIMIT = 1 << 20
SMALL = 1 << 16
SLOWEST = 1 << 10
"""Bytes a second."""
SLOW_FOR_S = 60.0
_CHALLENGE = re.compile(r'([a-zA-Z_]+)=(?:"([^"]*)"|([^\s",]+))')
_COUNTRY_SUFFIX = re.compile(r"[a-z]{1,3}\.[a-z]{2}")
"""Of a country that hands out names one level down, such as co.uk: no site's own domain."""


def may_sign_in_at(registry: str, realm: str) -> bool:
    """Whether a registry's password may go to this host: the registry itself, its parent domain, or another name in that."""
    parent = registry.partition(".")[2]
    if realm == registry:
        return True
    if "." not in parent or _COUNTRY_SUFFIX.fullmatch(parent) or parent.rpartition(".")[2].isdigit():
        return False
    return realm == parent or realm.endswith(f".{parent}")


class RegistryClient:
    """For one repository.  Close it after use.  ``insecure`` allows plain HTTP; a loopback registry may always use it.

    ``confined`` and ``containers``: see :mod:`runtime.image.reach`.  ``push``: it signs in for that as well, and to read the
    repositories ``beside``, whose content may be mounted.
    """

    def __init__(
        self,
        reference: Reference,
        credentials: Credentials | None,
        *,
        insecure: bool,
        confined: bool = False,
        containers: str = "10.89.0.0/16",
        push: bool = False,
        beside: Sequence[str] = (),
    ) -> None:
        self._reference = reference
        actions = "pull,push" if push else "pull"
        self._scopes = [
            f"repository:{reference.repository}:{actions}",
            *(f"repository:{name}:pull" for name in beside),
        ]
        self._credentials = credentials
        self._registry = reference.registry
        self._host = DOCKER_HUB_ENDPOINT if self._registry == DOCKER_HUB else self._registry
        self._name = httpx.URL(f"https://{self._host}").host
        self._schemes = ["https", "http"] if insecure or self._name in LOOPBACK else ["https"]
        self._authorization = ""
        self._transport = Transport(
            self._registry, Reach(self._registry, self._host, confined=confined, containers=containers)
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._transport.close()

    # what is asked for -----------------------------------------------------------------------------------

    def manifest(self, selector: str) -> bytes:
        """By tag or digest, at most 8 MiB.  Raises NotFound, ImageDenied, ImageUnavailable, ImageCorrupt."""
        accept = {"Accept": ", ".join((*INDEXES, *MANIFESTS))}
        with self._get(f"manifests/{selector}", accept) as response:
            if response.status_code == httpx.codes.NOT_FOUND:
                raise NotFound(
                    f"The registry {self._registry} has no image {self._reference.repository}:{selector[:80]}.",
                    hint="Check the name and the tag.",
                    field="image",
                )
            self.check(response)
            content = self._transport.content(response, MANIFEST_LIMIT)
        if content is None:
            raise ImageCorrupt("The image's manifest is too large.", hint="Use another image.")
        return content

    @contextmanager
    def blob(self, digest: str, offset: int) -> Iterator[tuple[int, int | None, Iterator[bytes]]]:
        """Where the answer begins (0 when the registry cannot resume), how long the whole blob is if it says, and the chunks."""
        headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={offset}-"} if offset else {})
        with self._get(f"blobs/{digest}", headers) as response:
            if response.status_code in {httpx.codes.NOT_FOUND, httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE}:
                raise ImageCorrupt(
                    f"The registry {self._registry} lacks a part of the image.",
                    hint="The image must be pushed anew.",
                    registry=self._registry,
                )
            self.check(response)
            begins = offset if response.status_code == httpx.codes.PARTIAL_CONTENT else 0
            said = response.headers.get("Content-Length", "")
            yield begins, begins + int(said) if said.isdigit() else None, self._chunks(response)

    def _chunks(self, response: httpx.Response) -> Iterator[bytes]:
        """As they come.  One slower than :data:`SLOWEST` is given up."""
        since, got = time.monotonic(), 0
        try:
            for chunk in response.iter_raw():
                yield chunk
                got += len(chunk)
                if (now := time.monotonic()) - since >= SLOW_FOR_S:
                    if got < SLOWEST * SLOW_FOR_S:
                        raise unavailable(self._registry, "sends too slowly")
                    since, got = now, 0
        except httpx.HTTPError:
            raise unavailable(self._registry, "broke off the download") from None

    # how it is asked -------------------------------------------------------------------------------------

    @contextmanager
    def _get(self, path: str, headers: dict[str, str]) -> Iterator[httpx.Response]:
        with self.asking("GET", f"/v2/{self._reference.repository}/{path}", headers) as response:
            yield response

    @contextmanager
    def asking(
        self, method: str, target: str, headers: Mapping[str, str], content: Callable[[], Content] | None = None
    ) -> Iterator[httpx.Response]:
        """``target``: a path of the registry's, or an address that it has named.  Signs in when it asks for that.

        ``content`` is asked for once for each time that it is sent; with it, a failure is not tried again here.
        Raises ImageDenied, ImageUnavailable; with ``content`` what that raises, too.
        """

        def send() -> httpx.Response:
            return self._send(method, target, headers, content() if content else None)

        again = self._transport.patiently if content is None else self._once
        response = again(send)
        try:
            if response.status_code == httpx.codes.UNAUTHORIZED and self._is_own(response.url):
                challenge = response.headers.get("WWW-Authenticate", "")
                response.close()
                self._authenticate(challenge)
                response = again(send)
            yield response
            if method != "GET":
                with contextlib.suppress(ImageFault):  # read to its end, so that the connection serves the next
                    self._transport.content(response, SMALL)
        finally:
            response.close()

    def _once(self, send: Callable[[], httpx.Response]) -> httpx.Response:
        try:
            return send()
        except (httpx.HTTPError, httpx.InvalidURL):
            raise unavailable(self._registry, "broke off the upload") from None

    def _is_own(self, url: httpx.URL) -> bool:
        return url.host == self._name

    def _send(self, method: str, target: str, headers: Mapping[str, str], content: Content) -> httpx.Response:
        """Tries the schemes in turn; the one that answers stays."""
        schemes = tuple(self._schemes)  # another thread may settle on one meanwhile
        for number, scheme in enumerate(schemes):
            url = httpx.URL(f"{scheme}://{self._host}").join(target)
            safe = url.scheme == "https" or (url.scheme == "http" and "http" in schemes)
            if not safe or not url.host:
                raise unavailable(self._registry, "sends us on to an address that is not safe")
            sent = dict(headers)
            if self._authorization and url.netloc == httpx.URL(f"{scheme}://{self._host}").netloc:
                sent["Authorization"] = self._authorization
            try:
                response = self._transport.request(method, str(url), sent, content=content)
            except (httpx.ConnectError, httpx.RemoteProtocolError):
                if number + 1 == len(schemes):
                    raise
                continue
            self._schemes = [scheme]
            return response
        raise AssertionError("a client has at least one scheme")

    def check(self, response: httpx.Response) -> None:
        status = response.status_code
        if status in {httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN}:
            raise self._denied()
        if status == httpx.codes.TOO_MANY_REQUESTS:
            raise unavailable(self._registry, "has been asked too often for now")
        if status not in {httpx.codes.OK, httpx.codes.PARTIAL_CONTENT}:
            raise unavailable(self._registry, f"answered with an error (HTTP {status})")

    def _denied(self) -> ImageFault:
        if self._credentials:
            return ImageDenied(
                f"The registry {self._registry} refused the user name or the password.",
                hint="Correct the registry's credentials.",
                registry=self._registry,
            )
        return ImageDenied(
            f"The registry {self._registry} wants a user name and a password, or has no such image.",
            hint="Add the registry with credentials.",
            registry=self._registry,
        )

    # authentication --------------------------------------------------------------------------------------

    def _authenticate(self, challenge: str) -> None:
        """For Bearer a token from the realm that the registry names; else Basic at once."""
        _, bearer, rest = challenge.partition("Bearer ") if "Bearer " in challenge else challenge.partition("bearer ")
        if bearer:
            found = {name.lower(): quoted or plain for name, quoted, plain in _CHALLENGE.findall(rest)}
            self._authorization = f"Bearer {self._token(found)}"
        elif challenge.lower().startswith("basic"):
            if self._credentials is None:
                raise self._denied()
            self._authorization = _basic(self._credentials)
        else:
            raise unavailable(self._registry, "asks for a kind of sign-in that is not supported")

    def _token(self, parameters: dict[str, str]) -> str:
        """For this repository, whatever the registry would have us ask for.  The password goes to its own site only."""
        try:
            realm = httpx.URL(parameters.get("realm", ""))
        except httpx.InvalidURL:
            realm = httpx.URL("")
        if realm.scheme != "https" and not (realm.scheme in self._schemes and realm.host == self._name):
            raise unavailable(self._registry, "names a sign-in address that is not safe")
        headers = {}
        if self._credentials:
            if not may_sign_in_at(self._name, realm.host):
                raise ImageDenied(
                    f"The registry {self._registry} wants the sign-in at another site, {realm.host}; no password was sent there.",
                    hint="Use the registry without credentials, or another registry.",
                    registry=self._registry,
                )
            headers["Authorization"] = _basic(self._credentials)
        query: dict[str, str | list[str]] = {"scope": self._scopes}
        if "service" in parameters:
            query["service"] = parameters["service"]
        return self._ask_for_token(str(realm), query, headers)

    def _ask_for_token(self, realm: str, query: Params, headers: dict[str, str]) -> str:
        try:
            response = self._transport.get(realm, headers, query)
        except (httpx.HTTPError, httpx.InvalidURL):
            raise unavailable(self._registry, "cannot sign us in: its token service does not answer") from None
        try:
            content = self._transport.content(response, TOKEN_LIMIT)
        finally:
            response.close()
        if response.status_code >= httpx.codes.INTERNAL_SERVER_ERROR:
            raise unavailable(self._registry, "cannot sign us in: its token service does not answer")
        try:
            body = json.loads(content or b"") if response.status_code == httpx.codes.OK else {}
        except (ValueError, RecursionError):
            body = {}
        token = (body.get("token") or body.get("access_token")) if isinstance(body, dict) else None
        if not isinstance(token, str) or not token.isascii() or not token.isprintable():
            raise self._denied()
        return token


def _basic(credentials: Credentials) -> str:
    request = httpx.Request("GET", "https://none.invalid")
    signed = next(httpx.BasicAuth(credentials.username, credentials.password).auth_flow(request))
    return str(signed.headers["Authorization"])
