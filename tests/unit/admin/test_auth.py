"""Who may read the page and /api: by what the port listens on, and how the client came there."""

import pytest

from sidecar.admin.auth import Access

TOKEN = "Bearer secret"


@pytest.mark.parametrize(
    ("listen", "reached", "host", "without", "with_token"),
    [
        # On loopback only: a token that is set counts for everybody.
        ("127.0.0.1:8405", "127.0.0.1", "127.0.0.1:8405", None, 401),
        ("127.0.0.1:8405", "127.0.0.1", "localhost", None, 401),
        ("127.0.0.1:8405", "127.0.0.1", "LOCALHOST", None, 401),
        ("localhost:8405", "127.0.0.1", "localhost:8405", None, 401),
        ("127.0.0.1:8405", "127.0.0.1", "evil.example:8405", 403, 401),
        ("127.0.0.1:8405", "127.0.0.1", "127.0.0.1.evil.example", 403, 401),
        ("127.0.0.1:8405", "127.0.0.1", "evil-localhost:8405", 403, 401),
        ("127.0.0.1:8405", "127.0.0.1", "localhost.evil.example", 403, 401),
        ("127.0.0.1:8405", "127.0.0.1", "127.0.0.1:65535", None, 401),
        ("127.0.0.1:8405", "127.0.0.1", "127.0.0.1:65536", 403, 401),
        ("127.0.0.1:8405", "127.0.0.1", "[", 403, 401),
        ("127.0.0.1:8405", "127.0.0.1", "", 403, 401),
        ("127.0.0.1:8405", "127.0.0.1", None, 403, 401),
        ("[::1]:8405", "::1", "[::1]:8405", None, 401),
        # On all addresses: over the loopback there is no need of one.
        ("0.0.0.0:8405", "127.0.0.1", "localhost:8405", None, None),
        ("0.0.0.0:8405", "127.0.0.1", "evil.example", 404, 401),
        ("0.0.0.0:8405", "10.1.2.3", "127.0.0.1", 404, 401),
        ("0.0.0.0:8405", "10.1.2.3", "10.1.2.3", 404, 401),
        ("0.0.0.0:8405", "", "localhost", 404, 401),
        ("[::]:8405", "::ffff:127.0.0.1", "127.0.0.1", None, None),
        ("[::]:8405", "::1", "[::1]", None, None),
        ("[::]:8405", "::ffff:10.1.2.3", "127.0.0.1", 404, 401),
        ("10.1.2.3:8405", "10.1.2.3", "10.1.2.3", 404, 401),
        # By its own name, which leads to the loopback on this machine.
        ("Router.local:8405", "127.0.0.1", "router.LOCAL:8405", None, None),
        ("router.local:8405", "127.0.0.1", "other.local", 404, 401),
        ("router.local:8405", "10.1.2.3", "router.local", 404, 401),
    ],
)
def test_who_may_read(
    listen: str, reached: str, host: str | None, without: int | None, with_token: int | None
) -> None:
    def status(access: Access, authorization: str | None = None) -> int | None:
        denied = access.check(host, authorization, reached)
        return denied.status if denied else None

    assert status(Access(listen, None)) == without
    secured = Access(listen, lambda: "secret")
    assert status(secured) == with_token
    assert status(secured, TOKEN) is None
    assert status(secured, "Bearer other") == with_token
