"""Owns Proxy-Status (RFC 9209): whether an answer came from upstream, or what kept it from coming.

The field has one member, ours, written as RFC 9651 has it. It does not name the next hop: its caller has chosen it, and
the address behind the name is nobody's business. Must not know exceptions, requests or how anything is sent.
"""

import re
from enum import StrEnum

FIELD = "Proxy-Status"
MEMBER = "sovren-edge"
LONGEST_DETAILS = 200

# What a structured string cannot hold.
NOT_IN_STRING = re.compile(r"[^ -~]")
ESCAPED = re.compile(r'["\\]')
# Whatever looks like an address, not only what is one: no reading of it that differs from ours finds one left over. The
# first is IPv6 in any form, with its zone; the second IPv4, also as it stands in names like ip-10-0-0-1.internal. Each
# begins where a run of digits does, or long runs would take long.
ADDRESS = re.compile(
    r"(?<![0-9A-Fa-f])[0-9A-Fa-f]*:[0-9A-Fa-f]*:[0-9A-Fa-f:.]*(?:%[0-9A-Za-z._-]+)?|(?<![0-9])[0-9]+(?:[.-][0-9]+){3,}"
)


class ProxyError(StrEnum):
    """What went wrong, in the words of RFC 9209, section 2.3; those that this gateway can say."""

    DNS_TIMEOUT = "dns_timeout"
    DNS_ERROR = "dns_error"
    DESTINATION_NOT_FOUND = "destination_not_found"
    DESTINATION_UNAVAILABLE = "destination_unavailable"
    DESTINATION_IP_PROHIBITED = "destination_ip_prohibited"
    DESTINATION_IP_UNROUTABLE = "destination_ip_unroutable"
    CONNECTION_REFUSED = "connection_refused"
    CONNECTION_TERMINATED = "connection_terminated"
    CONNECTION_TIMEOUT = "connection_timeout"
    CONNECTION_READ_TIMEOUT = "connection_read_timeout"
    CONNECTION_WRITE_TIMEOUT = "connection_write_timeout"
    CONNECTION_LIMIT_REACHED = "connection_limit_reached"
    TLS_PROTOCOL_ERROR = "tls_protocol_error"
    TLS_CERTIFICATE_ERROR = "tls_certificate_error"
    TLS_ALERT_RECEIVED = "tls_alert_received"
    HTTP_REQUEST_ERROR = "http_request_error"
    HTTP_REQUEST_DENIED = "http_request_denied"
    HTTP_RESPONSE_INCOMPLETE = "http_response_incomplete"
    HTTP_RESPONSE_HEADER_SECTION_SIZE = "http_response_header_section_size"
    HTTP_RESPONSE_HEADER_SIZE = "http_response_header_size"
    HTTP_RESPONSE_BODY_SIZE = "http_response_body_size"
    HTTP_RESPONSE_TRANSFER_CODING = "http_response_transfer_coding"
    HTTP_RESPONSE_TIMEOUT = "http_response_timeout"
    HTTP_PROTOCOL_ERROR = "http_protocol_error"
    PROXY_INTERNAL_RESPONSE = "proxy_internal_response"
    PROXY_INTERNAL_ERROR = "proxy_internal_error"
    PROXY_CONFIGURATION_ERROR = "proxy_configuration_error"


def received(status: int) -> tuple[str, str]:
    """Return the field of an answer that came from upstream with this status."""
    return FIELD, f"{MEMBER};received-status={status}"


def failed(error: ProxyError, details: str = "", received_status: int | None = None) -> tuple[str, str]:
    """Return the field of an answer that we made; `received_status` is of an upstream's that broke after its head."""
    parts = [MEMBER, f"error={error}"]
    if received_status is not None:
        parts.append(f"received-status={received_status}")
    if details:
        parts.append(f"details={_string(details)}")
    return FIELD, ";".join(parts)


def without_addresses(text: str) -> str:
    """Return a text with `<address>` for everything in it that looks like an IP address."""
    return ADDRESS.sub("<address>", text)


def _string(text: str) -> str:
    """Write a text as a structured string; what cannot stand in one becomes a question mark."""
    # Cut only at the end: an address that was cut would no longer look like one.
    told = without_addresses(NOT_IN_STRING.sub("?", text))[:LONGEST_DETAILS]
    return '"' + ESCAPED.sub(r"\\\g<0>", told) + '"'
