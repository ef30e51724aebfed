"""The table of requests that could be read in two ways: each with its verdict, and why.

What is refused reaches no endpoint, and neither does what its sender put behind it. What is forwarded arrives as one
request, exactly as it stands here, and what is behind it is the next one.
"""

import asyncio

import orjson
import pytest
from harness import Backend, Front, backend, eventually, front, make_pool
from tables import rows

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
NEXT = b"GET /next HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
GET = b"GET /s HTTP/1.1\r\nHost: a\r\n"
POST = b"POST /s HTTP/1.1\r\nHost: a\r\n"
SIZED = b"Content-Length: 5\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"
FIVE = b"5\r\nhello\r\n0\r\n\r\n"
LONG = b"/" + b"x" * 8192

MALFORMED, BODY = "malformed_request", "malformed_body"

REFUSED_HEADS = [
    # How long is the body?
    (POST + SIZED + CHUNKED, 400, MALFORMED, "two framings, CL.TE smuggling: RFC 9112 6.3"),
    (POST + CHUNKED + SIZED, 400, MALFORMED, "TE.CL smuggling"),
    (POST + SIZED + b"Transfer-Encoding: identity\r\n", 400, MALFORMED, "two framings, one of them obsolete"),
    (POST + SIZED + SIZED, 400, MALFORMED, "two lengths, though they agree: RFC 9110 8.6 lets us refuse"),
    (POST + SIZED + b"Content-Length: 6\r\n", 400, MALFORMED, "CL.CL smuggling"),
    (POST + SIZED + b"content-length:\r\n", 400, MALFORMED, "an empty one beside it"),
    (POST + b"Content-Length: 5, 5\r\n", 400, MALFORMED, "a list of lengths: RFC 9110 8.6"),
    (POST + b"Content-Length: 5,6\r\n", 400, MALFORMED, "a list that disagrees"),
    (POST + b"Content-Length: 5 5\r\n", 400, MALFORMED, "two numbers"),
    (POST + b"Content-Length: +5\r\n", 400, MALFORMED, "1*DIGIT has no sign; int() and strtol() take one"),
    (POST + b"Content-Length: -5\r\n", 400, MALFORMED, "nor this one"),
    (POST + b"Content-Length: -0\r\n", 400, MALFORMED, "however harmless"),
    (POST + b"Content-Length: 0x5\r\n", 400, MALFORMED, "0 to some, 5 to others"),
    (POST + b"Content-Length: 1e1\r\n", 400, MALFORMED, "1 to some, 10 to others"),
    (POST + b"Content-Length: 5_0\r\n", 400, MALFORMED, "50 to Python's int()"),
    (POST + b"Content-Length: 5.0\r\n", 400, MALFORMED, "no fraction"),
    (POST + b"Content-Length: \xb2\r\n", 400, MALFORMED, "a digit to isdigit() alone"),
    (POST + b"Content-Length: 5\x0b\r\n", 400, MALFORMED, "strip() would take the control character away"),
    (POST + b'Content-Length: "5"\r\n', 400, MALFORMED, "no quotes"),
    (POST + b"Content-Length:\r\n", 400, MALFORMED, "no digit"),
    (POST + b"Content-Length: 9223372036854775808\r\n", 400, MALFORMED, "negative where it is signed"),
    (POST + b"Content-Length: 18446744073709551621\r\n", 400, MALFORMED, "5 where it overflows"),
    (POST + b"Content-Length: " + b"0" * 30 + b"5\r\n", 400, MALFORMED, "some servers count the digits"),
    # Is it chunked?
    (POST + b"Transfer-Encoding: xchunked\r\n", 400, MALFORMED, "TE.TE smuggling: not chunked to all"),
    (POST + b"Transfer-Encoding: identity\r\n", 400, MALFORMED, "not chunked last: RFC 9112 6.3"),
    (POST + b"Transfer-Encoding: chunked, identity\r\n", 400, MALFORMED, "chunked is not last"),
    (POST + b"Transfer-Encoding: chunked, chunked\r\n", 400, MALFORMED, "twice: RFC 9112 6.1"),
    (POST + CHUNKED + CHUNKED, 400, MALFORMED, "twice, in two fields"),
    (POST + CHUNKED + b"Transfer-Encoding: x\r\n", 400, MALFORMED, "the last one counts, or the first"),
    (POST + b"Transfer-Encoding: x\r\n" + CHUNKED, 501, "unsupported_coding", "well framed, but with a coding we lack"),
    (POST + b"Transfer-Encoding: , chunked\r\n", 501, "unsupported_coding", "an empty member"),
    (POST + b"Transfer-Encoding: chunked,\r\n", 400, MALFORMED, "nor this one"),
    (POST + b"Transfer-Encoding: gzip, chunked\r\n", 501, "unsupported_coding", "RFC 9112 6.1 names the status"),
    (POST + b"Transfer-Encoding: chunked;q=1\r\n", 400, MALFORMED, "chunked has no parameters"),
    (POST + b'Transfer-Encoding: "chunked"\r\n', 400, MALFORMED, "nor quotes"),
    (POST + b"Transfer-Encoding: \x0bchunked\r\n", 400, MALFORMED, "a control character that strip() takes away"),
    (POST + b"Transfer-Encoding: chunked\x00\r\n", 400, MALFORMED, "the end of a string in C"),
    (POST + b"Transfer-Encoding: chunked\t\r\n", 400, MALFORMED, "a tab that some take for a part of it"),
    (POST + b"Transfer-Encoding:\r\n", 400, MALFORMED, "no coding at all"),
    (POST + b"Transfer-Encoding:\r\n chunked\r\n", 400, MALFORMED, "hidden in a folded line"),
    (POST + b"Transfer-Encoding : chunked\r\n", 400, MALFORMED, "hidden by a space: RFC 9112 5.1"),
    (POST + b"Transfer-Encoding\t: chunked\r\n", 400, MALFORMED, "or a tab"),
    (POST + b" Transfer-Encoding: chunked\r\n", 400, MALFORMED, "or as the fold of the field before it"),
    (POST + b"X: y\nTransfer-Encoding: chunked\r\n", 400, MALFORMED, "or behind a line feed"),
    (POST + b"X: y\rTransfer-Encoding: chunked\r\n", 400, MALFORMED, "or a carriage return"),
    (b"POST /s HTTP/1.0\r\n" + CHUNKED, 501, "unsupported_coding", "HTTP/1.0 knows no codings: RFC 9112 6.1"),
    (b"POST /s HTTP/1.0\r\n" + CHUNKED + SIZED, 400, MALFORMED, "nor both framings"),
    # Where do lines and fields end?
    (GET + b"A: b\n", 400, MALFORMED, "a line feed alone: RFC 9112 2.2"),
    (b"GET /s HTTP/1.1\nHost: a\r\n", 400, MALFORMED, "behind the first line"),
    (GET + b"A: b\rc\r\n", 400, MALFORMED, "a carriage return alone: RFC 9112 2.2"),
    (GET + b"A: b\r\r\n", 400, MALFORMED, "two of them"),
    (GET + b"\rA: b\r\n", 400, MALFORMED, "at a line's begin"),
    (b"GET /s HTTP/1.1\r\r\nHost: a\r\n", 400, MALFORMED, "in the first line"),
    (GET + b"A: b\r\n c\r\n", 400, MALFORMED, "obs-fold: RFC 9112 5.2"),
    (GET + b"A: b\r\n\tc\r\n", 400, MALFORMED, "with a tab"),
    (GET + b"A:\r\n b\r\n", 400, MALFORMED, "behind an empty value"),
    (b"GET /s HTTP/1.1\r\n Host: a\r\n", 400, MALFORMED, "white space behind the first line: RFC 9112 2.2"),
    (GET + b"A : b\r\n", 400, MALFORMED, "space before the colon: RFC 9112 5.1"),
    (GET + b"A\r\n", 400, MALFORMED, "no colon"),
    (GET + b": b\r\n", 400, MALFORMED, "no name"),
    (GET + b"A b: c\r\n", 400, MALFORMED, "a name is a token"),
    (GET + b"A\x00: b\r\n", 400, MALFORMED, "without NUL"),
    (GET + b"A\x80: b\r\n", 400, MALFORMED, "in ASCII"),
    (GET + b"A\x7f: b\r\n", 400, MALFORMED, "without DEL"),
    (GET + b"A: \x00\r\n", 400, MALFORMED, "NUL: RFC 9110 5.5"),
    (GET + b"A: b\x01c\r\n", 400, MALFORMED, "control characters"),
    (GET + b"A: \x0b\r\n", 400, MALFORMED, "which some take for space"),
    (GET + b"A: \x1b[2J\r\n", 400, MALFORMED, "or for orders to a terminal that shows logs"),
    (GET + b"A: \x7f\r\n", 400, MALFORMED, "DEL"),
    # The first line.
    (b"get /s HTTP/1.1\r\nHost: a\r\n", 400, MALFORMED, "methods know their case: RFC 9110 9.1"),
    (b"G\xc3\x89T /s HTTP/1.1\r\nHost: a\r\n", 400, MALFORMED, "and are tokens"),
    (b"G@T /s HTTP/1.1\r\nHost: a\r\n", 400, MALFORMED, "all the way"),
    (b"GETS /s HTTP/1.1\r\nHost: a\r\n", 501, "unknown_method", "whose framing nobody knows"),
    (b"CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n", 501, "unsupported_method", "a tunnel: anything might follow"),
    (b"GET  /s HTTP/1.1\r\nHost: a\r\n", 400, MALFORMED, "one space: RFC 9112 3"),
    (b"GET\t/s HTTP/1.1\r\nHost: a\r\n", 400, MALFORMED, "and no tab"),
    (b"GET /s  HTTP/1.1\r\nHost: a\r\n", 400, MALFORMED, "nor two behind the target"),
    (b"GET /s HTTP/1.1 \r\nHost: a\r\n", 400, MALFORMED, "nor one behind the version"),
    (b" GET /s HTTP/1.1\r\nHost: a\r\n", 400, MALFORMED, "nor one before the method"),
    (b"GET /s t HTTP/1.1\r\nHost: a\r\n", 400, MALFORMED, "a space in the target: RFC 9112 3.2"),
    (b"GET /\xc3\xa9 HTTP/1.1\r\nHost: a\r\n", 400, MALFORMED, "a target is ASCII"),
    (b"GET /\x00 HTTP/1.1\r\nHost: a\r\n", 400, MALFORMED, "without NUL"),
    (b"GET /\x7f HTTP/1.1\r\nHost: a\r\n", 400, MALFORMED, "or DEL"),
    (b"GET /s\\..\\t HTTP/1.1\r\nHost: a\r\n", 400, MALFORMED, "a slash to WHATWG's URLs, none to RFC 3986"),
    (b"GET /s#t HTTP/1.1\r\nHost: a\r\n", 400, MALFORMED, "a fragment: RFC 9112 3.2.1 knows none"),
    (b"GET /s?a#t HTTP/1.1\r\nHost: a\r\n", 400, MALFORMED, "nor behind a query"),
    (b"GET s HTTP/1.1\r\nHost: a\r\n", 400, MALFORMED, "no path"),
    (b"GET a:80 HTTP/1.1\r\nHost: a:80\r\n", 400, MALFORMED, "authority-form is CONNECT's: RFC 9112 3.2.3"),
    (b"GET * HTTP/1.1\r\nHost: a\r\n", 400, MALFORMED, "asterisk-form is OPTIONS': RFC 9112 3.2.4"),
    (b"OPTIONS *a HTTP/1.1\r\nHost: a\r\n", 400, MALFORMED, "and has nothing behind it"),
    (b"GET ftp://a/s HTTP/1.1\r\nHost: a\r\n", 400, MALFORMED, "a scheme that is not ours"),
    (b"GET http:/s HTTP/1.1\r\nHost: a\r\n", 400, MALFORMED, "an absolute form without authority"),
    (b"GET http:///s HTTP/1.1\r\nHost: a\r\n", 400, MALFORMED, "with an empty one"),
    (b"GET http://b@a/s HTTP/1.1\r\nHost: a\r\n", 400, MALFORMED, "a user: RFC 9110 4.2.4"),
    (b"GET http://a\\b/s HTTP/1.1\r\nHost: a\r\n", 400, MALFORMED, "two authorities"),
    (b"GET http://a:b/s HTTP/1.1\r\nHost: a\r\n", 400, MALFORMED, "a port that is none"),
    (b"GET http://a:1:2/s HTTP/1.1\r\nHost: a\r\n", 400, MALFORMED, "two ports"),
    (b"GET http://[a/s HTTP/1.1\r\nHost: a\r\n", 400, MALFORMED, "a bracket"),
    (b"GET " + LONG + b" HTTP/1.1\r\nHost: a\r\n", 414, "target_too_long", "RFC 9110 15.5.15"),
    # Which version?
    (b"GET /s\r\n", 400, MALFORMED, "HTTP/0.9"),
    (b"GET /s HTTP/0.9\r\nHost: a\r\n", 505, "unsupported_version", "which never said so"),
    (b"GET /s HTTP/1.2\r\nHost: a\r\n", 400, MALFORMED, "not yet"),
    (b"GET /s HTTP/2.0\r\nHost: a\r\n", 505, "unsupported_version", "not like this"),
    (b"PRI * HTTP/2.0\r\n", 505, "unsupported_version", "HTTP/2's preface: RFC 9113 3.4"),
    (b"GET /s HTTP/1\r\nHost: a\r\n", 400, MALFORMED, "half a version"),
    (b"GET /s HTTP/1.1.1\r\nHost: a\r\n", 400, MALFORMED, "or more than one"),
    (b"GET /s HTTP/01.1\r\nHost: a\r\n", 400, MALFORMED, "DIGIT . DIGIT: RFC 9112 2.3"),
    (b"GET /s http/1.1\r\nHost: a\r\n", 400, MALFORMED, "in capitals"),
    (b"GET /s ICY/1.1\r\nHost: a\r\n", 400, MALFORMED, "another protocol"),
    (b"PROXY TCP4 1.1.1.1 2.2.2.2 1 2\r\nGET /s HTTP/1.1\r\nHost: a\r\n", 400, MALFORMED, "PROXY protocol unasked"),
    # For which host?
    (b"GET /s HTTP/1.1\r\n", 400, MALFORMED, "none: RFC 9112 3.2"),
    (GET + b"Host: a\r\n", 400, MALFORMED, "two, though they agree: RFC 9112 3.2"),
    (GET + b"host: b\r\n", 400, MALFORMED, "two"),
    (b"GET /s HTTP/1.0\r\nHost: a\r\nHost: b\r\n", 400, MALFORMED, "in HTTP/1.0, too"),
    (b"GET http://a/s HTTP/1.1\r\n", 400, MALFORMED, "an absolute form does not replace it"),
    (b"GET /s HTTP/1.1\r\nHost: a b\r\n", 400, MALFORMED, "not uri-host [ ':' port ]: RFC 9112 3.2"),
    (b"GET /s HTTP/1.1\r\nHost: a,b\r\n", 400, MALFORMED, "a list"),
    (b"GET /s HTTP/1.1\r\nHost: a/b\r\n", 400, MALFORMED, "a path"),
    (b"GET /s HTTP/1.1\r\nHost: b@a\r\n", 400, MALFORMED, "a user"),
    (b"GET /s HTTP/1.1\r\nHost: a?b\r\n", 400, MALFORMED, "a query"),
    (b"GET /s HTTP/1.1\r\nHost: http://a\r\n", 400, MALFORMED, "a URL"),
    (b"GET /s HTTP/1.1\r\nHost: a:b\r\n", 400, MALFORMED, "a port that is none"),
    (b"GET /s HTTP/1.1\r\nHost: a:-1\r\n", 400, MALFORMED, "or has a sign"),
    (b"GET /s HTTP/1.1\r\nHost: a:123456\r\n", 400, MALFORMED, "or is too large"),
    (b"GET /s HTTP/1.1\r\nHost: :80\r\n", 400, MALFORMED, "a port alone"),
    (b"GET /s HTTP/1.1\r\nHost: [::1\r\n", 400, MALFORMED, "half an address"),
    (b"GET /s HTTP/1.1\r\nHost: \xe9\r\n", 400, MALFORMED, "not ASCII"),
    (b'GET /s HTTP/1.1\r\nHost: "a"\r\n', 400, MALFORMED, "quotes"),
    # Too much.
    (GET + b"A: b\r\n" * 100, 431, "head_too_large", "101 fields: RFC 6585 5"),
    (GET + b"A: " + b"x" * 32768 + b"\r\n", 431, "head_too_large", "more than 32 KiB"),
    (GET + b"Connection: " + b"a," * 101 + b"\r\n", 431, "head_too_large", "more names than there may be fields"),
    (GET + b"Connection: a\r\n" + b"Connection: " + b"a," * 100 + b"\r\n", 431, "head_too_large", "in two fields"),
    (POST + SIZED + b"Expect: 100-continue, x\r\n", 417, "expectation_failed", "RFC 9110 10.1.1"),
    (POST + SIZED + b"Expect: 200-ok\r\n", 417, "expectation_failed", "what else might be expected?"),
    (POST + SIZED + b"Expect:\r\n", 417, "expectation_failed", "nothing, in so many words"),
]  # fmt: skip

REFUSED_BODIES = [
    (b"0x5\r\nhello\r\n0\r\n\r\n", "5 to strtol(), 0 to others"),
    (b"+5\r\nhello\r\n0\r\n\r\n", "1*HEXDIG has no sign: RFC 9112 7.1"),
    (b"-1\r\nhello\r\n0\r\n\r\n", "nor this one"),
    (b" 5\r\nhello\r\n0\r\n\r\n", "nor space before it"),
    (b"5 \r\nhello\r\n0\r\n\r\n", "nor behind it"),
    (b"5\t\r\nhello\r\n0\r\n\r\n", "nor a tab"),
    (b"5_0\r\nhello\r\n0\r\n\r\n", "50 to Python's int()"),
    (b"\r\nhello\r\n0\r\n\r\n", "nor is it empty"),
    (b"5,5\r\nhello\r\n0\r\n\r\n", "nor a list"),
    (b"g\r\nhello\r\n0\r\n\r\n", "hexadecimal, not more"),
    (b"5\x00\r\nhello\r\n0\r\n\r\n", "without NUL"),
    (b"10000000000000005\r\nhello\r\n0\r\n\r\n", "5 where it overflows"),
    (b"fffffffffffffffb\r\nhello\r\n0\r\n\r\n", "-5 where it is signed"),
    (b"5\nhello\r\n0\r\n\r\n", "TERM.EXT smuggling: a line feed alone ends nothing"),
    (b"5\rhello\r\n0\r\n\r\n", "nor a carriage return"),
    (b"5\r\nhello\n0\r\n\r\n", "nor behind a chunk"),
    (b"5\r\nhello\r0\r\n\r\n", "nor this one"),
    (b"5\r\nhello0\r\n\r\n", "nor nothing at all"),
    (b"5\r\nhelloXX0\r\n\r\n", "nor two other bytes, which some skip unread"),
    (b"5\r\nhello!\r\n0\r\n\r\n", "a chunk longer than its size"),
    (b"5\r\nhell\r\n0\r\n\r\n", "or shorter"),
    (b"5;a\nb\r\nhello\r\n0\r\n\r\n", "EXT.TERM smuggling: a line feed in an extension"),
    (b"5;a\rb\r\nhello\r\n0\r\n\r\n", "or a carriage return"),
    (b"5;a\x00\r\nhello\r\n0\r\n\r\n", "or NUL"),
    (b"5;" + b"a" * 5000 + b"\r\nhello\r\n0\r\n\r\n", "an extension without end: CVE-2023-39326"),
    (b"5\r\nhello\r\n0\r\nA b\r\n\r\n", "a trailer is a field"),
    (b"5\r\nhello\r\n0\r\nA : b\r\n\r\n", "without space before its colon"),
    (b"5\r\nhello\r\n0\r\n A: b\r\n\r\n", "or a fold"),
    (b"5\r\nhello\r\n0\r\nA: b\n\r\n", "or a line feed alone"),
    (b"5\r\nhello\r\n0\r\nA: b\x00\r\n\r\n", "or NUL"),
    (b"5\r\nhello\r\n0\r\n" + b"A: b\r\n" * 4000 + b"\r\n", "or without end"),
    (b"5\r\nhello\r\n0\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n", "TRAIL smuggling: no empty line before the next"),
]  # fmt: skip

# Bytes that can become no head: to wait for more would only cost the time-out of the head.
REFUSED_AT_ONCE = [
    (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x20" * 30, "TLS to a plain port"),
    (b"\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c", "PROXY protocol 2 unasked"),
    (b"PROXY TCP4 1.1.1.1 2.2.2.2 1 2\r\n", "PROXY protocol 1 unasked"),
    (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "HTTP/2's preface"),
    (b"GET /s\r\n", "HTTP/0.9"),
    (b"GET /s HTTP/1.1\n", "a line feed alone"),
    (b"GET /s HTTP/1.1\r\nHost: a\n", "also later"),
    (b"GET /s t", "a space in a target"),
    (b"GET /s\x00", "NUL"),
    (b"get", "a method in lower case"),
    (b"SSH-2.0-OpenSSH_9.2\r\n", "another protocol"),
    (b"\x05\x01\x00", "SOCKS 5"),
    (b"*1\r\n$4\r\nPING\r\n", "Redis"),
    (b"<policy-file-request/>\x00", "what was once asked of all ports"),
    (b"GET /" + b"x" * 9000, "a target without end"),
    (GET + b"A: " + b"x" * 40_000, "a field without end"),
]  # fmt: skip

FORWARDED = [
    (GET, b"", GET, b"", "a plain request"),
    (b"\r\n\r\n" + GET, b"", GET, b"", "empty lines before it: RFC 9112 2.2"),
    (b"\n" + GET, b"", GET, b"", "as a line feed, since nothing is in them"),
    (POST + SIZED, b"hello", POST + SIZED, b"hello", "a length"),
    (POST + b"Content-Length: \t 5 \t\r\n", b"hello", POST + b"Content-Length: \t 5 \t\r\n", b"hello",
     "space around it"),
    (POST + b"Content-Length: 005\r\n", b"hello", POST + b"Content-Length: 005\r\n", b"hello", "1*DIGIT: RFC 9110 8.6"),
    (POST + b"CONTENT-LENGTH:5\r\n", b"hello", POST + b"CONTENT-LENGTH:5\r\n", b"hello", "names have no case"),
    (POST + CHUNKED, FIVE, POST + SIZED, b"hello", "what was kept whole goes on with its length"),
    (POST + b"Transfer-Encoding:\tChunked\r\n", FIVE, POST + SIZED, b"hello", "codings have no case: RFC 9112 7"),
    (POST + CHUNKED, b"0\r\n\r\n", POST, b"", "an empty one as none"),
    (POST + CHUNKED, b'05;a=b;c="d"\r\nhello\r\n0;e\r\n\r\n', POST + SIZED, b"hello",
     "extensions end here: RFC 9112 7.1.1"),
    (POST + CHUNKED + b"Trailer: T\r\n", b"5\r\nhello\r\n0\r\nT: u\r\n\r\n", POST + SIZED, b"hello",
     "and so do trailers: RFC 9112 7.1.2"),
    (POST + CHUNKED, b"5\r\nhello\r\n0\r\nContent-Length: 9\r\nHost: b\r\n\r\n", POST + SIZED, b"hello",
     "which change nothing of the head: RFC 9110 6.5.1"),
    (GET + SIZED, b"hello", GET + SIZED, b"hello", "GET with a body: RFC 9110 9.3.1 lets it be"),
    # Fields that end here.
    (POST + SIZED + b"Connection: content-length, host\r\n", b"hello", POST + SIZED, b"hello",
     "framing and routing cannot be nominated away"),
    (POST + CHUNKED + b"Connection: transfer-encoding\r\n", FIVE, POST + SIZED, b"hello", "nor can chunks"),
    (GET + b"Connection: A, close-not\r\nA: b\r\nClose-Not: c\r\nD: e\r\n", b"", GET + b"D: e\r\n", b"",
     "other fields can: RFC 9110 7.6.1"),
    (GET + b"Connection: \r\nConnection: ,,A,\r\nA: b\r\n", b"", GET, b"", "empty members are passed over"),
    (GET + b"TE: trailers, deflate\r\nConnection: TE\r\n", b"", GET, b"", "TE is for one hop: RFC 9110 10.1.4"),
    (GET + b"Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABk\r\n", b"", GET, b"",
     "h2c smuggling: no offer to switch to what we cannot read"),
    (GET + b"Upgrade: foo/2, TLS/1.0\r\nConnection: upgrade\r\n", b"", GET, b"", "nor to what nobody knows"),
    (POST + SIZED + b"Upgrade: foo\r\nConnection: upgrade\r\n", b"hello", POST + SIZED, b"hello", "also with a body"),
    (GET + b"Expect: 100-Continue\r\n", b"", GET, b"", "met by us: RFC 9110 10.1.1"),
    (GET + b"Keep-Alive: 5\r\nProxy-Connection: keep-alive\r\n", b"", GET, b"", "of one hop: RFC 9110 7.6.1"),
    (POST + SIZED + b"Content_Length: 6\r\nTransfer_Encoding: chunked\r\n", b"hello", POST + SIZED, b"hello",
     "an underscore is a hyphen to CGI and its heirs"),
    (GET + b"X_Forwarded_For: 1.2.3.4\r\nX_Request_Id: 7\r\nProxy_Authorization: x\r\nKeep_Alive: 1\r\n", b"", GET, b"",
     "also in what is believed of us"),
    (GET + b"Api_Key: k\r\n", b"", GET + b"Api_Key: k\r\n", b"", "other fields are their owner's"),
    (GET + b"A: \x80\xff\r\n", b"", GET + b"A: \x80\xff\r\n", b"", "obs-text: RFC 9110 5.5"),
    (GET + b"A:\r\nA: \t\r\n", b"", GET + b"A:\r\nA: \t\r\n", b"", "empty values"),
    (GET + b'A: :;=,"\r\n', b"", GET + b'A: :;=,"\r\n', b"", "and any other"),
    # Targets and hosts.
    (b"GET http://b:80/s?t HTTP/1.1\r\nHost: a\r\n", b"", b"GET /s?t HTTP/1.1\r\nHost: b:80\r\n", b"",
     "the absolute form's authority is the host: RFC 9112 3.2.2"),
    (b"GET HTTPS://b HTTP/1.1\r\nHost: a\r\n", b"", b"GET / HTTP/1.1\r\nHost: b\r\n", b"", "an empty path is /"),
    (b"GET http://b?c HTTP/1.1\r\nHost: a\r\n", b"", b"GET /?c HTTP/1.1\r\nHost: b\r\n", b"", "also before a query"),
    (b"OPTIONS http://b HTTP/1.1\r\nHost: a\r\n", b"", b"OPTIONS * HTTP/1.1\r\nHost: b\r\n", b"",
     "about the server: RFC 9112 3.2.4"),
    (b"OPTIONS http://b/ HTTP/1.1\r\nHost: a\r\n", b"", b"OPTIONS / HTTP/1.1\r\nHost: b\r\n", b"", "about a resource"),
    (b"OPTIONS * HTTP/1.1\r\nHost: a\r\n", b"", b"OPTIONS * HTTP/1.1\r\nHost: a\r\n", b"", "asterisk-form"),
    (b"GET //b/../s%2f%00?a=/../?b\\c|{} HTTP/1.1\r\nHost: a\r\n", b"",
     b"GET //b/../s%2f%00?a=/../?b\\c|{} HTTP/1.1\r\nHost: a\r\n", b"", "nothing is normalised"),
    (b"GET " + LONG[:8192] + b" HTTP/1.1\r\nHost: a\r\n", b"", b"GET " + LONG[:8192] + b" HTTP/1.1\r\nHost: a\r\n", b"",
     "8 KiB and no more"),
    (b"GET /s HTTP/1.1\r\nHost: [::1]:80\r\n", b"", b"GET /s HTTP/1.1\r\nHost: [::1]:80\r\n", b"", "an address"),
    (b"GET /s HTTP/1.1\r\nHost: A_b.c-d:\r\n", b"", b"GET /s HTTP/1.1\r\nHost: A_b.c-d:\r\n", b"", "an empty port"),
    (b"GET /s HTTP/1.1\r\nHost: \r\n", b"", b"GET /s HTTP/1.1\r\nHost: endpoint\r\n", b"",
     "an empty host is allowed: RFC 9112 3.2"),
]  # fmt: skip

OLD = [
    (b"GET /s HTTP/1.0\r\n", b"", b"GET /s HTTP/1.1\r\nHost: endpoint\r\n", b"", "without a host"),
    (b"GET /s HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n", b"", GET, b"", "kept alive by nobody"),
    (b"POST /s HTTP/1.0\r\nHost: a\r\n" + SIZED, b"hello", POST + SIZED, b"hello", "with a body"),
    (GET + b"Connection: keep-alive, CLOSE\r\n", b"", GET, b"", "who said that it would close"),
]  # fmt: skip

OURS = (b"x-forwarded-for:", b"x-forwarded-proto:", b"x-forwarded-host:", b"via:", b"x-request-id:", b"traceparent:")


def heard(served: Backend, head: bytes) -> tuple[bytes, list[bytes]]:
    """Return a request's first line and its fields, but for those that the edge adds."""
    line, *fields = head.replace(b"127.0.0.1:%d" % served.port, b"endpoint").removesuffix(b"\r\n\r\n").split(b"\r\n")
    return line, sorted(field for field in fields if not field.lower().startswith(OURS))


async def assert_refused(edge: Front, served: Backend, sent: bytes, status: int, reason: str) -> None:
    """One answer, in JSON, then the connection's end; and nothing for the endpoint."""
    answer = await edge.call(sent)
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 %d " % status), answer
    assert b"\r\nConnection: close" in head
    assert answer.count(b"HTTP/1.1 ") == 1 + body.count(b"HTTP/1.1 ")
    assert orjson.loads(body)["reason"] == reason
    assert not served.requests
    await eventually(lambda: edge.lines)
    assert [(line.status, line.ended) for line in edge.lines] == [(status, reason)]


@pytest.mark.parametrize(("head", "status", "reason"), rows(REFUSED_HEADS))
async def test_heads_that_are_refused(head: bytes, status: int, reason: str) -> None:
    """And with them whatever follows."""
    async with backend(lambda _h, _b: OK) as one, front(make_pool("p", [one.port])) as edge:
        await assert_refused(edge, one, head + b"\r\n" + NEXT, status, reason)


@pytest.mark.parametrize("body", rows(REFUSED_BODIES))
async def test_bodies_that_are_refused(body: bytes) -> None:
    """However their chunks began."""
    async with backend(lambda _h, _b: OK) as one, front(make_pool("p", [one.port])) as edge:
        await assert_refused(edge, one, POST + CHUNKED + b"\r\n" + body + NEXT, 400, BODY)


@pytest.mark.parametrize("sent", rows(REFUSED_AT_ONCE))
async def test_what_can_become_no_request_is_refused_at_once(sent: bytes) -> None:
    """Nobody waits for its end."""
    async with backend(lambda _h, _b: OK) as one, front(make_pool("p", [one.port])) as edge:
        answer = await edge.call(sent)
        assert answer.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 414 ", b"HTTP/1.1 431 ", b"HTTP/1.1 505 "))
        assert not one.requests


@pytest.mark.parametrize(("head", "body", "arrives", "arriving"), rows(FORWARDED))
async def test_what_is_forwarded(head: bytes, body: bytes, arrives: bytes, arriving: bytes) -> None:
    """As one request, and the next one behind it."""
    async with backend(lambda _h, _b: OK) as one, front(make_pool("p", [one.port])) as edge:
        answer = await edge.call(head + b"\r\n" + body + NEXT)
        assert answer.count(b"HTTP/1.1 200 OK\r\n") == 2
    (first, told), (second, _) = one.requests
    assert heard(one, first) == heard(one, arrives + b"\r\n")
    assert told == arriving
    assert second.startswith(b"GET /next HTTP/1.1\r\n")


@pytest.mark.parametrize(("head", "body", "arrives", "arriving"), rows(OLD))
async def test_the_last_request_of_a_connection(head: bytes, body: bytes, arrives: bytes, arriving: bytes) -> None:
    """What stands behind it is not read."""
    async with backend(lambda _h, _b: OK) as one, front(make_pool("p", [one.port])) as edge:
        answer = await edge.call(head + b"\r\n" + body + NEXT)
        assert answer.count(b"HTTP/1.1 ") == 1
    ((first, told),) = one.requests
    assert heard(one, first) == heard(one, arrives + b"\r\n")
    assert told == arriving


@pytest.mark.parametrize("body", rows(REFUSED_BODIES))
async def test_a_streamed_body_that_turns_out_malformed(body: bytes) -> None:
    """The endpoint sees a request that never ends, and no other one behind it."""
    large = b"11000\r\n" + b"x" * 0x11000 + b"\r\n"
    whole = asyncio.Event()

    async def count(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        got = await reader.read()
        if got.endswith(b"\r\n0\r\n\r\n") or b"/next" in got:
            whole.set()

    async with backend(raw=count) as one, front(make_pool("p", [one.port])) as edge:
        answer = await edge.call(POST + CHUNKED + b"\r\n" + large + body + NEXT)
        await eventually(lambda: not one.open)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert not whole.is_set()
