"""Marker templates: how the two entities are marked in a sentence. `MARKER_STYLES` lists those with a name.

To add a style:

1. Add one template to `MARKER_STYLES`. Recipes, `export --markers` and manifests use its key.
2. Add the marked sentence of the test's example to `STYLES` in tests/test_markers.py; a test demands it.
3. Add a row to the table of marker styles in docs/export.md.

A template can also be in a file (`read_markers`). Then no code changes.
"""

import re
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from models.example import ENTITY_TYPES, EntityType

WORD, TYPE = "{word}", "{type}"
SUBJECT, OBJECT = "{subject}", "{object}"
PLACEHOLDER: Final = re.compile(r"\{(?:word|type|subject|object)\}")

Text = Annotated[str, Field(min_length=1, max_length=200)]


class Token(str):
    """A piece that is one token of the vocabulary. The same characters in a user's sentence stay text."""

    __slots__ = ()


class TypeWords(BaseModel):
    """What `{type}` becomes for each entity type."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    PER: Text = "PER"
    ORG: Text = "ORG"
    LOC: Text = "LOC"
    DAT: Text = "DAT"
    POH: Text = "POH"
    NOH: Text = "NOH"


class MarkerTemplate(BaseModel):
    """One way to mark an example. The fields are those of a template file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    subject: Text = Field(description="What the subject becomes: `{word}` is its word, `{type}` its type.")
    object: Text = Field(description="What the object becomes.")
    subject_untyped: Text | None = Field(
        None,
        description="What a subject without a type becomes. Required if `subject` has `{type}`.",
    )
    object_untyped: Text | None = Field(
        None, description="What an object without a type becomes. Required if `object` has `{type}`."
    )
    types: TypeWords | None = Field(
        None,
        description="What `{type}` becomes, for example `{PER: 사람, ORG: 단체}`. A type that is left out "
        "keeps its name.",
    )
    tokens: tuple[Text, ...] = Field(
        (),
        max_length=64,
        description="Markers that are one token of the vocabulary; `{type}` in them is each type.",
    )
    before: Text | None = Field(
        None, description="What comes before the sentence: `{subject}` and `{object}` are the words."
    )
    after: Text | None = Field(None, description="What comes after the sentence.")
    segments: Literal[1, 2] = Field(
        2, description="2: `before` or `after` is a segment of its own. 1: all is one segment."
    )
    piecewise: bool = Field(
        False,
        description="false: the marked sentence is tokenised as one text. true: text, markers and words are "
        "tokenised each on its own, and a space in `subject` or `object` only separates markers.",
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        for role in ("subject", "object"):
            pattern, untyped = getattr(self, role), getattr(self, f"{role}_untyped")
            if untyped is None and TYPE in pattern:
                raise ValueError(f"{role} has {TYPE}; give {role}_untyped for an entity without a type")
            _check_pattern(role, pattern, WORD, TYPE)
            _check_pattern(f"{role}_untyped", WORD if untyped is None else untyped, WORD)
        for place in ("before", "after"):
            _check_pattern(place, getattr(self, place) or "", SUBJECT, OBJECT)
        if self.before and self.after and self.segments == 2:
            raise ValueError("before and after: only one of them can be a segment; give segments: 1")
        for token in self.tokens:
            _check_pattern("tokens", token, TYPE)
        patterns = (self.subject, self.object, self.subject_untyped, self.object_untyped)
        texts = [text for text in (*patterns, self.before, self.after) if text]
        if unused := next((token for token in self.tokens if not any(token in text for text in texts)), None):
            raise ValueError(f"tokens: {unused!r} is in none of the other fields")
        return self

    @property
    def vocabulary(self) -> tuple[str, ...]:
        """The markers that are single tokens, for every type."""
        filled = (token.replace(TYPE, self._word(type_)) for token in self.tokens for type_ in ENTITY_TYPES)
        return tuple(dict.fromkeys(filled))

    @property
    def two_segments(self) -> bool:
        """Whether the tokenizer gets two segments."""
        return self.segments == 2 and bool(self.before or self.after)

    def around(
        self, role: Literal["subject", "object"], type_: EntityType | None
    ) -> tuple[list[str], list[str]]:
        """The pieces before the word of an entity and those after it."""
        untyped = None if type_ else getattr(self, f"{role}_untyped")
        pattern = untyped or getattr(self, role)
        texts = pattern.split() if self.piecewise else [pattern]
        parts = [part for text in texts for part in self._parts(text.replace(TYPE, self._word(type_)))]
        word = parts.index(WORD)
        return parts[:word], parts[word + 1 :]

    def context(self, place: Literal["before", "after"]) -> list[str]:
        """The pieces before or after the sentence, with placeholders."""
        return self._parts(getattr(self, place) or "")

    def _parts(self, text: str) -> list[str]:
        """A text cut at the word and at the markers that are tokens."""
        tokens = self.vocabulary
        cuts = "|".join(map(re.escape, (WORD, *sorted(tokens, key=len, reverse=True))))
        return [Token(part) if part in tokens else part for part in re.split(f"({cuts})", text) if part]

    def _word(self, type_: EntityType | None) -> str:
        return str(getattr(self.types or TypeWords(), type_)) if type_ else ""


def _check_pattern(name: str, pattern: str, *placeholders: str) -> None:
    known = " and ".join(placeholders)
    if WORD in placeholders and pattern.count(WORD) != 1:
        raise ValueError(f"{name}: {WORD} is required once, not in {pattern!r}")
    left = PLACEHOLDER.sub(lambda found: "" if found[0] in placeholders else found[0], pattern)
    if "{" in left or "}" in left:
        raise ValueError(f"{name}: {pattern!r} has a brace; braces are only for {known}")


def checked(value: Any) -> Any:
    """A name of `MARKER_STYLES`, or a template from its fields.

    Raises:
        ValueError: it is neither; the message is one line.
    """
    if isinstance(value, str):
        if value not in MARKER_STYLES:
            raise ValueError(f"unknown marker style {value!r}; this version knows {', '.join(MARKER_STYLES)}")
        return value
    try:
        return MarkerTemplate.model_validate(value)
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        where = ".".join(map(str, fault["loc"]))
        message = str(fault["ctx"]["error"]) if "error" in fault.get("ctx", {}) else fault["msg"]
        raise ValueError(f"marker template: {where + ': ' if where else ''}{message}") from None


Markers = Annotated[str | MarkerTemplate, BeforeValidator(checked)]
"""A name of `MARKER_STYLES` or a template, as in manifests, recipes and `config.json`."""


def template_of(markers: str | MarkerTemplate) -> MarkerTemplate:
    """The template of a name, or the template itself."""
    return MARKER_STYLES[markers] if isinstance(markers, str) else markers


def described(markers: str | MarkerTemplate) -> str:
    """The markers on one line, for a person."""
    return markers if isinstance(markers, str) else f"a template ({markers.subject} … {markers.object})"


def as_json(markers: str | MarkerTemplate) -> Any:
    """What `checked` reads as these markers."""
    return markers if isinstance(markers, str) else markers.model_dump(mode="json", exclude_defaults=True)


TYPE_WORDS: Final[dict[EntityType, str]] = {
    "PER": "사람",
    "ORG": "단체",
    "LOC": "장소",
    "DAT": "날짜",
    "POH": "기타",
    "NOH": "수량",
}
"""The entity types in Korean: a pretrained encoder knows these words, but not KLUE's abbreviations."""

TYPED_PUNCTUATION: Final = MarkerTemplate(
    subject="@ * {type} * {word} @",
    object="# ^ {type} ^ {word} #",
    subject_untyped="@ {word} @",
    object_untyped="# {word} #",
    types=TypeWords(**TYPE_WORDS),
    piecewise=True,
)
"""Punctuation and the type: `@ * 사람 * 이순신 @ 은 조선 중기의 # ^ 기타 ^ 무신 # 이다.`

From Zhou and Chen, "An Improved Baseline for Sentence-level Relation Extraction", 2022 (arXiv:2102.01373).
"""

MARKER_STYLES: Final[dict[str, MarkerTemplate]] = {
    "typed_punctuation": TYPED_PUNCTUATION,
    # '및' fits every word. '과' or '와' would depend on the word's last sound, which digits and Latin letters
    # do not show.
    "typed_punctuation_question": TYPED_PUNCTUATION.model_copy(
        update={"after": "{subject} 및 {object}의 관계는 무엇인가?"}
    ),
    # KLUE's own markers, from Park et al., "KLUE", 2021 (arXiv:2105.09680).
    "entity_tokens": MarkerTemplate(
        subject="<subj>{word}</subj>",
        object="<obj>{word}</obj>",
        tokens=("<subj>", "</subj>", "<obj>", "</obj>"),
        piecewise=True,
    ),
}
"""The marker styles that have a name."""


def read_markers(name: str) -> str | MarkerTemplate:
    """The name of a marker style as it is, or the template in the file of that name.

    Raises:
        ValueError: it is neither a style nor a file with a template; the message is one line.
    """
    if name in MARKER_STYLES:
        return name
    path = Path(name)
    if not path.is_file():
        styles = ", ".join(MARKER_STYLES)
        raise ValueError(f"{name!r} is neither a marker style nor a template file; the styles are {styles}")
    from models.yaml_text import read_yaml  # serving does not install PyYAML

    fields = read_yaml(path)
    if not isinstance(fields, dict):
        raise ValueError(f"{path}: a mapping with subject and object is required")
    try:
        template: MarkerTemplate = checked(fields)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    return template
