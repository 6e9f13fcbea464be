"""Write the model card of a bundle: README.md with the figures that a user of the model needs.

It needs only the packages that serving installs. The folder of the bundle needs room for a second bundle.

The card has the metadata that model hubs read, and sections on quality: as served and with every member
voting, without entity types, by relation, by pair of entity types, by length, how far the score can be
trusted, and what the model confuses. --about adds text of your own, for example on training and limits.

Example:
  python -m export.card bundles/mine --data validation.jsonl --train train.jsonl --licence cc-by-sa-4.0 \\
      --about about.md
"""

import argparse
import sys
from pathlib import Path
from typing import Any

from export.command import ExportParser


def main(argv: list[str] | None = None) -> int:
    parser = ExportParser("export.card", __doc__)
    parser.add_bundle_folder()
    parser.add_rows("--data", "labelled KLUE-RE rows that no member was trained on", required=True)
    parser.add_rows("--train", "the training rows; the card then has figures without their sentences")
    parser.add_argument(
        "--licence",
        default="other",
        metavar="ID",
        help="the licence's identifier on the Hugging Face hub (default: other)",
    )
    parser.add_argument("--about", type=_text, metavar="FILE.md", help="Markdown text to add")
    given = parser.parse_args(argv)
    return parser.run(lambda: _write(given))


def _write(given: argparse.Namespace) -> dict[str, Any]:
    from export.card_figures import measure
    from export.card_text import RELIABILITY, Card, plot
    from export.evaluate import read_rows
    from export.replace import replacing
    from models.bundle import CARD, Bundle, write

    bundle = Bundle.open(given.bundle)
    figures = measure(bundle, given.data, read_rows(given.train) if given.train else [])
    card = Card(bundle.manifest, figures, given.licence, given.about or "")
    with replacing(given.bundle) as copy:
        (copy / CARD).write_text(card.markdown(), encoding="utf-8")
        (copy / RELIABILITY).write_text(plot(figures.served), encoding="utf-8")
        write(copy, bundle.manifest)
    served = figures.served.quality
    return {"bundle": str(given.bundle), "card": CARD, "micro_f1": served.micro_f1, "auprc": served.auprc}


def _text(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise argparse.ArgumentTypeError(f"{path}: {error}") from None


if __name__ == "__main__":
    sys.exit(main())
