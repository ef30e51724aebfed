"""What is said to a chat model and by it, in the dialects that servers speak."""

from collections.abc import Sequence

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from handlers.executives.completion import (
    BrokenError,
    Called,
    ChatEvent,
    Completion,
    Said,
    Turn,
    Usage,
    first_model,
    limit_name,
    request_body,
)

DONE = "[DONE]"


def delta(finish: str | None = None, **members: object) -> str:
    """Return a chunk with more of an answer."""
    return orjson.dumps({"choices": [{"index": 0, "delta": members, "finish_reason": finish}]}).decode()


def part(arguments: str | None, name: str | None = None, **members: object) -> str:
    """Return a chunk with a part of a call."""
    return delta(tool_calls=[members | {"function": {"name": name, "arguments": arguments}}])


STOP = delta("stop")
LIMIT = {"max_tokens": 50}


def heard(*chunks: str) -> Sequence[ChatEvent]:
    """Return all that these chunks say."""
    completion = Completion()
    said = [event for chunk in chunks for event in completion.read(chunk)]
    return [*said, *completion.finish()]


def test_a_question_asks_for_a_stream_and_its_cost() -> None:
    """In the form that every such server takes."""
    body = orjson.loads(request_body("m", [Turn("system", "Be brief."), Turn("user", "How are we?")], [], LIMIT))
    assert body == {
        "model": "m",
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "How are we?"}],
        "max_tokens": 50,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    tool = {"type": "function", "function": {"name": "f"}}
    assert orjson.loads(request_body("m", [], [tool], LIMIT))["tools"] == [tool]


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("api.openai.com", "max_completion_tokens"),
        ("eu.api.openai.com", "max_completion_tokens"),
        ("us.openai.azure.com", "max_completion_tokens"),
        ("openai.com.example", "max_tokens"),
        ("notopenai.com", "max_tokens"),
        ("127.0.0.1", "max_tokens"),
        ("", "max_tokens"),
    ],
)
def test_openai_s_own_servers_have_a_word_of_their_own(host: str, name: str) -> None:
    """Their newer models refuse the older one, and no other server needs the newer one."""
    assert limit_name(host) == name


def test_an_answer_comes_word_by_word() -> None:
    """Roles, empty and null contents say nothing; NUL is no text."""
    chunks = [
        delta(role="assistant", content=""),
        delta(content="Well"),
        delta(content=None),
        delta(content=", \0yes"),
        delta(content="\0"),
        STOP,
    ]
    assert heard(*chunks, DONE) == [Said("Well"), Said(", yes")]


def test_thoughts_in_the_text_are_not_told() -> None:
    """Where a server does not tell them apart; what might have become one is told at the end."""
    assert heard(delta(content="<think>Hm."), delta(content="</think>\n"), delta(content="Yes"), STOP) == [Said("Yes")]
    assert heard(delta(content="<thi"), STOP) == [Said("<thi")]
    thinking = Completion()
    assert list(thinking.read(delta(content="<think>"))) == []
    assert thinking.begun


def test_what_it_costs_is_told_once_at_the_end() -> None:
    """By a chunk without choices, by the last one, by each of them, or not at all."""
    usage = {"prompt_tokens": 7, "completion_tokens": 3}
    alone = orjson.dumps({"choices": [], "usage": usage}).decode()
    early = orjson.dumps({"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 1}}).decode()
    assert heard(delta(content="Yes"), STOP, alone, DONE) == [Said("Yes"), Usage(7, 3)]
    assert heard(early, delta(content="Yes"), alone, STOP) == [Said("Yes"), Usage(7, 3)]
    assert heard(STOP, orjson.dumps({"choices": [], "usage": None}).decode(), DONE) == []
    for mistaken in ("7", -1, 2**31):
        wrong = {"prompt_tokens": mistaken, "completion_tokens": 3}
        assert heard(STOP, orjson.dumps({"usage": wrong}).decode()) == []


def test_a_refusal_is_an_answer() -> None:
    """The model says it in a place of its own."""
    assert heard(delta(refusal="I will not."), STOP) == [Said("I will not.")]


def test_thoughts_are_a_beginning_and_are_not_told() -> None:
    """A model that thinks has begun; one that has only been given its role has not."""
    completion = Completion()
    assert list(completion.read(delta(role="assistant", content=""))) == []
    assert not completion.begun
    assert list(completion.read(delta(reasoning_content="Hm."))) == []
    assert completion.begun


def test_calls_come_in_parts() -> None:
    """Told when all is said, in their order; names once, arguments joined."""
    chunks = [
        part("", "f", index=0, id="a"), part('{"x"', index=0), part("{}", "g", index=1, id="b"), part(": 1}", index=0),
        part(None, "", index=1), part("{}", index=2, id="nameless"),
    ]  # fmt: skip
    assert heard(*chunks, delta("tool_calls"), DONE) == [Called("f", '{"x": 1}'), Called("g", "{}")]


def test_calls_that_servers_do_not_count_are_told_apart_by_their_ids() -> None:
    """One without an index is the first; another id under the same index is another call."""
    assert heard(part("{}", "f", id="a"), STOP) == [Called("f", "{}")]
    both = [part("1", "f", index=0, id="a"), part("2", "g", index=0, id="b"), part("3", index=0, id="b")]
    assert heard(*both, STOP) == [Called("f", "1"), Called("g", "23")]


@pytest.mark.parametrize("whole", [[STOP], [DONE], [STOP, DONE], [delta("length")]])
def test_one_word_of_the_server_makes_it_whole(whole: Sequence[str]) -> None:
    """Some end without `[DONE]`, some say no reason."""
    assert heard(delta(content="Yes"), *whole) == [Said("Yes")]


@pytest.mark.parametrize(
    "chunks",
    [
        [],
        [delta(content="Yes")],
        ['{"error": {"message": "out of memory"}}', DONE],
        ['{"object": "error", "message": "out of memory", "code": 500}', DONE],
        [delta("error"), DONE],
        [delta("abort"), DONE],
        ["no JSON", DONE],
        [part("{}", "f", index="first"), DONE],
        [part("x" * 70_000, "f"), DONE],
        *([[part(text, "f", index=0)] * 70_000 + [DONE]] for text in ("x", "")),
    ],
    ids=[
        "nothing", "no end", "error", "object", "reason", "abort", "no JSON", "index", "long", "parts", "empty parts",
    ],
)  # fmt: skip
def test_what_is_broken_is_never_whole(chunks: Sequence[str]) -> None:
    """Neither is what a server says that failed and ends as if it had not."""
    with pytest.raises(BrokenError):
        heard(*chunks)


anything = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["choices", "delta", "content", "tool_calls", "function", "usage", "finish_reason", "index"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=20,
)


@given(anything)
def test_whatever_a_server_says_is_understood_or_broken(value: object) -> None:
    """Nothing else is raised, and nothing but text is told as text."""
    try:
        events = heard(orjson.dumps(value).decode(), DONE)
    except BrokenError:
        return
    assert all(isinstance(event.text, str) for event in events if isinstance(event, Said))


@pytest.mark.parametrize(
    ("body", "name"),
    [
        (b'{"data": [{"id": "a"}, {"id": "b"}]}', "a"),
        (b'{"data": [{"id": 7}, {}, null, {"id": "b"}]}', "b"),
        (b'{"data": []}', ""),
        (b"[]", ""),
        (b"<html>", ""),
        (b"", ""),
    ],
)
def test_the_first_model_of_a_list(body: bytes, name: str) -> None:
    """Servers that have one model list it; none is no fault."""
    assert first_model(body) == name
