"""Owns a text that one endpoint speaks: it is asked for by the names, and in a form, that the endpoint's pool knows.

Bare samples can be had from those who answer wav and no pcm: without the header, if they are what pcm stands for.
Must not know connections, nor how pools choose.
"""

import struct
from typing import TYPE_CHECKING

from pools.admission import Outcome
from pools.demand import Demand
from pools.pool import Pool
from pools.settings import PoolSettings
from sovren_edge.errors import Problem
from sovren_edge.http.request import RequestHead, with_another_body
from sovren_edge.http.response import OK, ResponseHead
from sovren_edge.relay import problems
from sovren_edge.relay.body import RequestBody, made_body
from sovren_edge.relay.fetch import Fetch
from sovren_edge.relay.taker import Taker
from sovren_edge.speech.audio import PCM_BYTES, PCM_RATE, AudioError, WavTrack
from sovren_edge.speech.reading import DEFAULT_FORM, Spoken

if TYPE_CHECKING:
    from sovren_edge.relay.relay import Door, Relay

# What a wav's format begins with whose samples are what pcm stands for: integers, one channel, their rate and size.
SAMPLES = struct.pack("<HHIIHH", 1, 1, PCM_RATE, PCM_RATE * PCM_BYTES, PCM_BYTES, 8 * PCM_BYTES)
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: audio/pcm\r\nTransfer-Encoding: chunked\r\n\r\n"


def may_serve(settings: PoolSettings, spoken: Spoken) -> bool:
    """Whether a pool's endpoints answer in the form that is asked for, or can be made to."""
    formats = settings.formats
    return not formats or (spoken.form or DEFAULT_FORM) in formats or takes_samples(settings, spoken)


def takes_samples(settings: PoolSettings, spoken: Spoken) -> bool:
    """Whether the pcm that is asked for is to be taken out of a wav."""
    return spoken.form == "pcm" and "wav" in settings.formats and "pcm" not in settings.formats


def fetch_whole(relay: "Relay", door: "Door", taker: Taker, demand: Demand, spoken: Spoken) -> Fetch:
    """Return what gets a text as a whole."""
    of_pools = [pool.settings for pool in door.tiers.pools]
    if any(takes_samples(settings, spoken) for settings in of_pools):
        unwrap = Unwrap(relay, taker)
        fetch = Fetch(relay, door, unwrap, demand)
    else:
        unwrap, fetch = None, Fetch(relay, door, taker, demand)
        if not any(settings.models or settings.voices for settings in of_pools):
            return fetch

    def rewrite(pool: Pool) -> tuple[RequestHead, RequestBody]:
        asked = spoken.renamed(pool.settings.models, pool.settings.voices)
        if unwrap is not None:
            # Only now: the two hold each other, and a text in parts is never fetched as a whole.
            unwrap.fetch = fetch
            unwrap.expected = takes_samples(pool.settings, spoken)
            asked = asked.in_form("wav") if unwrap.expected else asked
        if asked is spoken:
            return taker.request, taker.request_body
        request = with_another_body(taker.request)
        return request, made_body(request, asked.body())

    fetch.rewrite = rewrite
    return fetch


class Unwrap:
    """Takes the answer for somebody who asked for bare samples, and passes on those of a wav; see taker.Taker."""

    # Whether a wav is to come, of which samples are to be made.
    expected = False
    fetch: Fetch | None = None

    def __init__(self, relay: "Relay", asked: Taker) -> None:
        self.request, self.request_body, self.request_id = asked.request, asked.request_body, asked.request_id
        self.caller, self.started_at = asked.caller, asked.started_at
        self.trace, self.span = asked.trace, asked.span
        self._relay = relay
        self._taker = asked
        # None where the answer is passed on as it comes.
        self._track: WavTrack | None = None
        self._begun = False
        # They are told what they would be told anyway.
        self.wait_until, self.sent, self.interim = asked.wait_until, asked.sent, asked.interim
        self.switched, self.flush = asked.switched, asked.flush

    def answered(self, head: ResponseHead, now: float, *, sized: bool) -> None:
        """See taker.Taker."""
        if head.status == OK and self.expected:
            self._track = WavTrack()
        else:
            self._taker.answered(head, now, sized=sized)

    def answered_whole(self, head: ResponseHead, body: bytes, now: float) -> None:
        """See taker.Taker."""
        self.answered(head, now, sized=True)
        self.body([body], now)
        self.flush()

    def body(self, pieces: list[bytes], now: float) -> None:
        """See taker.Taker."""
        if self._track is None:
            self._taker.body(pieces, now)
            return
        if self.fetch is None:
            return
        try:
            sound = [sound for piece in pieces if (sound := self._track.feed(piece))]
        except AudioError as error:
            self._lose(str(error), now)
            return
        if not self._track.form.startswith(SAMPLES[: len(self._track.form)]):
            self._lose("the wav has other samples than pcm: 24 kHz, 16 bits, mono", now)
        elif sound:
            self._begin(now)
            self._taker.body(sound, now)

    def _begin(self, now: float) -> None:
        if not self._begun:
            self._begun = True
            self._taker.answered(self._relay.connections.responses[HEAD], now, sized=False)

    def _lose(self, reason: str, now: float) -> None:
        fetch, self.fetch = self.fetch, None
        if fetch is not None:
            fetch.stop(Outcome.FAILED, now)
        if self._begun:
            self._taker.broken(reason, now)
        else:
            self._taker.failed(problems.upstream_failed(reason), now)

    def ended(self, now: float) -> None:
        """See taker.Taker."""
        if self._track is not None:
            if self.fetch is None:
                return
            try:
                self._track.end()
            except AudioError as error:
                self._lose(str(error), now)
                return
            self._begin(now)
        # The two hold each other, and nothing here is to wait for a collection.
        self.fetch = None
        self._taker.ended(now)

    def failed(self, problem: Problem, now: float) -> None:
        """See taker.Taker."""
        self.fetch = None
        self._taker.failed(problem, now)

    def broken(self, reason: str, now: float) -> None:
        """See taker.Taker."""
        self.fetch = None
        if self._track is not None and not self._begun:
            self._taker.failed(problems.upstream_failed(reason), now)
        else:
            self._taker.broken(reason, now)
