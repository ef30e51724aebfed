"""When the chat model is asked, and when it is not."""

from hypothesis import given
from hypothesis import strategies as st

from handlers.executives.circuit import FALL, Circuit


def known() -> Circuit:
    """Return the circuit of a model that has answered."""
    circuit = Circuit()
    circuit.answered()
    return circuit


def test_a_row_of_failures_opens_it() -> None:
    """And an answer between them begins the row anew."""
    circuit = known()
    assert [circuit.failed() for _ in range(FALL - 1)] == [False] * (FALL - 1)
    circuit.answered()
    assert [circuit.failed() for _ in range(FALL)] == [False] * (FALL - 1) + [True]
    assert not circuit.closed


def test_only_a_probe_closes_it() -> None:
    """Late answers to what was asked before do not, and late failures open nothing twice."""
    circuit = Circuit(fall=1)
    assert circuit.failed()
    circuit.answered()
    assert not circuit.closed
    assert not circuit.failed()
    assert circuit.probed()
    assert circuit.closed
    assert not circuit.probed()


def test_one_failure_is_enough_of_a_model_that_nobody_has_heard() -> None:
    """At the start, and after it was found again; an answer, or a second probe, ends its trial."""
    circuit = Circuit()
    assert circuit.closed
    assert circuit.failed()
    circuit.probed()
    assert circuit.failed()
    circuit.probed()
    circuit.answered()
    assert not circuit.failed()
    circuit.probed()
    assert not circuit.failed()


@given(st.lists(st.sampled_from(["failed", "answered", "probed"])))
def test_each_change_is_told_once(steps: list[str]) -> None:
    """What returns true has changed it, and nothing else has."""
    circuit = Circuit()
    for step in steps:
        before = circuit.closed
        assert bool(getattr(circuit, step)()) is (before is not circuit.closed)
