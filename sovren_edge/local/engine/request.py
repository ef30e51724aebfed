"""Owns what a caller may ask of the engine, and how a faulty request is refused.

Must not know HTTP or the model: bytes come in, a request or an `EdgeError` comes out.
"""

from enum import StrEnum
from http import HTTPStatus
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails

from sovren_edge.errors import EdgeError, Side

VOICES = (
    "heart",
    "alloy",
    "ash",
    "ballad",
    "cedar",
    "coral",
    "echo",
    "fable",
    "marin",
    "nova",
    "onyx",
    "sage",
    "shimmer",
    "verse",
)
"""The names that callers may use; one voice speaks for all of them."""


class AudioFormat(StrEnum):
    """How the audio is written."""

    MP3 = "mp3"
    PCM = "pcm"
    WAV = "wav"


def _known(voice: str) -> str:
    if voice not in VOICES:
        raise ValueError(f"this voice is unknown; the voices are {', '.join(VOICES)}")
    return voice


class SpeechRequest(BaseModel):
    """The body of `POST /v1/audio/speech`; `speed` is a factor, unknown members are ignored."""

    model_config = ConfigDict(frozen=True, strict=True, extra="ignore")

    model: str = ""
    input: str
    voice: Annotated[str, AfterValidator(_known)] = "alloy"
    response_format: AudioFormat = AudioFormat.MP3
    speed: float = Field(default=1.0, ge=0.5, le=2.0)
    stream_format: Literal["audio"] = "audio"


def read_request(body: bytes) -> SpeechRequest:
    """Return the request in a JSON body, whatever its declared type; EdgeError 400 names every fault."""
    try:
        return SpeechRequest.model_validate_json(body)
    except ValidationError as error:
        faults = "; ".join(_sentence(fault) for fault in error.errors(include_url=False, include_input=False))
        raise refusal("invalid_speech_request", faults) from None


def refusal(reason: str, detail: str) -> EdgeError:
    """Return the error that tells a caller that its request cannot be served as it is."""
    return EdgeError(HTTPStatus.BAD_REQUEST, reason, detail, side=Side.CALLER)


def _sentence(fault: ErrorDetails) -> str:
    where = ".".join(str(step) for step in fault["loc"])
    return f"{where}: {fault['msg']}" if where else fault["msg"]
