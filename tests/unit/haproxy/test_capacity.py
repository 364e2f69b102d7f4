"""`sidecar.haproxy.capacity`: who may have how many connections. That HAProxy keeps to it, and
starts with the files that it then has, is test_limits'.
"""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from stand import pool_of

from sidecar.common.errors import SettingsError
from sidecar.haproxy.capacity import Capacity, files_for, share_out
from sidecar.settings.schema import Settings


def ports(count: int, **more: Any) -> dict[str, Any]:
    return {"ports": [f"30000-{30000 + count - 1}"], **more}


@pytest.mark.parametrize(
    ("maxconn", "count", "each"),
    [
        # As many as there are, with an even share, up to ten.
        (None, 1, 19968),
        (None, 2, 10000),
        (None, 10, 2000),
        (None, 1000, 2000),
        (1000, 3, 333),
        # A tenth is few; a hundred, or half of all.
        (900, 1000, 100),
        (100, 1000, 38),
        (2, 1000, 1),
        (1, 1, 1),
    ],
)
def test_what_a_port_has_unless_told_otherwise(maxconn: int | None, count: int, each: int) -> None:
    (only,) = share_out(pool_of(ports(count)), maxconn, None).pools
    assert only.maxconn == each


def test_each_pool_has_its_own() -> None:
    pool = pool_of({"ports": ["1"], "maxconn": 5}, {"ports": ["2"]}, {"ports": ["3"]})
    found = share_out(pool, 3000, None)
    assert [item.maxconn for item in found.pools] == [5, 1000, 1000]
    assert found.lowered == ()
    assert [item.ports for item in found.pools] == [(1,), (2,), (3,)]


def test_more_than_there_is_for_all_ports_is_lowered_and_said() -> None:
    found = share_out(pool_of({"name": "db", "ports": ["1"], "maxconn": 5000}), 1000, None)
    assert [item.maxconn for item in found.pools] == [968]
    (said,) = found.lowered
    assert said.startswith("pools: maxconn of 'db': lowered from 5000 to 968, ")
    assert "raise haproxy.maxconn" in said


@pytest.mark.parametrize("open_files_max", [None, 40_400, 2**30])
def test_no_more_than_the_memory_of_a_pod_is_for_however_many_files(
    open_files_max: int | None,
) -> None:
    found = share_out(pool_of(ports(100)), None, open_files_max)
    assert (found.maxconn, found.reason) == (20_000, "the default")


def test_few_files_are_fewer_connections() -> None:
    pool = pool_of(ports(100))
    found = share_out(pool, None, 1024)
    assert (found.maxconn, found.lowered) == (334, ()), "nobody asked for more"
    assert "a limit of 1024 open files" in found.reason
    found = share_out(pool, 20_000, 1024)
    assert found.maxconn == 334
    (said,) = found.lowered
    assert said.startswith("haproxy.maxconn: lowered from 20000 to 334, ")
    assert "raise the limit to 40356" in said
    assert share_out(pool, 300, 1024).maxconn == 300
    # What was asked for is not more just because the pool's limit is.
    assert share_out(pool_of(ports(100, maxconn=250)), 20_000, 1024).pools[0].maxconn == 250


def test_too_few_files_are_an_error_with_what_would_do() -> None:
    pool = pool_of(ports(1000))
    with pytest.raises(SettingsError, match="a limit of 1024 open files") as caught:
        share_out(pool, None, 1024)
    assert "raise it to 41256 (at least 1384)" in str(caught.value)
    assert share_out(pool, None, 1384).maxconn == 64
    # Who wants fewer gets fewer.
    assert share_out(pool, 5, 1266).maxconn == 5
    with pytest.raises(SettingsError, match="at least 1266"):
        share_out(pool, 5, 1265)


def test_addresses_and_checks_take_files() -> None:
    base = files_for(pool_of(ports(10)), 100)
    assert files_for(pool_of(ports(10, bind=["0.0.0.0", "::"])), 100) == base + 10
    assert files_for(pool_of(ports(10, slots=4, check={"enabled": True})), 100) == base + 40
    listeners = [{"name": "http", "kind": "http", "bind": ["0.0.0.0:80", "[::]:80"]}]
    web = Settings.model_validate({"pools": [ports(10)], "listeners": listeners})
    assert files_for(web.pool(), 100) == base + 2


POOLS = st.lists(
    st.tuples(st.integers(1, 300), st.none() | st.integers(1, 100_000)), min_size=1, max_size=4
)


@given(POOLS, st.none() | st.integers(1, 10**6), st.none() | st.integers(1, 2**31))
def test_what_is_shared_out_is_there(
    classes: list[tuple[int, int | None]], maxconn: int | None, open_files_max: int | None
) -> None:
    pool = pool_of(
        *(
            {"ports": [f"{1 + 300 * n}-{300 * n + count}"], "maxconn": each}
            for n, (count, each) in enumerate(classes)
        )
    )
    try:
        found: Capacity = share_out(pool, maxconn, open_files_max)
    except SettingsError:
        assert open_files_max is not None
        assert open_files_max < files_for(pool, min(maxconn or 20_000, 64))
        return
    assert 1 <= found.maxconn <= (maxconn or 20_000)
    assert open_files_max is None or files_for(pool, found.maxconn) <= open_files_max
    if found.maxconn >= 8:
        assert found.ports_maxconn + found.metrics_maxconn < found.maxconn
    assert found.metrics_maxconn >= 1
    for item, (_, each) in zip(found.pools, classes, strict=True):
        assert item.maxconn
        assert 1 <= item.maxconn <= min(each or found.maxconn, found.ports_maxconn)
    assert len(found.lowered) == (maxconn is not None and found.maxconn < maxconn) + sum(
        (each or 0) > found.ports_maxconn for _, each in classes
    )
