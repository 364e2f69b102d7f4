"""Which port leads where, in the words of egress routers; and what is said of other lines."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar.importers.egress_values import (
    Destination,
    Item,
    Leads,
    Skipped,
    dns_proxy,
    fallback,
    generic,
    guess,
    http_proxy,
    redirect,
    redirect_rule,
)
from sidecar.model.fields import Field

PARSERS = {"redirect": redirect, "dns_proxy": dns_proxy, "http_proxy": http_proxy}

#: A line of each -> the port, where it leads, and to which port.
GOOD = [
    ("redirect", "80 tcp 203.0.113.25", 80, "203.0.113.25", 80),
    ("redirect", "8080 tcp 203.0.113.26 80", 8080, "203.0.113.26", 80),
    ("redirect", "  8443   tcp  203.0.113.26   443 \r", 8443, "203.0.113.26", 443),
    ("redirect", "80 tcp 2001:DB8::0:25", 80, "2001:db8::25", 80),
    ("redirect", "65535 tcp [::25] 1", 65535, "::25", 1),
    ("dns_proxy", "80 172.16.12.11", 80, "172.16.12.11", 80),
    ("dns_proxy", "8080 www.example.com", 8080, "www.example.com", 8080),
    ("dns_proxy", "8443 WWW.example.com. 443", 8443, "www.example.com", 443),
    ("dns_proxy", "100 fd00::1 1000", 100, "fd00::1", 1000),
]

UDP = "stock HAProxy balances TCP only"
HOW = "write PORT tcp IP, or PORT tcp IP PORT"
ALL = "all other ports lead there: a port of this router has to be known"
PROXY = "an HTTP proxy, which this router is not: "

#: What is said of others.
OTHERS = [
    ("redirect", "80 udp 203.0.113.25", UDP),
    ("redirect", "80 udp 203.0.113.25 81", UDP),
    ("redirect", "203.0.113.27", ALL),
    ("redirect", "0 tcp 203.0.113.25", "'0' is not a valid port from 1 to 65535"),
    ("redirect", "80 tcp 203.0.113.25 65536", "'65536' is not a valid port from 1 to 65535"),
    ("redirect", "80 tcp 203.0.113.256", "'203.0.113.256' is not a valid IP address"),
    ("redirect", "80 tcp www.example.com", "'www.example.com' is not a valid IP address"),
    ("redirect", "80 sctp 203.0.113.25", HOW),
    ("redirect", "80 TCP 203.0.113.25", HOW),
    ("redirect", "80 tcp 203.0.113.25 80 # web", HOW),
    ("redirect", "80 203.0.113.25", HOW),
    ("redirect", "http tcp 203.0.113.25", "'http' is not a valid port from 1 to 65535"),
    ("redirect", "\u0661 tcp 203.0.113.25", "is not a valid port from 1 to 65535"),
    ("dns_proxy", "80", "write PORT IP, PORT NAME, or either with another PORT behind it"),
    ("dns_proxy", "80 tcp 203.0.113.25", "'tcp' has no domain: write the whole name"),
    ("dns_proxy", "80 db", "'db' has no domain: write the whole name, like db.example.com"),
    ("dns_proxy", "80 a_b.example.com", "'a_b.example.com' is neither an IP address nor a valid"),
    ("dns_proxy", "80 1.2.3", "'1.2.3' is not a valid IP address"),
    ("dns_proxy", "99999 www.example.com", "'99999' is not a valid port from 1 to 65535"),
    ("http_proxy", "*", PROXY + "all that is left was allowed"),
    ("http_proxy", "!*.example.com", PROXY + "this was denied"),
    ("http_proxy", "192.168.1.0/24", PROXY + "for each address, and port"),
    ("http_proxy", "*.example.com", PROXY + "for TLS write a Route for each name below it"),
    ("http_proxy", "WWW.example.org", PROXY + "for TLS write a passthrough Route with spec.host: "),
    ("http_proxy", "http://www.example.org/", "write an IP, a network, a name or *.domain"),
]


@pytest.mark.parametrize(("parser", "line", "port", "host", "there"), GOOD)
def test_where_a_line_leads(parser: str, line: str, port: int, host: str, there: int) -> None:
    (found,) = PARSERS[parser](f"# comment\n\n{line}\n", "V")
    assert found == Leads("V, line 3", line.strip(), port, (Destination(host, there),))


@pytest.mark.parametrize(("parser", "line", "problem"), OTHERS)
def test_what_leads_nowhere_stops_no_other_line(parser: str, line: str, problem: str) -> None:
    good = {"redirect": "7 tcp 1.2.3.4", "dns_proxy": "7 1.2.3.4", "http_proxy": "*"}[parser]
    found, other = PARSERS[parser](f"{line}\n{good}", "V")
    assert isinstance(found, Skipped)
    assert problem in found.problem
    assert (found.place, found.text) == ("V, line 1", line)
    assert str(found).startswith("V, line 1: ")
    assert isinstance(other, Leads) == (parser != "http_proxy")


@pytest.mark.parametrize("parser", [redirect, dns_proxy])
def test_a_port_leads_to_one_place(parser: object) -> None:
    tcp = "tcp " if parser is redirect else ""
    value = f"80 {tcp}1.2.3.4\n80 {tcp}1.2.3.5\n81 {tcp}1.2.3.4"
    one, again, two = (redirect if parser is redirect else dns_proxy)(value, "V")
    assert (_port(one), _port(two)) == (80, 81)
    assert (
        str(again)
        == f"V, line 2: '80 {tcp}1.2.3.5': port 80 is that of line 1; a port leads to one place"
    )


def _port(item: Item) -> int:
    return item.port if isinstance(item, Leads) else 0


@pytest.mark.parametrize(
    ("rule", "found"),
    [
        ({"destinationIP": "10.0.0.9", "port": 80, "protocol": "TCP"}, (80, "10.0.0.9", 80)),
        ({"destinationIP": "10.0.0.9", "port": 80, "targetPort": 8080}, (80, "10.0.0.9", 8080)),
        ({"destinationIP": "fd00::9", "port": 80, "targetPort": None}, (80, "fd00::9", 80)),
        ({"destinationIP": "10.0.0.9", "port": 80, "targetPort": 0}, (80, "10.0.0.9", 80)),
        ({"destinationIP": "10.0.0.9", "port": 80, "protocol": "UDP"}, UDP),
        ({"destinationIP": "10.0.0.9", "port": 80, "protocol": "SCTP"}, "for SCTP keep the egress"),
        ({"destinationIP": "10.0.0.9", "port": 80, "protocol": "tcp"}, "protocol: write TCP"),
        ({"destinationIP": "x", "port": 80}, "destinationIP: 'x' is not a valid IP address; write"),
        ({"destinationIP": "10.0.0.9", "port": "80"}, "port: '80' is text; write a whole number"),
        ({"destinationIP": "10.0.0.9"}, "port: missing"),
    ],
)
def test_a_rule_of_an_egress_router(rule: object, found: object) -> None:
    item = redirect_rule(Field("spec", rule))
    if isinstance(item, Leads):
        ((host, there),) = item.destinations
        assert (item.port, host, there) == found
    else:
        assert str(found) in item.problem


def test_the_fallback_of_an_egress_router() -> None:
    assert "a port of this router has to be known" in str(fallback("10.0.0.9", "spec"))


@pytest.mark.parametrize(
    ("dest", "port", "found"),
    [
        ("1.2.3.4", "3306", "1.2.3.4:3306"),
        ("1.2.3.4;db.example.com;1.2.3.4", "3306", "1.2.3.4:3306 db.example.com:3306"),
        ("1.2.3.4:1;[fd00::1]:2", "3306", "1.2.3.4:1 [fd00::1]:2"),
        ("fd00::1; fd00::2 ;", "3306", "[fd00::1]:3306 [fd00::2]:3306"),
        ("1.2.3.4:1;1.2.3.5", "3306", "'1.2.3.5' has no port: write it behind"),
        ("1.2.3.4", "", "'1.2.3.4' has no port: write it behind"),
        ("1.2.3.4", "mysql", "'mysql' is not a valid port"),
        ("1.2.3.4:x", "1", "'x' is not a valid port"),
        (" ; ", "1", "no destination; write addresses or names with ';' between them"),
    ],
)
def test_the_generic_image(dest: str, port: str, found: str) -> None:
    env = {"SERVICE_TCP_PORT": "13306", "SERVICE_DEST": dest, "SERVICE_DEST_PORT": port}
    item = generic(env)
    if isinstance(item, Leads):
        assert (item.port, " ".join(map(str, item.destinations))) == (13306, found)
    else:
        assert found in item.problem


@pytest.mark.parametrize(
    ("port", "problem"),
    [(None, "SERVICE_TCP_PORT is missing"), ("x", "SERVICE_TCP_PORT: 'x' is not a valid port")],
)
def test_the_port_of_the_generic_image(port: str | None, problem: str) -> None:
    env = {"SERVICE_DEST": "1.2.3.4:1"} | ({} if port is None else {"SERVICE_TCP_PORT": port})
    assert problem in str(generic(env))


@pytest.mark.parametrize(
    ("value", "variable"),
    [
        ("# x\n80 tcp 1.2.3.4", "EGRESS_DESTINATION"),
        ("80 1.2.3.4\n81 www.example.com", "EGRESS_DNS_PROXY_DESTINATION"),
        ("!*.example.com\n*", "EGRESS_HTTP_PROXY_DESTINATION"),
    ],
)
def test_what_a_value_looks_like(value: str, variable: str) -> None:
    assert guess(value) == variable


_WORDS = st.lists(
    st.sampled_from(
        ["80", "tcp", "udp", "1.2.3.4", "fd00::1", "a.example", "*", "!", ";", ":", "/"]
    )
    | st.text(max_size=8)
)


@given(st.lists(_WORDS.map(" ".join)).map("\n".join) | st.text())
def test_any_text_is_understood_or_refused_in_a_line(value: str) -> None:
    found = [item for parse in PARSERS.values() for item in parse(value, "V")]
    found.append(generic({"SERVICE_TCP_PORT": "1", "SERVICE_DEST": value}))
    for item in found:
        if isinstance(item, Skipped):
            assert len(str(item)) < 500
            assert str(item).isprintable()
        else:
            assert 1 <= item.port <= 65535
            assert all(1 <= it.port <= 65535 for it in item.destinations)
    assert guess(value).startswith("EGRESS_")
