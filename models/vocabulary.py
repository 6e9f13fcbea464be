"""Whether a tokenizer fits the rows and the markers: faults that would only cost quality, silently."""

import re
from collections.abc import Sequence
from itertools import islice
from typing import Final

from tokenizers import Tokenizer

from models.encoding import Encoder
from models.example import Example
from models.markers import MarkerTemplate

ROWS_READ: Final = 1000
MOST_UNKNOWN: Final = 0.2
"""Share of unknown tokens above which a tokenizer is refused. The default bundle's has 0.01 % on KLUE-RE."""
UNUSUAL: Final = 0.05
JAMO, SYLLABLE = re.compile("[\u1100-\u11ff]"), re.compile("[가-힣]")
STANDARD: Final = re.compile(
    r"\[(PAD|UNK|CLS|SEP|MASK|BOS|EOS|unused\d+)\]|</?(s|pad|unk|mask|cls|sep|bos|eos|unused\d+)>|<\|.*\|>"
)
BRACKETED: Final = re.compile(r"[\[<({#@$].*[\])>}#@$]", re.DOTALL)


def check_vocabulary(tokenizer: Tokenizer, encoder: Encoder, rows: Sequence[Example]) -> str | None:
    """Count the unknown tokens of the first rows.

    Returns:
        A warning; None if there is nothing unusual.

    Raises:
        ValueError: most text is lost, because words are unknown or Hangul is taken apart.
    """
    taken_apart = ""
    if tokenizer.normalizer is not None and JAMO.search(tokenizer.normalizer.normalize_str("한국")):
        pieces = tokenizer.get_vocab()
        if sum(map(bool, map(SYLLABLE.search, pieces))) > sum(map(bool, map(JAMO.search, pieces))):
            taken_apart = "it takes Hangul apart, but its vocabulary has whole syllables: "
    unknown = next((i for t in ("<unk>", "[UNK]") if (i := tokenizer.token_to_id(t)) is not None), None)
    ids = [index for row in islice(rows, ROWS_READ) for index in encoder.encode(row).input_ids.tolist()]
    share = ids.count(unknown) / len(ids) if unknown is not None and ids else 0.0
    found = f"the tokenizer does not fit: {taken_apart}{share:.1%} of the tokens of the rows are unknown"
    if taken_apart or share > MOST_UNKNOWN:
        raise ValueError(
            f"{found}; add the model's tokenizer_config.json (do_lower_case: false) or its tokenizer.json"
        )
    return found if share > UNUSUAL else None


def unused_markers(tokenizer: Tokenizer, template: MarkerTemplate) -> list[str]:
    """The added tokens that look like markers and that a template does not use."""
    used = set(template.vocabulary)
    added = {token.content for token in tokenizer.get_added_tokens_decoder().values()}
    return sorted(
        token for token in added - used if BRACKETED.fullmatch(token) and not STANDARD.fullmatch(token)
    )
