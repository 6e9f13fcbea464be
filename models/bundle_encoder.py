"""What a bundle needs to turn examples into token ids: its tokenizers and its type restriction, no graphs.

A front process (`api/fronts/`) has only this part of a bundle.
"""

from typing import Any

from models.bundle import Bundle, BundleRefused, InputEncoding, check_size
from models.encoding import EncodedExample, Encoder
from models.example import Example, InvalidExample, Problem
from models.memory import large_blocks_apart
from models.pairs import Pairs
from models.restriction import TypeMask


class BundleEncoder:
    """Encodes examples for every member of a bundle. Safe to share between threads.

    Args:
        keep_lock: as for `Encoder`.

    Attributes:
        encodings: the distinct encodings among the members, in their order.
        encoders: one for each of them.

    Raises:
        BundleRefused: a tokenizer cannot be loaded.
    """

    @large_blocks_apart()
    def __init__(self, bundle: Bundle, keep_lock: bool = True) -> None:
        self.encodings = _encodings(bundle)
        self.encoders = [_encoder(bundle, encoding, keep_lock) for encoding in self.encodings]
        self._type_mask = TypeMask(bundle.manifest.type_restriction or {})
        self._bundle = bundle

    @classmethod
    def of(cls, bundle: Bundle, serving: "BundleEncoder | None", keep_lock: bool = True) -> "BundleEncoder":
        """The encoder that serves, if the new bundle encodes in the same way; otherwise a new one. A
        retrained ensemble mostly keeps its tokenizers, and to read one takes longer than to read graphs.

        Raises:
            BundleRefused: a tokenizer cannot be loaded.
        """
        if serving is not None and _made_of(serving._bundle) == _made_of(bundle):
            return serving
        return cls(bundle, keep_lock)

    def encode(self, example: Example) -> EncodedExample:
        """Mark and tokenise one example for every member, and look up which relations its types allow.

        Raises:
            InvalidExample: the two entities do not fit into the models' window together.
        """
        encodings = tuple(encoder.encode(example) for encoder in self.encoders)
        return EncodedExample(encodings, self._type_mask.allowed(example))

    def encode_all(self, asked: Example | Pairs) -> list[EncodedExample]:
        """As `encode`, for one example or for each pair of a sentence's entities, in the order of its places.
        Equal pieces of the sentence are tokenised once.

        Raises:
            InvalidExample: two entities do not fit into the models' window together. Lists each entity that
                does not fit together with an earlier one.
        """
        if isinstance(asked, Example):
            return [self.encode(asked)]
        tokenised: list[dict[str, list[int]]] = [{} for _ in self.encoders]
        rows: list[EncodedExample] = []
        problems: dict[int, Problem] = {}  # by the later of the two entities
        for subject, object_ in asked.places:
            example = asked.example(subject, object_)
            try:
                encodings = tuple(
                    encoder.encode(example, seen)
                    for encoder, seen in zip(self.encoders, tokenised, strict=True)
                )
                rows.append(EncodedExample(encodings, self._type_mask.allowed(example)))
            except InvalidExample as error:
                first, second = sorted((subject, object_))
                if second not in problems:
                    (problem,) = error.problems
                    message = f"{problem.message}; leave out this entity or entity {first}"
                    problems[second] = Problem(("entities", second), problem.kind, message)
        if problems:
            raise InvalidExample(*problems.values())
        return rows


def _encodings(bundle: Bundle) -> list[InputEncoding]:
    return list(dict.fromkeys(member.encoding for member in bundle.manifest.members))


def _made_of(bundle: Bundle) -> tuple[Any, ...]:
    """Everything in a bundle that an encoder depends on."""
    encodings, manifest = _encodings(bundle), bundle.manifest
    sums = [bundle.sums[encoding.tokenizer] for encoding in encodings]
    return encodings, sums, manifest.max_length, manifest.type_restriction


def _encoder(bundle: Bundle, encoding: InputEncoding, keep_lock: bool) -> Encoder:
    path = bundle.path / encoding.tokenizer
    try:
        check_size(bundle.path, encoding.tokenizer)
        window = bundle.manifest.max_length
        return Encoder.from_file(path, encoding.markers, window, encoding.pad_token_id, keep_lock)
    except BundleRefused:
        raise
    except Exception as error:  # the tokenizers library raises bare Exception
        raise BundleRefused(
            f"bundle {bundle.path}: {encoding.tokenizer}: {' '.join(str(error).split())}"
        ) from None
