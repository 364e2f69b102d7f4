"""What every section of the settings is: frozen, with no key that we do not know."""

from pydantic import BaseModel, ConfigDict, model_validator


class Section(BaseModel):
    """A mapping of keys."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _empty_is_default(cls, data: object) -> object:
        """A section whose keys are all commented out is null for YAML."""
        return {} if data is None else data
