"""A frozen set of fields that is read from a YAML file."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from models.yaml_text import InvalidYaml, parse_yaml, read_yaml
from training.data.files import write
from training.errors import InvalidRecipe


class YamlFile(BaseModel):
    """Fields that are read from a YAML file. `$VARIABLE` in a value is replaced from the environment."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @classmethod
    def read(cls, path: Path, overrides: Mapping[str, str] | None = None) -> Self:
        """Read a YAML file. `overrides` (field -> YAML text) replace its fields.

        Raises:
            InvalidRecipe: the file is missing or not YAML, a field is unknown or has a wrong value, or an
                environment variable is not set.
        """
        try:
            fields = read_yaml(path)
            given = {name: parse_yaml(text, f"--set {name}") for name, text in (overrides or {}).items()}
        except InvalidYaml as error:
            raise InvalidRecipe(str(error)) from None
        if not isinstance(fields, dict):
            raise InvalidRecipe(f"{path}: a mapping of fields is required")
        fields |= given
        try:
            return cls.model_validate({name: _expand(str(name), value) for name, value in fields.items()})
        except ValidationError as error:
            raise InvalidRecipe(f"{path}: {_faults(error)}") from None

    def write(self, path: Path) -> None:
        """Write a YAML file that `read` reads as these fields. Fields without a value are left out."""
        fields = self.model_dump(mode="json", exclude_none=True)
        write(path, yaml.safe_dump(fields, sort_keys=False, allow_unicode=True))

    def changed(self, fields: Mapping[str, Any]) -> Self:
        """A copy with other values for some fields.

        Raises:
            InvalidRecipe: a value is out of its field's range, or does not fit the other fields.
        """
        try:
            return type(self).model_validate({**self.model_dump(), **fields})
        except ValidationError as error:
            raise InvalidRecipe(_faults(error)) from None


def _faults(error: ValidationError) -> str:
    return "; ".join(
        f"{'.'.join(map(str, fault['loc'])) or 'recipe'}: {fault['msg']}" for fault in error.errors()
    )


def _expand(name: str, value: object) -> object:
    if name == "markers" and isinstance(value, dict):
        return value  # a dollar sign can be a marker
    if isinstance(value, dict):
        return {key: _expand(f"{name}.{key}", nested) for key, nested in value.items()}
    if isinstance(value, list):
        return [_expand(name, nested) for nested in value]
    if not isinstance(value, str):
        return value
    expanded = os.path.expandvars(value)
    if "$" in expanded:
        raise InvalidRecipe(f"{name}: {value!r} names an environment variable that is not set; export it")
    return expanded
