"""`sidecar.haproxy.log_format`: headers in haproxy.cfg."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.haproxy.log_format import log_format


@pytest.mark.parametrize(
    ("text", "made"),
    [
        ("DENY", "%[str(DENY),url_dec]"),
        (" a b ", "%[str(a%20b),url_dec]"),
        ("100%%,)", "%[str(100%25%2C%29),url_dec]"),
        ("%[req.hdr(X-A)]", "%[req.hdr(X-A)]"),
        (
            "a %{+Q}[ssl_c_der,base64];",
            "%[str(a%20),url_dec]%{+Q}[ssl_c_der,base64]%[str(%3B),url_dec]",
        ),
        ("%%[src]", "%[str(%25%5Bsrc%5D),url_dec]"),
    ],
)
def test_text_and_expressions(text: str, made: str) -> None:
    assert log_format(text, "request") == made


@given(st.text(max_size=100), st.sampled_from(["request", "response"]))
def test_any_text_is_words_that_mean_themselves_or_refused(text: str, messages: str) -> None:
    try:
        made = log_format(text, messages)
    except ValueError:
        return
    part = r"%\[str\([-._~:/=@!*0-9A-Za-z%]+\),url_dec\]"
    expression = (
        r"%(\{[-+QXE,]+\})?\[((req|res)\.hdr\([A-Za-z0-9_-]+\)|ssl_c_der)(,(lower|base64))*\]"
    )
    assert re.fullmatch(f"({part}|{expression})+", made)
