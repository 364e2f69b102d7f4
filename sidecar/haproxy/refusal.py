"""Why the operating system lets us not use HAProxy's socket, in words: whose it is, and who we are.

Owns no connection. `explain` decides on values alone; `why_refused` gets them.
"""

import grp
import os
import pwd
import stat
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple


class Inode(NamedTuple):
    """What stat says of the file or folder at ``path``. ``mode``: with the kind of file in it."""

    path: str
    uid: int
    gid: int
    mode: int


class Who(NamedTuple):
    """Whom a process acts as. ``gids``: the effective group, and the others."""

    uid: int
    gids: frozenset[int]


def why_refused(socket: str) -> str:
    """What keeps this process from the socket at that path, and what to do."""
    who = Who(os.geteuid(), frozenset({os.getegid(), *os.getgroups()}))
    return explain(_barrier(Path(socket)), who, _user, _group)


def explain(
    barrier: Inode, who: Who, user: Callable[[int], str], group: Callable[[int], str]
) -> str:
    """``barrier``: the socket, or a folder above it through which ``who`` may not go. ``user``,
    ``group``: id -> how it is called."""
    is_folder = stat.S_ISDIR(barrier.mode)
    # To connect to a socket is to write, to go through a folder is to execute (unix(7)).
    needed = stat.S_IXOTH if is_folder else stat.S_IWOTH
    owner_may, group_may, others_may = (barrier.mode >> shift & needed for shift in (6, 3, 0))
    in_group = barrier.gid in who.gids
    what = f"folder {barrier.path}" if is_folder else "the socket"
    ours = ", ".join(group(gid) for gid in sorted(who.gids))
    owner, its_group = user(barrier.uid), group(barrier.gid)
    if owner_may if who.uid == barrier.uid else group_may if in_group else others_may:
        remedy = "the mode allows it; check for a policy that denies it (SELinux, AppArmor)"
    elif group_may and not in_group:
        remedy = f"run this as user {owner} or in group {its_group}"
    elif is_folder:
        remedy = f"run this as user {owner}, or grant us access to the folder"
    else:
        remedy = (
            f"run this as user {owner}, or write `mode 660 gid {min(who.gids)}` at `stats socket`"
            " in haproxy.cfg"
        )
    return (
        f"permission denied: {what} belongs to user {owner}, group {its_group}, mode"
        f" {stat.S_IMODE(barrier.mode):04o}; running as user {user(who.uid)}, group {ours};"
        f" {remedy}"
    )


def _barrier(path: Path) -> Inode:
    """The first folder on the way to ``path`` through which we cannot go, or else ``path``."""
    way = reversed(path.absolute().parents)
    found = next((it for it in way if not os.access(it, os.X_OK, effective_ids=True)), path)
    status = found.stat()
    return Inode(str(found), status.st_uid, status.st_gid, status.st_mode)


def _user(uid: int) -> str:
    try:
        return f"{pwd.getpwuid(uid).pw_name} ({uid})"
    except KeyError:
        return str(uid)


def _group(gid: int) -> str:
    try:
        return f"{grp.getgrgid(gid).gr_name} ({gid})"
    except KeyError:
        return str(gid)
