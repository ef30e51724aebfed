"""Play an external API: a TLS server that answers everything with a little JSON, and the DNS server that names it.

python gateway_upstream.py PORT CERTIFICATE KEY: TCP and, for DNS, UDP on that port of 127.0.0.1; every name has the
address 127.0.0.1.
"""

import asyncio
import ssl
import sys
from typing import cast

import dns.flags
import dns.message
import dns.rdatatype
import dns.rrset
import httptools
import uvloop

BODY = b'{"ok":true,"id":"0123456789abcdef"}'
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(BODY), BODY)
TTL_S = 300


class Api(asyncio.Protocol):
    """Answers each request as soon as it is there."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self.transport = cast("asyncio.Transport", transport)
        self.parser = httptools.HttpRequestParser(self)

    def data_received(self, data: bytes) -> None:
        """Read on."""
        self.parser.feed_data(data)

    def on_message_complete(self) -> None:
        """Answer."""
        self.transport.write(ANSWER)


class Names(asyncio.DatagramProtocol):
    """Says of every name that it is here."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self.transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        """Answer a question."""
        query = dns.message.from_wire(data)
        answer = dns.message.make_response(query)
        answer.flags |= dns.flags.RA
        (question,) = query.question
        if question.rdtype == dns.rdatatype.A:
            answer.answer.append(dns.rrset.from_text(question.name, TTL_S, "IN", "A", "127.0.0.1"))
        self.transport.sendto(answer.to_wire(), addr)


async def main(port: int, certificate: str, key: str) -> None:
    """Serve until ended."""
    loop = asyncio.get_running_loop()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    await loop.create_datagram_endpoint(Names, ("127.0.0.1", port))
    server = await loop.create_server(Api, "127.0.0.1", port, ssl=context)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), sys.argv[2], sys.argv[3]))
