"""What differs between HAProxy's versions: what each can, and how each says that it did.

Measured on 2.4 to 3.5. The reconciler makes a `Dialect` from the version that answers; nothing
else asks for a version. Success texts are the union of all versions', since a text that means
success on one means nothing else on another. Pure.
"""

import re
from dataclasses import dataclass

#: Older ones do not say in "show stat" that a frontend is closed, and add servers only in
#: experimental mode.
OLDEST = (2, 6)

# Up to 2.8 both halves are reported, changed or not; from 3.0 on only what changed, or that nothing
# did, and it means "accepted": the address is applied a moment later, which a read-back shows.
# A half that failed has a text of its own beside the half that worked.
_IP_DONE = r"(?:IP changed from '[^']*' to '[^']*'|no need to change the addr)"
_PORT_DONE = r"(?:port changed from '[^']*' to '[^']*'|no need to change the port)"

#: What HAProxy says when ``set server ... addr`` worked.
ADDRESS_SET = re.compile(
    rf"nothing changed|(?:{_IP_DONE}, {_PORT_DONE}|{_IP_DONE}|{_PORT_DONE})(?: by '[^']*')?"
)

#: What ``add server`` says where the backend's algorithm (``static-rr``, plain ``source``) cannot
#: have servers added, now or ever.
SERVERS_FIXED = "Backend must use a dynamic load balancing to support dynamic servers."

#: When ``add server`` worked, and ``del server``; the latter also for a server that is gone.
SERVER_ADDED = frozenset({"New server registered."})
SERVER_DELETED = frozenset({"Server deleted.", "No such server."})

#: When ``del server`` has to wait: a connection came between our look and the command.
SERVER_IN_USE = "Server still has connections attached to it, cannot remove it."

#: When ``enable frontend`` and ``disable frontend`` worked; empty, or there was nothing to do.
FRONTEND_ENABLED = frozenset({"", "All sockets are already enabled."})
FRONTEND_DISABLED = frozenset({"", "All sockets are already disabled."})

#: Of a HAProxy that lacks what the settings say it has.
OTHER_CONFIG = "it runs on another haproxy.cfg: render it from these settings and restart HAProxy"

_MAP_UNKNOWN = "Unknown map identifier. Please use #<id> or <file>."

# What HAProxy refuses however often it is asked -> what to do about it.
_REMEDIES = {
    "Frontend was previously shut down, cannot enable.": "only restarting HAProxy restores it",
    "Failed to resume frontend, check logs for precise cause (port conflict?).": (
        "another process may be using its address: `ss -ltnp` where HAProxy runs shows it; stop"
        " it, and the port opens on its own"
    ),
    _MAP_UNKNOWN: OTHER_CONFIG,
}


def is_no_proxy(reply: str) -> bool:
    """Whether HAProxy does not have what "show stat" was asked for: it runs on another
    haproxy.cfg."""
    return not reply.strip() or reply.startswith("No such proxy")


def remedy_of(text: str) -> str:
    """What to do where ``text`` is, or tells of, one of HAProxy's refusals; "" where only time
    helps."""
    return next((remedy for reply, remedy in _REMEDIES.items() if reply in text), "")


#: When ``shutdown session`` worked; a session that ended by itself meanwhile is no failure.
SESSION_ENDED = frozenset({"", "No such session (use 'show sess')."})

#: What is said of a map that HAProxy does not have.
MAP_UNKNOWN = frozenset({_MAP_UNKNOWN})

#: When ``del map`` worked; the latter: there is no such key.
MAP_ENTRY_DELETED = frozenset({"", "Key not found."})

#: When a command worked that says nothing then.
SILENCE = frozenset({""})


@dataclass(frozen=True, slots=True)
class Dialect:
    """One version's abilities. ``version``: major and minor."""

    version: tuple[int, ...]

    @property
    def adds_servers(self) -> bool:
        """Whether servers can be added and deleted without experimental mode."""
        return self.version >= OLDEST

    @property
    def replaces_beside_authorities(self) -> bool:
        """Whether a certificate may be replaced under its name where the listener's CAs or CRLs
        change, too. Up to 3.0, a change of these, such a replacement, and another change kill
        HAProxy, or that is refused for ever (haproxy #3165)."""
        return self.version >= (3, 2)

    @property
    def shows_addresses_late(self) -> bool:
        """Whether an address may show only some moments after it was accepted, and never within
        the same exchange."""
        return self.version >= (3, 0)

    @property
    def problems(self) -> tuple[str, ...]:
        """Why this version is not fit for us, in words for a person."""
        if self.version >= OLDEST:
            return ()
        have, need = (".".join(map(str, version)) for version in (self.version[:2], OLDEST))
        return (f"HAProxy {have} is too old: it does not report closed ports; use {need}",)
