"""Message heads of any kind: mostly valid ones, and such as differ from those in a byte or two."""

from hypothesis import strategies as st

TOKEN = b"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
VISIBLE = bytes(range(0x21, 0x7F)) + bytes(range(0x80, 0x100))
NAMES = [
    *(b"Connection", b"Content-Length", b"Forwarded", b"Host", b"Keep-Alive", b"Proxy-Authorization"),
    *(b"Proxy-Connection", b"TE", b"Trailer", b"Transfer-Encoding", b"Upgrade", b"Via", b"X-Forwarded-For"),
    *(b"X-Forwarded-Proto", b"X-Forwarded-Host", b"X-Forwarded-", b"X-Real-IP", b"X-Request-Id", b"X-Sovren-Caller"),
    *(b"Accept", b"Content-Type", b"Cookie", b"Te-St", b"Content-Length-2", b"X-Via", b"Hosts", b"X-Sovren"),
]
VALUES = [
    *(b"close", b"keep-alive", b"upgrade, accept", b"X-Forwarded-Proto,cookie", b"content-length, via", b"chunked"),
    *(b"", b"5", b"a, b", b"10.0.0.1", b"https", b"id-1", b"te, Te-St,,", b"Transfer-Encoding: chunked"),
]


def text_of(alphabet: bytes, *, least: int = 0, most: int = 12) -> st.SearchStrategy[bytes]:
    """Return bytes made of these."""
    return st.lists(st.sampled_from(list(alphabet)), min_size=least, max_size=most).map(bytes)


def cased(name: bytes) -> st.SearchStrategy[bytes]:
    """Return a name in some mixture of cases."""
    return st.sampled_from([name, name.lower(), name.upper(), name.swapcase()])


names = st.one_of(st.sampled_from(NAMES).flatmap(cased), text_of(TOKEN, least=1))
values = st.one_of(st.sampled_from(VALUES), text_of(VISIBLE + b" \t").map(lambda value: value.strip(b" \t")))
spaces = st.sampled_from([b" ", b"", b"\t", b" \t "])


@st.composite
def field_lines(draw: st.DrawFn) -> bytes:
    """Draw a field with its CRLF."""
    return b"%s:%s%s%s\r\n" % (draw(names), draw(spaces), draw(values), draw(spaces))


def heads(first_lines: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    """Return heads that begin with one of these lines, given with its CRLF."""
    blocks = st.lists(field_lines(), max_size=8).map(b"".join)
    return st.tuples(first_lines, blocks).map(lambda parts: b"%s%s\r\n" % parts)


@st.composite
def damaged(draw: st.DrawFn, whole: st.SearchStrategy[bytes], *, spared: bytes = b"") -> bytes:
    """Draw bytes with a few of them changed, left out or put in; none of `spared` is put in."""
    data = draw(whole)
    pool = [bytes([byte]) for byte in range(256) if byte not in spared] + [b"\r\n", b"\n ", b"\r\n\r\n"]
    for _ in range(draw(st.integers(0, 2))):
        at = draw(st.integers(0, len(data)))
        put = draw(
            st.one_of(st.just(b""), st.sampled_from([b"\r", b"\n", b" ", b":", b"\0", b","]), st.sampled_from(pool))
        )
        data = data[:at] + put + data[at + draw(st.integers(0, 2)) :]
    return data


def up_to_empty_line(data: bytes) -> bytes:
    """Return a head as a connection hands it over: it ends with its first empty line."""
    return (data + b"\r\n\r\n").partition(b"\r\n\r\n")[0] + b"\r\n\r\n"
