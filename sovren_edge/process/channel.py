"""Owns what two of our processes tell each other: calls and notes in JSON over a Unix stream socket.

Bytes and descriptors can travel beside a message. Must not know what any message means.
"""

import asyncio
import os
import socket
import struct
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from inspect import isawaitable
from itertools import count
from typing import Any

import orjson

from sovren_edge.errors import EdgeError

_SIZES = struct.Struct("!II")
_READ, _MOST_DESCRIPTORS = 1 << 18, 250


@dataclass(frozen=True, slots=True)
class Message:
    """What came: parameters by name, bytes, and descriptors, which belong to whoever handles it."""

    given: Mapping[str, Any]
    blob: bytes = b""
    descriptors: Sequence[int] = ()


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer that has bytes beside it."""

    value: Any
    blob: bytes = b""


Method = Callable[[Message], Awaitable[object] | object]
"""Handles a message; what it returns is the answer to a call. Its EdgeErrors are raised where it was called."""


class ChannelClosedError(EdgeError):
    """The other process has gone, or is going."""

    def __init__(self) -> None:
        super().__init__(503, "process_gone", "The process that was asked has ended.", retry_after_s=1)


@dataclass(slots=True)
class _Frame:
    data: memoryview
    descriptors: list[int] = field(default_factory=list)


class Channel:
    """One end. Messages are handled in the order in which they came; one whose method is `async` lets others pass."""

    def __init__(self, end: socket.socket, methods: Mapping[str, Method]) -> None:
        end.setblocking(False)  # noqa: FBT003 - the library's signature
        self.socket = end
        self._methods = methods
        self._loop = asyncio.get_running_loop()
        self._outbox: deque[_Frame] = deque()
        self._inbox = bytearray()
        self._descriptors: deque[int] = deque()
        self._numbers = count(1)
        self._asked: dict[int, asyncio.Future[Reply]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._writing = False
        self.closed = asyncio.Event()
        self._loop.add_reader(end.fileno(), self._on_readable)

    async def call(
        self,
        method: str,
        blob: bytes = b"",
        descriptors: Sequence[int] = (),
        **given: Any,  # noqa: ANN401 - whatever JSON knows
    ) -> Reply:
        """Return the other process's answer; raises its EdgeError, or ChannelClosedError."""
        number = next(self._numbers)
        answer: asyncio.Future[Reply] = self._loop.create_future()
        if self.closed.is_set():
            raise ChannelClosedError
        self._asked[number] = answer
        self._send({"call": method, "number": number, "given": given}, blob, descriptors)
        try:
            return await answer
        finally:
            self._asked.pop(number, None)

    def tell(
        self,
        method: str,
        blob: bytes = b"",
        descriptors: Sequence[int] = (),
        **given: Any,  # noqa: ANN401 - whatever JSON knows
    ) -> None:
        """Send a note, to which there is no answer; nobody hears it where the other process has gone."""
        if not self.closed.is_set():
            self._send({"call": method, "number": 0, "given": given}, blob, descriptors)

    def close(self) -> None:
        """End this end; what waits for answers gets ChannelClosedError."""
        if self.closed.is_set():
            return
        self.closed.set()
        self._loop.remove_reader(self.socket.fileno())
        if self._writing:
            self._loop.remove_writer(self.socket.fileno())
        self.socket.close()
        for descriptor in (*self._descriptors, *(one for frame in self._outbox for one in frame.descriptors)):
            os.close(descriptor)
        for answer in self._asked.values():
            if not answer.done():
                answer.set_exception(ChannelClosedError())
        for task in self._tasks:
            task.cancel()

    def _send(self, head: Mapping[str, object], blob: bytes, descriptors: Sequence[int]) -> None:
        packed = orjson.dumps({**head, "descriptors": len(descriptors)})
        data = b"".join((_SIZES.pack(len(packed), len(blob)), packed, blob))
        # Their owner may close them before they are sent.
        self._outbox.append(_Frame(memoryview(data), [os.dup(one) for one in descriptors]))
        if not self._writing:
            self._on_writable()

    def _on_writable(self) -> None:
        while self._outbox:
            frame = self._outbox[0]
            try:
                if frame.descriptors:
                    sent = socket.send_fds(self.socket, [frame.data], frame.descriptors[:_MOST_DESCRIPTORS])
                else:
                    sent = self.socket.send(frame.data)
            except (BlockingIOError, InterruptedError):
                if not self._writing:
                    self._writing = True
                    self._loop.add_writer(self.socket.fileno(), self._on_writable)
                return
            except OSError:
                self.close()
                return
            # They go with the first byte.
            for descriptor in frame.descriptors:
                os.close(descriptor)
            frame.descriptors = []
            frame.data = frame.data[sent:]
            if not frame.data:
                self._outbox.popleft()
        if self._writing:
            self._writing = False
            self._loop.remove_writer(self.socket.fileno())

    def _on_readable(self) -> None:
        try:
            data, descriptors, _flags, _address = socket.recv_fds(self.socket, _READ, _MOST_DESCRIPTORS)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data, descriptors = b"", []
        for descriptor in descriptors:
            os.set_inheritable(descriptor, False)  # noqa: FBT003 - the library's signature
        self._descriptors += descriptors
        if not data:
            self.close()
            return
        self._inbox += data
        self._handle_whole()

    def _handle_whole(self) -> None:
        while len(self._inbox) >= _SIZES.size and not self.closed.is_set():
            head_size, blob_size = _SIZES.unpack_from(self._inbox)
            start = _SIZES.size + head_size
            if len(self._inbox) < start + blob_size:
                return
            head = orjson.loads(memoryview(self._inbox)[_SIZES.size : start])
            blob = bytes(memoryview(self._inbox)[start : start + blob_size])
            del self._inbox[: start + blob_size]
            self._handle(head, blob)

    def _handle(self, head: Mapping[str, Any], blob: bytes) -> None:
        if "call" not in head:
            self._answered(head, blob)
            return
        number = head["number"]
        descriptors = [self._descriptors.popleft() for _ in range(head["descriptors"])]
        try:
            result = self._method(head["call"])(Message(head["given"], blob, descriptors))
        except Exception as error:  # noqa: BLE001 - see _failed
            self._failed(number, error)
            return
        if isawaitable(result):
            task = asyncio.ensure_future(self._finish(number, result))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        else:
            self._answer(number, result)

    def _method(self, name: str) -> Method:
        """Return what handles a message; one from another version of the program may be unknown here."""
        method = self._methods.get(name)
        if method is None:
            raise EdgeError(501, "unknown_call", f"This process does not know what {name} is.")
        return method

    async def _finish(self, number: int, result: Awaitable[object]) -> None:
        try:
            self._answer(number, await result)
        except Exception as error:  # noqa: BLE001 - see _failed
            self._failed(number, error)

    def _failed(self, number: int, error: Exception) -> None:
        """Answer with an error; what is unexpected goes to the loop as well, but nobody is left to wait for ever."""
        if not isinstance(error, EdgeError):
            self._loop.call_exception_handler({"message": "a method that was called has failed", "exception": error})
            error = EdgeError(500, "internal_error", "The process that was asked has failed at it.")
        self._answer(number, error)

    def _answer(self, number: int, result: object) -> None:
        if not number or self.closed.is_set():
            return
        if isinstance(result, EdgeError):
            problem = result.problem
            fault = {
                "status": problem.status, "reason": problem.reason, "detail": problem.detail, "side": problem.side,
                "retry_after_s": problem.retry_after_s,
            }  # fmt: skip
            self._send({"answer": number, "fault": fault}, b"", ())
            return
        reply = result if isinstance(result, Reply) else Reply(result)
        self._send({"answer": number, "value": reply.value}, reply.blob, ())

    def _answered(self, head: Mapping[str, Any], blob: bytes) -> None:
        answer = self._asked.get(head["answer"])
        if answer is None or answer.done():
            return
        fault = head.get("fault")
        if fault is None:
            answer.set_result(Reply(head["value"], blob))
        else:
            answer.set_exception(EdgeError(**fault))


def channel_pair() -> tuple[socket.socket, socket.socket]:
    """Return the two ends for a channel."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)


def take_socket(descriptor: int) -> socket.socket:
    """Return the socket of a descriptor that came with a message."""
    with suppress(OSError):
        os.set_inheritable(descriptor, False)  # noqa: FBT003 - the library's signature
    return socket.socket(fileno=descriptor)
