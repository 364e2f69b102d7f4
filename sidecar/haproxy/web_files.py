"""Where HAProxy finds what it needs when it starts: maps of ports, and more for Routes by host.

Owns the names of these files, and the options by which a server refers to them. Must not know what
is in them, nor read or write any.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Self

#: Nobody's name (RFC 2606).
NO_HOST = "haproxy-sidecar.invalid"

#: What HAProxy may give a meaning in an argument of a converter, quoted or not, and what would need
#: an escape in a command of the Runtime API.
_NOT_IN_MAP_PATHS = re.compile(r"[^A-Za-z0-9_/.+@:~=-]")


@dataclass(frozen=True, slots=True)
class WebFiles:
    """Files that HAProxy reads at its start if it has anything for Routes by host, beside its
    state file: the maps, which must exist, and the page of its own answers; and, for TLS, the
    folders of certificates and of what servers and clients are trusted by, and the socket at which
    what is not passed through is handed over."""

    hosts_map: Path
    sni_map: Path
    ports_map: Path
    routes_map: Path
    flags_map: Path
    server_names_map: Path
    timeouts_map: Path
    tunnel_timeouts_map: Path
    hsts_map: Path
    request_headers_map: Path
    response_headers_map: Path
    policies_map: Path
    allowed_sources_map: Path
    changed_paths_map: Path
    limits_map: Path
    cookies_map: Path
    pod_connections_map: Path
    port_sources_map: Path
    port_guards_map: Path
    port_limits_map: Path
    unavailable_page: Path
    not_found_page: Path
    certificates: Path
    authorities: Path
    clients: Path
    termination: Path

    @classmethod
    def beside(cls, state_file: Path) -> Self:
        folder = state_file.absolute().parent
        maps = folder / "maps"
        return cls(
            hosts_map=maps / "hosts.map",
            sni_map=maps / "sni.map",
            ports_map=maps / "ports.map",
            routes_map=maps / "routes.map",
            flags_map=maps / "flags.map",
            server_names_map=maps / "server_names.map",
            timeouts_map=maps / "timeouts.map",
            tunnel_timeouts_map=maps / "tunnel_timeouts.map",
            hsts_map=maps / "hsts.map",
            request_headers_map=maps / "request_headers.map",
            response_headers_map=maps / "response_headers.map",
            policies_map=maps / "policies.map",
            allowed_sources_map=maps / "allowed_sources.map",
            changed_paths_map=maps / "changed_paths.map",
            limits_map=maps / "limits.map",
            cookies_map=maps / "cookies.map",
            pod_connections_map=maps / "pod_connections.map",
            port_sources_map=maps / "port_allowed_sources.map",
            port_guards_map=maps / "port_guards.map",
            port_limits_map=maps / "port_limits.map",
            unavailable_page=folder / "503.http",
            not_found_page=folder / "404.http",
            certificates=folder / "certificates",
            authorities=folder / "authorities",
            clients=folder / "clients",
            termination=folder / "tls.sock",
        )

    @property
    def default_certificate(self) -> Path:
        """For clients whose SNI has none; HAProxy does not start without it."""
        return self.certificates / "default.pem"

    @property
    def default_list(self) -> Path:
        """It makes that the default one, since it is the first, and one for no name but `NO_HOST`:
        else HAProxy would show it for the names in it, before the certificates of Routes."""
        return self.certificates / "default-list"

    @property
    def certificate_list(self) -> Path:
        """Which certificate is for which SNI."""
        return self.certificates / "crt-list"

    def authority(self, backend: str) -> Path:
        """The CAs by which the servers of a backend are verified; HAProxy does not start without
        any."""
        return self.authorities / f"{backend}.pem"

    @property
    def no_authority(self) -> Path:
        """What a backend without a Route has there: it trusts nobody."""
        return self.authorities / "nobody.pem"

    @property
    def client_certificate(self) -> Path:
        """What servers are shown that ask for a certificate. It is there only since HAProxy
        changes a CA file that runs for no server without one; and never changes (haproxy #3165)."""
        return self.authorities / "client.pem"

    @property
    def client_authorities(self) -> Path:
        """The CAs by which certificates of clients are verified, where any are asked for."""
        return self.clients / "ca.pem"

    @property
    def client_revocations(self) -> Path:
        """Which of these certificates do not count any more, where the settings say."""
        return self.clients / "crl.pem"

    def client_tls(self, mode: str, *, revocable: bool) -> tuple[str, ...]:
        """What a listener has that asks clients for a certificate. No session is resumed: HAProxy
        verifies nothing then, and who was refused since would stay."""
        revoked = ("crl-file", str(self.client_revocations)) if revocable else ()
        verified = ("verify", mode, "ca-file", str(self.client_authorities))
        return (*verified, *revoked, "no-tls-tickets")

    def server_tls(self, backend: str) -> tuple[str, ...]:
        """What servers of a backend whose Route is re-encrypted have, pre-rendered or added. The
        variable has the name that is verified, and without one none is. A server says whether it
        speaks HTTP/2."""
        verified = ("ssl", "verify", "required", "ca-file", str(self.authority(backend)))
        own = ("crt", str(self.client_certificate), "alpn", "h2,http/1.1")
        return (*verified, *own, "sni", "var(txn.sni)")

    @property
    def unfit(self) -> str:
        """What in the path of the maps keeps HAProxy from finding them; "" if it does."""
        found = _NOT_IN_MAP_PATHS.search(str(self.hosts_map))
        return found[0] if found else ""

    @property
    def port_maps(self) -> tuple[Path, ...]:
        """What is said of ports, whether there are Routes by host or not."""
        return self.port_sources_map, self.port_guards_map, self.port_limits_map

    @property
    def maps(self) -> tuple[Path, ...]:
        return self.hosts_map, self.sni_map, self.ports_map, *self.attribute_maps

    @property
    def attribute_maps(self) -> tuple[Path, ...]:
        """Whose keys are backends, or begin with one."""
        policies = self.policies_map, self.timeouts_map, self.tunnel_timeouts_map, self.hsts_map
        guards = self.flags_map, self.server_names_map, self.allowed_sources_map
        headers = self.request_headers_map, self.response_headers_map
        changes = self.changed_paths_map, self.limits_map, self.cookies_map
        slots = (self.pod_connections_map,)
        return self.routes_map, *guards, *changes, *policies, *headers, *slots

    def headers_map(self, messages: str) -> Path:
        """What Routes say of the headers of requests, or responses."""
        return self.request_headers_map if messages == "request" else self.response_headers_map
