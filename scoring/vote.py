"""Vote over files of predictions of the same rows, soft or hard, with given or fitted weights.

A soft vote is the weighted mean of the files' probabilities; equal means go to the first relation in KLUE's
order. With --hard each file votes for its own relation with its weight. A tie goes to the tied relation with
the highest weighted mean probability, then to the first one in KLUE's order. C lists the weighted means in
both cases, because AUPRC is computed from them.

The files are JSONL with all 30 probabilities (python -m scoring --top-k 30) or submissions. C has their form.

--fit ROWS gives the labels of the files' rows. It fits the weights that make these labels likeliest, and
shows micro-F1 and AUPRC of each file, of the vote with equal weights, of the vote with fitted weights, and
cross-fitted: each half of the sentences with the weights of the other half. Expect the cross-fitted figures
on new rows. Then give the weights, by --weights, to the vote over the files of unlabelled rows.

Example:
  python -m scoring.vote a.jsonl b.jsonl --output vote.jsonl --weights 1,3
  python -m scoring.vote submission-a.csv submission-b.csv submission-c.csv --output submission.csv --hard
  python -m scoring.vote a.jsonl b.jsonl --output vote.jsonl --fit validation.jsonl

Exit status: 0; 2 if a file is not one of predictions with 30 probabilities, or the rows differ.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from models.command import fail, positive_numbers
from models.errors import UserError
from models.files.forms import STANDARD
from scoring.errors import Refused
from scoring.forms import output_form
from scoring.options import ScoringParser


def _run(given: argparse.Namespace) -> dict[str, Any]:
    """Read the files, vote, write C; returns the summary. Raises Refused, InvalidRows, OSError."""
    import numpy as np

    from scoring.ballots import documents, fit, read_ballot, require_same_rows, submission, vote
    from scoring.journal import write_whole
    from scoring.outputs import json_lines

    ballots = [read_ballot(path, given.label_order) for path in given.files]
    for ballot in ballots[1:]:
        if ballot.is_submission != ballots[0].is_submission:
            raise Refused(f"{ballot.path} and {ballots[0].path} have different forms; give files of one form")
        require_same_rows(ballot.path, ballot.names, ballots[0])
    form = "submission" if ballots[0].is_submission else "jsonl"
    named = output_form(given.output)
    if given.output != STANDARD and named != form and (form, named) != ("submission", "csv"):
        raise Refused(f"--output {given.output}: the files are {form}; name one that ends in {_ending(form)}")
    figures: dict[str, Any] = {}
    if given.fit:
        weights, figures = fit(ballots, given.fit)
    else:
        weights = np.array(given.weights or [1.0] * len(ballots))
    result = vote(ballots, weights, given.hard)
    if form == "submission":
        data = submission(ballots, result, given.label_order)
    else:
        data = json_lines(documents(ballots, result))
    if given.output == STANDARD:
        sys.stdout.write(data.decode())
    else:
        write_whole(Path(given.output), data)
    return {
        "output": given.output,
        "rows": len(result.relation_ids),
        "voting": "hard" if given.hard else "soft",
        "weights": weights.tolist(),
        **figures,
    }


def _ending(form: str) -> str:
    return ".csv" if form == "submission" else ".jsonl"


def _table(files: Sequence[Path], figures: dict[str, Any]) -> str:
    """Micro-F1 and AUPRC of each file and of each vote, one line each."""
    votes = {name.replace("_", " "): each for name, each in figures.items() if isinstance(each, dict)}
    lines = {**{str(path): each for path, each in zip(files, figures["files"], strict=True)}, **votes}
    width = max(map(len, lines))
    return "\n".join(
        f"{name:{width}}  micro-F1 {each['micro_f1']:6.2f}  AUPRC {each['auprc']:6.2f}"
        for name, each in lines.items()
    )


def _parse(argv: list[str] | None) -> argparse.Namespace:
    parser = ScoringParser("scoring.vote", __doc__)
    add = parser.add_argument
    add("files", nargs="+", type=Path, metavar="FILE", help="predictions of the same rows; two or more files")
    add("--output", required=True, metavar="C", help="file to write; - is standard output")
    add("--weights", type=positive_numbers, metavar="W,W,…", help="one for each file (default: equal)")
    add("--fit", type=Path, metavar="ROWS", help="the files' rows with labels, to fit the weights on")
    add("--hard", action="store_true", help="each file votes for its relation (default: soft, for the mean)")
    parser.add_label_order()
    given = parser.parse_args(argv)
    if len(given.files) < 2:
        parser.error("two or more files are required")
    if given.weights and len(given.weights) != len(given.files):
        parser.error(f"--weights: {len(given.weights)} given for {len(given.files)} files")
    if given.fit and (given.weights or given.hard):
        parser.error("--fit: it fits the weights of a soft vote; leave --weights and --hard out")
    if given.output != STANDARD and Path(given.output).resolve() in [file.resolve() for file in given.files]:
        parser.error(f"--output {given.output}: this is one of the files; it would be overwritten")
    if given.output != STANDARD and not Path(given.output).parent.is_dir():
        parser.error(
            f"--output {given.output}: there is no folder {Path(given.output).parent}; make it first"
        )
    return given


def main(argv: list[str] | None = None) -> int:
    given = _parse(argv)
    try:
        summary = _run(given)
    except BrokenPipeError:
        return UserError.exit_status
    except (UserError, OSError) as error:
        return fail("scoring.vote", error)
    if given.fit:
        print(_table(given.files, summary), file=sys.stderr)
    print(json.dumps(summary), file=sys.stderr if given.output == STANDARD else sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
