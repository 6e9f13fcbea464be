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

from models.files.forms import STANDARD
from scoring.errors import Refused, Stopped
from scoring.options import USER_ERROR, ScoringOptions, parse
from scoring.paths import check_paths

INTERRUPTED = 130


def main(argv: list[str] | None = None) -> int:
    options = parse(argv, __doc__ or "")
    try:
        check_paths(options)
        return _run(options)
    except Refused as error:
        return _fail(str(error), USER_ERROR)
    except Stopped as error:
        return _fail(str(error), 1)
    except BrokenPipeError:
        with suppress(OSError):
            # else Python complains once more when it exits
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _fail("standard output was closed before the last row", USER_ERROR)
    except OSError as error:
        return _fail(f"{error.filename or options.output}: {error.strerror or error}", USER_ERROR)
    except KeyboardInterrupt:
        return _fail("interrupted", INTERRUPTED)


def _run(options: ScoringOptions) -> int:
    # they load ONNX Runtime
    from models.bundle import BundleRefused
    from models.ensemble import DeviceUnavailable
    from models.files.errors import InvalidRows
    from scoring.outputs import json_lines
    from scoring.reasons import commonest
    from scoring.run import run

    try:
        summary = run(options)
    except (BundleRefused, DeviceUnavailable, InvalidRows) as error:
        raise Refused(str(error)) from None
    stream = sys.stderr if options.output == STANDARD else sys.stdout
    print(json_lines([summary]).decode(), end="", file=stream)
    if summary["rows"] and not summary["scored"]:
        return _fail(
            f"none of the {summary['rows']:,} rows could be scored: {commonest(summary['reasons'])}", 1
        )
    return 1 if summary["broken"] else 0


def _fail(message: str, status: int) -> int:
    print(f"scoring: {message}", file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
