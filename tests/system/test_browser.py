"""Routes by host in a real browser, which asks on while everything around it changes."""

import base64
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import Browser, browser_in
from by_host import NamedServer, WebStand, host_app, named_servers
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from pki import CA, Issued, ecdsa_key
from stand import MakeStand, await_, converged, running

ROOT = CA.root()
KEY = ecdsa_key()
HOST = "shop.example"

#: Asks until ``over``, without the session cookie; ``answers``: what came back.
ASKING = """
globalThis.answers = [];
globalThis.asking = (async () => {
    while (!globalThis.over) {
        try {
            const reply = await fetch("/", {cache: "no-store", credentials: "omit"});
            answers.push(reply.status === 200 ? await reply.text() : String(reply.status));
        } catch (error) {
            answers.push(String(error));
        }
    }
})();
0
"""


@pytest.fixture
def web(make_stand: MakeStand) -> WebStand:
    return WebStand.make(make_stand)


@pytest.fixture
def browser(web: WebStand, tmp_path: Path) -> Iterator[Browser]:
    """It takes every host for the stand's, and trusts `KEY` only."""
    public = KEY.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    trusted = base64.b64encode(hashlib.sha256(public).digest()).decode()
    with browser_in(
        tmp_path / "profile",
        f"--host-resolver-rules=MAP *.example {web.http[0]}",
        f"--ignore-certificate-errors-spki-list={trusted}",
    ) as found:
        yield found


@pytest.fixture
def pods() -> Iterator[list[NamedServer]]:
    with named_servers(["one", "two"]) as found:
        yield found


def routes(
    servers: list[NamedServer], issued: Issued | None, termination: str | None
) -> list[dict[str, Any]]:
    tls = {"certificate": issued.pem, "key": issued.key_pem} if issued else {}
    return [*host_app("shop", HOST, servers, termination=termination, tls=tls)]


@pytest.mark.parametrize("termination", [None, "edge"])
def test_a_browser_notices_nothing_of_changes(
    web: WebStand, browser: Browser, pods: list[NamedServer], termination: str | None
) -> None:
    one, two = pods
    issued = [ROOT.leaf(HOST, key=KEY) for _ in range(3)] if termination else [None] * 3
    web.stand.write("shop.yaml", *routes([one], issued[0], termination))
    address = f"http://{HOST}:{web.http[1]}/"
    if termination:
        address = f"https://{HOST}:{web.tls[1]}/"
    with running(web.stand.daemon()) as daemon:
        converged(daemon)
        before = web.stand.info().identity
        browser.open(address)

        browser.await_text("one")
        protocol = browser.run("performance.getEntriesByType('navigation')[0].nextHopProtocol")
        assert protocol == ("h2" if termination else "http/1.1")
        browser.run(ASKING)
        for number, servers in enumerate([[one, two], [two], [two, one], [one], [two]]):
            web.stand.write("shop.yaml", *routes(servers, issued[number % 3], termination))
            # Others come and go.
            web.stand.write("other.yaml", *host_app(f"o{number}", f"o{number}.example", [one]))
            names = {server.name for server in servers}
            await_(
                lambda wanted=names: set(browser.run("answers.slice(-6)")) == wanted,
                f"{names} answer",
            )
            converged(daemon)
        browser.run("globalThis.over = true; asking.then(() => 0)")
        answers = browser.run("answers")
        assert set(answers) == {"one", "two"}
        assert len(answers) > 50
        assert web.stand.info().identity == before
