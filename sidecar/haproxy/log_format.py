"""The value of a header as rules of haproxy.cfg take it: a log-format of text and expressions.

Owns which expressions there may be (those that route.openshift.io/v1 has for headers; with any
other HAProxy might not start) and how text is written so that HAProxy gives exactly that: as a part
of a log-format, its blanks would be joined. Pure.
"""

import re

from sidecar.common.text import shown

_PART = re.compile(
    r"(?P<percent>%%)"
    r"|(?P<expression>%(?:\{[-+]?[QXE](?:,[-+]?[QXE])*\})?"
    r"\[(?:(?P<messages>req|res)\.hdr\([A-Za-z0-9_-]{1,63}\)|ssl_c_der)(?:,(?:lower|base64))*\])"
    r"|(?P<text>[^%]+)"
)

#: What has no meaning in an argument of a sample fetch.
_PLAIN = frozenset(b"-._~:/=@!*0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")

_RULE = "write text, %% for a percent sign, or %[req.hdr(NAME)], %[res.hdr(NAME)], %[ssl_c_der]"

#: haproxy.cfg has lines of 2,048 bytes.
_FORMAT_MAX = 1800


def log_format(text: str, messages: str) -> str:
    """``text`` with its expressions, for headers of ``messages`` (``request`` or ``response``).
    Raises ValueError, which says what would be right."""
    parts: list[str] = []
    literal, at = "", 0
    text = text.strip(" \t")
    if not text:
        raise ValueError(f"empty; {_RULE}")
    while at < len(text):
        found = _PART.match(text, at)
        if not found:
            raise ValueError(f"{shown(text[at : at + 40])} is no expression for headers; {_RULE}")
        at = found.end()
        if not found["expression"]:
            literal += "%" if found["percent"] else found["text"]
            continue
        if found["messages"] == ("res" if messages == "request" else "req"):
            other = found["messages"]
            raise ValueError(f"{shown(found[0])}: there is no {other}.hdr() in a {messages}")
        parts += [_literal(literal), found["expression"]]
        literal = ""
    made = "".join([*parts, _literal(literal)])
    if len(made) > _FORMAT_MAX:
        raise ValueError(f"too long: {len(made)} bytes in haproxy.cfg; {_FORMAT_MAX} at most")
    return made


def _literal(text: str) -> str:
    if not text:
        return ""
    encoded = (chr(byte) if byte in _PLAIN else f"%{byte:02X}" for byte in text.encode())
    return f"%[str({''.join(encoded)}),url_dec]"
