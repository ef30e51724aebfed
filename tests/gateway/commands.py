"""What tests of commands share: how one is called, and how its errors look."""

from collections.abc import Callable

from click.testing import CliRunner, Result

from sovren_edge.cli import main

Call = Callable[..., Result]


def caller(*group: str) -> Call:
    """Return a way to call the commands of a group in this process."""
    return lambda *words, said="": CliRunner().invoke(main, [*group, *words], input=said)


def fault(result: Result) -> str:
    """Return the one line of an error, of a command that did nothing."""
    assert result.exit_code == 1, result.output
    assert result.stdout == ""
    assert result.stderr.startswith("Error: ")
    assert result.stderr.count("\n") == 1
    return result.stderr.strip()
