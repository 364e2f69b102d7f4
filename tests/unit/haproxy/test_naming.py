"""`sidecar.haproxy.naming`: names lead back to what they are of, and nobody else's are ours."""

from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.haproxy import naming
from sidecar.model.pool import WebBalance, WebClassName
from sidecar.settings.parsing import parse_settings

CLASSES: st.SearchStrategy[WebClassName] = st.sampled_from(get_args(WebClassName))
BALANCES: st.SearchStrategy[WebBalance | None] = st.sampled_from([None, *get_args(WebBalance)])


@given(st.integers(1, 65535), CLASSES, BALANCES)
def test_both_ways(number: int, of: WebClassName, balance: WebBalance | None) -> None:
    port, web = naming.backend_name(number), naming.web_backend_name(of, number, balance)
    assert naming.port_of_backend(port) == number
    assert naming.web_backend(web) == (of, number, balance)
    assert web.startswith(naming.web_prefix(of))
    assert naming.own_backend(port) == port
    assert naming.own_backend(web) == web
    assert naming.port_of_backend(web) is None
    assert naming.web_backend(port) is None


@given(st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]*", fullmatch=True))
def test_a_listener_is_never_taken_for_a_port(name: str) -> None:
    frontend = naming.listener_name(name)
    assert naming.port_of_frontend(frontend) is None
    assert naming.own_backend(frontend) is None


@pytest.mark.parametrize(
    "name",
    [
        *("", "be_http", "be_http_", "be_http_0", "be_http_01", "be_http_1x", "xbe_http_1"),
        *(
            "be_http_1\n",
            "be_pass_-1",
            "be_edge_1",
            "be_http_first_1",
            "be_http_random_",
            "tcp-connections",
            "haproxy-metrics",
        ),
    ],
)
def test_what_is_not_ours(name: str) -> None:
    assert naming.own_backend(name) is None
    assert naming.web_backend(name) is None


def test_how_servers_are_chosen() -> None:
    web = parse_settings('listeners: [{name: w, kind: tls, bind: ["127.0.0.1:1"]}]', {}, "test")
    pool = web.pool().web
    assert naming.balance_of("be_http_1", pool) == "roundrobin"
    assert naming.balance_of("be_pass_7", pool) == "source"
    assert naming.balance_of("be_pass_leastconn_7", pool) == "leastconn"
    assert naming.balance_of("be_tcp-7", pool) is None
    assert naming.balance_of("be_http_1", None) is None
