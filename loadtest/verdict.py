"""How a trial ends: its figures and promises as one JSON object on stdout, and an exit status that CI
understands."""

import json
import sys
from typing import Any


def conclude(trial: str, figures: dict[str, Any], promises: dict[str, bool]) -> int:
    """Print the summary; 0 if every promise was kept, else 1."""
    for promise, kept in promises.items():
        print(f"{'kept  ' if kept else 'BROKEN'}  {promise}", file=sys.stderr)
    print(json.dumps({"trial": trial, "kept": all(promises.values()), **figures}, ensure_ascii=False))
    return 0 if all(promises.values()) else 1
