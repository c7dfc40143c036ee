"""What every consumer does: authorise at the door, again when told of a change and every half minute, speak JSON, survive garbage.

A pulse every ten seconds says that the connection lives, and, where the page shows a tenant, the number of its last event: a
page that slept, or whose event was lost with the broker, sees that it is stale.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import Coroutine, Mapping
from typing import Any, cast

from channels.db import database_sync_to_async
from channels.generic.websocket import AsyncWebsocketConsumer
from django.conf import settings
from django.contrib.auth.models import AnonymousUser
from django.http import parse_cookie
from django.utils import translation
from django.utils.translation import gettext as _
from django.utils.translation.trans_real import get_supported_language_variant, parse_accept_lang_header

from console.accounts.models import Role, Tenant, User
from console.accounts.selectors import role_in
from console.accounts.selectors import tenant as visible_tenant
from console.core.errors import Missing
from console.core.live import access_group
from console.workloads.models import Container
from console.workloads.selectors import container as visible_container

log = logging.getLogger(__name__)
ANONYMOUS, FORBIDDEN, UNKNOWN = 4401, 4403, 4404
RECHECK_S = 30.0
PULSE_S = 10.0
TEXT_LIMIT = 64 << 10


class LiveConsumer(AsyncWebsocketConsumer):  # type: ignore[misc]
    """Subclasses say ``needs`` (the least role) and implement ``opened``, ``received`` and ``closed``."""

    needs = Role.VIEWER
    admitted = False

    async def connect(self) -> None:
        translation.activate(_language(self.scope))  # of this connection's task and those that it spawns
        self._tasks: set[asyncio.Task[None]] = set()
        self._doubt = asyncio.Event()
        self.user: User | AnonymousUser = self.scope["user"]
        await self.accept()
        code = await self._refusal()
        if code is not None:
            await self.close(code)
            return
        self.admitted = True
        await self.channel_layer.group_add(access_group(self.user_id), self.channel_name)
        self.spawn(self._recheck())
        self.spawn(self._pulse())
        await self.opened()

    async def disconnect(self, code: int) -> None:  # noqa: ARG002 -- the name is channels'
        for task in list(self._tasks):
            task.cancel()
        if self.admitted:
            await self._leave()

    # authorising -----------------------------------------------------------------------------------------

    async def _refusal(self) -> int | None:
        """The code to close with, or None."""
        if isinstance(self.user, AnonymousUser):
            return ANONYMOUS
        try:
            role = await database_sync_to_async(self.authorise)()
        except Missing:
            return UNKNOWN
        return None if role is not None and role.includes(self.needs) else FORBIDDEN

    def authorise(self) -> Role | None:
        """Find the object that the URL names; the person's role for it.  Raises Missing."""
        raise NotImplementedError

    async def _recheck(self) -> None:
        """Who was removed from the tenant, or has signed out, does not keep what was open."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self.recheck_s()):
                    await self._doubt.wait()
            self._doubt.clear()
            before, self.user = self.user, await database_sync_to_async(_fresh)(self.user, self.scope)
            code = await self._refusal()
            if code is not None:
                self.user = before  # whose group is left
                await self._put_out(code)
                return

    async def access_changed(self, _message: dict[str, Any]) -> None:
        """The services say so; the regular look is for what they could not deliver."""
        self._doubt.set()

    def recheck_s(self) -> float:
        return RECHECK_S

    async def _put_out(self, code: int) -> None:
        """Nothing is taken in or told any more, whether or not the browser minds the closing."""
        self.admitted = False
        for task in self._tasks - {asyncio.current_task()}:
            task.cancel()
        await self._leave()
        await self.close(code)

    async def _leave(self) -> None:
        await self.channel_layer.group_discard(access_group(self.user_id), self.channel_name)
        await self.closed()

    @property
    def user_id(self) -> int:
        return int(self.user.pk or 0)

    # speaking --------------------------------------------------------------------------------------------

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("a live page's task failed", exc_info=task.exception())

    async def send(self, text_data: str | None = None, bytes_data: bytes | None = None, close: bool = False) -> None:
        """To a browser that has just left there is nothing to say; ``disconnect`` comes next."""
        with contextlib.suppress(OSError):
            await super().send(text_data=text_data, bytes_data=bytes_data, close=close)

    async def _pulse(self) -> None:
        while True:
            await asyncio.sleep(PULSE_S)
            await self.say("pulse", seq=await self.last_event())

    async def say(self, kind: str, **fields: Any) -> None:
        await self.send(text_data=json.dumps({"type": kind, **fields}, separators=(",", ":")))

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        if not self.admitted:
            return  # what was on its way when the door closed
        if bytes_data is not None:
            await self.received_bytes(bytes_data)
            return
        try:
            message = json.loads(text_data or "") if len(text_data or "") <= TEXT_LIMIT else None
        except (ValueError, RecursionError):
            message = None
        if not isinstance(message, dict):
            await self.say("error", message=_("That was not a message of this page."))
            return
        await self.received(message)

    # for subclasses --------------------------------------------------------------------------------------

    async def last_event(self) -> int | None:
        """The number of the last event that this page should have heard of."""
        return None

    async def opened(self) -> None: ...

    async def received(self, message: dict[str, Any]) -> None: ...

    async def received_bytes(self, content: bytes) -> None: ...

    async def closed(self) -> None: ...


def _language(scope: Mapping[str, Any]) -> str:
    """As pages choose it: the cookie of the switch, else what the browser asks for."""
    headers = dict(scope.get("headers", ()))
    asked = parse_accept_lang_header(headers.get(b"accept-language", b"").decode("latin-1"))
    cookie = parse_cookie(headers.get(b"cookie", b"").decode("latin-1")).get(settings.LANGUAGE_COOKIE_NAME, "")
    for code in (cookie, *(code for code, _weight in asked)):
        try:
            return get_supported_language_variant(code)
        except LookupError:
            continue
    return settings.LANGUAGE_CODE


def _fresh(user: User | AnonymousUser, scope: Mapping[str, Any]) -> User | AnonymousUser:
    """Nobody any more after a sign-out, a deactivation or a new password."""
    found = User.objects.filter(pk=user.pk or 0, is_active=True).first()
    session = scope.get("session")
    signed_out = session is not None and not session.exists(session.session_key)
    if found is None or signed_out or found.get_session_auth_hash() != cast("User", user).get_session_auth_hash():
        return AnonymousUser()
    return found


class TenantPage(LiveConsumer):
    tenant: Tenant

    def authorise(self) -> Role | None:
        self.tenant = visible_tenant(cast("User", self.user), self.scope["url_route"]["kwargs"]["tenant"])
        return role_in(self.user, self.tenant)


class ContainerPage(LiveConsumer):
    container: Container

    def authorise(self) -> Role | None:
        self.container = visible_container(cast("User", self.user), self.scope["url_route"]["kwargs"]["container"])
        return role_in(self.user, self.container.tenant)
