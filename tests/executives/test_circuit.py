"""When the chat model is asked, and when it is not."""

from hypothesis import given
from hypothesis import strategies as st

from handlers.executives.circuit import FALL, Circuit


def known() -> Circuit:
    """Return the circuit of a model that has answered a call and a probe."""
    circuit = Circuit()
    circuit.answered()
    circuit.probed()
    return circuit


def test_a_row_of_failed_calls_opens_it() -> None:
    """An answer between them begins the row anew; probes that are answered do not."""
    circuit = known()
    assert [circuit.failed() for _ in range(FALL - 1)] == [False] * (FALL - 1)
    circuit.answered()
    assert [circuit.failed() for _ in range(FALL - 1)] == [False] * (FALL - 1)
    assert not circuit.probed()
    assert circuit.failed()
    assert not circuit.closed


def test_a_row_of_failed_probes_opens_it() -> None:
    """Whatever becomes of calls meanwhile."""
    circuit = known()
    assert [circuit.missed() for _ in range(FALL - 1)] == [False] * (FALL - 1)
    circuit.answered()
    assert circuit.missed()
    assert not circuit.closed


def test_only_a_probe_closes_it() -> None:
    """Late answers to what was asked before do not, and late failures open nothing twice."""
    circuit = Circuit(fall=1)
    assert circuit.failed()
    circuit.answered()
    assert not circuit.closed
    assert not circuit.failed()
    assert not circuit.missed()
    assert circuit.probed()
    assert circuit.closed
    assert not circuit.probed()


def test_one_failure_is_enough_of_a_model_that_has_not_answered() -> None:
    """At the start, and after it was found again; an answer ends its trial, and probes alone do not."""
    for fail in ("failed", "missed"):
        circuit = Circuit()
        assert circuit.closed
        assert getattr(circuit, fail)()
    circuit.probed()
    circuit.probed()
    assert circuit.failed()
    circuit.probed()
    circuit.answered()
    assert not circuit.failed()
    assert not circuit.missed()


@given(st.lists(st.sampled_from(["failed", "missed", "answered", "probed"])))
def test_each_change_is_told_once(steps: list[str]) -> None:
    """What returns true has changed it, and nothing else has."""
    circuit = Circuit()
    for step in steps:
        before = circuit.closed
        assert bool(getattr(circuit, step)()) is (before is not circuit.closed)
