"""Owns the joining of audio: which of a part's bytes are sound, and what stands once before all of it.

wav and pcm are joined sample for sample, mp3 frame by frame; tags and the Xing, Info and VBRI frames, which count one
part's frames, are left out. Must not know where bytes come from or go to. Sources: the RIFF/WAVE specification, ISO/IEC
11172-3 and 13818-3 section 2.4, the ID3v2.4 structure.
"""

import struct
from typing import Protocol

UNKNOWN_SIZES = frozenset({0, 0xFFFF_FFFF, 0x7FFF_FFFF})
# A header longer than this has more in it than speech engines write.
HEADER_LIMIT = 8 * 1024
# What pcm is where its media type does not say more: 24 kHz, 16 bits, mono.
PCM_RATE, PCM_BYTES = 24_000, 2


class AudioError(ValueError):
    """Bytes that are no audio that can be joined, or none that goes with the parts before."""


class Track(Protocol):
    """Reads one part of a `kind`; `form` is what two parts must have in common, empty before it is known."""

    form: bytes
    kind: str

    @property
    def seconds(self) -> float:
        """Seconds of sound so far."""

    def feed(self, data: bytes) -> bytes:
        """Return the sound in these bytes; raises AudioError."""

    def end(self) -> None:
        """Take note that the part is complete; raises AudioError if some of it is missing."""

    def opening(self) -> bytes:
        """Return what stands before the sound of a whole answer."""


def open_track(media_type: bytes, beginning: bytes) -> Track:
    """Return what reads a part by its Content-Type and its first bytes (four or more); raises AudioError."""
    media_type = media_type.lower()
    if beginning.startswith(b"RIFF"):
        return WavTrack()
    if b"mpeg" in media_type or b"mp3" in media_type:
        return Mp3Track()
    if b"pcm" in media_type or b"l16" in media_type:
        return PcmTrack(media_type)
    raise AudioError("audio of this type cannot be joined")


class PcmTrack:
    """Bare samples; nothing in them says what they are."""

    kind = "pcm"

    def __init__(self, media_type: bytes) -> None:
        self.form = media_type
        self._bytes = 0

    @property
    def seconds(self) -> float:
        """Seconds of sound so far."""
        return self._bytes / (PCM_RATE * PCM_BYTES)

    def feed(self, data: bytes) -> bytes:
        """See Track."""
        self._bytes += len(data)
        return data

    def end(self) -> None:
        """See Track."""
        if self._bytes % PCM_BYTES:
            raise AudioError("the last sample is cut")

    def opening(self) -> bytes:
        """See Track."""
        return b""


class WavTrack:
    """A RIFF header, then samples: as many as the header says, or all that come where it says nothing."""

    kind = "wav"

    def __init__(self) -> None:
        self.form = b""
        self._header = b""
        self._bytes = 0
        self._remaining: int | None = 0
        self._started = False

    @property
    def seconds(self) -> float:
        """Seconds of sound so far."""
        return self._bytes / max(1, int.from_bytes(self.form[8:12], "little"))

    def feed(self, data: bytes) -> bytes:
        """See Track."""
        if not self._started:
            data = self._read_header(self._header + data)
        if self._remaining is not None:
            # Behind the samples there may be further chunks, which say nothing about the whole.
            data = data[: self._remaining]
            self._remaining -= len(data)
        self._bytes += len(data)
        return data

    def _read_header(self, header: bytes) -> bytes:
        """Return what stands behind the header, if it is complete."""
        self._header = header
        at = 12
        if len(header) >= at and (header[:4] != b"RIFF" or header[8:at] != b"WAVE"):
            raise AudioError("this is no wav")
        while len(header) >= at + 8 and at <= HEADER_LIMIT:
            name, size = header[at : at + 4], int.from_bytes(header[at + 4 : at + 8], "little")
            at += 8
            if name == b"data":
                if not self.form:
                    raise AudioError("a wav without its format")
                self._started = True
                self._remaining = None if size in UNKNOWN_SIZES else size
                return header[at:]
            if name == b"fmt " and len(header) >= at + size:
                self._take_form(header[at : at + size])
            at += size + size % 2
        if at > HEADER_LIMIT:
            raise AudioError("a wav's header is too long")
        return b""

    def _take_form(self, form: bytes) -> None:
        if len(form) < 16 or not int.from_bytes(form[12:14], "little"):  # noqa: PLR2004 - the shortest that there is
            raise AudioError("a wav's format is cut")
        self.form = form

    def end(self) -> None:
        """See Track."""
        if not self._started or self._remaining or self._bytes % int.from_bytes(self.form[12:14], "little"):
            raise AudioError("the wav is cut")

    def opening(self) -> bytes:
        """Return a header for samples whose number is not known yet."""
        unknown = b"\xff\xff\xff\xff"
        return b"".join((
            b"RIFF", unknown, b"WAVEfmt ", struct.pack("<I", len(self.form)), self.form, b"data", unknown,
        ))  # fmt: skip


# By version (MPEG 2.5, none, 2, 1) and index.
_RATES = ((11025, 12000, 8000), (), (22050, 24000, 16000), (44100, 48000, 32000))
_KILOBITS_1 = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
_KILOBITS_2 = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
_MPEG_1, _LAYER_III, _MONO = 3, 1, 3
# The header of an ID3v2 tag, and all of an ID3v1 tag.
TAG_BEFORE, TAG_BEHIND = 10, 128


def _read_frame(header: bytes) -> tuple[int, float, bytes]:
    """Return a frame's length in bytes, its seconds, and what all frames of a stream have in common."""
    version, layer, bits, rate = header[1] >> 3 & 3, header[1] >> 1 & 3, header[2] >> 4, header[2] >> 2 & 3
    if header[0] != 0xFF or header[1] < 0xE0 or layer != _LAYER_III or version == 1 or not 0 < bits < 15 or rate == 3:  # noqa: PLR2004 - see the standard's tables
        raise AudioError("this is no frame of mp3")
    hertz = _RATES[version][rate]
    samples, kilobits = (1152, _KILOBITS_1[bits]) if version == _MPEG_1 else (576, _KILOBITS_2[bits])
    size = samples // 8 * kilobits * 1000 // hertz + (header[2] >> 1 & 1)
    mono = header[3] >> 6 == _MONO
    return size, samples / hertz, bytes((version, rate, mono))


class Mp3Track:
    """Frames of MPEG layer III, maybe between tags."""

    kind = "mp3"

    def __init__(self) -> None:
        self.form = b""
        self.seconds = 0.0
        self._partial = b""
        # Bytes of a tag that are still to be passed over; None while nobody knows.
        self._tag: int | None = None
        self._first = True
        self._known: dict[bytes, tuple[int, float, bytes]] = {}

    def feed(self, data: bytes) -> bytes:
        """See Track."""
        data, self._partial = self._partial + data, b""
        if self._tag is None:
            if len(data) < TAG_BEFORE:
                self._partial = data
                return b""
            self._tag = _tag_size(data)
        start = min(self._tag, len(data))
        self._tag -= start
        if self._first:
            size = self._frame(data, start)
            if not size:
                self._partial = data[start:]
                return b""
            self._first = False
            if _counts_frames(data[start : start + size]):
                start += size
                self.seconds = 0.0
        at = start
        while size := self._frame(data, at):
            at = self._pass_over(data, at + size)
        self._partial = data[at:]
        return data[start:at]

    def _pass_over(self, data: bytes, at: int) -> int:
        """Take frames that are like the one before, of which there are many; return where they end."""
        header = data[at : at + 4]
        frame = self._known.get(header)
        if frame is None:
            return at
        size, seconds, _ = frame
        begin, last = at, len(data) - size
        while at <= last and data.startswith(header, at):
            at += size
        self.seconds += (at - begin) // size * seconds
        return at

    def _frame(self, data: bytes, at: int) -> int:
        """Take the frame that begins here; return its length, 0 if it is not whole, or a tag begins instead."""
        header = data[at : at + 4]
        if len(header) < 4 or header[:3] == b"TAG":  # noqa: PLR2004 - a frame's header
            return 0
        frame = self._known.get(header)
        if frame is None:
            frame = self._known[header] = _read_frame(header)
            if self.form and frame[2] != self.form:
                raise AudioError("the frames of an mp3 differ in their form")
            self.form = frame[2]
        size, seconds, _ = frame
        if len(data) - at < size:
            return 0
        self.seconds += seconds
        return size

    def end(self) -> None:
        """See Track."""
        if self._first or (self._partial and not (self._partial[:3] == b"TAG" and len(self._partial) == TAG_BEHIND)):
            raise AudioError("the mp3 is cut")

    def opening(self) -> bytes:
        """See Track."""
        return b""


def _counts_frames(frame: bytes) -> bool:
    """Whether a frame has no sound in it, but says how many others there are."""
    version, mono = frame[1] >> 3 & 3, frame[3] >> 6 == _MONO
    side = (17 if mono else 32) if version == _MPEG_1 else (9 if mono else 17)
    at = 4 + side + (0 if frame[1] & 1 else 2)
    return frame[at : at + 4] in {b"Xing", b"Info"} or frame[36:40] == b"VBRI"


def _tag_size(data: bytes) -> int:
    """Return the bytes of the ID3v2 tag that these bytes begin with, 0 for none."""
    if data[:3] != b"ID3":
        return 0
    footer = 10 if data[5] & 0x10 else 0
    return TAG_BEFORE + footer + (data[6] << 21 | data[7] << 14 | data[8] << 7 | data[9])
