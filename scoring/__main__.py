"""Predict the relation of each row of a file.

Examples:
  python -m scoring rows.jsonl predictions.jsonl
  python -m scoring test_data.csv submission.csv --resume
  zcat rows.json.gz | python -m scoring - - > predictions.jsonl

Exit status:
  0    every row was scored or is among the rejects
  1    the input breaks off (the rows before are scored), no row could be scored, a row is bad under --strict,
       or the engine fails
  2    the user's error, on one line
  130  Ctrl-C
"""

import os
import sys
from contextlib import suppress

from engine.cores import available_cores
from models.command import fail
from models.errors import UserError
from models.files.forms import STANDARD
from models.memory import few_heaps
from scoring.errors import Stopped
from scoring.options import ScoringOptions, parse
from scoring.paths import check_paths

INTERRUPTED = 130


def main(argv: list[str] | None = None) -> int:
    options = parse(argv, __doc__)
    few_heaps(available_cores())
    try:
        check_paths(options)
        return _run(options)
    except UserError as error:
        return fail("scoring", error)
    except BrokenPipeError:
        with suppress(OSError):
            # else Python complains once more when it exits
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return fail("scoring", "standard output was closed before the last row")
    except OSError as error:
        return fail("scoring", f"{error.filename or options.output}: {error.strerror or error}")
    except KeyboardInterrupt:
        fail("scoring", "interrupted")
        return INTERRUPTED


def _run(options: ScoringOptions) -> int:
    # they load ONNX Runtime
    from scoring.outputs import json_lines
    from scoring.reasons import commonest
    from scoring.run import run

    summary = run(options)
    stream = sys.stderr if options.output == STANDARD else sys.stdout
    print(json_lines([summary]).decode(), end="", file=stream)
    if summary["rows"] and not summary["scored"]:
        reasons = commonest(summary["reasons"])
        raise Stopped(f"none of the {summary['rows']:,} rows could be scored: {reasons}")
    return 1 if summary["broken"] else 0


if __name__ == "__main__":
    sys.exit(main())
