"""Owns the errors of sending a request: which word of RFC 9209 says what went wrong, and what the caller is answered.

Must not know how anything is sent.
"""

import errno
import ssl
from http import HTTPStatus

from aiohttp import (
    ClientPayloadError,
    ClientResponseError,
    ConnectionTimeoutError,
    SocketTimeoutError,
)

from sovren_edge.gateway.egress.proxy_status import ProxyError


class EgressError(Exception):
    """A request that got no answer, or not all of it; `sent` says whether any byte of it may have left."""

    def __init__(self, reason: ProxyError, detail: str, *, sent: bool) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail
        self.sent = sent

    @property
    def status(self) -> int:
        """What the caller is answered."""
        return STATUSES.get(self.reason, HTTPStatus.BAD_GATEWAY)


STATUSES = {
    ProxyError.DESTINATION_IP_PROHIBITED: HTTPStatus.FORBIDDEN,
    ProxyError.CONNECTION_LIMIT_REACHED: HTTPStatus.GATEWAY_TIMEOUT,
    ProxyError.CONNECTION_READ_TIMEOUT: HTTPStatus.GATEWAY_TIMEOUT,
    ProxyError.CONNECTION_TIMEOUT: HTTPStatus.GATEWAY_TIMEOUT,
    ProxyError.DNS_TIMEOUT: HTTPStatus.GATEWAY_TIMEOUT,
    ProxyError.HTTP_RESPONSE_TIMEOUT: HTTPStatus.GATEWAY_TIMEOUT,
}


# The first that fits, so a kind of exception stands before its wider kinds.
REASONS = (
    (ssl.SSLCertVerificationError, ProxyError.TLS_CERTIFICATE_ERROR),
    (ssl.SSLError, ProxyError.TLS_PROTOCOL_ERROR),
    (SocketTimeoutError, ProxyError.CONNECTION_READ_TIMEOUT),
    (ConnectionRefusedError, ProxyError.CONNECTION_REFUSED),
    (ClientPayloadError, ProxyError.HTTP_RESPONSE_INCOMPLETE),
    (ClientResponseError, ProxyError.HTTP_PROTOCOL_ERROR),
)
# Said by the clock alone: what took too long depends on how far the request had come.
TIMEOUTS = (TimeoutError, ConnectionTimeoutError)
UNROUTABLE = (errno.EHOSTUNREACH, errno.ENETUNREACH)


def reason_of(cause: Exception) -> ProxyError:
    """Return the word for an exception of a socket, of TLS or of aiohttp."""
    if isinstance(cause, ssl.SSLError) and "_ALERT_" in (cause.reason or ""):
        return ProxyError.TLS_ALERT_RECEIVED
    if isinstance(cause, OSError) and cause.errno in UNROUTABLE:
        return ProxyError.DESTINATION_IP_UNROUTABLE
    return next((reason for kind, reason in REASONS if isinstance(cause, kind)), ProxyError.CONNECTION_TERMINATED)
