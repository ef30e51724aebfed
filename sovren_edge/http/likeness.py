"""Owns what makes two requests equal, and what one says of answers that are kept.

Must not know how requests are read or sent on.
"""

import re

from sovren_edge.http.request import RequestHead

_CACHE_CONTROL = re.compile(rb"\r\nCache-Control:([^\r]*)", re.IGNORECASE)
_UNLIKE = re.compile(
    rb"\r\n(?:host|user-agent|baggage|date|via|content-length|x-forwarded-[!-9;-~]+|forwarded"
    rb"|x-real-ip|cache-control|pragma|priority|referer|dnt|sec-[!-9;-~]+):[^\r]*(?=\r\n)",
    re.IGNORECASE,
)


def likeness(request: RequestHead) -> bytes:
    """Return the method, target and fields of a request without those that say nothing about its answer.

    Two requests with the same likeness and the same body are equal; all credentials are in it, whatever their names.
    """
    if not request.alike:
        request.alike = _UNLIKE.sub(b"", request.start + b"\r\n")
    return request.alike


def cache_control(request: RequestHead) -> bytes:
    """Return what a request says of kept answers, in lower case."""
    found = _CACHE_CONTROL.search(request.start)
    return b"" if found is None else found[1].lower()
