"""Writes docs/settings.md, docs/recipe.md and tables of docs/performance.md: python -m docs.generate

The text of the first two is in docs/templates/, their tables are made from the pydantic fields and their
`description`s. So code and page cannot differ. The other tables were written by the commands that measured
them. tests/test_docs.py checks that the committed pages are current.
"""

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from textwrap import fill
from types import NoneType, UnionType
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from models.command import CommandParser

FOLDER: Final = Path(__file__).resolve().parent
ROOT: Final = FOLDER.parent
LIMITS: Final = {"ge": "≥ {}", "gt": "> {}", "le": "≤ {}", "lt": "< {}", "min_length": "not empty"}
INCLUDED: Final = re.compile(r"(<!-- (benchmarks/measured/\S+\.md) -->\n).*?(<!-- end -->\n)", re.DOTALL)
KINDS: Final = {
    "str": "text",
    "int": "whole number",
    "float": "number",
    "bool": "true or false",
    "BundlePlace": "folder or address",
}


def page(name: str) -> str:
    """A page of docs/: its template, in which a table stands for each `{{ NAME }}`."""
    from api.settings import Settings
    from models.markers import MarkerTemplate
    from training.augmentation.methods import METHODS
    from training.data.folds import Fold
    from training.run.recipe import ContextualRecipe, PretrainingRecipe, Recipe
    from training.trials.space import SearchSpace

    models: dict[str, type[BaseModel]] = {
        kind.__name__: kind
        for kind in (Settings, Recipe, MarkerTemplate, Fold, SearchSpace, PretrainingRecipe, ContextualRecipe)
    }

    def table(found: re.Match[str]) -> str:
        if found[1] == "Settings":
            return _settings(Settings)
        kind = (models | METHODS)[found[1]]
        return _fields(kind, Recipe if kind in (PretrainingRecipe, ContextualRecipe) else None)

    return re.sub(r"\{\{ (\w+) \}\}", table, (FOLDER / "templates" / name).read_text(encoding="utf-8"))


def performance_page() -> str:
    """docs/performance.md with each table of benchmarks/measured/ and its picture between two comments."""

    def include(found: re.Match[str]) -> str:
        path = ROOT / found[2]
        drawn = (path.parent / "plot.svg").exists()
        picture = f"![requests a second of the servers](img/{path.parent.name}.svg)\n\n" if drawn else ""
        return f"{found[1]}{picture}{path.read_text(encoding='utf-8')}{found[3]}"

    return INCLUDED.sub(include, (FOLDER / "performance.md").read_text(encoding="utf-8"))


PAGES: Final[dict[str, Callable[[], str]]] = {
    "settings.md": partial(page, "settings.md"),
    "recipe.md": partial(page, "recipe.md"),
    "performance.md": performance_page,
}


def _settings(settings: type[BaseModel]) -> str:
    """A table of the settings with their variables and flags."""
    lines = ["| setting | flag | default | allowed | what it sets |", "| --- | --- | --- | --- | --- |"]
    for name, field in settings.model_fields.items():
        variable, flag = f"`KORE_{name.upper()}`", f"`--{name.replace('_', '-')}`"
        lines.append(_line(variable, flag, _default(field), _allowed(field), field.description))
    return "\n".join(lines)


def _fields(model: type[BaseModel], like: type[BaseModel] | None) -> str:
    """A table of the model's fields, without those that it has in common with `like`."""
    known = like.model_fields if like else {}
    common = [name for name, field in model.model_fields.items() if repr(field) == repr(known.get(name))]
    lines = []
    if common:
        names = ", ".join(f"`{name}`" for name in common)
        lines += ["Also these fields of a member's recipe:", fill(f"{names}.", 100), ""]
    lines += ["| field | default | allowed | what it sets |", "| --- | --- | --- | --- |"]
    for name, field in model.model_fields.items():
        if name not in common and name != "method":
            lines.append(_line(f"`{name}`", _default(field), _allowed(field), field.description))
    return "\n".join(lines)


def _line(*cells: str | None) -> str:
    return f"| {' | '.join((cell or '').replace('|', '/') for cell in cells)} |"


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.default
    if isinstance(value, Path) and value.is_relative_to(ROOT):
        value = value.relative_to(ROOT)
    return "none" if value is None else f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _allowed(field: FieldInfo) -> str:
    """The field's type and limits in words."""
    limits = []
    for limit in field.metadata:
        for name, words in LIMITS.items():
            if (value := getattr(limit, name, None)) is not None:
                limits.append(words.format(value))
    return ", ".join([_kind(field.annotation), *limits])


def _kind(annotation: Any) -> str:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return ", ".join(f"`{value}`" for value in arguments)
    if origin is Annotated:
        return _kind(arguments[0])
    if origin in (Union, UnionType):
        kinds = [_kind(argument) for argument in arguments if argument is not NoneType]
        return " or ".join(dict.fromkeys(kinds))
    if origin in (list, tuple):
        return f"list of: {_kind(arguments[0])}"
    if origin is dict:
        return "block, see below"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "block, see below"
    name = getattr(annotation, "__name__", "any value")
    return {"SecretStr": "text", "Path": "path", "Any": "any value", **KINDS}.get(name, name)


def main(argv: list[str] | None = None) -> int:
    CommandParser("docs.generate", __doc__).parse_args(argv)
    for name, written in PAGES.items():
        (FOLDER / name).write_text(written(), encoding="utf-8")
        print(f"wrote docs/{name}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
