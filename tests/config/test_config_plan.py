"""A plan is what one call opens, over which addresses; what cannot be opened together is a fault."""

import pytest

from sovren_edge.config.fault import ConfigurationError, Fault
from sovren_edge.config.model import Config
from sovren_edge.config.plan import health_body, make_plan
from sovren_edge.config.portmap import port_map
from sovren_edge.config.resolved import PlannedEngine, ResolvedEndpoint
from sovren_edge.config.scope import Scope, State
from tests.config.config_texts import ECHO, MINIMAL, TWO_NODES
from tests.config.conftest import Load


def _faults(config: Config, node: str | None = None, *, local: bool = False, port_offset: int = 0) -> list[Fault]:
    with pytest.raises(ConfigurationError) as raised:
        make_plan(config, node, local=local, port_offset=port_offset)
    return list(raised.value.faults)


def test_a_node_opens_its_listeners_and_needs_their_pools_alone(load: Load) -> None:
    """Endpoints are where the file says."""
    plan = make_plan(load(TWO_NODES), "left", port_offset=5)
    (door,) = plan.listeners
    assert (door.name, door.kind, door.bind, door.port, door.pool) == ("door", "balance", "0.0.0.0", 8205, "speech")
    assert set(plan.pools) == {"speech", "engines", "far"}
    assert plan.pools["engines"].endpoints == (
        ResolvedEndpoint("engines-01", "10.0.0.1", 8100, absent=False),
        ResolvedEndpoint("engines-02", "10.0.0.1", 8101, absent=False),
    )
    assert plan.engines == ()


def test_tiers_of_tiers_are_flattened_in_order_each_once(load: Load) -> None:
    """`speech` is engines, then inner: far, then engines again."""
    plan = make_plan(load(TWO_NODES), "left")
    assert plan.pools["speech"].tiers == ("engines", "far")
    assert plan.pools["engines"].tiers == ()


def test_local_stays_on_loopback(load: Load) -> None:
    """Endpoints with an engine are moved there, those on loopback stay, others are absent."""
    plan = make_plan(load(TWO_NODES, local=True), local=True, port_offset=1000)
    assert [(one.name, one.bind, one.port) for one in plan.listeners] == [
        ("door", "127.0.0.1", 9200),
        ("silent", "127.0.0.1", 9201),
    ]
    assert [(one.host, one.port, one.absent) for one in plan.pools["far"].endpoints] == [
        ("10.9.9.9", 8000, True),
        ("::1", 7000, False),
        ("localhost", 7001, False),
    ]
    assert plan.engines == (PlannedEngine("engines-01", 9100), PlannedEngine("engines-02", 9101))
    assert [one.port for one in plan.pools["engines"].endpoints] == [9100, 9101]


def test_the_map_tells_how_a_call_stands_to_each_port(load: Load) -> None:
    """Only ports that are opened are moved."""
    config = load(TWO_NODES)
    rows = {row.name: row for row in make_plan(config, "left", port_offset=1).map}
    assert (rows["door"].port, rows["door"].state, rows["door"].target) == (8201, State.SERVE, "speech")
    assert (rows["silent"].port, rows["silent"].state, rows["silent"].target) == (8201, State.ELSEWHERE, "")
    assert (rows["later"].port, rows["later"].state) == (8300, State.PLANNED)
    assert (rows["engines-01"].node, rows["engines-01"].state) == ("left", State.EXTERNAL)
    local = {row.name: row.state for row in make_plan(config, local=True).map}
    assert (local["engines-01"], local["far-01"], local["far-02"]) == (State.LOCAL, State.ABSENT, State.EXTERNAL)
    everywhere = {
        row.name: row.state for row in port_map(config, Scope(config.nodes, None, local=False, port_offset=0))
    }
    assert (everywhere["door"], everywhere["silent"]) == (State.SERVE, State.SERVE)


def test_without_a_choice_of_nodes_none_need_be_named(load: Load) -> None:
    """No nodes, or one."""
    assert [one.name for one in make_plan(load(MINIMAL)).listeners] == ["door"]
    one_node = '[nodes]\nonly = "10.0.0.1"\n' + MINIMAL.replace("port =", 'node = "only"\nport =')
    assert [one.name for one in make_plan(load(one_node)).listeners] == ["door"]


def test_several_nodes_ask_for_a_choice(load: Load) -> None:
    """The fault names them."""
    (fault,) = _faults(load(TWO_NODES))
    assert fault == Fault("--node", "nothing", "one node (left or right), or --local for all of them on loopback")


def test_an_unknown_node_is_a_fault_with_the_known_ones(load: Load) -> None:
    """Also where there are none."""
    assert _faults(load(TWO_NODES), "lift") == [Fault("--node", "lift", "left or right", "did you mean left?")]
    assert _faults(load(MINIMAL), "left")[0].expected == "nothing"


def test_ports_stay_in_their_range(load: Load) -> None:
    """Every port beyond it is named."""
    faults = _faults(load(TWO_NODES), local=True, port_offset=57400)
    assert [(fault.path, fault.found) for fault in faults] == [
        ("listeners.door.port", "65600"),
        ("listeners.silent.port", "65601"),
    ]


def test_a_plan_that_opens_nothing_is_a_fault(load: Load) -> None:
    """Nobody wants to run it."""
    text = TWO_NODES.replace("[listeners.silent]", "[listeners.silent]\nplanned = true")
    assert [fault.path for fault in _faults(load(text), "right")] == ["listeners"]
    assert [fault.path for fault in _faults(load(""))] == ["listeners"]


def test_local_brings_ports_of_different_nodes_together(load: Load) -> None:
    """Listeners with listeners, listeners with engines; the file is sound without `--local`."""
    both = TWO_NODES.replace("port = 8201", "port = 8200")
    assert make_plan(load(both), "left")
    (fault,) = _faults(load(both), local=True)
    assert (fault.path, fault.hint) == ("listeners.silent.port", "listeners.door.port is the same on this machine")
    (fault,) = _faults(load(TWO_NODES.replace("port = 8201", "port = 8101")), local=True)
    assert (fault.path, fault.hint) == ("engine engines-02", "listeners.silent.port is the same on this machine")


def test_an_offset_must_not_move_a_port_onto_an_endpoint(load: Load) -> None:
    """Requests would come back."""
    text = MINIMAL.replace("10.0.0.9:80", "127.0.0.1:8091")
    assert make_plan(load(text))
    (fault,) = _faults(load(text), port_offset=1)
    assert (fault.path, fault.hint) == ("pools.speech.endpoints.0", "listeners.door listens there")


@pytest.mark.usefixtures("echo_handler")
def test_a_handler_comes_with_its_listener(load: Load) -> None:
    """Its settings are judged already."""
    plan = make_plan(load(ECHO + '[listeners.echo.settings]\nurl = "http://chat:1"\n', local=True), local=True)
    assert type(plan.listeners[0].handler).__name__ == "Echo"


def test_health_bodies() -> None:
    """Exact, with and without a service."""
    assert health_body("tts-tier1") == b'{"status":"ok","service":"tts-tier1"}'
    assert health_body("") == b'{"status":"ok"}'
