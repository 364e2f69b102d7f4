"""`sidecar.haproxy.lease_counts`: nothing that HAProxy counted of one Route is told of another."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.common.errors import RemoteProtocolError
from sidecar.haproxy.lease_counts import (
    AVERAGED,
    BackendCounts,
    Counters,
    LeaseBase,
    LeaseCounts,
    Times,
)
from sidecar.haproxy.stats import parse_web_backends
from sidecar.model.objects import Key

SHOP = Key("Route", "demo", "shop")
NOTHING = Counters(*[0] * 14)
NO_TIMES, SOME_TIMES = Times(0, 0, 0, 0), Times(1, 2, 3, 4)
UNKNOWN = Times(None, None, None, None)

counters = st.builds(Counters, *[st.integers(0, 10**6)] * 14)
times = st.builds(Times, *[st.integers(0, 1000)] * 4)


def base(before: Counters = NOTHING, most: Times = NO_TIMES) -> LeaseBase:
    return LeaseBase(SHOP, 100.0, before, most)


def after(
    before: LeaseBase, sessions: int, *, most: Times = SOME_TIMES, now: float = 160.0
) -> LeaseCounts:
    sums = before.counters._replace(sessions=before.counters.sessions + sessions)
    row = BackendCounts(True, 2, 5, sums, Times(0, 1, 2, 3), most)
    found = LeaseCounts.since(before, row, now)
    assert found
    return found


@given(counters, counters)
def test_sums_are_those_since_the_lease_began(before: Counters, more: Counters) -> None:
    now = Counters(*map(sum, zip(before, more, strict=True)))
    row = BackendCounts(True, 0, 0, now, UNKNOWN, UNKNOWN)
    found = LeaseCounts.since(base(before), row, 160.0)
    assert found
    assert (found.counters, found.seconds, found.route) == (more, 60.0, SHOP)


@given(counters, st.integers(0, 13))
def test_what_was_read_before_it_began_is_not_told(before: Counters, place: int) -> None:
    began = Counters(*(n + (index == place) for index, n in enumerate(before)))
    row = BackendCounts(True, 3, 0, before, UNKNOWN, UNKNOWN)
    assert LeaseCounts.since(base(began), row, 160.0) is None


@pytest.mark.parametrize(
    ("former", "sessions", "known"),
    [(0, 0, False), (0, 1, True), (1, AVERAGED - 1, False), (1, AVERAGED, True)],
)
def test_an_average_is_told_when_no_former_route_has_a_share(
    *, former: int, sessions: int, known: bool
) -> None:
    found = after(base(NOTHING._replace(sessions=former)), sessions)
    assert found.average == (Times(0, 1, 2, 3) if known else UNKNOWN)


def test_less_than_a_thousandth_of_the_former_average_is_left() -> None:
    assert (1 - 1 / 512) ** AVERAGED < 0.001


@given(times, times)
def test_a_maximum_is_told_if_it_is_higher_than_the_former_one(before: Times, most: Times) -> None:
    found = after(base(NOTHING._replace(sessions=9), before), 1, most=most)
    for told, then, now in zip(found.most, before, most, strict=True):
        assert now is not None
        assert told == (now if now > (then or -1) else None)


def test_without_a_session_there_is_neither() -> None:
    found = after(base(), 0)
    assert (found.average, found.most) == (UNKNOWN, UNKNOWN)


def test_a_rate_may_have_a_former_routes_last_second_in_it() -> None:
    former = base(NOTHING._replace(sessions=9))
    assert after(former, 1, now=101.0).sessions_per_second is None
    assert after(former, 1, now=102.0).sessions_per_second == 5
    assert after(base(), 1, now=100.0).sessions_per_second == 5


HEADER = (
    "# pxname,svname,mode,rate,scur,stot,req_tot,hrsp_1xx,hrsp_2xx,hrsp_3xx,hrsp_4xx,hrsp_5xx,"
    "hrsp_other,bin,bout,econ,eresp,wretr,wredis,qtime,ctime,rtime,ttime,qtime_max,ctime_max,"
    "rtime_max,ttime_max,"
)
HTTP = "http,1,2,30,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,"


def test_a_backend_is_read_by_column_name() -> None:
    text = "\n".join(
        [
            HEADER,
            f"be_http_1,BACKEND,{HTTP}",
            f"be_http_1,s1,{HTTP}",
            f"other,BACKEND,{HTTP}",
            f"be_tcp-30000,BACKEND,{HTTP}",
            "be_pass_2,BACKEND,tcp,1,2,30,,,,,,,,11,12,13,14,15,16,17,18,0,20,21,22,0,24,",
        ]
    )
    found = parse_web_backends(text)
    assert list(found) == ["be_http_1", "be_pass_2"]
    one, two = found.values()
    sums = Counters(30, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16)
    assert one == (True, 2, 1, sums, (17, 18, 19, 20), (21, 22, 23, 24))
    assert (two.http, two.counters.requests, two.average) == (False, 0, (17, 18, None, 20))
    with pytest.raises(RemoteProtocolError, match="lacks a column"):
        parse_web_backends("# pxname,svname,req_tot,\n")
