"""The fields of a log line: what it is about, for machines. The words are the line's. Pure."""


def about(**fields: object) -> dict[str, dict[str, object]]:
    """For ``extra`` of a log record. The same thing has the same name everywhere: ``port``,
    ``backend``, ``route`` (namespace/name), ``server``, ``namespace``, ``reason``, ``held``
    (ports), ``pid`` and ``version`` of HAProxy.
    """
    return {"about": fields}
