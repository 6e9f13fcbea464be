"""Export fine-tuned checkpoints to a bundle, and prove that it answers as they do.

A checkpoint is a folder of `training.train`, or a Hugging Face folder of a BERT, RoBERTa, XLM-R or ELECTRA
sequence classifier. Each graph and its PyTorch model answer the rows of --data. No bundle is written if
less than 99.9 % (fp32), 99.5 % (fp16) or 96 % (int8) of the labels agree, or if micro-F1 falls by more than
0.5.

Examples:
  python -m export runs/default/member-6 runs/default/member-12 --output bundles/mine --data validation.jsonl
  python -m export electra roberta --markers typed_punctuation,entity_tokens --weights fit \\
      --weights-data dev.jsonl --output bundles/mine --data validation.jsonl
"""

import sys
from typing import Any

from export.command import ExportParser
from export.options import ExportOptions, parse


def main(argv: list[str] | None = None) -> int:
    parser = ExportParser("export", __doc__)
    options = parse(parser, argv)
    return parser.run(lambda: _export(options))


def _export(options: ExportOptions) -> dict[str, Any]:
    options.check()
    import transformers

    from export.ensemble import export_ensemble

    transformers.logging.set_verbosity_error()  # the faults that it warns of are refused
    exported = export_ensemble(options)
    quality = next(iter(exported.manifest.quality.values()))
    return {"bundle": str(options.output), **quality.model_dump(), "notes": exported.notes}


if __name__ == "__main__":
    sys.exit(main())
