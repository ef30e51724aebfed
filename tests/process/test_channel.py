"""What two processes tell each other, over a real pair of sockets."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import pytest
from harness import eventually

from sovren_edge.errors import EdgeError, Side
from sovren_edge.process.channel import Channel, ChannelClosedError, Message, Method, Reply, channel_pair, take_socket

BIG = bytes(range(256)) * 40_000


@asynccontextmanager
async def channels(methods: Mapping[str, Method]) -> AsyncIterator[tuple[Channel, Channel]]:
    """Open both ends; the second one has methods."""
    one, other = channel_pair()
    first, second = Channel(one, {}), Channel(other, methods)
    try:
        yield first, second
    finally:
        first.close()
        second.close()


async def test_calls_are_answered_each_with_its_own() -> None:
    """Also while others take their time, and with more bytes than a socket holds."""
    gate = asyncio.Event()

    async def wait(_message: Message) -> str:
        await gate.wait()
        return "late"

    def double(message: Message) -> Reply:
        return Reply(message.given["number"] * 2, message.blob)

    async with channels({"wait": wait, "double": double}) as (one, _):
        late = asyncio.ensure_future(one.call("wait"))
        reply = await one.call("double", BIG, number=21)
        assert (reply.value, reply.blob) == (42, BIG)
        assert not late.done()
        gate.set()
        assert (await late).value == "late"


async def test_notes_arrive_in_order_and_have_no_answer() -> None:
    """Whatever their size."""
    heard: list[int] = []
    async with channels({"note": lambda message: heard.append(message.given["number"])}) as (one, _):
        for number in range(100):
            one.tell("note", BIG[: number * 1000], number=number)
        await eventually(lambda: len(heard) == 100)
    assert heard == list(range(100))


async def test_what_is_refused_there_is_refused_here() -> None:
    """With all that a caller may be told; also what only a newer program knows."""

    def refuse(_message: Message) -> None:
        raise EdgeError(429, "too_many", "Too many.", side=Side.CALLER, retry_after_s=7)

    async def refuse_later(message: Message) -> None:
        refuse(message)

    async with channels({"refuse": refuse, "refuse_later": refuse_later}) as (one, _):
        for method in ("refuse", "refuse_later"):
            with pytest.raises(EdgeError) as refused:
                await one.call(method)
            problem = refused.value.problem
            assert (problem.status, problem.reason, problem.retry_after_s) == (429, "too_many", 7)
        with pytest.raises(EdgeError, match="does not know what future is"):
            await one.call("future")
        one.tell("future")
        with pytest.raises(EdgeError):
            await one.call("refuse")


async def test_what_fails_there_leaves_nobody_waiting() -> None:
    """The loop there is told what it was; later messages are handled as ever."""
    failures: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: failures.append(context["exception"]))

    def fail(_message: Message) -> None:
        raise FileNotFoundError("/proc/stat")

    async def fail_later(message: Message) -> None:
        fail(message)

    async with channels({"fail": fail, "fail_later": fail_later, "fine": lambda _message: "fine"}) as (one, _):
        for method in ("fail", "fail_later"):
            failing, fine = asyncio.ensure_future(one.call(method)), asyncio.ensure_future(one.call("fine"))
            with pytest.raises(EdgeError) as failed:
                await failing
            assert failed.value.problem.reason == "internal_error"
            assert (await fine).value == "fine"
    assert [type(failure) for failure in failures] == [FileNotFoundError] * 2


async def test_sockets_travel_beside_a_message() -> None:
    """They are the other process's own, and its children do not inherit them."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        where = listening.getsockname()

        def take(message: Message) -> bool:
            (descriptor,) = message.descriptors
            assert not os.get_inheritable(descriptor)
            with take_socket(descriptor) as taken:
                return bool(taken.getsockname() == where)

        async with channels({"take": take}) as (one, _):
            assert (await one.call("take", descriptors=[listening.fileno()])).value is True
        assert listening.getsockname() == where


async def test_who_waits_for_one_that_has_gone_is_told_so() -> None:
    """And so is whoever asks later; notes are lost."""
    async with channels({"wait": lambda _message: asyncio.get_running_loop().create_future()}) as (one, other):
        waiting = asyncio.ensure_future(one.call("wait"))
        await asyncio.sleep(0)
        other.close()
        with pytest.raises(ChannelClosedError):
            await waiting
        await one.closed.wait()
        with pytest.raises(ChannelClosedError):
            await one.call("wait")
        one.tell("wait")
