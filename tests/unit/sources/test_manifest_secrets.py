"""Secrets in a folder of manifests: only those that a Route refers to are handed over, and kept."""

import gc
from pathlib import Path
from typing import Any

import yaml
from by_host import host_app, secret_manifest
from pki import CA, Issued
from test_manifests import KEYS, Recorder, settle

from sidecar.common.secret_text import SecretText
from sidecar.model.objects import Key, Secret, secret_key
from sidecar.routing.web_tls import secret_of
from sidecar.sources.manifests.source import ManifestSource, Reader, Watch

ROOT = CA.root()
ONE, TWO = ROOT.leaf("a.test"), ROOT.leaf("b.test")
WEB_TLS = secret_key("demo", "web-tls")


def write(file: Path, *objects: dict[str, Any]) -> None:
    file.write_text(yaml.safe_dump_all(objects))
    settle(file.parent)


def edge(name: str = "web", secret: str = "web-tls") -> dict[str, Any]:
    tls: Any = {"externalCertificate": {"name": secret}}
    return host_app(name, f"{name}.test", [], termination="edge", tls=tls)[0]


class Folder:
    """A folder, and one who watches it."""

    def __init__(self, path: Path) -> None:
        self.routes, self.secrets = path / "routes.yaml", path / "secrets.yaml"
        self.sink = Recorder()
        self._reader = Reader([path], KEYS)
        self._watch = Watch(self._reader, secret_of)

    def look(self, times: int = 1) -> None:
        for _ in range(times):
            self._watch.step(self.sink)

    @property
    def handed_over(self) -> dict[Key, Secret]:
        objects = self.sink.objects.items()
        return {key: item for key, item in objects if isinstance(item, Secret)}

    def keeps(self, issued: Issued) -> bool:
        """Whether anything in this process has the key out of its Secret."""
        self.sink.published.clear()
        gc.collect()
        texts = (item for item in gc.get_objects() if isinstance(item, Secret))
        return any(item.private_key == SecretText(issued.key_pem) for item in texts)


def test_a_secret_counts_while_a_route_refers_to_it(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    write(folder.secrets, secret_manifest("web-tls", ONE), secret_manifest("other", TWO))
    folder.look()
    assert folder.handed_over == {}
    assert not folder.keeps(ONE)
    # The file of Secrets rests as it is.
    write(folder.routes, edge())
    folder.look()
    assert folder.handed_over.keys() == {WEB_TLS}
    assert folder.handed_over[WEB_TLS].private_key.text == ONE.key_pem
    assert folder.keeps(ONE)
    assert not folder.keeps(TWO)
    write(folder.routes, edge(secret="other"))
    folder.look()
    assert folder.handed_over.keys() == {secret_key("demo", "other")}
    assert not folder.keeps(ONE)
    folder.routes.unlink()
    folder.look(2)
    assert folder.sink.objects == {}
    assert not folder.keeps(TWO)


def test_a_secret_is_renewed_and_removed(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    write(folder.secrets, secret_manifest("web-tls", ONE))
    write(folder.routes, edge())
    folder.look()
    write(folder.secrets, secret_manifest("web-tls", TWO))
    folder.secrets.touch()
    folder.look()
    assert folder.handed_over[WEB_TLS].private_key.text == TWO.key_pem
    assert not folder.keeps(ONE)
    folder.secrets.unlink()
    folder.look(2)
    assert folder.handed_over == {}
    assert not folder.keeps(TWO)


def test_of_secrets_that_nobody_refers_to_nothing_is_said(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    wrong = secret_manifest("web-tls", ONE) | {"data": {"tls.key": "not base64"}}
    write(folder.secrets, wrong, secret_manifest("twice", ONE), secret_manifest("twice", TWO))
    folder.look()
    assert folder.sink.problems == []
    write(folder.routes, edge())
    folder.look()
    (problem,) = folder.sink.problems
    assert 'Secret demo/web-tls: data["tls.key"]: the value is not base64' in problem
    assert folder.handed_over == {}
    write(folder.secrets, secret_manifest("web-tls", ONE))
    folder.secrets.touch()
    folder.look()
    assert folder.sink.problems == []
    assert folder.handed_over.keys() == {WEB_TLS}
    # What is broken then, counts as it was.
    write(folder.secrets, wrong)
    folder.look()
    assert folder.handed_over[WEB_TLS].private_key.text == ONE.key_pem


def test_a_route_that_counts_as_it_was_keeps_its_secret(tmp_path: Path) -> None:
    folder = Folder(tmp_path)
    write(folder.secrets, secret_manifest("web-tls", ONE))
    write(folder.routes, edge())
    folder.look()
    broken = edge()
    broken["spec"]["to"] = "a mistake"
    write(folder.routes, broken)
    folder.look(3)
    assert folder.handed_over.keys() == {WEB_TLS}


def test_once_read_the_same_holds(tmp_path: Path) -> None:
    write(tmp_path / "all.yaml", edge(), secret_manifest("web-tls", ONE), secret_manifest("x", TWO))
    for refers, found in ((secret_of, {WEB_TLS}), (None, set())):
        sink = Recorder()
        ManifestSource([tmp_path], KEYS, refers=refers).load(sink)
        assert {key for key in sink.objects if key.kind == "Secret"} == found
