"""A tiny encoder with random weights, to try every command on without a download.

    python -m training.tiny_encoder runs/tiny/encoder
    python -m training.train recipes/tiny/train.yaml

An ordinary checkpoint folder, as a pretrained encoder's: BERT of 2 layers of 32, 128 positions, and a
tokenizer whose pieces are the words and characters of the rows. The same rows give the same files.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from models.rows import InvalidRows, read_labelled

SPECIALS = {
    "bos_token": "<s>",
    "pad_token": "<pad>",
    "eos_token": "</s>",
    "unk_token": "<unk>",
    "mask_token": "<mask>",
}
# what models/encoding.py puts around entities
MARKERS = ["@", "*", "#", "^", "사람", "단체", "장소", "날짜", "기타", "수량"]


def write_encoder(folder: Path, sentences: Sequence[str]) -> None:
    """Write model and tokenizer to a folder.

    Args:
        sentences: texts whose words and characters the tokenizer shall know.
    """
    specials = list(SPECIALS.values())
    text = " ".join(sentences)
    characters = sorted(set(text) - {" "} | set("".join(MARKERS)))
    words = sorted({f"▁{word}" for word in [*text.split(), *MARKERS]})
    # A vocabulary written down, not trained: the trainer's result differs from run to run.
    vocabulary = [(token, 0.0) for token in specials] + [("▁", -4.0)]
    vocabulary += [(character, -5.0) for character in characters] + [(word, -6.0) for word in words]
    tokenizer = Tokenizer(models.Unigram(vocabulary, unk_id=3))
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.add_special_tokens(specials)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **SPECIALS).save_pretrained(folder)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=128,
        pad_token_id=1,
    )
    BertModel(config).save_pretrained(folder)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        usage=argparse.SUPPRESS,
        prog="python -m training.tiny_encoder",
        description="Write a tiny encoder with random weights.",
    )
    parser.add_argument("folder", type=Path, help="receives model and tokenizer")
    parser.add_argument(
        "--rows",
        type=Path,
        default=Path("recipes/tiny/train.jsonl"),
        help="JSONL of rows to know the words of",
    )
    arguments = parser.parse_args(argv)
    try:
        write_encoder(arguments.folder, [row.example.sentence for row in read_labelled(arguments.rows)])
    except (InvalidRows, OSError) as error:
        print(f"training.tiny_encoder: {error}", file=sys.stderr)
        return 2
    print(json.dumps({"encoder": str(arguments.folder)}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
