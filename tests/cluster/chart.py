"""The chart of charts/, through the helm that tests/cluster/build makes."""

import os
import re
import shlex
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from plane import MANIFESTS

CHART = MANIFESTS.parent / "charts/haproxy-sidecar"


class Helm:
    """helm, with its files below ``home``, for the API server of ``kubeconfig`` if there is one."""

    def __init__(self, home: Path, kubeconfig: Path | None = None) -> None:
        self._home = home
        self._command = [str(Path(os.environ["CLUSTER_HELM"]) / "helm")]
        if kubeconfig:
            self._command.append(f"--kubeconfig={kubeconfig}")

    def __call__(self, *arguments: str, values: Mapping[str, Any] | None = None) -> str:
        """What it prints, with these values; what it complains of is the test's failure."""
        if values is not None:
            arguments = (*arguments, "-f", "-")
        done = subprocess.run(
            [*self._command, *arguments],
            input=yaml.safe_dump(dict(values or {})),
            capture_output=True,
            text=True,
            check=False,
            env={"HOME": str(self._home), "PATH": os.environ["PATH"]},
        )
        if done.returncode:
            raise AssertionError(f"helm {' '.join(arguments)}: {done.stderr}{done.stdout}")
        return done.stdout

    def run_shell(self, commands: str, folder: Path) -> None:
        """Runs lines of a document that call helm, until one fails."""
        function = f'helm() {{ {shlex.join(self._command)} "$@"; }}'
        environment = {"HOME": str(self._home), "PATH": os.environ["PATH"]}
        subprocess.run(
            ["sh", "-euxc", f"{function}\n{commands}"], cwd=folder, check=True, env=environment
        )

    def template(
        self,
        values: Mapping[str, Any],
        *options: str,
        release: str = "haproxy-sidecar",
        namespace: str = "haproxy-sidecar",
    ) -> list[dict[str, Any]]:
        """The objects that the chart makes of these values."""
        made = self("template", release, str(CHART), "-n", namespace, *options, values=values)
        return objects(made)

    def installed(self, release: str, namespace: str) -> list[dict[str, Any]]:
        return objects(self("get", "manifest", release, "-n", namespace))


def objects(text: str) -> list[dict[str, Any]]:
    return [item for item in yaml.safe_load_all(text) if item]


def identities(made: Sequence[dict[str, Any]]) -> set[tuple[str, str, str]]:
    """Kind, namespace and name of each object."""
    return {
        (item["kind"], item["metadata"].get("namespace", ""), item["metadata"]["name"])
        for item in made
    }


def block(text: str, language: str = "sh") -> str:
    """The first one of a document's ``text`` in that language."""
    found = re.search(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert found
    return found[1]
