"""Commands whose options are text and paths, and are taken as they are.

typer checks values by pydantic, which takes longer to load than `status` to answer. Must not matter
for what is accepted: any other type is left to typer, and so is all of it in a typer that does not
look here.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from typer.core import TyperCommand, TyperGroup

#: Annotation of a parameter -> its value from text; a flag has no text, as none has a variable of
#: the environment.
_AS_IS: Mapping[Any, Callable[[Any], Any]] = {str: str, Path: Path, list[str]: list, bool: bool}


class _Text:
    """What typer asks of a type: a value from text."""

    def __init__(self, make: Callable[[Any], Any]) -> None:
        self._make = make

    def coerce(self, value: Any, param: Any, ctx: Any) -> Any:  # noqa: ARG002  typer's names
        if value is None:
            return () if param.multiple or param.nargs == -1 else None
        return self._make(value)


class _OnlyIfGiven:
    """Any other type: typer's own, once there is a value to judge."""

    def coerce(self, value: Any, param: Any, ctx: Any) -> Any:
        if value is None:
            return () if param.multiple or param.nargs == -1 else None
        param._runtime_param = None  # noqa: SLF001
        return param.get_runtime_param().coerce(value, param=param, ctx=ctx)


def _hastened(params: list[Any]) -> list[Any]:
    for param in params:
        kind = getattr(getattr(param, "type_descriptor", None), "annotation", None)
        if kind is not None and getattr(param, "_runtime_param", True) is None:
            as_is = _AS_IS.get(kind)
            param._runtime_param = _Text(as_is) if as_is else _OnlyIfGiven()  # noqa: SLF001
    return params


class QuickCommand(TyperCommand):
    """A command that is one."""

    def get_params(self, ctx: Any) -> list[Any]:
        return _hastened(super().get_params(ctx))


class QuickGroup(TyperGroup):
    """What stands before the commands, likewise."""

    def get_params(self, ctx: Any) -> list[Any]:
        return _hastened(super().get_params(ctx))
