"""Why HAProxy's socket may not be used: in words that say whose it is and what to do."""

import os
import socket
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from sidecar.haproxy.refusal import Inode, Who, explain

FOLDER, SOCKET = stat.S_IFDIR, stat.S_IFSOCK

#: We are user 7, of groups 70 and 71.
WE = Who(7, frozenset({70, 71}))


def said(uid: int, gid: int, mode: int) -> str:
    return explain(Inode("/run/h", uid, gid, mode), WE, "u{}".format, "g{}".format)


@pytest.mark.parametrize(
    ("uid", "gid", "mode", "whose", "remedy"),
    [
        (0, 80, SOCKET | 0o660, "the socket belongs to user u0, group g80, mode 0660",
         "run this as user u0 or in group g80"),
        (0, 71, SOCKET | 0o600, "the socket belongs to user u0, group g71, mode 0600",
         "run this as user u0, or write `mode 660 gid 70` at `stats socket` in haproxy.cfg"),
        # The owner's bits count for the owner, the group's for its members.
        (7, 70, SOCKET | 0o066, "the socket belongs to user u7, group g70, mode 0066",
         "run this as user u7, or write `mode 660 gid 70` at `stats socket` in haproxy.cfg"),
        (0, 70, SOCKET | 0o606, "the socket belongs to user u0, group g70, mode 0606",
         "run this as user u0, or write `mode 660 gid 70` at `stats socket` in haproxy.cfg"),
        # To read it is not enough.
        (0, 80, SOCKET | 0o755, "the socket belongs to user u0, group g80, mode 0755",
         "run this as user u0, or write `mode 660 gid 70` at `stats socket` in haproxy.cfg"),
        (0, 80, FOLDER | 0o750, "folder /run/h belongs to user u0, group g80, mode 0750",
         "run this as user u0 or in group g80"),
        (0, 80, FOLDER | 0o766, "folder /run/h belongs to user u0, group g80, mode 0766",
         "run this as user u0, or grant us access to the folder"),
        (0, 80, SOCKET | 0o666, "the socket belongs to user u0, group g80, mode 0666",
         "the mode allows it; check for a policy that denies it (SELinux, AppArmor)"),
        (0, 70, SOCKET | 0o660, "the socket belongs to user u0, group g70, mode 0660",
         "the mode allows it; check for a policy that denies it (SELinux, AppArmor)"),
    ],
)  # fmt: skip
def test_whose_it_is_who_we_are_and_what_to_do(
    uid: int, gid: int, mode: int, whose: str, remedy: str
) -> None:
    assert said(uid, gid, mode) == (
        f"permission denied: {whose}; running as user u7, group g70, g71; {remedy}"
    )


#: Connects to a socket as a user without rights, who may not read our own files, perhaps.
CHILD = """
import os, pwd, grp, sys
from sidecar.common.errors import DisconnectedError
from sidecar.haproxy.client import RuntimeClient
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
try:
    RuntimeClient(sys.argv[1]).ask("show info")
except DisconnectedError as exc:
    print(exc)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
@pytest.mark.parametrize("folder_mode", [0o755, 0o700])
def test_a_process_without_rights_is_told(folder_mode: int) -> None:
    # Not in pytest's folder, which is root's alone.
    with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX) as server:
        path = Path(folder, "admin.sock")
        server.bind(str(path))
        server.listen()
        path.chmod(0o600)
        Path(folder).chmod(folder_mode)
        arguments = [sys.executable, "-c", CHILD, str(path)]
        done = subprocess.run(arguments, text=True, capture_output=True, check=True)
    what, mode = ("the socket", 600) if folder_mode == 0o755 else (f"folder {folder}", 700)
    assert done.stdout.startswith(
        f"HAProxy's Runtime API at {path}: connecting: permission denied: {what} belongs to user"
        f" root (0), group root (0), mode 0{mode}; running as user nobody (65534), group nogroup"
        " (65534); run this as user root (0), or "
    )
