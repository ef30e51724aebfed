"""Owns what workers ask the supervisor about the whole program, most of which other workers answer.

Must not know how workers are kept.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from importlib.metadata import version
from typing import Any

import orjson

from sovren_edge.errors import EdgeError, Side
from sovren_edge.observe.process_metrics import read_usage
from sovren_edge.observe.registry import Source, families
from sovren_edge.process.channel import Message, Method, Reply
from sovren_edge.process.keeper import Keeper
from sovren_edge.process.parts import Role
from sovren_edge.process.tree_metrics import Counts

ANSWER_S = 3.0
# These are asked of the pools' worker.
POOL_COMMANDS = frozenset({"pools", "change_endpoint", "kept", "forget_kept"})

ByHand = dict[str, dict[str, dict[str, Any]]]
"""What operators have set of endpoints, by pool and address."""


class Questions:
    """The answers."""

    def __init__(
        self,
        *,
        counts: Counts,
        keepers: Mapping[str, Keeper],
        by_hand: ByHand,
        sources: Iterable[Source],
        reload: Callable[[], Awaitable[dict[str, object]]],
        node: Callable[[], str | None],
    ) -> None:
        self._counts = counts
        self._keepers = keepers
        self._by_hand = by_hand
        self._sources = sources
        self._reload = reload
        self._node = node

    def methods(self) -> dict[str, Method]:
        """Return them by name."""
        return {"command": self._command, "everything": self._everything}

    async def _command(self, message: Message) -> object:
        command, given = message.given["command"], message.given["given"]
        if command == "reload":
            return await self._reload()
        if command == "top":
            return await self._top()
        if command not in POOL_COMMANDS:
            raise EdgeError(404, "unknown_command", f"There is no command {command}.", side=Side.CALLER)
        balance = self._keepers.get(Role.BALANCE.value)
        if balance is None:
            if command == "change_endpoint":
                raise EdgeError(404, "unknown_endpoint", f"No endpoint is named {given['endpoint']}.", side=Side.CALLER)
            return []
        answer = await balance.ask(command, **given)
        if command == "change_endpoint":
            self._note_by_hand(answer, **given)
        return answer

    def _note_by_hand(self, pool: Mapping[str, Any], endpoint: str, change: Mapping[str, Any]) -> None:
        """Remember what was set: it holds for the workers that come after this one."""
        address = next(one["address"] for one in pool["endpoints"] if one["name"] == endpoint)
        self._by_hand.setdefault(pool["name"], {}).setdefault(address, {}).update(change)

    async def _everything(self, _message: Message) -> Reply:
        """Return all series by worker, and the state of all pools."""
        serving = [keeper for keeper in self._keepers.values() if keeper.serves]
        packed = await asyncio.gather(*(self._of(keeper, "families") for keeper in serving))
        told = {keeper.part.name: reply.blob for keeper, reply in zip(serving, packed, strict=True) if reply}
        told["supervisor"] = orjson.dumps(families([*self._sources, Source(await read_usage())]))
        # They are passed on as they came: to read and write them again would take long.
        series = b",".join(b"%b:%b" % (orjson.dumps(name), blob) for name, blob in told.items())
        return Reply(None, b'{"families":{%b},"pools":%b}' % (series, orjson.dumps(await self._pools())))

    async def _pools(self) -> object:
        balance = self._keepers.get(Role.BALANCE.value)
        reply = None if balance is None else await self._of(balance, "pools")
        return [] if reply is None else reply.value

    async def _of(self, keeper: Keeper, method: str) -> Reply | None:
        """Return what a worker answers, None if it does not in time."""
        try:
            async with asyncio.timeout(ANSWER_S):
                return await keeper.call(method)
        except (TimeoutError, EdgeError):
            return None

    async def _top(self) -> dict[str, object]:
        serving = [keeper for keeper in self._keepers.values() if keeper.serves]
        asked = asyncio.gather(*(self._of(keeper, "ports") for keeper in serving))
        replies, pools, gateway = await asyncio.gather(asked, self._pools(), self._gateway())
        ports = [
            {**port, "worker": keeper.part.name}
            for keeper, reply in zip(serving, replies, strict=True)
            for port in (keeper.silent_ports() if reply is None else reply.value)
        ]
        return {
            "version": version("sovren-edge"),
            "node": self._node(),
            "at": time.time(),
            "generation": self._counts.generation,
            "retiring": sum(keeper.retiring is not None for keeper in self._keepers.values()),
            "workers": [keeper.describe() for keeper in self._keepers.values()],
            "ports": sorted(ports, key=lambda port: int(port["port"])),
            "pools": pools,
            "gateway": gateway,
        }

    async def _gateway(self) -> object:
        """Return how the gateway is doing, the first where there are several."""
        for keeper in self._keepers.values():
            if keeper.part.role is Role.GATEWAY:
                reply = await self._of(keeper, "gateway")
                return None if reply is None else reply.value
        return None
