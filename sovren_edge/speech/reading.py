"""Owns reading a request for speech: how much there is to say, by which voice, for whom, and how soon.

All forms in the wild are JSON objects: OpenAI's, which the CSM and Kokoro servers share (`input`), and `synthesize`
(`text`). A body in any other form is forwarded all the same. Must not know pools' states, connections or clocks.
"""

from math import inf

import orjson

from pools.demand import Demand, Priority
from sovren_edge.http.request import RequestHead

PRIORITIES = {
    b"interactive": Priority.INTERACTIVE,
    b"standard": Priority.STANDARD,
    b"bulk": Priority.BULK,
}
SLOWEST, FASTEST = 0.25, 4.0
LONGEST_NAME = 128


def read_demand(request: RequestHead, body: bytes, address: str, now: float) -> Demand:
    """Return what a request asks for that came `now` from an address; `body` is empty where it was not kept.

    What X-Sovren-* says is believed from trusted addresses; from others it may only lower the priority.
    """
    told = request.told
    priority = PRIORITIES.get(told.get(b"x-sovren-priority", b"").lower(), Priority.STANDARD)
    caller, deadline = address, inf
    if request.trusted:
        caller = told.get(b"x-sovren-caller", b"")[:LONGEST_NAME].decode("latin-1") or address
        deadline = now + _read_seconds(told.get(b"x-sovren-deadline-ms", b""))
    else:
        priority = max(priority, Priority.STANDARD)
    characters, voice = _read_text(body)
    return Demand(characters, voice, caller, priority, deadline)


def _read_seconds(value: bytes) -> float:
    return int(value) / 1000 if value.isdigit() and len(value) <= 9 else inf  # noqa: PLR2004 - eleven days


def _read_text(body: bytes) -> tuple[float | None, str]:
    try:
        members = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None, ""
    if not isinstance(members, dict):
        return None, ""
    text, voice, speed = members.get("input") or members.get("text"), members.get("voice"), members.get("speed")
    if not isinstance(text, str):
        return None, ""
    # Slow speech is more speech.
    pace = min(max(speed, SLOWEST), FASTEST) if isinstance(speed, int | float) else 1.0
    return len(text) / pace, voice[:LONGEST_NAME] if isinstance(voice, str) else ""
