"""With which path a Route's servers are asked instead of the Route's own. Pure.

Both are text: nothing in them is a pattern or an escape, as it is in OpenShift's router.
"""

import re
from collections.abc import Mapping

from sidecar.common.text import shown
from sidecar.policies.base import GUARDING_FLAGS, HTTP, Policy

#: The attribute: the Route's path, "?", which no path has, and the target as `_tells` writes it. In
#: one value, so that no request is changed by the path of one moment and the target of another. Its
#: name comes before that of the letters, as it is told before them.
CHANGED_PATHS = "changed_paths"

#: Among the letters: no request comes to a server with the path that the client asked for, if any.
_CHANGED = "p"

#: What no request can have in its path.
_UNFIT = re.compile(r"[^!-~]|[?#]")

#: With the longest path it is a word that one command can change, see `sidecar.haproxy.maps`.
_TARGET_MAX_BYTES = 300

#: What no command can carry. HAProxy reads it percent-encoded, and so "%", too.
_ENCODED = re.compile(r"""[%"';<\\]""")


def _parse(text: str) -> str:
    if not text.startswith("/"):
        raise ValueError("write a path, which begins with /")
    if found := _UNFIT.search(text):
        what = "white space" if found[0].isspace() else shown(found[0])
        raise ValueError(f"a path cannot contain {what}; percent-encode it")
    if len(_encoded(text)) > _TARGET_MAX_BYTES:
        raise ValueError(
            f"longer than {_TARGET_MAX_BYTES} bytes, of which %, quotes, ;, < and \\ take"
            " three each"
        )
    return text


def _encoded(target: str) -> str:
    return _ENCODED.sub(lambda found: f"%{ord(found[0]):02X}", target)


def _tells(target: str) -> Mapping[str, str]:
    return {CHANGED_PATHS: _encoded(target), GUARDING_FLAGS: _CHANGED}


def changed_path(path: str, target: str) -> str:
    """The attribute of a Route with ``path``. ``target``: as told."""
    return f"{path}?{target}"


REWRITE_TARGET = Policy(
    "rewrite-target",
    "rewrite target",
    _parse,
    "leaving paths as they are until fixed",
    HTTP,
    _tells,
)
