"""A client's TLS connection to HAProxy, or to a server."""

import socket
import ssl
from collections.abc import Sequence


def shake_hands(
    address: tuple[str, int], sni: str | None, alpn: Sequence[str] = (), seconds: float = 10.0
) -> ssl.SSLSocket:
    """One for which nobody verifies the certificate. Raises OSError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # without the system's CAs, which take time
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if alpn:
        context.set_alpn_protocols(list(alpn))
    # Wrapped before it is connected: of a connection that is reset before it is wrapped, Python
    # leaves a socket open that nobody has.
    secured = context.wrap_socket(socket.socket(), server_hostname=sni)
    try:
        secured.settimeout(seconds)
        secured.connect(address)
    except BaseException:
        secured.close()
        raise
    return secured
