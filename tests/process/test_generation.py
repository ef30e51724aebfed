"""What one generation leaves to the next: written and read back, also by a program of another version."""

import os
import socket

import orjson

from sovren_edge.process.generation import NAME, Left, LeftLife, find_left


def test_it_is_found_as_it_was_left() -> None:
    """Its descriptors are inherited by the next program, and by nobody that this one starts."""
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as two:
        left = Left(
            generation=3,
            lives=(LeftLife("balance", 77, one.fileno()),),
            sockets=(("127.0.0.1", 8200, two.fileno()),),
            by_hand={"tts": {"127.0.0.1:1": {"slots": 3}}},
            database_url="postgresql://somewhere",
            counted={"reloads": {"applied": 2}},
        )
        variables = left.leave()
        assert os.get_inheritable(one.fileno())
        assert os.get_inheritable(two.fileno())
        assert find_left(variables) == left
        assert not os.get_inheritable(one.fileno())
        assert not os.get_inheritable(two.fileno())


def test_a_first_generation_finds_nothing() -> None:
    """It begins by itself."""
    assert find_left({}) is None


def test_what_another_version_says_besides_is_passed_over() -> None:
    """And what it does not say has a default."""
    holder = os.memfd_create("generation")
    os.write(holder, orjson.dumps({"generation": 1, "lives": [], "sockets": [], "weather": "fine"}))
    assert find_left({NAME: str(holder)}) == Left(1)
