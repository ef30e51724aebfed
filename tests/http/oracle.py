"""What llhttp says when it is asked for everything: the reading that ours is held against."""

from dataclasses import dataclass, field

import httptools

Field = tuple[bytes, bytes]


@dataclass
class Heard:
    """All that llhttp told about one message."""

    url: bytes = b""
    phrase: bytes = b""
    fields: list[Field] = field(default_factory=list)
    body: bytes = b""
    complete: bool = False

    def on_url(self, url: bytes) -> None:
        """See httptools; a target may come in parts."""
        self.url += url

    def on_status(self, phrase: bytes) -> None:
        """See httptools."""
        self.phrase += phrase

    def on_header(self, name: bytes, value: bytes | None) -> None:
        """See httptools; the space behind a value is not part of it."""
        if not self.complete:
            self.fields.append((name, (value or b"").rstrip(b" \t")))

    def on_body(self, body: bytes) -> None:
        """See httptools."""
        self.body += body

    def on_message_complete(self) -> None:
        """See httptools."""
        self.complete = True


def hear_request(data: bytes) -> Heard:
    """Read a request; raises httptools.HttpParserError."""
    heard = Heard()
    try:
        httptools.HttpRequestParser(heard).feed_data(data)
    except httptools.HttpParserUpgrade:
        heard.complete = True
    return heard


def hear_response(data: bytes) -> Heard:
    """Read a response; raises httptools.HttpParserError."""
    heard = Heard()
    httptools.HttpResponseParser(heard).feed_data(data)
    return heard


def hear_chunked(body: bytes) -> Heard | None:
    """Read a chunked body behind a head of its own; None where llhttp refuses it."""
    heard = Heard()
    parser = httptools.HttpRequestParser(heard)
    parser.feed_data(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
    try:
        parser.feed_data(body)
    except httptools.HttpParserError:
        return None
    return heard


def nominated(fields: list[Field]) -> set[bytes]:
    """Return the names that Connection fields take out of a message."""
    values = [value for name, value in fields if name.lower() == b"connection"]
    return {token.strip(b" \t").lower() for value in values for token in value.split(b",")}


def joined(fields: list[Field], wanted: bytes) -> bytes:
    """Return a list field's values as one."""
    return b", ".join(value for name, value in fields if name.lower() == wanted and value)
