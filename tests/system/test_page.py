"""The page of the HTTP port, in a real browser: what a person sees, and that nothing of users'
text is more than text there."""

import contextlib
import http.client
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import Browser, browser_in
from by_host import NamedServer, WebStand, host_app
from core import opening
from pki import CA
from stand import MakeServer, MakeStand, Stand, app, await_, converged, held, running
from web import get

from sidecar.control.history import OPERATIONS_MAX

EVIL = "<img src=x onerror=\"document.title='owned'\">"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browser_in(tmp_path_factory.mktemp("profile")) as found:
        yield found


def opened(browser: Browser, stand: Stand) -> None:
    # The page of the test before goes on asking a sidecar that is gone.
    browser.open("about:blank")
    await_(lambda: browser.run("location.href") == "about:blank", "it has left")
    browser.complaints.clear()
    browser.look(width=1200)
    browser.open(f"http://{stand.settings.http.listen}/")
    browser.await_text("wzh-router-1")


def row(browser: Browser, port: int) -> str:
    found = browser.run(f"document.querySelector('[data-key=\"port:{port}\"]')?.innerText")
    return str(found or "")


def test_it_follows_what_happens(
    browser: Browser,
    make_stand: MakeStand,
    make_server: MakeServer,
    files: contextlib.ExitStack,
) -> None:
    stand, a, b = make_stand(), make_server("a"), make_server("b")
    stand.write("web.yaml", *app("web", 30000, [a]))
    stand.write("bad.yaml", *app("bad", "70000"))
    daemon = files.enter_context(running(stand.daemon()))
    converged(daemon)
    opened(browser, stand)
    browser.await_text("converged")
    info = stand.info()
    browser.await_text(f"{info.version}, PID {info.pid}")
    browser.await_text("1 open, 1 claimed, 9 free")
    browser.await_text("demo/bad: InvalidPort: '70000' is not a valid port")
    assert "demo/web" in row(browser, 30000)
    assert "ready 1" in row(browser, 30000)

    # What is opened stays open while the figures change, without a reload.
    browser.run("document.querySelector('[data-key=\"port:30000\"] .name').click()")
    await_(lambda: str(a.address) in row(browser, 30000), "its servers are shown")
    held(files, stand, 30000)
    held(files, stand, 30000)
    count = "document.querySelector('[data-key=\"port:30000\"] .of-sessions').textContent"
    await_(lambda: browser.run(count) == "2", "the sessions are counted", 30)
    stand.write("web.yaml", *app("web", 30000, [a, b]))
    await_(lambda: str(b.address) in row(browser, 30000), "the new server comes by itself", 30)
    expanded = "document.querySelector('[data-key=\"port:30000\"] .name').ariaExpanded"
    assert browser.run(expanded) == "true"
    # Why it works, and what was done to it.
    browser.await_text("it works")
    await_(lambda: "state ready" in row(browser, 30000), "its operations are shown", 30)
    await_(
        lambda: browser.run("document.querySelectorAll('#changes-chart .column').length") > 0,
        "the changes have columns",
    )
    assert browser.run("document.querySelector('#sessions-chart polyline') !== null")

    # Only what is asked for.
    browser.run(
        "document.getElementById('filter').value = 'bad';"
        "document.getElementById('filter').dispatchEvent(new Event('input'))"
    )
    await_(lambda: not row(browser, 30000), "the others are left out")
    browser.await_text("demo/bad")

    stand.stop_haproxy()
    browser.await_text("not converged")
    browser.await_text("away")
    daemon.stop()
    browser.await_text("the sidecar does not answer")


def test_more_changes_than_are_remembered(browser: Browser, make_stand: MakeStand) -> None:
    stand = make_stand()
    with running(stand.daemon()) as daemon:
        converged(daemon)
        opened(browser, stand)
        now = "document.getElementById('changes-now').textContent"
        await_(lambda: browser.run(now) == "10", "all ports were closed at the start", 30)
        floor = "document.querySelector('#changes-chart .floor').getAttribute('x1')"
        assert browser.run(floor) == "0"
        history = daemon.reconciler.history
        for _ in range(OPERATIONS_MAX + 5):
            history.record([opening(30000)], [""], 0.0)
        await_(lambda: str(browser.run(now)).startswith("1,0"), "they are counted", 30)
        assert re.fullmatch(r"1,0[01]\d\+ \(since \d+s\)", str(browser.run(now)))
        # What is older is not known, which is not the same as none.
        assert float(str(browser.run(floor))) > 250


def test_users_text_is_text(browser: Browser, make_stand: MakeStand) -> None:
    stand = make_stand()
    stand.write("evil.yaml", *app("evil", EVIL))
    (stand.manifests / "torn.yaml").write_text(f"kind: [{EVIL}")
    with running(stand.daemon()):
        opened(browser, stand)
        browser.await_text("<img src=x onerror=")
        assert browser.run("document.images.length") == 0
        assert browser.run("document.title") == "wzh-router-1: haproxy-sidecar"
        assert not browser.complaints, "nothing was stopped by the policy, or failed"


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [320, 390, 800, 1200, 1400])
def test_it_fits(
    browser: Browser,
    make_stand: MakeStand,
    make_server: MakeServer,
    tmp_path: Path,
    width: int,
    dark: bool,
) -> None:
    stand, server = make_stand(), make_server()
    name = "a-route-whose-name-is-as-long-as-a-name-of-kubernetes-may-be-63"
    stand.write("web.yaml", *app(name, 30000, [server]), *app("b", 30001))
    with running(stand.daemon()) as daemon:
        converged(daemon)
        opened(browser, stand)
        browser.await_text(name)
        browser.look(width=width, dark=dark)
        browser.run("document.querySelector('.name').click()")
        browser.await_text("it works")
        browser.await_text("set server be_tcp-30000/s1 state ready")
        wide = "document.documentElement.scrollWidth"
        await_(lambda: browser.run(wide) <= width, "nothing is wider than the screen")
        colour = browser.run("getComputedStyle(document.body).backgroundColor")
        red = int(str(colour).partition("(")[2].split(",")[0])
        assert (red < 64) == dark
        browser.picture(tmp_path / "page.png")
        assert (tmp_path / "page.png").stat().st_size > 1000


def test_nothing_but_itself_may_be_loaded(make_stand: MakeStand) -> None:
    stand = make_stand()
    with running(stand.daemon()) as daemon:
        converged(daemon)
        page = get(stand, "/")
        assert page.headers["Content-Type"] == "text/html; charset=utf-8"
        policy = page.headers["Content-Security-Policy"]
        assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'")
        assert "unsafe" not in policy
        assert page.headers["X-Content-Type-Options"] == "nosniff"
        assert "http" not in page.body.replace("http-equiv", "")
        script = "text/javascript"
        kinds = {"/page.css": "text/css", "/page.js": script, "/model.js": script}
        for path, kind in {**kinds, "/favicon.svg": "image/svg+xml"}.items():
            found = get(stand, path)
            assert found.headers["Content-Type"].startswith(kind)
            # A browser has it already, and asks whether that is still so.
            assert found.headers["Cache-Control"] == "no-cache"
            again = get(stand, path, **{"If-None-Match": found.headers["ETag"]})
            assert (again.status, again.body) == (304, "")
        assert get(stand, "/api/status").headers["Cache-Control"] == "no-store"
        assert get(stand, "/../settings.py").status == 404
        assert get(stand, "/", Host="evil.example").status == 403
        host, port = (stand.settings.http.listen or "").split(":")
        with contextlib.closing(http.client.HTTPConnection(host, int(port))) as connection:
            connection.request("DELETE", "/")
            assert connection.getresponse().status == 405


def test_the_page_asks_for_the_token(
    browser: Browser, make_stand: MakeStand, make_server: MakeServer
) -> None:
    stand = make_stand()
    stand.write("web.yaml", *app("web", 30000, [make_server()]))
    file = stand.folder / "token"
    file.write_text("secret\n")
    data = {**stand.settings_data["http"], "token_file": str(file)}
    section = stand.settings.http.model_validate(data)
    stand.settings = stand.settings.model_copy(update={"http": section})
    stand.settings_file.write_text(json.dumps({**stand.settings_data, "http": data}))
    with running(stand.daemon()) as daemon:
        converged(daemon)
        assert get(stand, "/").status == get(stand, "/page.js").status == 401
        browser.complaints.clear()
        browser.open(f"http://me:secret@{stand.settings.http.listen}/")
        # What the browser was given for the page it sends with what the page asks for.
        await_(lambda: "demo/web" in browser.text(), f"it is shown: {browser.complaints}", 30)


def test_it_shows_the_certificates_of_hosts(
    browser: Browser, make_stand: MakeStand, files: contextlib.ExitStack
) -> None:
    web, root, server = WebStand.make(make_stand), CA.root(EVIL), NamedServer("a")
    files.callback(server.close)
    issued = root.leaf("shop.example", days=(-1, 10))
    end = issued.certificate.not_valid_after_utc.date()
    by = root.own.certificate.subject.rfc4514_string()
    tls = {"certificate": issued.pem, "key": issued.key_pem}
    verified = {"destinationCACertificate": root.pem}
    web.stand.write(
        "web.yaml",
        *host_app("shop", "shop.example", [server], termination="edge", tls=tls),
        *host_app("none", "none.example", [server], termination="reencrypt", tls=verified),
        *host_app("clear", "clear.example", [server]),
    )
    daemon = files.enter_context(running(web.stand.daemon()))
    converged(daemon)
    opened(browser, web.stand)
    browser.await_text("certificate ends in 9 days")

    def shown_of(host: str) -> str:
        selector = f"[data-key$=':{host}'] .of-certificate"
        found = browser.run(f"document.querySelector({json.dumps(selector)})?.textContent")
        return str(found)

    await_(lambda: shown_of("none.example") == "default", "it has the default one")
    assert shown_of("shop.example") == "9d"
    assert shown_of("clear.example") == ""
    browser.run("document.querySelector('[data-key=\"edge:shop.example\"] .name').click()")
    browser.await_text(
        f"CN=shop.example, signed by {by}, valid until {end} (9 days),"
        " spec.tls.certificate of demo/shop; served for "
    )
    browser.run("document.querySelector('[data-key=\"reencrypt:none.example\"] .name').click()")
    browser.await_text(
        f"servers need a certificate by {by} (spec.tls.destinationCACertificate), for any name"
    )
    own = "CN=haproxy-sidecar.invalid, signed by itself, valid until "
    shown = str(browser.run("document.getElementById('default').textContent"))
    assert shown.startswith(own)
    assert shown.endswith(" days), default certificate")
    assert browser.run("document.images.length") == 0
    browser.look(width=320)
    wide = "document.documentElement.scrollWidth"
    await_(lambda: browser.run(wide) <= 320, "nothing is wider than the screen")
    assert browser.complaints == []


def test_it_shows_routes_by_host(
    browser: Browser, make_stand: MakeStand, files: contextlib.ExitStack
) -> None:
    web, server = WebStand.make(make_stand), NamedServer("a")
    files.callback(server.close)
    web.stand.write("web.yaml", *host_app("shop", "shop.example", [server], path="/cart"))
    daemon = files.enter_context(running(web.stand.daemon()))
    converged(daemon)
    opened(browser, web.stand)
    browser.await_text("shop.example/cart")
    browser.await_text("demo/shop")
    browser.run("document.querySelector('.name').click()")
    browser.await_text(str(server.address))
    browser.await_text("0 requests in")
    web.await_served("shop.example", "a", "/cart")
    browser.await_text("1 requests in")
    server.close()
    assert web.served("shop.example", "/cart") == "503"
    browser.await_text("1 answered 5xx")
    web.stand.remove("web.yaml")
    await_(lambda: "shop.example" not in browser.text(), "it is gone")
    assert browser.complaints == []
