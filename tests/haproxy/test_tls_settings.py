"""What the settings say of TLS that ends at the router, as clients see it."""

import socket
import ssl
from typing import Any

import pytest
from by_host import MakeNamed, WebStand, host_app
from pki import CA, rsa_key
from stand import MakeStand, await_, converged, running

HOST = "a.example"
ROOT = CA.root()


def tried(
    web: WebStand,
    version: ssl.TLSVersion,
    *,
    host: str = HOST,
    ciphers: str = "",
    curve: str = "",
    alpn: tuple[str, ...] = (),
) -> tuple[str, str, str] | None:
    """Version, cipher and protocol that a client gets that has just these; None: no connection."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.minimum_version = context.maximum_version = version
    if ciphers:
        context.set_ciphers(ciphers)
    if curve:
        context.set_ecdh_curve(curve)
    if alpn:
        context.set_alpn_protocols(list(alpn))
    try:
        with (
            socket.create_connection(web.tls, 5) as connection,
            context.wrap_socket(connection, server_hostname=host) as secured,
        ):
            cipher = secured.cipher()
            return (
                secured.version() or "",
                cipher[0] if cipher else "",
                (secured.selected_alpn_protocol() or ""),
            )
    except (ssl.SSLError, ConnectionError):
        return None


OLD, NEW = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3
AES128, AES256 = "ECDHE-RSA-AES128-GCM-SHA256", "ECDHE-RSA-AES256-GCM-SHA384"


def served(make_stand: MakeStand, named: MakeNamed, tls: dict[str, Any]) -> WebStand:
    # A client with one curve alone would take no ECDSA key of another.
    own = ROOT.leaf(HOST, key=rsa_key())
    web = WebStand.make(make_stand, tls=tls)
    certificate = {"certificate": own.pem, "key": own.key_pem}
    objects = host_app("web", HOST, [named("web")], termination="edge", tls=certificate)
    web.stand.write("web.yaml", *objects)
    return web


def test_by_default_tls_1_2_and_later(make_stand: MakeStand, named: MakeNamed) -> None:
    web = served(make_stand, named, {})
    with running(web.stand.daemon()) as daemon:
        await_(lambda: tried(web, NEW, alpn=("h2",)) is not None, "it is served")
        await_(lambda: (tried(web, NEW, alpn=("h2",)) or "..")[2] == "h2", "HTTP/2 is offered")
        converged(daemon)
        for version, name in ((OLD, "TLSv1.2"), (NEW, "TLSv1.3")):
            assert (tried(web, version) or "")[0] == name
        assert tried(web, NEW, host="b.example") is not None


def test_all_that_can_be_set(make_stand: MakeStand, named: MakeNamed) -> None:
    tls = {
        "ciphers": AES256,
        "ciphersuites": "TLS_AES_128_GCM_SHA256",
        "curves": "P-384",
        "strict_sni": True,
        "http2": False,
    }
    web = served(make_stand, named, tls)
    with running(web.stand.daemon()) as daemon:
        await_(lambda: tried(web, NEW) is not None, "it is served")
        converged(daemon)
        assert tried(web, NEW, alpn=("h2", "http/1.1")) == (
            "TLSv1.3",
            "TLS_AES_128_GCM_SHA256",
            "http/1.1",
        )
        assert tried(web, OLD) == ("TLSv1.2", AES256, "")
        assert tried(web, OLD, ciphers=AES128) is None
        assert tried(web, OLD, curve="secp384r1") is not None
        assert tried(web, OLD, curve="prime256v1") is None
        for version in (OLD, NEW):
            assert tried(web, version, host="b.example") is None


def test_http_2_is_not_offered_any_more(make_stand: MakeStand, named: MakeNamed) -> None:
    web = served(make_stand, named, {})

    def offered() -> str:
        return (tried(web, NEW, alpn=("h2", "http/1.1")) or ("", "", "none"))[2]

    with running(web.stand.daemon()) as daemon:
        await_(lambda: offered() == "h2", "it is offered")
        converged(daemon)
    settings = web.stand.settings
    tls = settings.web.tls.model_copy(update={"http2": False})
    update = {"web": settings.web.model_copy(update={"tls": tls})}
    web.stand.settings = settings.model_copy(update=update)
    with running(web.stand.daemon()) as daemon:
        await_(lambda: offered() == "http/1.1", "it is not")
        converged(daemon)
        assert web.ended(HOST) == "web"


@pytest.mark.parametrize(
    ("tls", "old", "new"),
    [({"min_version": "TLSv1.3"}, False, True), ({"max_version": "TLSv1.2"}, True, False)],
)
def test_versions(
    make_stand: MakeStand, named: MakeNamed, tls: dict[str, Any], *, old: bool, new: bool
) -> None:
    web = served(make_stand, named, tls)
    with running(web.stand.daemon()) as daemon:
        await_(lambda: tried(web, NEW if new else OLD) is not None, "it is served")
        converged(daemon)
        assert (tried(web, OLD) is not None) is old
        assert (tried(web, NEW) is not None) is new
        assert web.ended(HOST) == "web"
