"""docs/reference.md has every file that is written beside the settings' own, and no other."""

import re
from dataclasses import astuple
from pathlib import Path

from book import files_told, words

from sidecar.control.commit_mark import CommitMark
from sidecar.control.holds import holds_file
from sidecar.daemon.persistence import answers_file, auto_ports_file, programmed_file
from sidecar.haproxy.web_files import WebFiles
from sidecar.settings.schema import Settings

_FILE = re.compile(r"[\w-]+\.(?:pem|map)|[\w-]+-list")
#: One for each of many.
_FOR_EACH = {"HASH.pem"}


def test_every_file_is_explained_and_exists(tmp_path: Path) -> None:
    state_file = tmp_path / "servers.state"
    settings = Settings.model_validate({"haproxy": {"state_file": str(state_file)}})
    marks = CommitMark(state_file)
    marks.begin("ca-file")
    marks.begin("crl-file")
    of_functions = {item(settings) for item in (answers_file, auto_ports_file, programmed_file)}
    paths = {
        *astuple(WebFiles.beside(state_file)),
        *of_functions,
        holds_file(state_file),
        *tmp_path.iterdir(),
    }
    # Of `up`, which writes it.
    known = {str(path.relative_to(tmp_path)) for path in paths} | {"haproxy.log"}
    assert {name.rstrip("/") for name in files_told()} == known


def test_what_is_in_folders_is_explained_and_exists(tmp_path: Path) -> None:
    files = WebFiles.beside(tmp_path / "servers.state")
    known = {
        files.default_certificate,
        files.default_list,
        files.certificate_list,
        files.no_authority,
        files.client_certificate,
        files.client_authorities,
        files.client_revocations,
    }
    told = {
        tmp_path / folder / name
        for folder, text in files_told().items()
        if folder.endswith("/")
        for name in words(text)
        if _FILE.fullmatch(name) and name not in _FOR_EACH
    }
    assert told == known


def test_maps_that_a_row_refers_to_exist() -> None:
    every = {name.rpartition("/")[2] for name in files_told()}
    named = {
        word for text in files_told().values() for word in words(text) if word.endswith(".map")
    }
    assert named
    assert named <= every
