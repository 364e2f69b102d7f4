"""Settings of headers, pages, compression and TLS that cannot be: the error names key and value,
and what would be right.
"""

import pytest

from sidecar.common.errors import SettingsError
from sidecar.settings.parsing import parse_settings

TLS = "listeners: [{name: tls, kind: tls, bind: ['127.0.0.1:8443']}]\n"


def problem(section: str) -> str:
    """The one of ``web``."""
    with pytest.raises(SettingsError) as caught:
        parse_settings(f"{TLS}web: {section}", {}, "sidecar.yaml")
    (line,) = caught.value.problems
    return line


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ("request: [X One]", ["request[0]: 'X One'", "write a header's name"]),
        ("request: ['']", ["request[0]: ''", "write a header's name"]),
        ("response: ['X\u00e9']", ["response[0]: 'X\u00e9'", "write a header's name"]),
        (f"response: [{'x' * 64}]", ["response[0]: ", "63 at most"]),
        ("response: [A, content-length]", ["response[1]: 'content-length'", "leave it out"]),
        ("response: [Set-Cookie]", ["response[0]: 'Set-Cookie'", "not for Routes"]),
        ("request: [A, X-B, x-b]", ["request: ", "repeats 'x-b'", "once"]),
        (
            f"request: [{', '.join(f'x{n}' for n in range(101))}]",
            ["request: ", "101", "100 at most"],
        ),
        ("request: X-One", ["request: 'X-One'"]),
    ],
)
def test_names_that_no_route_can_have(section: str, words: list[str]) -> None:
    line = problem(f"{{route_headers: {{{section}}}}}")
    assert line.startswith("web.route_headers.")
    for word in words:
        assert word in line


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ("request: {set: {Cookie: x}}", ["request.set", "'Cookie'", "leave it out"]),
        ("request: {set: {host: x}}", ["request.set", "'host'", "leave it out"]),
        ("request: {delete: [Content-Length]}", ["request.delete[0]", "'Content-Length'"]),
        ("request: {delete: [A, a]}", ["request.delete", "repeats 'a'"]),
        ("request: {set: {A: x, a: y}}", ["request.set", "repeats 'a'"]),
        ("request: {set: {A: 5}}", ["request.set.A: 5", "quote what YAML"]),
        ("request: {set: {A: ''}}", ["request.set.A: ''", "empty; write text"]),
        ("request: {set: {A: '5%'}}", ["request.set.A: '5%'", "'%' is no expression", "%% for"]),
        ("request: {set: {A: '%[env(HOME)]'}}", ["request.set.A: ", "is no expression"]),
        ("request: {set: {A: '%[src,lua.x]'}}", ["request.set.A: ", "is no expression"]),
        ("request: {set: {A: '%[res.hdr(a)]'}}", ["no res.hdr() in a request"]),
        ("response: {set: {A: '%[req.hdr(a)]'}}", ["no req.hdr() in a response"]),
        (f"request: {{set: {{A: {'x' * 1008}}}}}", ["request.set", "1025 bytes", "1024 at most"]),
        (f"request: {{set: {{A: '{' y' * 470}'}}}}", ["request.set.A", "too long", "1800"]),
        ("request: {add: [A]}", ["request.add: no such key", "set, delete"]),
    ],
)
def test_headers_of_all_routes(section: str, words: list[str]) -> None:
    line = problem(f"{{headers: {{{section}}}}}")
    assert line.startswith("web.headers.")
    for word in words:
        assert word in line


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ("compression: {types: [html]}", ["compression.types[0]: 'html'", "like text/html"]),
        ("compression: {types: ['text/html x']}", ["compression.types[0]", "like text/html"]),
        ("compression: {types: [a/b, a/b]}", ["compression.types: ", "repeats a/b"]),
        ("error_pages: {500: x}", ["error_pages: ", "'500' has no page; there are 503 and 404"]),
        ("error_pages: [x]", ["error_pages: ", "write statuses with files"]),
        ("error_pages: {503: 5}", ["error_pages[503]: 5", "path of a file"]),
        ("tls: {min_version: TLSv1.1}", ["tls.min_version: 'TLSv1.1'", "'TLSv1.2' or 'TLSv1.3'"]),
        (
            "tls: {min_version: TLSv1.3, max_version: TLSv1.2}",
            ["tls: ", "max_version TLSv1.2 is below min_version TLSv1.3; raise it"],
        ),
        ("tls: {ciphers: RC9}", ["tls.ciphers: 'RC9'", "knows none of them; write ciphers"]),
        ("tls: {ciphers: 'A B'}", ["tls.ciphers: 'A B'", "no blanks"]),
        (
            "tls: {ciphersuites: TLS_X}",
            ["tls.ciphersuites: 'TLS_X'", "write TLS_AES_128_GCM_SHA256"],
        ),
        ("tls: {curves: 'P-256:P-1'}", ["tls.curves: 'P-256:P-1'", "'P-1' is none; write X25519"]),
        ("tls: {curves: 'P-256:P-256'}", ["tls.curves: ", "has P-256 twice; write each once"]),
        ("tls: {strict_sni: 'yes'}", ["tls.strict_sni: 'yes'", "write true or false"]),
    ],
)
def test_what_haproxy_would_not_start_with(section: str, words: list[str]) -> None:
    line = problem(f"{{{section}}}")
    for word in words:
        assert word in line
