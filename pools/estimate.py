"""Owns what a request for speech will cost: learned from those that ended, per endpoint and voice.

The cost is a line, `first_s + characters / rate`, fitted by least squares with a weight that fades from one observation
to the next. Must not know leases or queues.
"""

from dataclasses import dataclass

# An observation's weight after fifty others is about a third.
FADE = 0.98
# What a line needs before it is believed: until then its parent is asked.
ENOUGH = 5.0
VOICES = 1000
# One of so many observations of a voice that is well known also teaches about the endpoint as a whole.
SAMPLED = 4
LEAST_S, MOST_S = 0.001, 600.0
# What is believed of speech before anybody has spoken: two observations, in characters and seconds.
BELIEFS = ((0.0, 0.05), (1200.0, 1.05))


@dataclass(slots=True)
class Line:
    """A fading least-squares fit of seconds over characters."""

    weight: float = 0.0
    x: float = 0.0
    y: float = 0.0
    xx: float = 0.0
    xy: float = 0.0

    def observe(self, characters: float, seconds: float) -> None:
        """Take one that has ended."""
        self.weight = self.weight * FADE + 1
        self.x = self.x * FADE + characters
        self.y = self.y * FADE + seconds
        self.xx = self.xx * FADE + characters * characters
        self.xy = self.xy * FADE + characters * seconds

    def seconds(self, characters: float) -> float:
        """Return what so many characters cost; there must have been an observation."""
        weight, x, y, xx = self.weight, self.x, self.y, self.xx
        spread = weight * xx - x * x
        # Texts that are all alike say nothing about the slope, and no text is spoken sooner than a shorter one.
        slope = (weight * self.xy - x * y) / spread if spread > 1e-6 * xx * weight else 0.0
        if slope <= 0.0:
            return y / weight
        first = y - slope * x
        return slope * characters + (first / weight if first > 0.0 else 0.0)


class Estimates:
    """Lines of one pool: one for all, one for each endpoint, and one for each endpoint and voice (of at most 1,000)."""

    def __init__(self) -> None:
        self._all = Line()
        self._turn = 0
        self._endpoints: dict[str, Line] = {}
        # By voice, then by endpoint.
        self._voices: dict[str, dict[str, Line]] = {}
        for characters, seconds in BELIEFS:
            self._all.observe(characters, seconds)

    def seconds(self, characters: float | None, endpoint: str = "", voice: str = "") -> float:
        """Return the seconds that a text will take; of an unreadable one (None), the running mean."""
        lines = self._voices.get(voice)
        line = None if lines is None else lines.get(endpoint)
        if line is None or line.weight < ENOUGH:
            line = self._endpoints.get(endpoint)
            if line is None or line.weight < ENOUGH:
                line = self._all
        seconds = line.seconds(line.x / line.weight if characters is None else characters)
        return min(seconds, MOST_S) if seconds > LEAST_S else LEAST_S

    def observe(self, characters: float, seconds: float, endpoint: str, voice: str) -> None:
        """Learn from a text that was spoken to its end."""
        lines = self._voices.get(voice)
        if lines is None:
            if len(self._voices) >= VOICES:
                del self._voices[next(iter(self._voices))]
            lines = self._voices[voice] = {}
        line = lines.get(endpoint)
        if line is None:
            line = lines[endpoint] = Line()
        line.observe(characters, seconds)
        # Its parents know nothing better than a line that has seen enough; they are for those that have not.
        if line.weight < ENOUGH or not self._turn:
            self._endpoints.setdefault(endpoint, Line()).observe(characters, seconds)
            self._all.observe(characters, seconds)
        self._turn = (self._turn + 1) % SAMPLED

    def forget(self, endpoint: str) -> None:
        """Forget an endpoint that has left the pool."""
        self._endpoints.pop(endpoint, None)
        for lines in self._voices.values():
            lines.pop(endpoint, None)
