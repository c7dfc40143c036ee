"""A client of the OCI distribution protocol (distribution-spec 1.1): manifests and blobs, basic and token authentication."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Self
from urllib.parse import urlsplit

import httpx

from runtime.api import Credentials
from runtime.errors import ImageCorrupt, ImageDenied, ImageFault, ImageUnavailable, NotFound
from runtime.image.blobs import MANIFEST_LIMIT
from runtime.image.reference import DOCKER_HUB, Reference

INDEXES = ("application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json")
MANIFESTS = ("application/vnd.oci.image.manifest.v1+json", "application/vnd.docker.distribution.manifest.v2+json")
TIMEOUT = httpx.Timeout(30, connect=10)
TRIES = 3
PAUSE_S = 0.5
LOOPBACK = {"localhost", "127.0.0.1", "[::1]"}
DOCKER_HUB_ENDPOINT = "registry-1.docker.io"
_CHALLENGE = re.compile(r'([a-zA-Z_]+)="([^"]*)"')


def _unavailable(registry: str, why: str) -> ImageUnavailable:
    return ImageUnavailable(
        f"The registry {registry} {why}.",
        hint="Check its address, and that it runs, then try again.",
        registry=registry,
    )


class RegistryClient:
    """For one repository.  Close it after use.  ``insecure`` allows plain HTTP; a loopback registry may always use it."""

    def __init__(self, reference: Reference, credentials: Credentials | None, *, insecure: bool) -> None:
        self._reference = reference
        self._credentials = credentials
        self._registry = reference.registry
        host = DOCKER_HUB_ENDPOINT if self._registry == DOCKER_HUB else self._registry
        name = host.rsplit(":", 1)[0] if not host.startswith("[") else host[: host.index("]") + 1]
        self._schemes = ["https", "http"] if insecure or name in LOOPBACK else ["https"]
        self._host = host
        self._authorization = ""
        self._client = httpx.Client(timeout=TIMEOUT, follow_redirects=True, max_redirects=5, trust_env=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    # what is asked for -----------------------------------------------------------------------------------

    def manifest(self, selector: str) -> bytes:
        """By tag or digest, at most 8 MiB.  Raises NotFound, ImageDenied, ImageUnavailable, ImageCorrupt."""
        accept = {"Accept": ", ".join((*INDEXES, *MANIFESTS))}
        with self._get(f"manifests/{selector}", accept) as response:
            content = b""
            for chunk in response.iter_bytes():
                content += chunk
                if len(content) > MANIFEST_LIMIT:
                    raise ImageCorrupt("The image's manifest is too large.", hint="Use another image.")
            return content

    @contextmanager
    def blob(self, digest: str, offset: int) -> Iterator[tuple[int, Iterator[bytes]]]:
        """Where the answer begins (0 when the registry cannot resume), and its chunks."""
        headers = {"Range": f"bytes={offset}-"} if offset else {}
        with self._get(f"blobs/{digest}", headers) as response:
            begins = offset if response.status_code == httpx.codes.PARTIAL_CONTENT else 0
            yield begins, self._chunks(response)

    def _chunks(self, response: httpx.Response) -> Iterator[bytes]:
        try:
            yield from response.iter_raw(1 << 18)
        except httpx.HTTPError as error:
            raise _unavailable(self._registry, f"broke off the download ({type(error).__name__})") from None

    # how it is asked -------------------------------------------------------------------------------------

    @contextmanager
    def _get(self, path: str, headers: dict[str, str]) -> Iterator[httpx.Response]:
        url = f"/v2/{self._reference.repository}/{path}"
        response = self._patiently(lambda: self._send(url, headers))
        try:
            if response.status_code == httpx.codes.UNAUTHORIZED:
                challenge = response.headers.get("WWW-Authenticate", "")
                response.close()
                self._authenticate(challenge)
                response = self._patiently(lambda: self._send(url, headers))
            self._check(response)
            yield response
        finally:
            response.close()

    def _send(self, url: str, headers: dict[str, str]) -> httpx.Response:
        """Tries the schemes in turn; the one that answers stays."""
        sent = {**headers, **({"Authorization": self._authorization} if self._authorization else {})}
        for number, scheme in enumerate(self._schemes):
            try:
                request = self._client.build_request("GET", f"{scheme}://{self._host}{url}", headers=sent)
                response = self._client.send(request, stream=True)
            except (httpx.ConnectError, httpx.RemoteProtocolError):
                if number + 1 == len(self._schemes):
                    raise
                continue
            self._schemes = [scheme]
            return response
        raise AssertionError("a client has at least one scheme")

    def _patiently(self, send: Callable[[], httpx.Response]) -> httpx.Response:
        """Again, with pauses, while the failure looks like a passing one."""
        for attempt in range(TRIES):
            last = attempt + 1 == TRIES
            try:
                response = send()
            except httpx.ConnectError:
                raise _unavailable(self._registry, "cannot be reached") from None
            except (httpx.HTTPError, httpx.InvalidURL) as error:
                if last:
                    raise _unavailable(self._registry, f"does not answer properly ({type(error).__name__})") from None
            else:
                if response.status_code < httpx.codes.INTERNAL_SERVER_ERROR or last:
                    return response
                response.close()
            time.sleep(PAUSE_S * 2**attempt)
        raise AssertionError("the last try returns or raises")

    def _check(self, response: httpx.Response) -> None:
        status = response.status_code
        if status in {httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN}:
            raise self._denied()
        if status == httpx.codes.NOT_FOUND:
            raise NotFound(
                f"The registry {self._registry} has no image {self._reference.repository}:{self._reference.selector[:80]}.",
                hint="Check the name and the tag.",
                field="image",
            )
        if status not in {httpx.codes.OK, httpx.codes.PARTIAL_CONTENT}:
            raise _unavailable(self._registry, f"answered with an error (HTTP {status})")

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
        """Basic at once; for Bearer a token from the realm that the registry names."""
        kind, _, rest = challenge.partition(" ")
        if kind.lower() == "basic":
            if self._credentials is None:
                raise self._denied()
            self._authorization = httpx.BasicAuth(self._credentials.username, self._credentials.password)._auth_header  # noqa: SLF001 -- its public way in needs a request
            return
        if kind.lower() != "bearer":
            raise _unavailable(self._registry, "asks for a kind of sign-in that is not supported")
        self._authorization = f"Bearer {self._token(dict(_CHALLENGE.findall(rest)))}"

    def _token(self, parameters: dict[str, str]) -> str:
        realm = parameters.get("realm", "")
        if urlsplit(realm).scheme not in {"https", *self._schemes}:
            raise _unavailable(self._registry, "names a sign-in address that is not safe")
        query: dict[str, str] = {key: parameters[key] for key in ("service", "scope") if key in parameters}
        credentials = self._credentials
        auth = httpx.BasicAuth(credentials.username, credentials.password) if credentials else None
        try:
            response = self._client.get(realm, params=query, auth=auth or httpx.USE_CLIENT_DEFAULT)
            body = response.json() if response.status_code == httpx.codes.OK else {}
        except (httpx.HTTPError, ValueError):
            raise _unavailable(self._registry, "cannot sign us in: its token service does not answer") from None
        token = body.get("token") or body.get("access_token") if isinstance(body, dict) else None
        if not token:
            raise self._denied()
        return str(token)
