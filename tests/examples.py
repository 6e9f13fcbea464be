"""Examples for the tests of encoding: from spans, from words, and at random from difficult text."""

from hypothesis import reject
from hypothesis import strategies as st

from models.example import ENTITY_TYPES, EntityType, Example, InvalidExample, Mention

Span = tuple[int, int]


def marked(
    sentence: str,
    subject: Span,
    object_: Span,
    subject_type: EntityType | None = "PER",
    object_type: EntityType | None = "POH",
) -> Example:
    return Example.resolve(
        sentence, Mention(None, *subject, subject_type), Mention(None, *object_, object_type)
    )


def words(sentence: str, subject: str, object_: str) -> Example:
    """An example whose words occur once each."""
    return Example.resolve(sentence, Mention(subject, type="PER"), Mention(object_, type="POH"))


TRICKY = [
    "@",
    "#",
    "*",
    "^",
    "▁",
    "<s>",
    "</s>",
    "<mask>",
    "<pad>",
    "＜/s＞",
    "<subj>",
    "</obj>",
    "[SEP]",
    "＠",
    "\u200d",
    "\u0301",
    "\u11a8",
    "👨\u200d👩\u200d👧",
    " ",
    "무신",
]
ANY_CHARACTER = st.characters(exclude_categories=["Cs"])
SENTENCES = st.lists(
    st.text(ANY_CHARACTER, max_size=8) | st.sampled_from(TRICKY), min_size=1, max_size=20
).map("".join)
TYPES = st.none() | st.sampled_from(ENTITY_TYPES)


@st.composite
def any_example(draw: st.DrawFn) -> Example:
    """Two spans anywhere in any text, in either order."""
    sentence = draw(SENTENCES.filter(lambda text: len(text) >= 2))
    end = draw(st.integers(0, len(sentence) - 2))
    start = draw(st.integers(end + 1, len(sentence) - 1))
    spans = [(draw(st.integers(0, end)), end), (start, draw(st.integers(start, len(sentence) - 1)))]
    subject, object_ = draw(st.permutations(spans))
    try:
        return marked(sentence, subject, object_, draw(TYPES), draw(TYPES))
    except InvalidExample:  # a span of white space
        reject()
