"""A bucket of an S3-compatible store as a place.

Addresses are judged as webhooks' are: unless an admin allowed it, no connection is made to the node or into its site; each is looked
at when its socket is made, so a name that leads elsewhere by then is no way around.  The node's proxies, profiles and roles are not used.
"""

from __future__ import annotations

import asyncio
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from console.metering.exports.places import Failed, Refused
from runtime.image.reach import PUBLIC, depth

CONNECT_S, READ_S = 10, 60
ANSWER_S = 120.0
SLOWEST = 100_000
"""Bytes a second.  A file may take ``ANSWER_S`` and the time at this speed: below, a store that reads nothing or never says
``100 Continue`` meets no timeout of the connection's."""
PART_BYTES = 8 << 20
AT_ONCE = 2
"""Parts of a file, each in memory."""
INSIDE = "The store lies on the node or inside its site, where only an admin can allow it."


@dataclass(frozen=True, slots=True)
class Store:
    endpoint: str
    region: str
    bucket: str
    prefix: str
    """Of each key; may be empty."""
    access_key: str
    secret: str
    inside: bool
    """It may lie on the node or inside its site."""
    containers: str
    """The block of the containers' subnets."""

    def put(self, name: str, source: Path) -> None:
        key = "/".join(part for part in (self.bucket, self.prefix, name) if part)
        refused: list[str] = []
        within_s = ANSWER_S + source.stat().st_size / SLOWEST
        from botocore.exceptions import BotoCoreError  # slow to load, as s3fs is, and most workers need neither

        try:
            asyncio.run(_upload(self, source, key, within_s, refused))
        except (OSError, BotoCoreError) as fault:
            if refused:
                raise Refused(INSIDE) from None
            raise _told(fault) from None


async def _upload(store: Store, source: Path, key: str, within_s: float, refused: list[str]) -> None:
    """``refused`` gets each address that may not be spoken to: between here and there such a fault is taken for one of the network."""
    from s3fs import S3FileSystem

    def made(found: tuple[Any, ...]) -> socket.socket:
        family, kind, protocol, _name, address = found
        if not store.inside and depth(str(address[0]), store.containers) > PUBLIC:
            refused.append(str(address[0]))
            raise OSError(INSIDE)
        return socket.socket(family, kind, protocol)

    files = S3FileSystem(
        asynchronous=True,
        skip_instance_cache=True,
        key=store.access_key,
        secret=store.secret,
        endpoint_url=store.endpoint,
        client_kwargs={"region_name": store.region or "us-east-1"},
        config_kwargs={
            "connect_timeout": CONNECT_S,
            "read_timeout": READ_S,
            "retries": {"total_max_attempts": 2},
            "proxies": {},
            "s3": {"addressing_style": "path"},
            "request_checksum_calculation": "when_required",
            "connector_args": {"socket_factory": made, "use_dns_cache": False},
        },
    )
    files.retries = 1
    session = await files.set_session()
    try:
        async with asyncio.timeout(within_s):
            await files._put_file(str(source), key, chunksize=PART_BYTES, max_concurrency=AT_ONCE)  # noqa: SLF001 -- fsspec's own way to do it without a thread
    finally:
        await session.close()


def _told(fault: Exception) -> Failed:
    """s3fs turns what the store answers into OSErrors, and lets what the network did pass."""
    from botocore.exceptions import BotoCoreError, ConnectTimeoutError, ReadTimeoutError

    if isinstance(fault, TimeoutError | ConnectTimeoutError | ReadTimeoutError):
        return Failed("The store did not answer in time.")
    if isinstance(fault, PermissionError):
        return Failed("The store refuses the access key, or does not let it write there.")
    if isinstance(fault, FileNotFoundError):
        return Failed("The store has no such bucket.")
    if isinstance(fault, BotoCoreError | ConnectionError):
        return Failed("The store cannot be reached.")
    return Failed("The store did not take it.")
