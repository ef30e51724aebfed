"""What a model writes can be kept, whatever it writes."""

import orjson
from hypothesis import example, given
from hypothesis import strategies as st

from handlers.executives.completion import Completion, Said


@example([" "])
@given(st.lists(st.text(st.sampled_from("\0a b") | st.characters(exclude_categories=["Cs"]))))
def test_text_has_no_nul(written: list[str]) -> None:
    """And is else as it was written."""
    completion = Completion()
    chunks = [orjson.dumps({"choices": [{"delta": {"content": text}}]}).decode() for text in written]
    said = [event for chunk in [*chunks, "[DONE]"] for event in completion.read(chunk)]
    said += completion.finish()
    assert all(isinstance(event, Said) and event.text for event in said)
    assert "".join(event.text for event in said if isinstance(event, Said)) == "".join(written).replace("\0", "")
