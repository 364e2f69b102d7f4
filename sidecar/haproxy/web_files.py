"""Where HAProxy finds what it needs for Routes by host when it starts."""

from dataclasses import dataclass
from pathlib import Path
from typing import Self


@dataclass(frozen=True, slots=True)
class WebFiles:
    """Files that HAProxy reads at its start if it has anything for Routes by host, beside its
    state file: the maps, which must exist, and the page of its own answers."""

    hosts_map: Path
    sni_map: Path
    ports_map: Path
    unavailable_page: Path

    @classmethod
    def beside(cls, state_file: Path) -> Self:
        folder = state_file.absolute().parent
        maps = folder / "maps"
        return cls(
            hosts_map=maps / "hosts.map",
            sni_map=maps / "sni.map",
            ports_map=maps / "ports.map",
            unavailable_page=folder / "503.http",
        )

    @property
    def maps(self) -> tuple[Path, ...]:
        return self.hosts_map, self.sni_map, self.ports_map
