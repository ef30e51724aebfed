"""Owns what happens while an answer is made, as those who follow it are told.

Must not know who follows, nor how it is written to them.
"""

from dataclasses import dataclass
from typing import TypeAlias
from uuid import UUID

from handlers.executives.models import Answer
from sovren_edge.handler import Problem


@dataclass(frozen=True, slots=True)
class Began:
    """The model answers, in this session."""

    executive_id: str
    session_id: UUID


@dataclass(frozen=True, slots=True)
class Said:
    """More of the answer's text."""

    text: str


@dataclass(frozen=True, slots=True)
class Sounded:
    """More of its speech: `length` bytes of samples from `offset` on, in the recording."""

    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class FellSilent:
    """There is no speech, or no more of it, and why."""

    reason: str


@dataclass(frozen=True, slots=True)
class Done:
    """All of it."""

    answer: Answer


@dataclass(frozen=True, slots=True)
class Failed:
    """There is no answer, or no more of it, and why."""

    problem: Problem


Event: TypeAlias = Began | Said | Sounded | FellSilent | Done | Failed
End: TypeAlias = Done | Failed
