"""Tiny tokenizers of the three kinds that encoders have."""

from collections.abc import Callable

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from models.markers import MARKER_STYLES

ENTITY_TOKENS = MARKER_STYLES["entity_tokens"].vocabulary
ALPHABET = sorted(
    set("강하늘은이름난무신다사람기타및의관계는무엇인가와길고어서야오래도록들말였@*#^?.<>/[]SEPCLsubjo")
)


def word_piece(special: bool) -> Tokenizer:
    """BERT's and ELECTRA's kind: tells the second segment by type."""
    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    pieces = [*specials, *ALPHABET, *(f"##{letter}" for letter in ALPHABET)]
    tokenizer = Tokenizer(
        models.WordPiece({piece: index for index, piece in enumerate(pieces)}, unk_token="[UNK]")
    )
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=False)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return with_tokens(tokenizer, specials, special)


def unigram(special: bool) -> Tokenizer:
    """XLM-R's kind, whose vocabulary lists special tokens, and here the markers too, as pieces of text."""
    specials = ["<pad>", "<unk>", "<s>", "</s>", "<mask>"]
    pieces = [(piece, -1.0) for piece in [*specials, *ENTITY_TOKENS]] + [
        (letter, -5.0) for letter in ["▁", *ALPHABET]
    ]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=1))
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 2), ("</s>", 3)]
    )
    return with_tokens(tokenizer, specials, special)


def byte_level(special: bool) -> Tokenizer:
    """RoBERTa's kind: every byte has its piece."""
    specials = ["<pad>", "<unk>", "<s>", "</s>", "<mask>"]
    pieces = [*specials, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    tokenizer = Tokenizer(
        models.BPE({piece: index for index, piece in enumerate(pieces)}, [], unk_token="<unk>")
    )
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 3), ("<s>", 2), add_prefix_space=False)
    return with_tokens(tokenizer, specials, special)


def with_tokens(tokenizer: Tokenizer, specials: list[str], special: bool) -> Tokenizer:
    tokenizer.add_special_tokens(specials)
    (tokenizer.add_special_tokens if special else tokenizer.add_tokens)(list(ENTITY_TOKENS))
    return tokenizer


KINDS: list[Callable[[bool], Tokenizer]] = [word_piece, unigram, byte_level]
