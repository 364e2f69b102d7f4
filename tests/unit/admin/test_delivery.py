"""How a body travels: what a client has is not sent again, and what it has not is sent as it takes
it."""

import gzip

import pytest

from sidecar.admin.delivery import compressed, is_known, tag_of, takes_gzip


@pytest.mark.parametrize(
    ("header", "taken"),
    [
        (None, False),
        ("", False),
        ("identity", False),
        ("gzip", True),
        ("GZIP", True),
        ("x-gzip", True),
        ("gzip, deflate, br", True),
        ("br;q=1.0, gzip;q=0.8, *;q=0.1", True),
        ("gzip;q=0", False),
        ("gzip; q=0.000", False),
        ("gzip;q=0.001", True),
        ("gzipped", False),
    ],
)
def test_who_takes_gzip(header: str | None, taken: bool) -> None:
    assert takes_gzip(header) is taken


def test_what_a_client_has() -> None:
    tag = tag_of(b"a")
    assert tag != tag_of(b"b")
    assert is_known(tag, tag)
    assert is_known(tag, f'"other", {tag}')
    assert is_known(tag, tag.removeprefix("W/")), "compared weakly"
    assert is_known(tag, "*")
    assert not is_known(tag, tag_of(b"b"))
    assert not is_known(tag, "")
    assert not is_known(tag, None)


def test_what_is_worth_it() -> None:
    body = b"x" * 5000
    packed = compressed(body)
    assert packed is not None
    assert gzip.decompress(packed) == body
    assert len(packed) < 100
    assert packed == compressed(body)
    assert compressed(b"x" * 1000) is None
