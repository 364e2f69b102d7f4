"""Text that nobody may see by accident. Pure."""

from typing import final


@final
class SecretText:
    """Text that may hold a private key. Only `text` shows it: neither ``str()`` nor ``repr()``
    does, nor what compares two of them field by field, since it is no dataclass."""

    __slots__ = ("_text",)

    def __init__(self, text: str = "") -> None:
        self._text = text

    @property
    def text(self) -> str:
        """The text itself, for those who need it."""
        return self._text

    def __bool__(self) -> bool:
        return bool(self._text)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SecretText) and self._text == other._text

    def __hash__(self) -> int:
        return hash(self._text)

    def __repr__(self) -> str:
        return "SecretText(…)" if self._text else "SecretText()"


#: Where there is none.
NO_TEXT = SecretText()
