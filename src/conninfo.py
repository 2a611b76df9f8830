"""libpq connection strings, read as libpq reads them.

Both forms of "Connection Strings" in PostgreSQL's documentation of libpq: `key=value`
pairs, with quotes and backslashes, and URIs, with per cent escapes and several hosts.
The deciding source is conninfo_parse and conninfo_uri_parse in libpq's fe-connect.c;
the tests ask libpq itself.  Unknown keys are kept: a provider's libpq may be a newer one.

No text of an error holds any of the string: there is a password in it.
"""

from __future__ import annotations

from urllib.parse import unquote_to_bytes

_SPACE = " \t\n\v\f\r"  # isspace() in the C locale
_SCHEMES = ("postgresql://", "postgres://")
_HEX = frozenset("0123456789abcdefABCDEF")


def parse(text: str) -> dict[str, str]:
    """Return the parameters of a connection string, the last one winning.

    Raises:
        ValueError: libpq would refuse it for its form; the text says why in a few words.
    """
    if "\0" in text:
        raise ValueError("holds a zero byte")
    for scheme in _SCHEMES:
        if text.startswith(scheme):
            return _uri(text[len(scheme) :])
    return _pairs(text)


def _pairs(text: str) -> dict[str, str]:
    found: dict[str, str] = {}
    at = _skip(text, 0)
    while at < len(text):
        start = at
        while at < len(text) and text[at] != "=" and text[at] not in _SPACE:
            at += 1
        key = text[start:at]
        at = _skip(text, at)
        if not key or text[at : at + 1] != "=":
            raise ValueError("has a parameter without a name or a value")
        at = _skip(text, at + 1)
        quoted = text[at : at + 1] == "'"
        found[key], at = _quoted(text, at + 1) if quoted else _bare(text, at)
        at = _skip(text, at)
    return found


def _skip(text: str, at: int) -> int:
    while at < len(text) and text[at] in _SPACE:
        at += 1
    return at


def _bare(text: str, at: int) -> tuple[str, int]:
    """Read a value up to the next space; a backslash takes the next character as it is."""
    value = ""
    while at < len(text) and text[at] not in _SPACE:
        if text[at] == "\\":
            at += 1
        value += text[at : at + 1]
        at += 1
    return value, at


def _quoted(text: str, at: int) -> tuple[str, int]:
    """Read a value up to the closing quote; the next parameter may follow it at once."""
    value = ""
    while text[at : at + 1] != "'":
        if text[at : at + 1] == "\\":
            at += 1
        if at >= len(text):
            raise ValueError("has an unterminated quote")
        value += text[at]
        at += 1
    return value, at + 1


def _uri(rest: str) -> dict[str, str]:
    found: dict[str, str] = {}
    # A slash before the first @ ends the search for credentials.
    mark = next((at for at, char in enumerate(rest) if char in "@/"), len(rest))
    if rest[mark : mark + 1] == "@":
        user, _, password = rest[:mark].partition(":")
        _store(found, user=user, password=password)
        rest = rest[mark + 1 :]
    rest = _hosts(rest, found)
    if rest.startswith("/"):
        name, mark_of_query, rest = rest[1:].partition("?")
        _store(found, dbname=name)
        rest = mark_of_query + rest
    if rest:
        _query(rest[1:], found)
    return found


def _store(found: dict[str, str], **values: str) -> None:
    found.update({key: _decode(value) for key, value in values.items() if value})


def _hosts(rest: str, found: dict[str, str]) -> str:
    """Read "host:port,host:port"; return what follows, from its "/" or "?" on."""
    hosts, ports = [], []
    while True:
        if rest.startswith("["):
            host, closed, rest = rest[1:].partition("]")
            if not host or not closed or rest[:1] not in ("", ":", "/", "?", ","):
                raise ValueError("has a broken IPv6 address")
        else:
            host, rest = _until(rest, ":/?,")
        port = ""
        if rest.startswith(":"):
            port, rest = _until(rest[1:], "/?,")
        hosts.append(host)
        ports.append(port)
        if not rest.startswith(","):
            break
        rest = rest[1:]
    _store(found, host=",".join(hosts), port=",".join(ports))
    return rest


def _until(text: str, stops: str) -> tuple[str, str]:
    end = next((at for at, char in enumerate(text) if char in stops), len(text))
    return text[:end], text[end:]


def _query(query: str, found: dict[str, str]) -> None:
    pairs = query.split("&")
    if not pairs[-1]:
        pairs.pop()  # nothing at all, or a last &, which libpq lets pass
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or "=" in value:
            raise ValueError("has a query parameter without one value")
        key, value = _decode(key), _decode(value)
        if (key, value) == ("ssl", "true"):  # JDBC's spelling, which libpq takes too
            key, value = "sslmode", "require"
        found[key] = value


def _decode(text: str) -> str:
    for at, char in enumerate(text):
        if char == "%" and not (len(text) > at + 2 and set(text[at + 1 : at + 3]) <= _HEX):
            raise ValueError("has a broken per cent escape")
    if "%00" in text:
        raise ValueError("holds a zero byte")
    try:
        return unquote_to_bytes(text).decode()
    except UnicodeError:
        raise ValueError("is not UTF-8") from None
