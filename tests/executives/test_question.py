"""What a question may be."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import JsonValue, ValidationError

from handlers.executives.models import LONGEST_CONTEXT, Question

NO_TEXT = st.text(st.sampled_from("\0 \n\t\u00a0a"), max_size=12).filter(lambda text: "\0" in text or not text.strip())


def ask(message: str = "Where do we stand?", context: JsonValue = None) -> Question:
    """Judge a question."""
    return Question.model_validate({"executiveId": "ceo", "message": message, "context": context})


@given(NO_TEXT)
def test_a_message_says_something_that_can_be_kept(message: str) -> None:
    """PostgreSQL keeps no NUL, wherever it stands; nobody answers spaces."""
    with pytest.raises(ValidationError, match="message"):
        ask(message)
    assert ask(f"{message} a".replace("\0", " ")).message.endswith(" a")


def test_a_context_is_anything_that_is_short() -> None:
    """However it is nested."""
    for context in ("x" * LONGEST_CONTEXT, {"a": [1, None, {"b": True}]}, None):
        assert ask(context=context).context == context
    for context in ("x" * (LONGEST_CONTEXT + 1), ["x" * LONGEST_CONTEXT], [[1] * LONGEST_CONTEXT]):
        with pytest.raises(ValidationError, match="longer than"):
            ask(context=context)
