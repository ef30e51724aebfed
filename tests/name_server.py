"""A real name server on loopback, which a test changes as it likes."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import cast

import dns.flags
import dns.message
import dns.rcode
import dns.rrset


@dataclass
class Names(asyncio.DatagramProtocol):
    """A name server: `records` are texts by name and kind; other names do not exist, for `dead` ones nobody answers."""

    records: dict[tuple[str, str], list[str]] = field(default_factory=dict)
    ttl: int = 0
    silent: bool = False
    dead: set[str] = field(default_factory=set)
    rcode: dns.rcode.Rcode = dns.rcode.NOERROR
    asked: list[str] = field(default_factory=list)
    port: int = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport."""
        self.transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        """Answer a question."""
        query = dns.message.from_wire(data)
        (question,) = query.question
        name = question.name.to_text()
        kind = dns.rdatatype.to_text(question.rdtype)
        self.asked.append(f"{name} {kind}")
        if self.silent or name.rstrip(".") in self.dead:
            return
        answer = dns.message.make_response(query)
        answer.flags |= dns.flags.RA
        texts = self.records.get((name.rstrip("."), kind), [])
        for alias in self.records.get((name.rstrip("."), "CNAME"), []):
            answer.answer.append(dns.rrset.from_text(question.name, self.ttl, "IN", "CNAME", alias))
            for text in self.records.get((alias.rstrip("."), kind), []):
                answer.answer.append(dns.rrset.from_text(alias, self.ttl, "IN", kind, text))
        if texts:
            answer.answer.append(dns.rrset.from_text_list(question.name, self.ttl, "IN", kind, texts))
        elif not any(known == name.rstrip(".") for known, _ in self.records):
            answer.set_rcode(dns.rcode.NXDOMAIN)
        if self.rcode:
            answer.set_rcode(self.rcode)
        self.transport.sendto(answer.to_wire(), addr)

    @property
    def server(self) -> str:
        """Where it answers."""
        return f"127.0.0.1:{self.port}"


@asynccontextmanager
async def name_server() -> AsyncIterator[Names]:
    """Serve names on a free port."""
    loop = asyncio.get_running_loop()
    transport, server = await loop.create_datagram_endpoint(Names, ("127.0.0.1", 0))
    server.port = transport.get_extra_info("sockname")[1]
    try:
        yield server
    finally:
        transport.close()
