"""Tables of messages as parameters of tests."""

from collections.abc import Sequence

import pytest
from _pytest.mark import ParameterSet


def rows(table: Sequence[tuple[object, ...]]) -> list[ParameterSet]:
    """Name each row by its reason, which stands last."""
    return [pytest.param(*row[:-1], id=str(row[-1])) for row in table]
