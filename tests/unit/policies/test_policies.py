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
    ("disable_cookies", "true", {"policies": "c"}),
    ("disable_cookies", "1", {"policies": "c"}),
    ("disable_cookies", "F", {}),
    ("disable_cookies", "yes", None),
    ("disable_cookies", "", None),
    ("cookie_name", "shop_A-1", {"cookies": "shop_A-1", "policies": "k"}),
    ("cookie_name", "x" * 128, {"cookies": "x" * 128, "policies": "k"}),
    ("cookie_name", "x" * 129, None),
    ("cookie_name", "", None),
    ("cookie_name", "a b", None),
    ("cookie_name", "a=b", None),
    ("cookie_name", "ä", None),
    ("cookie_name", "a\n", None),
    ("pod-concurrent-connections", "10", {"pod_connections": "10"}),
    ("pod-concurrent-connections", "+010", {"pod_connections": "10"}),
    ("pod-concurrent-connections", LONGEST, {"pod_connections": LONGEST}),
    ("pod-concurrent-connections", "2147483648", None),
    ("pod-concurrent-connections", "9" * 5000, None),
    ("pod-concurrent-connections", "0", None),
    ("pod-concurrent-connections", "-1", None),
    ("pod-concurrent-connections", "1.5", None),
    ("pod-concurrent-connections", "\u0661", None),
    ("pod-concurrent-connections", "", None),
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
        ("disable_cookies", "http edge reencrypt"),
        ("cookie_name", "http edge reencrypt"),
        ("pod-concurrent-connections", "http edge reencrypt passthrough"),
        ("rewrite-target", "http edge reencrypt"),
    ],
)
def test_which_routes_have_it(name: str, ways: str) -> None:
    every: tuple[Way, ...] = ("port", "http", "edge", "reencrypt", "passthrough")
    key = next(policy.annotation for policy in POLICIES if policy.name == name)
    for way in every:
        notes = read([(name, "no sense")], way, ["spec.httpHeaders"]).notes
        heeded = way in ways.split()
        told = any(
            item.startswith(f"without effect here: spec.httpHeaders, {key}") for item in notes
        )
        assert told is not heeded
        assert any("until fixed" in note for note in notes) is heeded


@pytest.mark.parametrize(
    ("name", "setting"),
    [("timeout", "pools[].timeouts.server"), ("timeout-tunnel", "pools[].timeouts")],
)
def test_what_a_port_has_of_its_pool_is_said(name: str, setting: str) -> None:
    key = f"haproxy.router.openshift.io/{name}"
    (note,) = read([(name, "5s")], "port").notes
    assert note == f"without effect here: {key} (the router's setting {setting} says it)"


def test_balance_of_a_port_is_its_pools() -> None:
    key = "haproxy.router.openshift.io/balance"
    (note,) = read([], "port", [key]).notes
    assert note == f"without effect here: {key} (the router's setting pools[].balance says it)"


def test_letters_come_together() -> None:
    found = read([("set-forwarded-headers", "never"), ("cookie-same-site", "Lax")], "edge")
    assert found.told == {"policies": "ln"}


@given(st.dictionaries(st.sampled_from([item.name for item in POLICIES]), st.text()))
def test_any_text_is_told_in_one_word_or_not_at_all(wishes: dict[str, str]) -> None:
    for value in read(wishes.items(), "edge").told.values():
        assert value.isascii()
        assert value.isprintable()
        assert value.split() == [value]
