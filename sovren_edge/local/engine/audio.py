"""Owns the ways from samples to bytes.

Must not know where samples come from or who reads the bytes. Samples are float32 in [-1, 1], mono, 24 kHz.
"""

import struct
from typing import Protocol

import lameenc
import numpy as np
from numpy.typing import NDArray

from sovren_edge.local.engine.request import AudioFormat

Samples = NDArray[np.float32]

SAMPLE_RATE = 24_000
_SAMPLE_BYTES = 2
_UNKNOWN_SIZE = 0xFFFF_FFFF
_MP3_KILOBITS = 96
_MP3_QUALITY = 5


class Encoder(Protocol):
    """Turns the samples of one answer into its bytes, in order."""

    content_type: str

    def encode(self, samples: Samples) -> bytes:
        """Return the bytes that these samples complete; may be empty."""
        ...

    def finish(self) -> bytes:
        """Return what is left after the last samples; may be empty."""
        ...


def encoder_for(audio_format: AudioFormat) -> Encoder:
    """Return a fresh encoder; it serves one answer."""
    if audio_format is AudioFormat.MP3:
        return Mp3Encoder()
    return WavEncoder() if audio_format is AudioFormat.WAV else PcmEncoder()


def pcm(samples: Samples) -> bytes:
    """Return signed 16-bit little-endian samples; louder ones are clipped."""
    return (np.clip(samples, -1.0, 1.0) * 32767.0).astype("<i2").tobytes()


def wav_header() -> bytes:
    """Return the 44 bytes before a stream of pcm whose length is not yet known: both sizes are 0xFFFFFFFF."""
    byte_rate = SAMPLE_RATE * _SAMPLE_BYTES
    layout = struct.pack("<IHHIIHH", 16, 1, 1, SAMPLE_RATE, byte_rate, _SAMPLE_BYTES, 8 * _SAMPLE_BYTES)
    size = struct.pack("<I", _UNKNOWN_SIZE)
    return b"RIFF" + size + b"WAVEfmt " + layout + b"data" + size


class PcmEncoder:
    """Writes bare samples."""

    content_type = "audio/pcm"

    def encode(self, samples: Samples) -> bytes:
        """Return these samples' bytes."""
        return pcm(samples)

    def finish(self) -> bytes:
        """Return nothing: every sample is already written."""
        return b""


class WavEncoder:
    """Writes one header, then bare samples."""

    content_type = "audio/wav"

    def __init__(self) -> None:
        self._header = wav_header()

    def encode(self, samples: Samples) -> bytes:
        """Return these samples' bytes, after the header if they are the first."""
        header, self._header = self._header, b""
        return header + pcm(samples)

    def finish(self) -> bytes:
        """Return nothing: every sample is already written."""
        return b""


class Mp3Encoder:
    """Writes MPEG-2 layer III frames without any tag before them."""

    content_type = "audio/mpeg"

    def __init__(self) -> None:
        self._lame = lameenc.Encoder()
        self._lame.silence()
        self._lame.set_channels(1)
        self._lame.set_in_sample_rate(SAMPLE_RATE)
        self._lame.set_bit_rate(_MP3_KILOBITS)
        self._lame.set_quality(_MP3_QUALITY)

    def encode(self, samples: Samples) -> bytes:
        """Return the frames that these samples complete."""
        return bytes(self._lame.encode(pcm(samples)))

    def finish(self) -> bytes:
        """Return the frames that the last samples began."""
        return bytes(self._lame.flush())
