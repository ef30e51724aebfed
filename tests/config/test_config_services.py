"""What handlers call and no listener serves: how it is written, and what one call of the program finds."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sovren_edge.config.address import Address, parse_service
from sovren_edge.config.fault import ConfigurationError
from sovren_edge.config.plan import make_plan
from sovren_edge.config.resolved import PlannedEngine
from sovren_edge.config.scope import State
from tests.config.config_texts import ECHO, MINIMAL, TWO_NODES
from tests.config.conftest import Judge, Load

NEAR_AND_FAR = """
[services]
chat = "http://10.0.0.7:8000"
search = "https://localhost/v2"
"""


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("http://10.15.38.1:8000", Address("10.15.38.1", 8000)),
        ("http://chat.example", Address("chat.example", 80)),
        ("https://chat.example/models/v1", Address("chat.example", 443)),
        ("https://[::1]:9/a%20b", Address("::1", 9)),
    ],
)
def test_a_url_leads_somewhere(url: str, address: Address) -> None:
    """With a port of its own, or its scheme's."""
    assert parse_service(url) == address


@pytest.mark.parametrize(
    "url",
    [
        "",
        "chat:8000",
        "ftp://a.b",
        "http://",
        "http:///path",
        "http://a.b/",
        "http://a.b:8000/v1/",
        "http://a.b:0",
        "http://a.b:65536",
        "http://a..b",
        "http://1.2.3",
        "http://[1.2.3.4]",
        "http://::1",
        "http://user:word@a.b",
        "http://a.b?key=1",
        "http://a.b/v1#top",
        "http://a.b/a b",
        "http://a.b\n",
        "HTTP://a.b",
    ],
)
def test_what_is_no_url_of_a_service(url: str, judge: Judge) -> None:
    """It is a fault of its setting, and a password in it is not shown."""
    with pytest.raises(ValueError, match=r"\w"):
        parse_service(url)
    fault = judge(f"{MINIMAL}\n[services]\nchat = {url!r}\n")["services.chat"]
    assert "word" not in fault.found


@given(st.text())
def test_any_text_leads_somewhere_or_is_a_fault(text: str) -> None:
    """No other exception."""
    try:
        address = parse_service(f"http://{text}")
    except ValueError:
        return
    assert address.host


def test_a_service_is_in_one_place(judge: Judge, load: Load) -> None:
    """No listener serves it, by its name or as its service; what is planned here is still elsewhere."""
    text = MINIMAL + 'service = "speech"\n[services]\nspeech = "http://a.b"\nchat = "http://a.b"\n'
    (fault,) = judge(text).values()
    assert (fault.path, fault.found, fault.hint) == ("services.speech", '"http://a.b"', "listeners.door serves it")
    assert load(TWO_NODES + '[services]\nlater = "http://a.b"\n').services


@pytest.mark.usefixtures("echo_handler")
def test_a_setting_may_name_a_service(judge: Judge, load: Load) -> None:
    """One that a listener serves, or that is elsewhere; a default may be absent, and what is written may not."""
    text = MINIMAL + 'service = "speech"\n[services]\nchat = "http://a.b"\n' + ECHO
    settings = '[listeners.echo.settings]\nurl = "http://a.b"\n'
    for name in ("speech", "echo", "chat"):
        handler = load(f'{text}{settings}speech = "{name}"\n', local=True).handlers["echo"]
        assert handler.model_dump()["speech"] == name
    assert load(text + settings, local=True).handlers["echo"].model_dump()["speech"] == "nobody"
    (fault,) = judge(f'{text}{settings}speech = "speach"\n', local=True).values()
    assert (fault.path, fault.found) == ("listeners.echo.settings.speech", '"speach"')
    assert fault.hint == "did you mean speech?"


def test_a_node_s_name_is_no_address(judge: Judge) -> None:
    """Whoever calls the service does not know it."""
    fault = judge(TWO_NODES + '[services]\nchat = "http://left:8000"\nmore = "http://left.example"\n')["services.chat"]
    assert fault.hint == "left is 10.0.0.1"


def test_a_node_finds_all_of_them(load: Load) -> None:
    """They stand in the map of ports."""
    plan = make_plan(load(TWO_NODES + NEAR_AND_FAR), "left", port_offset=5)
    assert plan.services == {"chat": "http://10.0.0.7:8000", "search": "https://localhost/v2"}
    rows = {row.name: row for row in plan.map if row.kind == "service"}
    assert {name: (row.port, row.node, row.state) for name, row in rows.items()} == {
        "chat": (8000, "10.0.0.7", State.EXTERNAL),
        "search": (443, "localhost", State.EXTERNAL),
    }


def test_local_contacts_those_on_loopback_alone(load: Load) -> None:
    """The others are absent."""
    plan = make_plan(load(TWO_NODES + NEAR_AND_FAR, local=True), local=True)
    assert plan.services == {"search": "https://localhost/v2"}
    assert {row.name: row.state for row in plan.map if row.kind == "service"} == {
        "chat": State.ABSENT,
        "search": State.EXTERNAL,
    }


@pytest.mark.parametrize("services", [NEAR_AND_FAR, ""])
def test_the_stack_s_own_model_is_the_chat_service(load: Load, services: str) -> None:
    """Wherever the file says that it is; it starts when speech has had its turn."""
    plan = make_plan(load(TWO_NODES + services, local=True), local=True, llm=True, port_offset=1000)
    assert plan.services["chat"] == "http://127.0.0.1:9110"
    assert plan.engines[-1] == PlannedEngine("chat-model", 9110, "chat")
    (row,) = (row for row in plan.map if row.name == "chat")
    assert (row.port, row.state) == (9110, State.LOCAL)


def test_the_model_s_port_is_its_own(load: Load) -> None:
    """As any engine's."""
    config = load(TWO_NODES.replace("port = 8201", "port = 8110"), local=True)
    assert make_plan(config, local=True)
    with pytest.raises(ConfigurationError) as raised:
        make_plan(config, local=True, llm=True)
    (fault,) = raised.value.faults
    assert (fault.path, fault.hint) == ("engine chat-model", "listeners.silent.port is the same on this machine")
