"""The commonest reasons why rows were rejected."""

import re
from collections.abc import Iterable, Mapping
from typing import Final

from models.files.rows import Reject

KINDS: Final = 100
"""Kinds of reasons that are counted. Rows with further kinds are not, so that the memory is bounded."""
REASONS_TOLD: Final = 3
MOST_LISTED: Final = 100_000
"""Rejects that are written. Further ones are counted: 84 bytes of zstd can hold millions of bad rows."""
LONGEST: Final = 200

_DETAILS: Final = re.compile(r"'.*'|\".*\"|\d+")
"""Words and numbers of one row."""


def count_reasons(before: Mapping[str, int], rejects: Iterable[Reject]) -> dict[str, int]:
    """How many rows were rejected for each kind of reason. A kind is named by the reason of its first row."""
    counts = dict(before)
    kinds = {_DETAILS.sub("", reason): reason for reason in counts}
    for reject in rejects:
        reason = reject.reason[:LONGEST]
        first = kinds.setdefault(_DETAILS.sub("", reason), reason)
        if first in counts or len(counts) < KINDS:
            counts[first] = counts.get(first, 0) + 1
    return counts


def commonest(reasons: Mapping[str, int]) -> str:
    """Reasons with their counts, on one line."""
    return "; ".join(f"{count:,} rows: {' '.join(reason.split())}" for reason, count in reasons.items())
