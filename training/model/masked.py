"""A pretrained encoder as a masked language model, whatever its checkpoint lacks for that."""

import torch
from transformers import AutoModelForMaskedLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerFast

from training.model.pretrained import require_encoder


def load_masked_lm(name: str, layers: int | None = None) -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
    """The masked language model over an encoder (a folder or a hub name), in float32, and its tokenizer.

    A checkpoint without a masked-LM head, as those of sentence encoders are, gets a new one: its output
    matrix is the input embeddings, its other weights are random and follow `transformers.set_seed`. A
    tokenizer without a mask token gets one, and the model a new row of embeddings where the vocabulary holds
    no piece for it.

    Args:
        layers: how many of the encoder's first layers to keep; all by default.

    Raises:
        OSError, ValueError: neither a checkpoint folder nor a name on the hub, of a kind that has no masked
            language model, or without some of the encoder's weights.
    """
    tokenizer = AutoTokenizer.from_pretrained(name)
    fewer = {"num_hidden_layers": layers} if layers else {}
    model, report = AutoModelForMaskedLM.from_pretrained(
        name, **fewer, dtype=torch.float32, output_loading_info=True
    )
    require_encoder(model, name, report["missing_keys"])
    if tokenizer.mask_token is None:
        tokenizer.add_special_tokens(
            {"mask_token": "[MASK]" if "[MASK]" in tokenizer.get_vocab() else "<mask>"}
        )
    if len(tokenizer) > model.get_input_embeddings().num_embeddings:
        model.resize_token_embeddings(len(tokenizer))
    return model, tokenizer
