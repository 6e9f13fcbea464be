"""A pretrained encoder as a masked language model. A missing head or mask token is added."""

import torch
from transformers import AutoModelForMaskedLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerFast

from training.model.pretrained import require_encoder


def load_masked_lm(name: str, layers: int | None = None) -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
    """The masked language model of an encoder (a folder or a hub name), in float32, and its tokenizer.

    A checkpoint without a masked-LM head, such as a sentence encoder, gets a new head: its output matrix is
    the input embeddings, its other weights are random and follow `transformers.set_seed`. A tokenizer without
    a mask token gets one, and the model gets a row of embeddings for it.

    Args:
        layers: number of the encoder's first layers to keep; all by default.

    Raises:
        OSError, ValueError: neither a checkpoint folder nor a hub name, an encoder without a masked language
            model, or a checkpoint with missing weights.
    """
    tokenizer = AutoTokenizer.from_pretrained(name)
    fewer = {"num_hidden_layers": layers} if layers else {}
    model, report = AutoModelForMaskedLM.from_pretrained(
        name, **fewer, dtype=torch.float32, output_loading_info=True
    )
    require_encoder(model, name, report["missing_keys"])
    if tokenizer.mask_token is None:
        mask = "[MASK]" if "[MASK]" in tokenizer.get_vocab() else "<mask>"
        tokenizer.add_special_tokens({"mask_token": mask})
    if len(tokenizer) > model.get_input_embeddings().num_embeddings:
        model.resize_token_embeddings(len(tokenizer))
    return model, tokenizer
