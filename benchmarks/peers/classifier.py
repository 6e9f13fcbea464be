"""A plain sequence classifier with the encoder of a checkpoint, for servers that run no other models.

infinity and vLLM classify a text by the state of its first token. They have no head that reads the entities
and no vote of several exits. So their classifier has the tokens and all layers of our trunk, and a new head:
its answers mean nothing, and only its speed is compared.
"""

from pathlib import Path

from loadtest.sentences import Row
from models.example import Example
from models.markers import TYPED_PUNCTUATION
from models.marking import Marking


def write_classifier(checkpoint: Path, folder: Path) -> None:
    """Write a Hugging Face folder with the weights in fp32 (vLLM) and an ONNX graph in int8 (infinity).

    Args:
        checkpoint: of `training.train`, or the weights of the default bundle, `recipes/default/trunk-fp16`.
    """
    from onnxruntime.quantization import quantize_dynamic
    from optimum.exporters.onnx import main_export
    from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

    from export.checkpoint import load

    encoder = load(checkpoint).model.encoder
    config = AutoConfig.from_pretrained(checkpoint)
    model = AutoModelForSequenceClassification.from_config(config)
    getattr(model, model.base_model_prefix).load_state_dict(
        encoder.state_dict(), strict=False
    )  # the pooler is new
    model.float().save_pretrained(folder)
    window = config.max_position_embeddings - 2 * (config.model_type == "roberta")
    AutoTokenizer.from_pretrained(checkpoint, model_max_length=window).save_pretrained(folder)
    graph = folder / "model.onnx"
    main_export(str(folder), folder, task="text-classification", do_validation=False)
    quantize_dynamic(graph, folder / "model_quantized.onnx")
    graph.unlink()


def marked_text(row: Row) -> str:
    """The sentence with its entities marked as the default bundle reads it."""
    return "".join(Marking(TYPED_PUNCTUATION).mark(Example.from_row(row)).pieces)
