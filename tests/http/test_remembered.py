"""Heads that are remembered."""

from sovren_edge.http.remembered import HEADS, LONGEST, Remembered


def test_the_last_heads_are_read_once() -> None:
    """Whoever sends them; those that are long, or long ago, are read again."""
    read: list[bytes] = []

    def parse(head: bytes) -> int:
        read.append(head)
        return len(head)

    remembered = Remembered(parse)
    assert [remembered[b"a" * 10], remembered[bytes(bytearray(b"a" * 10))]] == [10, 10]
    assert len(read) == 1
    assert [remembered[b"b" * (LONGEST + 1)] for _ in range(2)] == [LONGEST + 1] * 2
    assert len(read) == 3
    for number in range(HEADS):
        assert remembered[b"%d" % number]
    assert remembered[b"a" * 10] == 10
    assert read.count(b"a" * 10) == 2
