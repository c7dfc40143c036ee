"""A browser's side of a WebSocket, over asgiref's communicator (channels' own wants the daphne server)."""

from __future__ import annotations

import json
from typing import Any

from asgiref.testing import ApplicationCommunicator


class WebsocketCommunicator(ApplicationCommunicator):  # type: ignore[misc]
    def __init__(self, application: object, path: str) -> None:
        self.scope: dict[str, Any] = {
            "type": "websocket",
            "path": f"/{path}",
            "query_string": b"",
            "headers": [],
            "subprotocols": [],
        }
        super().__init__(application, self.scope)

    async def connect(self) -> tuple[bool, object]:
        await self.send_input({"type": "websocket.connect"})
        answer = await self.receive_output(5)
        return answer["type"] == "websocket.accept", answer

    async def send_to(self, *, text_data: str) -> None:
        await self.send_input({"type": "websocket.receive", "text": text_data})

    async def send_json_to(self, message: object) -> None:
        await self.send_to(text_data=json.dumps(message))

    async def receive_json_from(self) -> dict[str, Any]:
        answer = await self.receive_output(5)
        assert answer["type"] == "websocket.send", answer
        return dict(json.loads(answer["text"]))

    async def disconnect(self) -> None:
        await self.send_input({"type": "websocket.disconnect", "code": 1000})
        await self.wait(5)
