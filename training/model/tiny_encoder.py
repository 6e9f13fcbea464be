"""A tiny encoder with random weights: `python -m training.tiny_encoder`.

It is an ordinary checkpoint folder: BERT with 2 layers of 32 units and 128 positions, and a tokenizer whose
tokens are the words and characters of the rows. The same rows give the same files.
"""

from collections.abc import Sequence
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from models.markers import TYPED_PUNCTUATION
from models.marking import Marking

SPECIALS = {
    "bos_token": "<s>",
    "pad_token": "<pad>",
    "eos_token": "</s>",
    "unk_token": "<unk>",
    "mask_token": "<mask>",
}
MARKERS = sorted(Marking(TYPED_PUNCTUATION).texts)
"""The text that models/markers.py puts around entities."""


def write_encoder(folder: Path, sentences: Sequence[str]) -> None:
    """Write model and tokenizer to a folder.

    Args:
        sentences: texts whose words and characters the tokenizer knows.
    """
    specials = list(SPECIALS.values())
    text = " ".join(sentences)
    characters = sorted(set(text) - {" "} | set("".join(MARKERS)))
    words = sorted({f"▁{word}" for word in [*text.split(), *MARKERS]})
    # The vocabulary is written, not trained: the result of the trainer differs from run to run.
    vocabulary = [(token, 0.0) for token in specials] + [("▁", -4.0)]
    vocabulary += [(character, -5.0) for character in characters] + [(word, -6.0) for word in words]
    tokenizer = Tokenizer(models.Unigram(vocabulary, unk_id=3))
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.add_special_tokens(specials)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
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
