"""Owns numbers, bars and trails as few characters.

Pure. Must not know what they are about.
"""

from collections.abc import Sequence

from rich.text import Text

NOTHING = "-"
_STEPS = "▁▂▃▄▅▆▇█"
_BUSY, _FREE, _CLOSED = "█", "░", "·"
_DAY_S, _HOUR_S, _MINUTE_S = 86_400, 3_600, 60
_UNITS = "kMGT"


def rate(per_s: float | None) -> str:
    """So many in a second."""
    if per_s is None:
        return NOTHING
    if per_s == 0:
        return "0"
    return f"{per_s:.1f}" if per_s < 100 else count(per_s)  # noqa: PLR2004 - three digits tell enough


def count(number: float) -> str:
    """How many, in four or five characters."""
    return _scaled(number, 1000, "")


def size(number: int | None) -> str:
    """Bytes, as powers of 1024."""
    return NOTHING if number is None else _scaled(number, 1024, "B")


def _scaled(number: float, base: int, unit: str) -> str:
    scale = 0
    while number >= base - 0.5 and scale < len(_UNITS):
        number /= base
        scale += 1
    if not scale:
        return f"{number:.0f}{unit}"
    return f"{number:.{0 if number >= 10 else 1}f}{_UNITS[scale - 1]}"  # noqa: PLR2004 - two digits tell enough


def duration(seconds: float | None) -> str:
    """Return how long something took."""
    if seconds is None:
        return NOTHING
    if seconds < 0.01:  # noqa: PLR2004 - 10 ms
        return f"{seconds * 1000:.1f} ms"
    return f"{seconds * 1000:.0f} ms" if seconds < 0.9995 else f"{seconds:.2f} s"  # noqa: PLR2004 - it would round to 1000


def age(seconds: float) -> str:
    """How long something has been, in its two largest units."""
    whole = max(0, int(seconds))
    if whole < _MINUTE_S:
        return f"{whole}s"
    if whole < _HOUR_S:
        return f"{whole // _MINUTE_S}m{whole % _MINUTE_S:02}"
    if whole < _DAY_S:
        return f"{whole // _HOUR_S}h{whole % _HOUR_S // _MINUTE_S:02}"
    return f"{whole // _DAY_S}d{whole % _DAY_S // _HOUR_S:02}"


def clock(at: float) -> str:
    """Return the time of day (UTC) of a moment in Unix seconds."""
    whole = int(at) % _DAY_S
    return f"{whole // _HOUR_S:02}:{whole % _HOUR_S // _MINUTE_S:02}:{whole % _MINUTE_S:02}"


def percent(fraction: float | None) -> str:
    """Return a share, or that much of one core."""
    return NOTHING if fraction is None else f"{fraction:.0%}"


def bar(inflight: int, limit: int, slots: int, *, width: int) -> Text:
    """Return the slots: those in use, those that are free, and those beyond the limit of now.

    Each is a character where there is room for all. Otherwise a bar is only empty where none is in use, and only full
    where all are.
    """
    cells = min(slots, width)
    busy = _share(min(inflight, slots), slots, cells)
    # What is in use beyond the limit is in use all the same.
    free = max(busy, _share(min(limit, slots), slots, cells)) - busy
    style = "yellow" if slots and inflight >= min(limit, slots) else "green"
    return Text.assemble(
        (_BUSY * busy, style), (_FREE * free, "dim"), (_CLOSED * (cells - busy - free), "dim"), " " * (width - cells)
    )


def _share(part: int, whole: int, cells: int) -> int:
    if part in {0, whole}:
        return cells if part else 0
    return min(max(1, round(part * cells / whole)), max(1, cells - 1))


def highest(trails: Sequence[Sequence[float | None]]) -> float:
    """Return what the highest step of several trails is, so that they can be compared."""
    return max((value for trail in trails for value in trail if value is not None), default=0.0)


def trail(values: Sequence[float | None], top: float, *, width: int) -> str:
    """Return the last values as steps, the newest at the right; a gap where there was none."""
    steps = [" " if value is None else _step(value, top) for value in values[-width:]]
    return "".join(steps).rjust(width)


def _step(value: float, top: float) -> str:
    return _STEPS[min(len(_STEPS) - 1, int(value / top * len(_STEPS)))] if top > 0 else _STEPS[0]
