"""Owns what is told and recorded of the trace that a request to an external API belongs to.

Must not know the request's path or query, nor its fields: any of them may hold a secret.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus

from sovren_edge.gateway.egress.faults import EgressError
from sovren_edge.gateway.egress.fields import Field
from sovren_edge.gateway.proxy.call import Call
from sovren_edge.gateway.proxy.order import Order
from sovren_edge.observe.trace_context import TRACEPARENT
from sovren_edge.observe.tracing import Span, Value, step, told


@contextmanager
def upstream_step(call: Call, order: Order) -> Iterator[Span | None]:
    """Record an attempt, if its request is recorded."""
    described: dict[str, Value] = {
        "http.request.method": order.method, "server.address": order.target.host, "server.port": 443,
        "sovren.service": order.service, "sovren.request_id": call.record.request_id,
        "sovren.attempt": call.record.row.attempts,
    }  # fmt: skip
    with step(order.method, "client", described) as span:
        try:
            yield span
        except EgressError as error:
            if span is not None:
                span.error = str(error.reason)
            raise


def note_status(span: Span | None, status: int) -> None:
    """Note what upstream answered."""
    if span is not None:
        span.attributes["http.response.status_code"] = status
        span.error = str(status) if status >= HTTPStatus.BAD_REQUEST else ""


def with_trace(fields: list[Field], span: Span | None) -> list[Field]:
    """Return fields with the trace that they belong to, if the caller has one or it is recorded.

    A caller's own word for upstream counts. What systems add to a trace (tracestate) stays inside.
    """
    traceparent = told(span, outside=True).get(TRACEPARENT)
    if traceparent is None or any(name.lower() == TRACEPARENT for name, _ in fields):
        return fields
    return [*fields, (TRACEPARENT, traceparent)]
