"""What annotations of OpenShift's router mean here: their texts, and what HAProxy is told."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.policies.base import Way
from sidecar.policies.registry import POLICIES, read

LONGEST = str(2**31 - 1)
WHOLE_HSTS = "max-age=9;includeSubDomains;preload"

#: Name, text, and what HAProxy is told; None: it cannot be used.
CASES: list[tuple[str, str, dict[str, str] | None]] = [
    ("timeout", "10", {"timeouts": "10"}),
    ("timeout", "10s", {"timeouts": "10000"}),
    ("timeout", "24d", {"timeouts": "2073600000"}),
    ("timeout", "2147483647ms", {"timeouts": LONGEST}),
    ("timeout", "100d", {"timeouts": LONGEST}),
    ("timeout", "1000h", {"timeouts": LONGEST}),
    ("timeout", "2147483648", {"timeouts": LONGEST}),
    ("timeout", "10us", {"timeouts": "1"}),
    ("timeout", "0", None),
    ("timeout", "01s", None),
    ("timeout", "1.5s", None),
    ("timeout", "1d12h", None),
    ("timeout", "+1", None),
    ("timeout", " 1m", None),
    ("timeout", "1 m", None),
    ("timeout", "123ns", None),
    ("timeout", "", None),
    ("timeout", "9" * 5000, None),
    ("timeout-tunnel", "2m", {"tunnel_timeouts": "120000"}),
    ("hsts_header", WHOLE_HSTS, {"hsts": WHOLE_HSTS}),
    ("hsts_header", "max-age=9 ;  includesubdomains;  PREload", {"hsts": WHOLE_HSTS}),
    ("hsts_header", 'max-age="9"', {"hsts": "max-age=9"}),
    ("hsts_header", 'MAX-AGE  =  "9"', {"hsts": "max-age=9"}),
    ("hsts_header", "preload; max-age=0", {"hsts": "max-age=0;preload"}),
    ("hsts_header", "min-age=9", None),
    ("hsts_header", "max-age=9;wrongdirective", None),
    ("hsts_header", "max-age=9;includesubdomain", None),
    ("hsts_header", "includeSubDomains", None),
    ("hsts_header", "max-age=1;max-age=2", None),
    ("hsts_header", "max-age=9\nX: y", None),
    ("set-forwarded-headers", "append", {"policies": "a"}),
    ("set-forwarded-headers", "replace", {"policies": "p"}),
    ("set-forwarded-headers", "if-none", {"policies": "i"}),
    ("set-forwarded-headers", "never", {"policies": "n"}),
    ("set-forwarded-headers", "Never", None),
    ("cookie-same-site", "Lax", {"policies": "l"}),
    ("cookie-same-site", "Strict", {"policies": "t"}),
    ("cookie-same-site", "None", {}),
    ("cookie-same-site", "lax", None),
]


@pytest.mark.parametrize(("name", "text", "told"), CASES)
def test_what_a_text_means(name: str, text: str, told: dict[str, str] | None) -> None:
    found = read([(name, text)], "edge")
    assert found.told == (told or {})
    if told is None:
        (note,) = found.notes
        assert "until fixed" in note
        assert name not in found.values
    else:
        assert found.notes == ()


@pytest.mark.parametrize(
    ("name", "ways"),
    [
        ("drain-deadline", "port http edge reencrypt passthrough"),
        ("timeout", "http edge reencrypt"),
        ("timeout-tunnel", "http edge reencrypt"),
        ("hsts_header", "edge reencrypt"),
        ("set-forwarded-headers", "http edge reencrypt"),
        ("cookie-same-site", "edge reencrypt"),
    ],
)
def test_which_routes_have_it(name: str, ways: str) -> None:
    every: tuple[Way, ...] = ("port", "http", "edge", "reencrypt", "passthrough")
    key = next(policy.annotation for policy in POLICIES if policy.name == name)
    for way in every:
        notes = read([(name, "nonsense")], way, ["spec.httpHeaders"]).notes
        heeded = way in ways.split()
        assert (f"without effect here: spec.httpHeaders, {key}" in notes) is not heeded
        assert any("until fixed" in note for note in notes) is heeded


def test_letters_come_together() -> None:
    found = read([("set-forwarded-headers", "never"), ("cookie-same-site", "Lax")], "edge")
    assert found.told == {"policies": "ln"}


@given(st.dictionaries(st.sampled_from([item.name for item in POLICIES]), st.text()))
def test_any_text_is_told_in_one_word_or_not_at_all(wishes: dict[str, str]) -> None:
    for value in read(wishes.items(), "edge").told.values():
        assert value.isascii()
        assert value.isprintable()
        assert value.split() == [value]
