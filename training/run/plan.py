"""What a run will take on this machine: `--dry-run`. It needs the encoder's config and tokenizer, no weights.

1. Read the rows and make the augmented ones, as the run does.
2. Count steps and tokens: batches are padded to their longest row.
3. Count parameters, and estimate memory from them and from the largest batch.
4. Time a training step with one layer and with two, at random weights. More layers take as much longer each.
"""

import math
import time
from typing import Any, Final

import numpy as np
import torch
from torch import nn
from transformers import PretrainedConfig

from models.labels import RELATIONS
from training.augmentation.contextual import Contextual
from training.data.dataset import LENGTH_STEP, LengthBucketSampler, RelationDataset
from training.errors import InvalidRecipe
from training.model.heads import RelationClassifier
from training.model.pretrained import accelerator
from training.run.precision import decide
from training.run.recipe import Recipe
from training.run.training import head_options, read_data

TIMED: Final = 3
"""Steps of which the fastest counts, after one that is not timed."""


def plan(recipe: Recipe) -> dict[str, Any]:
    """What the recipe's run will take on this machine. Raises the errors of `train` that rows, config and
    tokenizer have.

    Returns:
        rows: training rows, with augmented ones.
        steps: of the optimizer, over all epochs.
        tokens: of all batches, with padding.
        parameters: of the model.
        memory_gb: weights, gradients, the optimizer's state and the activations of the largest batch.
        minutes: training and evaluation.
        device: that trains.
        left_out: what is not counted, if there is something.
    """
    recipe = decide(recipe)
    counted, left_out = recipe, {}
    if isinstance(recipe.augmentation, Contextual):
        counted = recipe.changed({"augmentation": None})
        left_out = {"left_out": "the rows of contextual augmentation, which only its model can make"}
    data = read_data(counted)
    rows = [*data.rows, *(variant.row for variant in data.new)]
    shapes = _shapes(RelationDataset(rows, data.encoder, recipe.seed), recipe)
    evaluated = _shapes(RelationDataset(data.validation, data.encoder), recipe)
    try:
        config = RelationClassifier.config_of(recipe.encoder, head_options(recipe, data.encoder.max_length))
    except (OSError, ValueError) as error:
        raise InvalidRecipe(f"encoder: {' '.join(str(error).split())}") from None
    with torch.device("meta"):
        model = RelationClassifier(config)
    by_size = sorted(shapes, key=math.prod)
    seconds = _seconds_a_token(config, recipe, by_size[len(by_size) // 2])
    evaluations = math.ceil(recipe.epochs) if recipe.evaluate == "epoch" else 1
    per_epoch = math.ceil(len(shapes) / recipe.gradient_accumulation)
    tokens = round(sum(map(math.prod, shapes)) * recipe.epochs)
    # an evaluation is a forward pass, a third of a step
    cost = _passes(recipe) * tokens + evaluations * sum(map(math.prod, evaluated)) / 3
    return {
        "rows": len(rows),
        "steps": math.ceil(per_epoch * recipe.epochs),
        "tokens": tokens,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "memory_gb": round(_memory(model, recipe, by_size[-1]) / 1e9, 2),
        "minutes": round(seconds * cost / 60, 1),
        "device": str(accelerator()),
        **left_out,
    }


def _shapes(dataset: RelationDataset, recipe: Recipe) -> list[tuple[int, int]]:
    """Of an epoch's batches as the run makes them: (rows, tokens of the longest row)."""
    order = list(LengthBucketSampler(dataset, recipe.batch_size, recipe.seed))
    cuts = [order[low : low + recipe.batch_size] for low in range(0, len(order), recipe.batch_size)]
    window = dataset.encoder.max_length
    longest = [max(dataset.lengths[row] for row in rows) for rows in cuts]
    padded = [min(-(-tokens // LENGTH_STEP) * LENGTH_STEP, window) for tokens in longest]
    return [(len(rows), tokens) for rows, tokens in zip(cuts, padded, strict=True)]


def _passes(recipe: Recipe) -> float:
    """How many times as long as a plain step the recipe's steps take."""
    passes = 2.0 if recipe.r_drop else 1.0
    if recipe.adversarial != "none":
        passes *= 2 - recipe.adversarial_start
    # the forward pass is computed again, which is a third of a step
    return passes * (4 / 3 if recipe.gradient_checkpointing else 1)


def _memory(model: RelationClassifier, recipe: Recipe, largest: tuple[int, int]) -> float:
    """Bytes of the run, without what PyTorch itself takes.

    Activations follow Korthikanti et al., "Reducing Activation Recomputation in Large Transformer Models",
    2022 (arXiv:2205.05198): rows * tokens * hidden * (34 + 5 heads * tokens / hidden) a layer in 16 bits.
    """
    weights = sum(parameter.numel() for parameter in model.parameters())
    kept = 4 + (recipe.average != "none") + (recipe.adversarial == "awp")  # weights, gradients, twice Adam
    rows, tokens = largest
    config = model.config
    state = rows * tokens * config.hidden_size
    layer = state * (34 + 5 * config.num_attention_heads * tokens / config.hidden_size)
    activations = config.num_hidden_layers * layer
    if recipe.gradient_checkpointing:
        activations = config.num_hidden_layers * 2 * state + layer
    wide = 1 if recipe.bf16 or recipe.fp16 else 2
    return 4 * weights * kept + wide * activations * (2 if recipe.r_drop else 1)


def _seconds_a_token(config: PretrainedConfig, recipe: Recipe, shape: tuple[int, int]) -> float:
    """Seconds of a plain training step for each token of a batch of this shape, timed on this machine."""
    layers = config.num_hidden_layers
    one = _step_seconds(config, recipe, shape, 1)
    two = _step_seconds(config, recipe, shape, 2) if layers > 1 else one
    return (one + (layers - 1) * max(0.0, two - one)) / math.prod(shape)


def _step_seconds(config: PretrainedConfig, recipe: Recipe, shape: tuple[int, int], layers: int) -> float:
    shallow = type(config).from_dict({**config.to_dict(), "num_hidden_layers": layers, "exits": []})
    device = accelerator()
    model = RelationClassifier(shallow).to(device).train()
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    rows, tokens = shape
    generator = np.random.default_rng(0)
    # no id is the padding's, whose positions RoBERTa does not count
    ids = generator.integers(config.vocab_size // 2, config.vocab_size, (rows, tokens))
    inputs = {
        "input_ids": torch.from_numpy(ids).to(device),
        "attention_mask": torch.ones(rows, tokens, dtype=torch.int64, device=device),
        "entity_positions": torch.ones(rows, 2, dtype=torch.int64, device=device),
        "entity_spans": torch.tensor([[1, 2], [3, 4]], device=device).expand(rows, 2, 2),
        "entity_types": torch.ones(rows, 2, dtype=torch.int64, device=device),
    }
    labels = torch.from_numpy(generator.integers(0, len(RELATIONS), rows)).to(device)
    half = torch.bfloat16 if recipe.bf16 else torch.float16
    times = []
    for _ in range(1 + TIMED):
        began = time.perf_counter()
        with torch.autocast(device.type, dtype=half, enabled=bool(recipe.bf16 or recipe.fp16)):
            logits = model(**inputs).logits
        nn.functional.cross_entropy(logits.float(), labels).backward()
        optimizer.step()
        optimizer.zero_grad()
        if device.type != "cpu":
            torch.accelerator.synchronize()
        times.append(time.perf_counter() - began)
    return min(times[1:])
