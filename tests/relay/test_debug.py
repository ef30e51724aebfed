"""Who answers, and why: for trusted callers that ask."""

import asyncio
from ipaddress import ip_network

import pytest
from harness import backend, eventually, front, make_pool
from test_relay import GET, OK
from voices import request, slowly, speaking

from sovren_edge.auth.networks import Networks

ASKING = b"Host: x\r\nX-Sovren-Debug: 1\r\n"
TEXT = "Good morning."


def fields_of(answer: bytes) -> dict[str, str]:
    """Return an answer's own fields."""
    lines = answer.partition(b"\r\n\r\n")[0].decode().split("\r\n")[1:]
    fields = dict(line.split(": ", 1) for line in lines)
    return {name: value for name, value in fields.items() if name.startswith("X-Sovren-")}


def asking(text: str = TEXT) -> bytes:
    """Return a request for speech that asks."""
    return request(text).replace(b"Host: x\r\n", ASKING, 1)


async def test_an_answer_says_who_gave_it() -> None:
    """With the estimate, the wait and the reason."""
    async with backend(speaking) as one:
        pool = make_pool("tts", [one.port], kind="speech")
        async with front(pool, explains=True) as made:
            fields = fields_of(await made.call(asking()))
            assert fields.pop("X-Sovren-Why").startswith("least work: ")
            assert float(fields.pop("X-Sovren-Estimate-Ms")) > 0
            assert fields == {
                "X-Sovren-Pool": "tts",
                "X-Sovren-Endpoint": f"127.0.0.1:{one.port}",
                "X-Sovren-Wait-Ms": "0.0",
                "X-Sovren-Attempts": "1",
            }
            assert fields_of(await made.call(request(TEXT))) == {}


async def test_other_pools_say_so_too() -> None:
    """By their own reason."""
    async with backend(lambda _h, _b: OK) as one, front(make_pool("p", [one.port]), explains=True) as made:
        fields = fields_of(await made.call(GET.replace(b"Host: me\r\n", ASKING)))
        assert (fields["X-Sovren-Pool"], fields["X-Sovren-Why"]) == ("p", "fewest open requests")


async def test_parts_and_shared_and_kept_answers_say_so() -> None:
    """Each in its way."""
    gate = asyncio.Event()
    long = "This is the first sentence of them all. " * 6
    async with backend(slowly(gate)) as one:
        pool = make_pool("tts", [one.port], kind="speech", interchangeable=True, keep_bytes=1 << 20)
        async with front(pool, explains=True) as made:
            calls = [asyncio.ensure_future(made.call(asking(long))) for _ in range(2)]
            await eventually(lambda: made.relay.stats_of(pool).coalesced == 1)
            gate.set()
            first, second = sorted(len(fields_of(answer)) for answer in await asyncio.gather(*calls))
            assert second == first + 1
            answers = [fields_of(await call) for call in calls]
            assert all(fields["X-Sovren-Parts"] == "yes" for fields in answers)
            assert {fields.get("X-Sovren-Shared") for fields in answers} == {None, "yes"}
            kept = fields_of(await made.call(asking(long)))
            assert kept["X-Sovren-Why"] == "an equal request had this answer"


@pytest.mark.parametrize(("explains", "trusted"), [(False, "127.0.0.0/8"), (True, "10.0.0.0/8")])
async def test_nobody_else_is_told(*, explains: bool, trusted: str) -> None:
    """Where the configuration does not allow it, or to a caller that is not trusted."""
    async with backend(speaking) as one:
        pool = make_pool("tts", [one.port], kind="speech")
        async with front(pool, explains=explains, trusted=Networks([ip_network(trusted)])) as made:
            assert fields_of(await made.call(asking())) == {}
