"""The files of a checkpoint folder, checked before a library opens them.

transformers follows what a folder's JSON files name: pickles, files outside the folder, code from a hub.
"""

import json
from pathlib import Path
from typing import Any, Final

INDEX: Final = "model.safetensors.index.json"
TOKENIZER_CONFIG: Final = "tokenizer_config.json"
ATTENTION: Final = ("eager", "sdpa", "flash_attention_2", "flex_attention")
"""The attention code that is part of transformers; another name is looked up on a hub."""
TOKENIZERS: Final = (
    "tokenizer.json",
    "vocab.txt",
    "vocab.json",
    "sentencepiece.bpe.model",
    "spiece.model",
    "tokenizer.model",
)


def check_folder(folder: Path) -> dict[str, Any]:
    """The content of a folder's `config.json`, after all files that it leads to are checked.

    Weights can be links, as in the cache of the Hugging Face hub. The names must be those of files in the
    folder.

    Raises:
        ValueError, OSError: a JSON file is missing or damaged, or names what must not be loaded.
    """
    config = _read(folder / "config.json")
    if config.get("quantization_config"):
        raise ValueError(
            "config.json: quantization_config: quantised weights cannot be used; save the model without it"
        )
    if (weights := config.get("transformers_weights")) is not None:
        raise ValueError(f"config.json: transformers_weights names {weights!r}; remove the field")
    for key in ("attn_implementation", "_attn_implementation", "_attn_implementation_internal"):
        if (attention := config.get(key)) not in (None, *ATTENTION):
            raise ValueError(f"config.json: {key} names {attention!r}, code from a hub; remove the field")
    if (folder / "adapter_config.json").exists():
        raise ValueError(
            "adapter_config.json: an adapter cannot be used; merge it into the model and save that"
        )
    if (folder / INDEX).exists():
        _check_index(folder)
    if (folder / TOKENIZER_CONFIG).exists():
        for key, value in _read(folder / TOKENIZER_CONFIG).items():
            if key in ("vocab_file", "merges_file") and value is not None and not _in_folder(folder, value):
                raise ValueError(f"{TOKENIZER_CONFIG}: {key} {value!r} is not a file of the folder")
    return config


def require_tokenizer(folder: Path) -> None:
    """Refuse a folder without a tokenizer; raises ValueError."""
    if not any((folder / name).is_file() for name in TOKENIZERS):
        raise ValueError(
            "no tokenizer in the folder; copy tokenizer.json, or the vocabulary with tokenizer_config.json, "
            "from the model that was fine-tuned"
        )


def _check_index(folder: Path) -> None:
    shards = _read(folder / INDEX).get("weight_map")
    if not isinstance(shards, dict) or not shards:
        raise ValueError(f"{INDEX}: weight_map is missing")
    for shard in shards.values():
        if not (isinstance(shard, str) and shard.endswith(".safetensors")):
            raise ValueError(f"{INDEX} names {shard!r}; only .safetensors files are opened, never a pickle")
        if not _in_folder(folder, shard):
            raise ValueError(f"{INDEX} names {shard!r}, which is not a file of the folder")


def _in_folder(folder: Path, name: object) -> bool:
    return isinstance(name, str) and Path(name).name == name and (folder / name).is_file()


def _read(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_bytes())
    except OSError as error:
        raise ValueError(f"{path.name}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path.name}: not JSON: {error}") from None
    if not isinstance(document, dict):
        raise ValueError(f"{path.name}: a JSON object is required")
    return document
