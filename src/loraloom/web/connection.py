"""Connections that end: who sends a request slowly, who does not read the answer, and too many at once hold nothing for ever."""

import asyncio
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from loraloom.web import limits

_LOOK_SECONDS = 1.0  # between two looks at a body on its way


class Connection(H11Protocol):
    """uvicorn's protocol, which itself limits the size of headers and the time between two requests."""

    _head: asyncio.TimerHandle | None = None  # until the request's headers are here
    _body: asyncio.TimerHandle | None = None  # until its body is
    _write: asyncio.TimerHandle | None = None  # while the client takes nothing of the answer
    _begun: float = 0.0  # of the body
    _received: int = 0  # bytes of it, about

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > limits.CONNECTIONS:
            self.logger.warning("more than %d connections at once; one was refused", limits.CONNECTIONS)
            transport.abort()
            return
        self._head = self.loop.call_later(limits.HEAD_SECONDS, self._late, "the headers")

    def connection_lost(self, exc: Exception | None) -> None:
        for name in ("_head", "_body", "_write"):
            self._forget(name)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.conn.their_state is h11.IDLE and self._head is None:
            self._head = self.loop.call_later(limits.HEAD_SECONDS, self._late, "the headers")
        self._received += len(data)
        super().data_received(data)

    def handle_events(self) -> None:
        super().handle_events()
        if self.conn.their_state is not h11.IDLE:
            self._forget("_head")
        if self.conn.their_state is not h11.SEND_BODY:
            self._forget("_body")
        elif self._body is None:
            self._begun, self._received = self.loop.time(), 0
            self._body = self.loop.call_later(_LOOK_SECONDS, self._look)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._write = self.loop.call_later(limits.WRITE_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        self._forget("_write")
        super().resume_writing()

    def _look(self) -> None:
        """A body may take its time, but not all the time of the world."""
        self._body = self.loop.call_later(_LOOK_SECONDS, self._look)
        allowed = limits.BODY_SECONDS + self._received / limits.BODY_RATE
        if self.loop.time() - self._begun > allowed:
            self._late("the body")

    def _late(self, what: str) -> None:
        """Say so if nothing was answered yet, and hang up."""
        if not self.transport.is_closing():
            if self.conn.our_state is h11.IDLE or (self.conn.our_state is h11.SEND_RESPONSE and not self.cycle.response_started):
                self._answer(f"{what} of the request took too long")
            self.transport.close()

    def _answer(self, text: str) -> None:
        headers = [("Content-Type", "text/plain; charset=utf-8"), ("Connection", "close"), ("Content-Length", str(len(text)))]
        events: tuple[Any, ...] = (h11.Response(status_code=408, headers=headers, reason=b"Request Timeout"), h11.Data(data=text.encode()))
        for event in (*events, h11.EndOfMessage()):
            self.transport.write(self.conn.send(event) or b"")

    def _forget(self, name: str) -> None:
        timer: asyncio.TimerHandle | None = getattr(self, name)
        if timer is not None:
            timer.cancel()
            setattr(self, name, None)
