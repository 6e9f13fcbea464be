"""Writes docs/settings.md and docs/recipe.md from the pydantic fields: python -m docs.generate

The sentences of both pages are the `description` of each field, so code and page cannot differ.
tests/test_docs.py checks that the committed pages are current.
"""

import argparse
from collections.abc import Callable
from pathlib import Path
from textwrap import fill
from types import NoneType, UnionType
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

FOLDER: Final = Path(__file__).resolve().parent
ROOT: Final = FOLDER.parent
NOTE: Final = "<!-- Written by python -m docs.generate out of {source}. -->"
LIMITS: Final = {"ge": "≥ {}", "gt": "> {}", "le": "≤ {}", "lt": "< {}", "min_length": "not empty"}
KINDS: Final = {
    "str": "text",
    "int": "whole number",
    "float": "number",
    "bool": "true or false",
    "BundlePlace": "folder or address",
}

SETTINGS_INTRO: Final = """\
# Settings

The server reads its settings from environment variables with the prefix `KORE_`, or from flags of
`python -m api`. A flag wins over the variable. `python -m scoring` reads the variables of the
bundle and the device too, and has flags of its own (`python -m scoring --help`).

```
KORE_MAX_QUEUE=512 make serve
python -m api --bundle bundles/mine --max-queue 512 --docs false
```

- A value that is not allowed stops the start: exit status 2, and one line that names the setting.
- A `KORE_*` variable that the server does not know is warned of in the log.
- Facts about the model (window, labels, tokenizer) are not settings. They travel in the bundle.
- [Operations](operations.md) explains what the settings of shutdown, queue and logs do together.

| setting | flag | default | allowed | what it sets |
| --- | --- | --- | --- | --- |
"""

RECIPE_INTRO: Final = """\
# Recipe

A recipe is one YAML file that decides a training run. `python -m training.train RECIPE.yaml` reads
it. `--set FIELD=VALUE` overrides a field for one run. `$NAME` in a value is an environment
variable. An unknown field, or a value that is not allowed, stops the command with exit status 2.

```yaml
encoder: $KORE_ENCODER            # a folder, or a name on the Hugging Face hub
train: $KLUE_RE_DATA/train.jsonl
validation: $KLUE_RE_DATA/validation.jsonl
output: runs/mine/member
epochs: 3
augmentation: {method: aeda}
```

`recipes/` has complete ones: `default/` (the default ensemble), `large/` (klue/roberta-large on a
GPU), `exits/` (a trunk with four exits), `study/` (the study) and `tiny/` (every command in
seconds).
[Training](training.md) explains the commands.
"""


SEARCH_PARAMETERS: Final = """\
### `search.parameters`

Each parameter is the name of a field of the recipe and one of these.
`recipes/tiny/search.yaml` is an example.

| form | values that are drawn |
| --- | --- |
| `{type: log_uniform, low: 0.0001, high: 0.01}` | numbers, evenly by their logarithm; for learning rates |
| `{type: uniform, low: 0.0, high: 0.2}` | numbers, evenly |
| `{type: int, low: 1, high: 4}` | whole numbers, `high` included |
| `{type: choice, choices: [null, {method: aeda}]}` | one of the values; a value can be a block |
"""


def settings_page() -> str:
    """docs/settings.md."""
    from api.settings import Settings

    lines = [
        _line(
            f"`KORE_{name.upper()}`",
            f"`--{name.replace('_', '-')}`",
            _default(field),
            _allowed(field),
            field.description,
        )
        for name, field in Settings.model_fields.items()
    ]
    return _note("api/settings.py and engine/settings.py") + SETTINGS_INTRO + "\n".join(lines) + "\n"


def recipe_page() -> str:
    """docs/recipe.md."""
    from models.markers import MarkerTemplate
    from training.augmentation.methods import METHODS
    from training.data.folds import Fold
    from training.run.recipe import ContextualRecipe, PretrainingRecipe, Recipe
    from training.trials.space import SearchSpace

    sections = [
        _section("A member: `python -m training.train`", Recipe),
        _section("`markers`: a template of your own, or its file", MarkerTemplate),
        _section("`fold`: sentences to hold out", Fold),
        "## `augmentation`: new rows from old ones\n\n"
        "`method` names one of these. `copies` and `balance` belong to all of them.\n",
        *(_section(f"`{name}`", method, level=3) for name, method in METHODS.items()),
        _section("`search`: what `python -m training.search` tries", SearchSpace),
        SEARCH_PARAMETERS,
        _section("Adapting the encoder: `python -m training.pretrain`", PretrainingRecipe, like=Recipe),
        _section(
            "Contextual augmentation's model: `python -m training.contextual`", ContextualRecipe, like=Recipe
        ),
    ]
    return _note("training/run/recipe.py") + "\n".join([RECIPE_INTRO, *sections])


PAGES: Final[dict[str, Callable[[], str]]] = {"settings.md": settings_page, "recipe.md": recipe_page}


def _section(title: str, model: type[BaseModel], level: int = 2, like: type[BaseModel] | None = None) -> str:
    """A heading and a table of the model's fields, without those that it has in common with `like`."""
    known = like.model_fields if like else {}
    common = [name for name, field in model.model_fields.items() if repr(field) == repr(known.get(name))]
    lines = [f"{'#' * level} {title}", ""]
    if common:
        names = ", ".join(f"`{name}`" for name in common)
        lines += ["Also these fields of a member's recipe:", fill(f"{names}.", 100), ""]
    lines += ["| field | default | allowed | what it sets |", "| --- | --- | --- | --- |"]
    for name, field in model.model_fields.items():
        if name not in common and name != "method":
            lines.append(_line(f"`{name}`", _default(field), _allowed(field), field.description))
    return "\n".join([*lines, ""])


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


def _note(source: str) -> str:
    return NOTE.format(source=source) + "\n\n"


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m docs.generate", description=(__doc__ or "").split("\n")[0]
    )
    parser.parse_args(argv)
    for name, page in PAGES.items():
        (FOLDER / name).write_text(page(), encoding="utf-8")
        print(f"wrote docs/{name}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
