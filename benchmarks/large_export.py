"""The memory of exporting weights of over 2 GiB: python -m benchmarks.large_export

Makes an XLM-R classifier with one layer, a large vocabulary and random weights, exports it, verifies the
bundle and serves it. Reports the peak memory of each, as the kernel counts it. The default size needs 16 GB
of disk for a while.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

from loadtest.command import conclude, make_parser
from loadtest.sentences import make_rows
from loadtest.server import ROOT, running

PROMISED_MB: Final = 14_000
ROWS: Final = 200


def write_checkpoint(folder: Path, sentences: list[str], vocabulary: int, hidden_size: int) -> None:
    """A sequence classifier whose tokenizer knows the words of the sentences."""
    import torch
    from transformers import AutoTokenizer, XLMRobertaConfig, XLMRobertaForSequenceClassification

    from models.labels import RELATION_IDS, RELATIONS
    from training.model.tiny_encoder import write_encoder

    write_encoder(folder, sentences)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    torch.manual_seed(0)
    config = XLMRobertaConfig(
        vocab_size=vocabulary,
        hidden_size=hidden_size,
        num_hidden_layers=1,
        num_attention_heads=hidden_size // 64,
        intermediate_size=4 * hidden_size,
        max_position_embeddings=258,
        pad_token_id=tokenizer.pad_token_id,
        type_vocab_size=1,
        id2label=dict(enumerate(RELATIONS)),
        label2id=RELATION_IDS,
        initializer_range=0.05,  # large enough for answers that are not all alike
    )
    model = XLMRobertaForSequenceClassification(config)
    torch.nn.init.constant_(model.classifier.out_proj.bias[:1], 5.0)  # else int8 changes near-ties
    model.save_pretrained(folder, max_shard_size="50GB")


def peak_mb(*command: object) -> float:
    """Run a command of this project; returns its peak resident memory in MB.

    Raises:
        SystemExit: it failed.
    """
    arguments = [sys.executable, "-m", *map(str, command)]
    with subprocess.Popen(arguments, cwd=ROOT, stdout=subprocess.DEVNULL) as process:
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"it ended with {process.returncode}: {' '.join(arguments[1:])}")
    return usage.ru_maxrss / 1000


def main(argv: list[str] | None = None) -> int:
    parser = make_parser(
        "benchmarks.large_export",
        "Export weights of over 2 GiB and report the peak memory.",
        "--vocabulary 250000 --precision fp32",
    )
    add = parser.add_argument
    add("--vocabulary", type=int, default=530_000, help="rows of the embedding table (default: 530000)")
    add("--hidden-size", type=int, default=1024, help="columns of the embedding table (default: 1024)")
    add("--precision", default="fp32,int8", help="as for python -m export (default: fp32,int8)")
    given = parser.parse_args(argv)
    rows = make_rows()[:ROWS]
    with tempfile.TemporaryDirectory() as scratch:
        folder, bundle, data = (Path(scratch) / name for name in ("checkpoint", "bundle", "rows.jsonl"))
        data.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
        sentences = [str(row["sentence"]) for row in rows]
        write_checkpoint(folder, sentences, given.vocabulary, given.hidden_size)
        weights = (folder / "model.safetensors").stat().st_size / 1e6
        options = ("--markers", "typed_punctuation", "--precision", given.precision, "--data", data)
        peak = peak_mb("export", folder, *options, "--output", bundle)
        verified = peak_mb("export.verify", bundle, "--data", data)
        with running(bundle) as server:
            status = server.client.post("/relations", json=rows[0]).status_code
            lines = Path(f"/proc/{server.process.pid}/status").read_text(encoding="utf-8").splitlines()
    served = next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1000
    peaks = {"export": peak, "verify": verified, "server": served}
    figures = {"weights_mb": round(weights), **{f"{of}_peak_mb": round(mb) for of, mb in peaks.items()}}
    promise = f"the export needs less than {PROMISED_MB} MB; measured {peak:.0f}"
    promises = {promise: peak < PROMISED_MB, "a server answers with the bundle": status == 200}
    return conclude("large_export", figures, promises)


if __name__ == "__main__":
    sys.exit(main())
