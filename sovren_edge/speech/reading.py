"""Owns reading a request for speech: what is to be said, by which voice, for whom, and how soon.

All forms in the wild are JSON objects: OpenAI's, which the CSM and Kokoro servers share (`input`), and `synthesize`
(`text`). A body in any other form is forwarded all the same. Must not know pools' states, connections or clocks.
"""

from collections.abc import Mapping
from math import inf
from typing import NamedTuple

import orjson

from pools.demand import STANDARD, Demand, Priority
from sovren_edge.http.request import RequestHead

PRIORITIES = {
    b"interactive": Priority.INTERACTIVE,
    b"standard": STANDARD,
    b"bulk": Priority.BULK,
}
SLOWEST, FASTEST = 0.25, 4.0
LONGEST_NAME = 128
# Where requests for speech go, whatever stands before; elsewhere an answer may be something else than bare audio.
SPEECH_PATHS = ("/audio/speech", "/synthesize")
# What servers answer where no form is named.
DEFAULT_FORM = "mp3"
# What can be joined. Where nothing is asked for it is mp3 for all servers that are known, or is seen when it comes.
JOINABLE = frozenset({"mp3", "wav", "pcm"})


class Spoken(NamedTuple):
    """What a request says: its `members`, and under which `name` the text stands among them."""

    members: Mapping[str, object]
    name: str
    text: str
    voice: str
    pace: float

    @property
    def language(self) -> str:
        """The text's language by its two letters; English where nothing is said, which does for most scripts."""
        language = self.members.get("language")
        return language[:2].lower() if isinstance(language, str) and len(language) > 1 else "en"

    @property
    def affinity(self) -> str:
        """What this text is to be spoken together with, if it says so."""
        affinity = self.members.get("affinity")
        return affinity[:LONGEST_NAME] if isinstance(affinity, str) else ""

    @property
    def form(self) -> str:
        """The audio format that is named; empty where none is."""
        form = self.members.get("response_format")
        return form if isinstance(form, str) else ""

    @property
    def divisible(self) -> bool:
        """Whether an answer made of several would be of the same form."""
        named = self.members.get("response_format", "")
        return (not named or self.form in JOINABLE) and self.members.get("stream_format", "audio") == "audio"

    def body(self, text: str | None = None) -> bytes:
        """Return the same request, or the same for another text."""
        return orjson.dumps(self.members if text is None else {**self.members, self.name: text})

    def in_form(self, form: str) -> "Spoken":
        """Return the same in another audio format."""
        return self._replace(members={**self.members, "response_format": form})

    def renamed(self, models: Mapping[str, str], voices: Mapping[str, str]) -> "Spoken":
        """Return the same for endpoints that have other names for models and voices; `*` stands for all others."""
        changed = {}
        for member, names in (("model", models), ("voice", voices)):
            told = self.members.get(member)
            if isinstance(told, str) and names:
                changed[member] = names.get(told, names.get("*", told))
        return self._replace(members={**self.members, **changed}) if changed else self


def read_speech(body: bytes) -> Spoken | None:
    """Return what a body says; None if it is no request for speech that can be read."""
    try:
        members = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(members, dict):
        return None
    name, text = "input", members.get("input")
    if not text:
        name, text = "text", members.get("text")
    if not isinstance(text, str):
        return None
    voice, speed = members.get("voice"), members.get("speed")
    pace = 1.0 if speed is None or not isinstance(speed, int | float) else min(max(speed, SLOWEST), FASTEST)
    return Spoken(members, name, text, voice[:LONGEST_NAME] if isinstance(voice, str) else "", pace)


def read_demand(request: RequestHead, spoken: Spoken | None, address: str, now: float) -> Demand:
    """Return what a request asks for that came `now` from an address; `spoken` is what its body says.

    What X-Sovren-* says is believed from trusted addresses; from others it may only lower the priority.
    """
    told, priority, caller, deadline, affinity = request.told, STANDARD, address, inf, ""
    if told:
        priority = PRIORITIES.get(told.get(b"x-sovren-priority", b"").lower(), STANDARD)
        affinity = told.get(b"x-sovren-affinity", b"")[:LONGEST_NAME].decode("latin-1")
        if request.trusted:
            caller = told.get(b"x-sovren-caller", b"")[:LONGEST_NAME].decode("latin-1") or address
            deadline = now + _read_seconds(told.get(b"x-sovren-deadline-ms", b""))
        else:
            priority = max(priority, STANDARD)
    if spoken is None:
        return Demand(None, "", caller, priority, deadline, None, None, affinity)
    if not affinity and "affinity" in spoken.members:
        affinity = spoken.affinity
    # As time counts its length: slow speech is more speech.
    characters = len(spoken.text) / spoken.pace
    return Demand(characters, spoken.voice, caller, priority, deadline, None, None, affinity)


def _read_seconds(value: bytes) -> float:
    return int(value) / 1000 if value.isdigit() and len(value) <= 9 else inf  # noqa: PLR2004 - eleven days
