"""Owns the model, its one thread, and the order in which sentences are spoken.

Must not know HTTP or audio formats. Sentences of concurrent callers take turns, since each asks for its next one only
when it has the one before. A sentence has the same samples wherever it stands: each is spoken on its own, from the
same seed.
"""

import asyncio
import gc
import re
import textwrap
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, contextmanager

import numpy as np
from hibari import Hibari

from sovren_edge.local.engine.audio import Samples

_SEED = 0
# A text without punctuation is one sentence of any length, and the model's memory grows with what it speaks at once.
_SENTENCE_CHARACTERS = 500
_SPOKEN_PHONEMES = 400
# The model's words for numbers end at decillions; nobody follows them so far.
_LONG_NUMBER = re.compile(r"\d[\d,]{15,}")


class Speaker:
    """Speaks texts sentence by sentence; `sentences_spoken` counts them all."""

    def __init__(self, thread: ThreadPoolExecutor) -> None:
        # Naming a voice could download it: the default one is inside the package.
        self._model = Hibari(threads=1)
        self._thread = thread
        self.sentences_spoken = 0
        self._speak("Sovren is ready.", 1.0)  # a word that no dictionary has loads the last of the models

    async def speak(self, text: str, speed: float) -> AsyncGenerator[Samples, None]:
        """Yield the samples of each sentence that has any; what is not asked for is not spoken."""
        loop = asyncio.get_running_loop()
        for sentence in sentences_of(text):
            samples = await loop.run_in_executor(self._thread, self._speak, sentence, speed)
            if samples.size:
                self.sentences_spoken += 1
                yield samples

    def _speak(self, sentence: str, speed: float) -> Samples:
        parts = [self._model.from_phonemes(phonemes, speed, _SEED) for phonemes in self._phonemes(sentence)]
        return np.concatenate(parts) if parts else np.zeros(0, np.float32)

    def _phonemes(self, sentence: str) -> Iterator[str]:
        for phonemes in self._model.phonemize(sentence):
            if len(phonemes) > _SPOKEN_PHONEMES:
                yield from textwrap.wrap(phonemes, _SPOKEN_PHONEMES, break_on_hyphens=False)
            elif any(phoneme.isalpha() for phoneme in phonemes):
                yield phonemes


def sentences_of(text: str) -> Iterator[str]:
    """Yield a text's sentences, overlong ones in pieces, and overlong numbers digit by digit."""
    for sentence in Hibari.split_sentences(_LONG_NUMBER.sub(_digits, text)):
        if len(sentence) > _SENTENCE_CHARACTERS:
            yield from textwrap.wrap(sentence, _SENTENCE_CHARACTERS, break_on_hyphens=False)
        else:
            yield sentence


def _digits(number: re.Match[str]) -> str:
    return " ".join(number[0].replace(",", ""))


@asynccontextmanager
async def open_speaker() -> AsyncIterator[Speaker]:
    """Load the model and speak once, so that the first caller waits for neither."""
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="speech") as thread:
        with _few_collections():
            speaker = await asyncio.get_running_loop().run_in_executor(thread, Speaker, thread)
        yield speaker


@contextmanager
def _few_collections() -> Iterator[None]:
    """Keep the collector away from the dictionaries while they are built, and from then on."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
