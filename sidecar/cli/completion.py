"""Shell completion: the scripts, and the values that the running sidecar knows.

The shell waits for every one of these: a sidecar that does not answer at once has none to offer,
and nothing is ever said of it.
"""

import re
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from sidecar.cli.app.options import given
from sidecar.common.errors import UsageError

#: A value, and what is said of it.
Item = tuple[str, str]

_TIMEOUT_SECONDS = 1.0

#: zsh evaluates what it gets, and bash splits at a colon.
_PLAIN = re.compile(r"[A-Za-z0-9._*/-][A-Za-z0-9._*/ -]*")

#: What the shells run at each Tab is typer's contract: these variables, and what it prints then.
SCRIPTS: Mapping[str, str] = {
    # As fish asks: with the line, since bash's COMP_WORDS has a URL in pieces, split at : and =.
    # What is said of each value is left out. bash replaces what is behind the last : or =.
    "bash": r"""_haproxy_sidecar_completion() {
    mapfile -t COMPREPLY < <( env _TYPER_COMPLETE_ARGS="${COMP_LINE:0:COMP_POINT}" \
                                  _TYPER_COMPLETE_FISH_ACTION=get-args \
                                  _HAPROXY_SIDECAR_COMPLETE=complete_fish "$1" 2>/dev/null )
    COMPREPLY=( "${COMPREPLY[@]%%$'\t'*}" )
}
complete -o default -F _haproxy_sidecar_completion haproxy-sidecar
""",
    "zsh": r"""#compdef haproxy-sidecar
_haproxy_sidecar_completion() {
    eval $(env _TYPER_COMPLETE_ARGS="${words[1,$CURRENT]}" \
           _HAPROXY_SIDECAR_COMPLETE=complete_zsh haproxy-sidecar 2>/dev/null)
}
compdef _haproxy_sidecar_completion haproxy-sidecar
""",
    "fish": r"""function __haproxy_sidecar_complete
    env _HAPROXY_SIDECAR_COMPLETE=complete_fish _TYPER_COMPLETE_FISH_ACTION=$argv[1] \
        _TYPER_COMPLETE_ARGS=(commandline -cp) haproxy-sidecar 2>/dev/null
end
complete --command haproxy-sidecar --no-files \
    --arguments "(__haproxy_sidecar_complete get-args)" \
    --condition "__haproxy_sidecar_complete is-args"
""",
}


def completion(shell: str) -> None:
    """Print the script for ``shell``."""
    if shell not in SCRIPTS:
        raise UsageError(f"no completion for {shell!r}; shells: {', '.join(SCRIPTS)}")
    sys.stdout.write(SCRIPTS[shell])


def subjects(context: Any, begun: str) -> list[Item]:
    """What `why`, `status` and `history` are about."""
    return _beginning(context, begun, _ports, _routes, _hosts)


def targets(context: Any, begun: str) -> list[Item]:
    """Ports, and the Routes that have one."""
    return _beginning(context, begun, _ports, _port_routes)


def ports(context: Any, begun: str) -> list[Item]:
    return _beginning(context, begun, _ports)


def held(context: Any, begun: str) -> list[Item]:
    return _beginning(context, begun, _held)


def namespaces(context: Any, begun: str) -> list[Item]:
    return _beginning(context, begun, _namespaces)


def servers(context: Any, begun: str) -> list[Item]:
    """Of the port or Route that was named before."""
    # An option without its value, as --server is here, ends the parsing before the arguments.
    words = (word for word in context.args if not word.startswith("-"))
    target = context.params.get("target") or next(words, None)

    def of(report: Any) -> Iterator[Item]:
        for item in (*report.ports, *report.hosts):
            if target in (None, item.route, str(item.port)):
                for server in item.servers:
                    yield (server.pod or server.slot), f"{server.address} {server.state}"

    return _beginning(context, begun, of)


def _ports(report: Any) -> Iterator[Item]:
    return ((str(item.port), item.owner) for item in report.ports)


def _held(report: Any) -> Iterator[Item]:
    return ((str(item.port), item.owner) for item in report.ports if item.held)


def _port_routes(report: Any) -> Iterator[Item]:
    return ((item.route, f"port {item.port}") for item in report.ports if item.route)


def _routes(report: Any) -> Iterator[Item]:
    yield from _port_routes(report)
    yield from ((item.route, item.title) for item in report.hosts)
    yield from ((item.route, item.reason) for item in report.waiting)


def _hosts(report: Any) -> Iterator[Item]:
    return ((item.host, item.route) for item in report.hosts)


def _namespaces(report: Any) -> Iterator[Item]:
    return ((route.partition("/")[0], "") for route, _ in _routes(report))


def _beginning(context: Any, begun: str, *kinds: Callable[[Any], Iterator[Item]]) -> list[Item]:
    """All that begin so, each once."""
    try:
        report = _report(given(context, "config"), given(context, "url"))
    except Exception:  # noqa: BLE001  a shell shows no reason
        return []
    found: dict[str, str] = {}
    for kind in kinds:
        for value, text in kind(report):
            if value.startswith(begun) and _PLAIN.fullmatch(value):
                found.setdefault(value, text if _PLAIN.fullmatch(text) else "")
    return list(found.items())


def _report(config: Path | None, url: str | None) -> Any:
    from sidecar.cli.look import ask_report
    from sidecar.cli.whom import find_sidecar

    sidecar = find_sidecar(config, url)
    return ask_report(replace(sidecar, patience_seconds=_TIMEOUT_SECONDS, timeout_seconds=0.0))
