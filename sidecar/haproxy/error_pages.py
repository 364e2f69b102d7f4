"""The pages of HAProxy's own answers that a user brings: whether HAProxy would start with one.

Pure.
"""

import re

#: Beside it HAProxy's buffer has what it adds.
PAGE_MAX_BYTES = 15_000

_STATUS = re.compile(rb"HTTP/1\.[01] ([0-9]{3})( [^\r\n]*)?\r?\n")
_FIELD = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([^\r\n]*?)[ \t]*\r?\n")
_END = re.compile(rb"\r?\n")

_RULE = (
    "write a whole answer: HTTP/1.1 {status} and a reason, headers like Content-Type: text/html, an"
    " empty line, and the page"
)


def check_page(data: bytes, status: int) -> str:
    """Its text. Raises ValueError, which says what would be right, unless it is an answer with
    ``status``."""
    rule = _RULE.format(status=status)
    if len(data) > PAGE_MAX_BYTES:
        raise ValueError(f"has more than {PAGE_MAX_BYTES} bytes, which do not fit into HAProxy")
    found = _STATUS.match(data)
    if not found:
        raise ValueError(f"does not begin with the line of an answer; {rule}")
    if int(found[1]) != status:
        raise ValueError(f"is an answer {int(found[1])}; {rule}")
    at = found.end()
    fields: dict[bytes, bytes] = {}
    while field := _FIELD.match(data, at):
        name = field[1].lower()
        if name in (b"content-length", b"transfer-encoding") and name in fields:
            raise ValueError(f"has {name.decode()} twice; leave it out, HAProxy writes it")
        fields[name] = field[2]
        at = field.end()
    end = _END.match(data, at)
    if not end:
        raise ValueError(f"has no empty line behind its headers; {rule}")
    if b"transfer-encoding" in fields:
        raise ValueError("has Transfer-Encoding; leave it out, HAProxy writes it")
    body, length = len(data) - end.end(), fields.get(b"content-length")
    if length is not None and length != str(body).encode():
        said = length.decode("latin-1")[:20]
        raise ValueError(
            f"says Content-Length: {said}, and has {body} bytes; leave it out, HAProxy writes it"
        )
    if b"\0" in data:
        raise ValueError("has a NUL; write text")
    return data.decode("utf-8")
