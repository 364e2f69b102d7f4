"""`sidecar.sources.dns.answers`: which addresses a name keeps, for how long, and when it is looked
at again."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.sources.dns.answers import LOOK_MAX_SECONDS, LOOK_MIN_SECONDS, Followed, Look, follow

NOTHING = Followed(((), ()))
FAILED = Look((), 0.0, "DNS failed (SERVFAIL)", failed=True)
ABSENT = Look((), 0.0, "the name does not exist in DNS (NXDOMAIN)", failed=False)
KEEP = 60.0


def found(*addresses: str, ttl: float = 30) -> Look:
    return Look(addresses, ttl, "", failed=False)


def after(*looks: tuple[Look, Look], every_seconds: float = 10.0) -> Followed:
    followed = NOTHING
    for number, pair in enumerate(looks):
        followed = follow(followed, pair, number * every_seconds, KEEP)
    return followed


def test_both_families_are_followed() -> None:
    followed = after((found("10.0.0.2", "10.0.0.1"), found("fd00::1")))
    assert followed.addresses == ("10.0.0.1", "10.0.0.2", "fd00::1")
    assert followed.problem == ""
    assert after((found("10.0.0.1"), ABSENT)).addresses == ("10.0.0.1",)


@pytest.mark.parametrize(
    ("ttl", "wait"), [(0, LOOK_MIN_SECONDS), (30, 30.0), (86400, LOOK_MAX_SECONDS)]
)
def test_the_ttl_says_when_to_look_again(ttl: float, wait: float) -> None:
    assert after((found("10.0.0.1", ttl=ttl), ABSENT)).wait_seconds == wait
    assert after((found("10.0.0.1", ttl=ttl), found("fd00::1", ttl=999))).wait_seconds == wait


def test_while_dns_fails_the_last_addresses_stay() -> None:
    good = (found("10.0.0.1"), found("fd00::1"))
    followed = after(good, *[(FAILED, FAILED)] * 1000)
    assert followed.addresses == ("10.0.0.1", "fd00::1")
    assert followed.problem == FAILED.problem
    assert after(good, (FAILED, FAILED), (found("10.0.0.9"), ABSENT)).addresses == ("10.0.0.9",)


def test_a_family_that_fails_keeps_its_own() -> None:
    followed = after((found("10.0.0.1"), found("fd00::1")), (found("10.0.0.2"), FAILED))
    assert followed.addresses == ("10.0.0.2", "fd00::1")
    assert followed.problem == FAILED.problem


def test_an_absence_is_believed_when_it_was_said_for_a_while() -> None:
    good, absent = (found("10.0.0.1"), ABSENT), (ABSENT, ABSENT)
    kept = after(good, *[absent] * 6)
    assert kept.addresses == ("10.0.0.1",)
    assert kept.problem == ABSENT.problem
    assert after(good, *[absent] * 7).addresses == ()
    # Half of an answer says nothing, and begins the while anew.
    assert after(good, *[absent] * 6, (ABSENT, FAILED), *[absent] * 6).addresses == ("10.0.0.1",)


LOOKS = st.one_of(
    st.just(FAILED),
    st.just(ABSENT),
    st.builds(found, st.sampled_from(["10.0.0.1", "10.0.0.2"]), ttl=st.floats(0, 1e6)),
)


@given(st.lists(st.tuples(st.tuples(LOOKS, LOOKS), st.floats(0, 1000)), min_size=1))
def test_whatever_dns_says(history: list[tuple[tuple[Look, Look], float]]) -> None:
    followed, now, absent_seconds = NOTHING, 0.0, 0.0
    for looks, passed in history:
        now += passed
        before, followed = followed, follow(followed, looks, now, KEEP)
        assert LOOK_MIN_SECONDS <= followed.wait_seconds <= LOOK_MAX_SECONDS
        new = {address for look in looks for address in look.addresses}
        assert new <= set(followed.addresses)
        if looks == (ABSENT, ABSENT):
            absent_seconds += passed if before.absent_since is not None else 0
            assert (followed.addresses == ()) or absent_seconds < KEEP
        else:
            absent_seconds = 0
        if before.addresses and not followed.addresses:
            assert looks == (ABSENT, ABSENT)
        assert bool(followed.problem) == (not new or FAILED in looks)
