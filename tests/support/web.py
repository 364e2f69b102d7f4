"""A client of the sidecar's HTTP port."""

import contextlib
import http.client
import json
from typing import Any, NamedTuple

from stand import Stand

from sidecar.common.hostport import split_host_port


class Answer(NamedTuple):
    status: int
    body: str
    headers: dict[str, str]

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def get(stand: Stand, path: str, **headers: str) -> Answer:
    host, port = split_host_port(stand.settings.http.listen or "")
    with contextlib.closing(http.client.HTTPConnection(host, port, timeout=10)) as connection:
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        return Answer(answer.status, answer.read().decode(), dict(answer.headers))
