"""The page as a cockpit: what is wrong comes first and leads on, and what there is can be sorted,
filtered, paged, linked to and used without a mouse. On reports that were made up."""

import contextlib
import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from browser import Browser, browser_in
from cli import ROOT
from core import opening
from reported import Told, calm, certificate, crowded, host, page_of, port, report, server, troubled
from stand import await_

MakePage = Callable[..., str]


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browser_in(tmp_path_factory.mktemp("profile")) as found:
        yield found


@pytest.fixture
def opened(browser: Browser, files: contextlib.ExitStack) -> Callable[..., None]:
    def make(told: Told, query: str = "", *, width: int = 1400, dark: bool = False) -> None:
        url = files.enter_context(page_of(told))
        browser.open("about:blank")
        await_(lambda: browser.run("location.href") == "about:blank", "it has left")
        browser.complaints.clear()
        browser.look(width=width, dark=dark)
        browser.open(url + query)
        browser.await_text("converged")
        await_(lambda: browser.run("document.querySelector('#changes-chart svg') !== null"), "all")

    return make


def names(browser: Browser) -> list[str]:
    """The rows that are shown, by their names."""
    shown = "[...document.querySelectorAll('#table:not([hidden]) button.name')]"
    return list(browser.run(f"{shown}.map((item) => item.textContent)"))


def row(browser: Browser, key: str) -> str:
    found = browser.run(f"document.querySelector('[data-key={json.dumps(key)}]')?.innerText")
    return str(found or "")


def query(browser: Browser) -> str:
    return str(browser.run("decodeURIComponent(location.search)"))


def click(browser: Browser, selector: str, text: str = "") -> None:
    """The first of them with ``text`` in it."""
    found = browser.run(
        f"(() => {{ const found = [...document.querySelectorAll({json.dumps(selector)})]"
        f".find((item) => item.textContent.includes({json.dumps(text)}));"
        " found?.click(); return Boolean(found); })()"
    )
    assert found, f"there is no {selector} with {text!r}"


def search(browser: Browser, text: str) -> None:
    browser.run("document.getElementById('filter').focus()")
    browser.run("document.getElementById('filter').select()")
    browser.write(text)


def focused(browser: Browser) -> str:
    return str(browser.run("document.activeElement.id || document.activeElement.textContent"))


def test_what_is_wrong_comes_first_and_leads_on(
    browser: Browser, opened: Callable[..., None]
) -> None:
    told = Told(troubled())
    opened(told)
    shown = browser.text()
    first = shown.partition("Sessions")[0]
    for text in (
        "23 problems",
        "/etc/routes/torn.yaml, line 2: invalid YAML",
        "30015 team-c/stuck: cannot be reconciled: HAProxy says: no such server",
        "demo/bad: InvalidPort: '70000' is not a valid port",
        "30010 team-a/search: no endpoints",
        "30012 demo/web: 96 of 100 connections that it may have",
        "30013 team-b/flaky: 12 of 900 connections failed in the last 41 s",
        "30014 team-b/touched: changed by somebody else: s1 is drained",
        "old.example demo/web: certificate expired on 2027-01-31",
        "soon.example demo/web: certificate ends in 9 days",
        "30011 team-a/queue: 1 of 2 servers down",
        "30016 team-c/wide: 3 endpoints skipped",
        "30017 team-c/kept: held",
        "and 9 more",
    ):
        assert text in first, text
    # One leads to its row, which tells all of it, wherever that is and whatever was asked for.
    click(browser, "#problems button", "30010")
    await_(lambda: query(browser) == "?open=port:30010", query(browser))
    browser.await_text("1 of 2 endpoints is ready")
    assert told.asked == ["30010"]
    assert focused(browser) == "30010"
    # Its kind leads to all of that kind.
    click(browser, "#problems button.title", "12 refused")
    await_(lambda: len(names(browser)) == 12, "all of them")
    assert query(browser) == "?only=refused"
    click(browser, "#group")
    await_(lambda: len(names(browser)) == 22, "all with problems")
    click(browser, "#only")
    await_(lambda: len(names(browser)) == 30, "all")
    browser.run("history.back()")
    await_(lambda: len(names(browser)) == 22, "back to problems")
    assert browser.complaints == []


def test_a_certificate_is_told_once(browser: Browser, opened: Callable[..., None]) -> None:
    ending = certificate(2, "shop.example")
    paths = [host("shop.example", path=path, certificate=ending) for path in ("", "/a", "/b")]
    opened(Told(report(hosts=tuple(paths))))
    browser.await_text("1 with a certificate to renew")
    click(browser, "#problems button.title")
    await_(lambda: len(names(browser)) == 3, "all its paths")


def test_nothing_is_wrong(browser: Browser, opened: Callable[..., None]) -> None:
    told = Told(calm())
    opened(told)
    browser.await_text("No problems")
    click(browser, "#only")
    browser.await_text("nothing is like that")
    # What goes wrong comes by itself, and what was is gone.
    broken = port(30003, state="closed", servers=(), message="no endpoints", route="team-a/redis")
    ports = [broken if item.port == 30003 else item for item in told.found.ports]
    told.found = replace(told.found, ports=tuple(ports))
    await_(lambda: names(browser) == ["30003"], "it is shown", 20)
    assert "1 problem" in browser.text()
    told.found = calm()
    await_(lambda: names(browser) == [], "it is well again", 20)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("kafka-1", ["30001"]),
        ("worker-4", ["30001", "30003"]),
        ("10.128.0.14:5432", ["30001"]),
        ("shop/api", ["api.example"]),
        ("www.example/cart", ["www.example/cart"]),
        ("TEAM-A ready", ["30000", "30003"]),
        ("CN=api.example", ["api.example"]),
        ("nothing", []),
    ],
)
def test_it_is_filtered_by_what_is_shown(
    browser: Browser, opened: Callable[..., None], text: str, found: list[str]
) -> None:
    told = Told(calm())
    opened(told)
    await_(lambda: len(names(browser)) == 8, "all")
    search(browser, text)
    await_(lambda: names(browser) == found, f"{names(browser)}")
    # The address says it, to this browser's history and to another person.
    address = browser.run("location.href")
    browser.run("history.back()")
    await_(lambda: len(names(browser)) == 8, "all again")
    assert browser.run("document.getElementById('filter').value") == ""
    browser.open(address)
    await_(lambda: browser.run("document.getElementById('filter')?.value") == text, "as linked")
    await_(lambda: names(browser) == found, "as linked")


def test_it_is_sorted_by_what_is_shown(browser: Browser, opened: Callable[..., None]) -> None:
    opened(Told(calm()))
    usual = [*(str(n) for n in range(30000, 30005)), "api.example", "shop.example"]
    await_(lambda: names(browser) == [*usual, "www.example/cart"], "ports, then hosts")
    click(browser, ".sort", "Sessions")
    await_(lambda: names(browser)[:3] == ["30004", "30002", "30003"], "most first")
    assert query(browser) == "?sort=-sessions"
    sort = "document.querySelector('[data-sort=sessions]').ariaSort"
    assert browser.run(sort) == "descending"
    click(browser, ".sort", "Sessions")
    await_(lambda: names(browser)[-1] == "30004", "most last")
    assert browser.run(sort) == "ascending"
    click(browser, ".sort", "Certificate")
    hosts = ["shop.example", "api.example", "www.example/cart"]
    await_(lambda: names(browser)[:3] == hosts, "ending first; those without one last")
    click(browser, ".sort", "Certificate")
    await_(lambda: names(browser)[:3] == hosts[::-1], "ending last; those without one still last")
    for title, first in {"Route": "api.example", "Servers": "30000", "Changed": "30000"}.items():
        click(browser, ".sort", title)
        await_(lambda first=first: first in names(browser)[:4], title)
    browser.run("history.go(-3)")
    await_(lambda: query(browser) == "?sort=-certificate", query(browser))
    click(browser, "#kinds label", "Hosts")
    await_(lambda: names(browser) == hosts[::-1], "only hosts")


@pytest.mark.parametrize("width", [390, 1400])
def test_five_thousand_rows(browser: Browser, opened: Callable[..., None], width: int) -> None:
    told = Told(crowded(5000, troubled()))
    opened(told, width=width)
    await_(lambda: len(names(browser)) == 50, "a page of them")
    height = "document.documentElement.scrollHeight"
    assert browser.run(height) < 6000
    browser.await_text("1 to 50 of 5,000")
    click(browser, "#pages button", "next")
    browser.await_text("51 to 100 of 5,000")
    assert query(browser) == "?page=2"
    click(browser, "#pages button", "last")
    browser.await_text("4,951 to 5,000 of 5,000")
    search(browser, "service-4321-0")
    await_(lambda: names(browser) == ["35321"], "one of them")
    assert browser.run("document.getElementById('pages').hidden") is True
    # What is linked to is found, on whichever page it is.
    browser.open(str(browser.run("location.origin")) + "/?open=port:34000")
    await_(lambda: "34000" in names(browser), "the page that it is on")
    browser.await_text("see why web-2 is not ready")
    top = "document.querySelector('[aria-expanded=true]').getBoundingClientRect().top"
    await_(lambda: 0 <= float(str(browser.run(top))) < 900, "it is in sight")


def test_only_what_changed_is_fetched(browser: Browser, opened: Callable[..., None]) -> None:
    told = Told(crowded())
    opened(told)
    sizes = (
        "performance.getEntriesByType('resource').filter((it) => it.name.includes('api/updates'))"
        ".map((it) => [it.encodedBodySize, it.decodedBodySize])"
    )
    await_(lambda: len(browser.run(sizes)) > 2, "asked again", 20)
    changed = port(31000, route="team-0/service-0", sessions=77)
    told.found = replace(
        told.found,
        ports=tuple(changed if item.port == 31000 else item for item in told.found.ports[:-1]),
    )
    await_(lambda: "77" in row(browser, "port:31000"), "it comes", 20)
    await_(lambda: "4,999" in browser.text(), "one is gone")
    (first, whole), *others = browser.run(sizes)
    assert first * 5 < whole, "compressed"
    assert max(plain for _, plain in others) * 200 < whole, "and not all again"


def test_what_is_open_stays_as_it_is(browser: Browser, opened: Callable[..., None]) -> None:
    told = Told(calm())
    told.history.record([opening(30001)], [""], 0.001)
    opened(told, "?sort=-sessions")
    click(browser, "[data-key='port:30001'] .name")
    browser.await_text("enable frontend tcp-30001")
    browser.await_text("10.128.0.14:5432")
    assert query(browser) == "?sort=-sessions&open=port:30001"
    browser.run("document.querySelector('[data-key=\"port:30001\"] .name').focus()")
    # It becomes another one, and goes to another place.
    (zero, one, *rest) = told.found.ports
    one = replace(one, servers=(*one.servers, server(9, pod="kafka-new")), sessions=500)
    told.found = replace(told.found, ports=(zero, one, *rest))
    await_(lambda: "kafka-new" in row(browser, "port:30001"), "its new server comes", 20)
    await_(lambda: names(browser)[0] == "30001", "it is the first now")
    assert focused(browser) == "30001"
    assert "enable frontend tcp-30001" in row(browser, "port:30001")
    # A click anywhere in its line closes it.
    click(browser, "[data-key='port:30001'] .of-state")
    await_(lambda: "kafka-new" not in row(browser, "port:30001"), "closed")
    browser.run("history.back()")
    await_(lambda: "kafka-new" in row(browser, "port:30001"), "the back button opens it again")


def test_without_a_mouse(browser: Browser, opened: Callable[..., None]) -> None:
    opened(Told(calm()))
    await_(lambda: len(names(browser)) == 8, "all")
    browser.press("/")
    await_(lambda: focused(browser) == "filter", "to the filter")
    browser.write("team-b")
    await_(lambda: names(browser) == ["30001", "30004"], "filtered")
    browser.press("ArrowDown")
    assert focused(browser) == "30001"
    browser.press("ArrowDown")
    assert focused(browser) == "30004"
    browser.press("Enter")
    browser.await_text("it works")
    assert focused(browser) == "30004"
    browser.press("Escape")
    await_(lambda: "it works" not in browser.text(), "closed")
    assert focused(browser) == "30004"
    browser.press("ArrowUp")
    assert focused(browser) == "30001"
    browser.press("/")
    browser.press("Escape")
    await_(lambda: len(names(browser)) == 8, "no filter")


def test_a_row_that_cannot_be_explained_says_so(
    browser: Browser, opened: Callable[..., None]
) -> None:
    class Broken(Told):
        def why(self, subject: str) -> Any:
            raise RuntimeError(subject)

    opened(Broken(report(port(30000))), "?open=port:30000")
    browser.await_text("internal error; see the sidecar's log")


@pytest.fixture(scope="session")
def axe() -> str:
    if not shutil.which("npm"):
        pytest.skip("axe-core comes from npm; haproxy/install npm installs that")
    file = subprocess.check_output([ROOT / "tests/axe"], text=True).strip()
    return Path(file).read_text()


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [390, 1400])
@pytest.mark.parametrize("made", [calm, troubled])
def test_axe_finds_nothing(
    browser: Browser,
    opened: Callable[..., None],
    axe: str,
    made: Callable[[], Any],
    width: int,
    dark: bool,
) -> None:
    opened(Told(made()), "?open=port:30001", width=width, dark=dark)
    browser.await_text("it works")
    browser.run(f"{axe};0")
    found = browser.run(
        "axe.run(document, {resultTypes: ['violations', 'incomplete']}).then((all) =>"
        " ({found: all.violations.map((it) => [it.id, it.help,"
        " it.nodes.slice(0, 3).map((node) => node.html + ' ' + node.failureSummary)]),"
        " passed: all.passes.length}))"
    )
    assert found["found"] == []
    assert found["passed"] > 20
