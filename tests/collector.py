"""A collector of spans on loopback: a real server that reads OTLP as its protobuf says."""

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span as Encoded
from opentelemetry.proto.trace.v1.trace_pb2 import Status

if TYPE_CHECKING:
    from opentelemetry.proto.common.v1.common_pb2 import KeyValue

KINDS = {Encoded.SPAN_KIND_SERVER: "server", Encoded.SPAN_KIND_CLIENT: "client", Encoded.SPAN_KIND_INTERNAL: "internal"}


@dataclass(frozen=True)
class Got:
    """A span as a collector gets it; ids in hexadecimal, times in seconds since 1970."""

    name: str
    kind: str
    trace_id: str
    span_id: str
    parent_id: str
    state: str
    began_at: float
    ended_at: float
    failed: bool
    attributes: dict[str, object]
    resource: dict[str, object]


@dataclass
class Collector:
    """What came; `status` is what is answered, `gate` holds answers back while it is not set."""

    port: int = 0
    status: int = 200
    posts: list[bytes] = field(default_factory=list)
    gate: threading.Event = field(default_factory=threading.Event)

    @property
    def endpoint(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self.port}/v1/traces"

    @property
    def spans(self) -> list[Got]:
        """All spans that came, in the order of their beginnings."""
        return sorted((span for post in list(self.posts) for span in _read(post)), key=lambda span: span.began_at)

    def named(self, name: str, kind: str = "server") -> list[Got]:
        """Return the spans of a name."""
        return [span for span in self.spans if (span.name, span.kind) == (name, kind)]

    def chain(self, parent_id: str) -> list[Got]:
        """Return the spans below one, each right below the one before it."""
        found: list[Got] = []
        while below := [span for span in self.spans if span.parent_id == parent_id]:
            (span,) = below
            found.append(span)
            parent_id = span.span_id
        return found

    def wait_for(self, condition: Callable[[], object], timeout_s: float = 30.0) -> None:
        """Wait until what came is enough."""
        deadline = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < deadline, [(span.name, span.kind) for span in self.spans]
            time.sleep(0.01)


def _read(post: bytes) -> Iterator[Got]:
    for of_resource in ExportTraceServiceRequest.FromString(post).resource_spans:
        for of_scope in of_resource.scope_spans:
            for span in of_scope.spans:
                yield Got(
                    span.name, KINDS[span.kind], span.trace_id.hex(), span.span_id.hex(), span.parent_span_id.hex(),
                    span.trace_state, span.start_time_unix_nano / 1e9, span.end_time_unix_nano / 1e9,
                    span.status.code == Status.STATUS_CODE_ERROR, _values(span.attributes),
                    _values(of_resource.resource.attributes),
                )  # fmt: skip


def _values(pairs: "Iterable[KeyValue]") -> dict[str, object]:
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value") or "") for pair in pairs}


@contextmanager
def collecting(port: int = 0) -> Iterator[Collector]:
    """Serve a collector until the block ends."""
    collector = Collector()
    collector.gate.set()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            collector.gate.wait(30)
            if collector.status < 300:
                collector.posts.append(body)
            self.send_response(collector.status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    server.daemon_threads = True
    collector.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield collector
    finally:
        collector.gate.set()
        server.shutdown()
        server.server_close()
        thread.join()
