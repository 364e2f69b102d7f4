"""A small DNS server on the loopback, UDP and TCP, that says what a test tells it to."""

import contextlib
import socket
import struct
import threading
from collections import Counter
from collections.abc import Iterator

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset
from stand import fresh_ip

#: For `NameServer.zone`: what there is instead of records.
SERVFAIL, SILENCE = "SERVFAIL", "silence"


class NameServer:
    """``zone``: name -> its records, ``"A 10.0.0.1"`` each, or SERVFAIL, or SILENCE; a name that
    is not there gives NXDOMAIN. ``ttl``: of all records, seconds. ``truncates``: over UDP, so that
    one has to come by TCP. ``asked``: (name, type, "udp" or "tcp") -> how often.
    """

    def __init__(self) -> None:
        self.zone: dict[str, list[str] | str] = {}
        self.ttl = 1
        self.truncates = False
        self.asked: Counter[tuple[str, str, str]] = Counter()
        self._udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._udp.bind((fresh_ip(), 0))
        where = self._udp.getsockname()
        self.address = f"{where[0]}:{where[1]}"
        self._tcp = socket.create_server(where)
        self._threads = [
            threading.Thread(target=serve, daemon=True) for serve in (self._serve_udp, self._accept)
        ]
        for thread in self._threads:
            thread.start()

    def looks(self, name: str) -> int:
        """How often ``name`` was asked for, in either family."""
        return sum(count for (asked, _, _), count in self.asked.items() if asked == name)

    def close(self) -> None:
        # A datagram that is no question ends that thread.
        self._udp.sendto(b"", self._udp.getsockname())
        with contextlib.suppress(OSError):
            self._tcp.shutdown(socket.SHUT_RDWR)
        self._tcp.close()
        for thread in self._threads:
            thread.join(10)
        self._udp.close()

    def _serve_udp(self) -> None:
        while True:
            data, peer = self._udp.recvfrom(4096)
            if not data:
                return
            reply = self._reply(data, "udp")
            if reply is None:
                continue
            if self.truncates:
                reply.answer.clear()
                reply.flags |= dns.flags.TC
            self._udp.sendto(reply.to_wire(), peer)

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._tcp.accept()
            except OSError:
                return
            with connection, connection.makefile("rb") as stream, contextlib.suppress(OSError):
                connection.settimeout(5)
                (length,) = struct.unpack("!H", stream.read(2))
                if reply := self._reply(stream.read(length), "tcp"):
                    wire = reply.to_wire()
                    connection.sendall(struct.pack("!H", len(wire)) + wire)

    def _reply(self, data: bytes, way: str) -> dns.message.Message | None:
        query = dns.message.from_wire(data)
        reply = dns.message.make_response(query)
        (question,) = query.question
        name, kind = question.name.to_text(omit_final_dot=True), question.rdtype
        self.asked[name, dns.rdatatype.to_text(kind), way] += 1
        found = self.zone.get(name)
        if found == SILENCE:
            return None
        if found == SERVFAIL:
            reply.set_rcode(dns.rcode.SERVFAIL)
        elif found is None:
            reply.set_rcode(dns.rcode.NXDOMAIN)
        else:
            reply.answer.extend(self._records(name, kind))
        return reply

    def _records(self, name: str, kind: dns.rdatatype.RdataType) -> Iterator[dns.rrset.RRset]:
        """What there is of ``name``, and of what it is another name for."""
        for line in self.zone.get(name, ()):
            has, _, value = line.partition(" ")
            if has in (dns.rdatatype.to_text(kind), "CNAME"):
                yield dns.rrset.from_text(f"{name}.", self.ttl, "IN", has, value)
            if has == "CNAME":
                yield from self._records(value.removesuffix("."), kind)
