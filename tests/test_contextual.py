"""Conditional contextual augmentation: words refilled under the row's relation, and nothing else touched."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT
from hostile_examples import HOSTILE, as_row, example
from safetensors.torch import load_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import (
    AlbertConfig,
    AlbertForMaskedLM,
    AutoModel,
    AutoTokenizer,
    BertConfig,
    BertForMaskedLM,
    DistilBertConfig,
    DistilBertModel,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaForMaskedLM,
)

from loadtest.sentences import COMPANIES, PEOPLE, Row, mark
from models.example import Example
from models.labels import RELATION_IDS, RELATIONS
from models.rows import LabelledExample, read_labelled, sentence
from training.augment import main as augment
from training.augmentation.contextual import Contextual
from training.augmentation.refill import Refiller
from training.augmentation.variants import variants
from training.augmentation.words import split
from training.contextual import main
from training.data.masked_words import MASKABLE, WordMasker, choose, maskable
from training.model.conditional import ConditionalMaskedLM
from training.run.conditional import ConditionalTrainer, frequency_loss, split_rows
from training.run.recipe import ContextualRecipe
from training.run.trainer import RelationTrainer
from training.train import main as train

WORD_OF = {
    "no_relation": "우산을",
    "per:title": "이름난",
    "per:spouse": "배우자",
    "per:date_of_birth": "태어났다",  # in several pieces
    "org:founded": "세워진",
    "org:place_of_headquarters": "본사를",
}
"""In the corpus of these tests the relation alone decides one word; another word is left to chance."""

WILD = [
    *HOSTILE,
    example("한빛전자 배우자 이름난 누리", "한빛전자", "누리"),  # an entity at either end
    example("노래를 한빛누리 이름난", "누리", "한빛"),  # adjacent
    example(
        "누리 노래를 한빛 책을 누리 상을 한빛은 누리는 이름난 세워진", "누리", "한빛"
    ),  # the entities' words again elsewhere
    example("😀 노래를 👨‍👩‍👧누리 이름난👍🏿 배우자 😀🏽 한빛", "👨‍👩‍👧누리", "한빛"),
    example("누\u0301리 노래를 세워진\u0301 이름난 한빛\u0301 배우자\u200b", "누\u0301리", "한빛\u0301"),
    example(
        "[MASK] 누리 <mask> 노래를 </s> 한빛 [SEP] <mask>이름난 노래를[MASK] "
        "(배우자) “세워진”, ▁본사를 ##상을",
        "누리",
        "한빛",
    ),
    example("  노래를\t\n누리 은  이름난\r\n 한빛 빛  배우자 \u3000", "누리 은", "한빛 빛"),
]


def corpus(people: list[str]) -> list[Row]:
    return [
        {
            "guid": f"own-{number}-{person}",
            **mark(f"{{s}} {word} {{o}} {other} 눈이 왔다.", person, "PER", company, "ORG", relation),
        }
        for number, (company, other) in enumerate(
            (company, other) for company in COMPANIES for other in ("노래를", "책을")
        )
        for person in people
        for relation, word in WORD_OF.items()
    ]


def write(path: Path, rows: list[Row]) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def environment(encoder_folder: Path, tmp_path_factory: pytest.TempPathFactory):
    """A folder of rows, and a recipe that names them and an encoder."""
    folder = tmp_path_factory.mktemp("corpus")
    fields = {
        "encoder": str(encoder_folder),
        "train": f"{folder}/train.jsonl",
        "output": f"{folder}/model",
        "seed": 1,
        "epochs": 2,
    }
    (folder / "recipe.yaml").write_text(json.dumps(fields | {"max_length": 128}), encoding="utf-8")
    write(folder / "train.jsonl", corpus(PEOPLE[:5]))
    write(folder / "held_out.jsonl", corpus(PEOPLE[5:7]))
    return folder


@pytest.fixture(scope="module")
def model(environment: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A conditional model made by the command."""
    folder = tmp_path_factory.mktemp("conditional") / "model"
    fast = [
        f"validation={environment}/held_out.jsonl",
        f"output={folder}",
        "save_steps=1000",
        "learning_rate=5e-3",
        "label_learning_rate=2e-2",
        "epochs=12",
        "batch_size=16",
        "mask_ratio=0.4",
        "bf16=false",
    ]
    assert main([f"{environment}/recipe.yaml", *overrides(*fast)]) == 0
    return folder


def overrides(*fields: str) -> list[str]:
    return [part for field in fields for part in ("--set", field)]


@pytest.fixture(scope="module")
def word_piece() -> PreTrainedTokenizerFast:
    characters = sorted(
        {character for row in WILD for character in row.sentence if "가" <= character <= "힣"}
    )
    words = [
        *characters,
        *(f"##{character}" for character in characters),
        "노래",
        "##를",
        "##난",
        "이름",
        ".",
    ]
    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokenizer = Tokenizer(
        models.WordPiece(
            {word: index for index, word in enumerate(dict.fromkeys(specials + words))}, unk_token="[UNK]"
        )
    )
    tokenizer.normalizer = normalizers.BertNormalizer(strip_accents=False, lowercase=False)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    names = ("pad_token", "unk_token", "cls_token", "sep_token", "mask_token")
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **dict(zip(names, specials, strict=True)))


SIZES = {
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "max_position_embeddings": 130,
}


@pytest.fixture(scope="module")
def word_piece_model(word_piece: PreTrainedTokenizerFast, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """RoBERTa's form with WordPiece tokens, as Korean RoBERTas are; random weights."""
    folder = tmp_path_factory.mktemp("word-piece")
    torch.manual_seed(0)
    RobertaForMaskedLM(
        RobertaConfig(vocab_size=len(word_piece), type_vocab_size=1, pad_token_id=0, **SIZES)
    ).save_pretrained(folder / "old")
    ConditionalMaskedLM.from_encoder(str(folder / "old"), window=128).save_pretrained(folder / "new")
    word_piece.save_pretrained(folder / "new")
    return folder / "new"


def labelled(examples: list[Example]) -> list[LabelledExample]:
    return [LabelledExample(one, index % len(RELATIONS)) for index, one in enumerate(examples)]


@pytest.mark.slow
def test_told_the_relation_the_model_knows_better_what_was_masked(model: Path, environment: Path) -> None:
    losses = json.loads((model / "metrics.json").read_text(encoding="utf-8"))
    assert losses["rows"] == 480
    assert losses["held_out"] == 192
    assert losses["loss_true_relation"] < losses["loss_shuffled_relation"] - 1
    assert losses["loss_word_frequency"] > losses["loss_true_relation"]


def test_the_loss_of_a_guess_by_frequency_by_hand() -> None:
    """Of three tokens: 7 was seen twice, 8 once, 9 never."""
    loss = frequency_loss(np.array([7, 8, 7]), np.array([9, 7]))
    assert loss == pytest.approx(-(np.log(1 / 6) + np.log(3 / 6)) / 2)


@pytest.mark.slow
def test_a_model_that_writes_gibberish_says_so_before_it_writes_rows(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = tmp_path / "bad"
    shutil.copytree(model, bad, ignore=shutil.ignore_patterns("checkpoints"))
    source = write(tmp_path / "rows.jsonl", corpus(PEOPLE[7:8])[:4])

    def warnings(guess: float) -> list[str]:
        losses = {"loss_true_relation": 6.5, "loss_word_frequency": guess}
        (bad / "metrics.json").write_text(json.dumps(losses))
        arguments = [str(source), str(tmp_path / "out.jsonl"), "--method", "contextual", "--model", str(bad)]
        assert augment(arguments) == 0
        return [line for line in capsys.readouterr().err.splitlines() if "gibberish" in line]

    (warning,) = warnings(7.0)
    assert "its held-out loss is 6.50 nats a token, that of a guess by word frequency 7.00" in warning
    assert warnings(9.0) == []


def test_no_sentence_is_both_learnt_from_and_held_out(environment: Path, tmp_path: Path) -> None:
    """Of rows whose sentences all come twice, with space behind and without."""
    twice = [one for row in corpus(PEOPLE[:1]) for one in (row, {**row, "sentence": f"{row['sentence']} "})]
    train = {"train": str(write(tmp_path / "twice.jsonl", twice))}
    other = {"validation": str(write(tmp_path / "other.jsonl", [*twice[:10], *corpus(PEOPLE[5:6])]))}
    for fields, count in ((train, len(twice) // 10), (train | other, len(corpus(PEOPLE[5:6])))):
        rows, held_out = split_rows(ContextualRecipe.read(environment / "recipe.yaml", fields))
        assert not {sentence(row) for row in rows} & {sentence(row) for row in held_out}
        assert len(held_out) == pytest.approx(count, abs=2)


@pytest.mark.slow
def test_words_are_refilled_under_the_relation(model: Path, environment: Path) -> None:
    rows = read_labelled(environment / "held_out.jsonl")[::7]
    refiller = Refiller(Contextual(model=str(model), alpha=1, temperature=1, top_k=1, min_probability=0))
    generators = [np.random.default_rng(0) for _ in rows]
    of_one_piece = [relation for relation, word in WORD_OF.items() if word != "태어났다"]
    for relation in of_one_piece:
        # As many masks as the word had pieces: a word of one piece gives way to another.
        short = [row for row in rows if "태어났다" not in row.example.sentence]
        examples = refiller(
            [replace(row, label_id=RELATION_IDS[relation]) for row in short], generators[: len(short)]
        )
        right = [WORD_OF[relation] in one.sentence for one in examples if one is not None]
        assert np.mean(right) > 0.9
    long = [row for row in rows if "태어났다" in row.example.sentence]
    examples = refiller(long, generators[: len(long)])
    assert np.mean(["태어났다" in one.sentence for one in examples if one is not None]) > 0.9


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["model", "word_piece_model"])
def test_whatever_is_drawn_both_entities_and_everything_around_the_words_stay(
    kind: str, request: pytest.FixtureRequest
) -> None:
    refiller = Refiller(
        Contextual(
            model=str(request.getfixturevalue(kind)),
            alpha=0.6,
            temperature=20,
            top_k=10_000,
            min_probability=0,
        )
    )
    rows = labelled(WILD)
    changed = [0] * len(rows)
    for seed in range(60):
        generators = [np.random.default_rng((seed, index)) for index in range(len(rows))]
        for index, after in enumerate(refiller(rows, generators)):
            before = rows[index].example
            if after is None:
                continue
            context = f"seed {seed}: {before!r} became {after!r}"
            assert Example.from_row(as_row(after)) == after, context
            for old, new in [
                (before.subject_entity, after.subject_entity),
                (before.object_entity, after.object_entity),
            ]:
                assert (new.word, new.type) == (old.word, old.type), context
                assert after.sentence[new.start_idx : new.end_idx + 1] == old.word, context
            (old_words, old_space), (new_words, new_space) = split(before), split(after)
            assert old_space == new_space, context
            for place, (old_word, new_word) in enumerate(zip(old_words, new_words, strict=True)):
                if new_word.text == old_word.text:
                    assert new_word == old_word, context
                    continue
                changed[index] += 1
                assert place in maskable(before), context
                old_parts, new_parts = MASKABLE.fullmatch(old_word.text), MASKABLE.fullmatch(new_word.text)
                assert old_parts is not None, context
                assert new_parts is not None, context
                assert (old_word.space, old_parts[1], old_parts[3]) == (
                    new_word.space,
                    new_parts[1],
                    new_parts[3],
                ), context
    assert min(changed[len(HOSTILE) :]) > 10, changed


@pytest.mark.slow
def test_a_word_that_the_model_finds_unlikely_is_dropped(model: Path, environment: Path) -> None:
    """One word of one piece in each row; its probability is computed here, from the model's logits."""
    rows = [
        row for row in read_labelled(environment / "held_out.jsonl") if "태어났다" not in row.example.sentence
    ]
    every = Refiller(Contextual(model=str(model), alpha=0.01, temperature=5, top_k=50, min_probability=0))
    likely = Refiller(Contextual(model=str(model), alpha=0.01, temperature=5, top_k=50, min_probability=0.2))
    generators = [[np.random.default_rng(index) for index in range(len(rows))] for _ in range(3)]
    kept = 0
    for row, drawn, after, generator in zip(
        rows, every(rows, generators[0]), likely(rows, generators[1]), generators[2], strict=True
    ):
        chosen = choose(row.example, 0.01, generator)
        words = every.masker.encode(row.example, chosen)
        ((_, start, stop),) = words.spans
        if stop - start > 1:
            continue
        assert drawn is not None
        ids = words.input_ids.copy()
        new = every.masker.encode(drawn, chosen).input_ids[start]
        ids[start] = every.masker.mask_token_id
        masked = torch.zeros(1, len(ids), dtype=torch.bool)
        masked[0, start] = True
        with torch.inference_mode():
            batch = (torch.from_numpy(ids)[None], torch.ones(1, len(ids), dtype=torch.int64))
            logits = every.model(*batch, torch.tensor([row.label_id]), masked).logits[0].numpy()
        allowed = logits[: len(every.masker.opens)][every.masker.opens]
        probability = np.exp(logits[new]) / np.exp(allowed).sum()
        if abs(probability - 0.2) > 1e-3:
            assert after == (drawn if probability >= 0.2 else row.example)
            kept += after == drawn
    assert 0 < kept < len(rows)


@pytest.mark.slow
def test_variants_depend_on_seed_and_row_alone(model: Path, environment: Path) -> None:
    rows = read_labelled(environment / "held_out.jsonl")[:70]
    method = Contextual(model=str(model), copies=2, top_k=5, min_probability=0)
    made = list(variants(rows, method, seed=3))
    assert made == list(variants(rows, method, seed=3))
    assert made != list(variants(rows, method, seed=4))
    assert [(one.source, one.number) for one in made] == sorted((one.source, one.number) for one in made)
    refiller = Refiller(Contextual(model=str(model), alpha=0.4, temperature=3, top_k=50, min_probability=0))
    together, alone = (
        refiller(some, [np.random.default_rng((5, index)) for index in range(len(some))])
        for some in (rows, rows[:1])
    )
    assert together[0] == alone[0]
    there = {row.example.sentence for row in rows}
    assert len({one.row.example.sentence for one in made} | there) == len(made) + len(there), (
        "each says something new"
    )
    assert all(one.row.label_id == rows[one.source].label_id for one in made)
    balanced = list(
        variants(rows, Contextual(model=str(model), balance=20, temperature=3, min_probability=0), seed=3)
    )
    have = [row.label_id for row in rows] + [one.row.label_id for one in balanced]
    assert {have.count(label_id) for label_id in set(have)} == {20}


def test_words_that_are_masked_hold_no_entity_and_their_tokens_spell_them(
    word_piece: PreTrainedTokenizerFast, encoder_folder: Path
) -> None:
    row = WILD[len(HOSTILE) + 2]
    assert [split(row)[0][place].text for place in maskable(row)] == [
        "노래를",
        "책을",
        "상을",
        "이름난",
        "세워진",
    ]
    assert len(choose(row, 0.2, np.random.default_rng(0))) == 2
    assert choose(HOSTILE[2], 1, np.random.default_rng(0)) == []
    for tokenizer in (word_piece, AutoTokenizer.from_pretrained(encoder_folder)):
        masker = WordMasker(tokenizer, 128)
        for before in WILD:
            words = split(before)[0]
            encoded = masker.encode(before, maskable(before))
            assert masker.mask_token_id not in encoded.input_ids
            assert not set(encoded.input_ids[1:-1]) & {
                tokenizer.pad_token_id,
                tokenizer.sep_token_id,
                tokenizer.eos_token_id,
            }
            for place, start, stop in encoded.spans:
                match = MASKABLE.fullmatch(words[place].text)
                assert match is not None
                assert masker.text(encoded.input_ids[start:stop]) == match[2]
    masker = WordMasker(word_piece, 128)
    assert word_piece.convert_ids_to_tokens(masker.encode(row, [1]).input_ids[3:5]) == ["노래", "##를"]
    short = WordMasker(word_piece, 16).encode(row, maskable(row))
    assert len(short.input_ids) == 16
    assert short.input_ids[-1] == word_piece.sep_token_id
    assert 0 < len(short.spans) < 5, "words beyond the window are left alone"


@pytest.mark.parametrize(
    "make",
    [
        lambda: BertForMaskedLM(BertConfig(vocab_size=50, **SIZES)),
        lambda: AlbertForMaskedLM(AlbertConfig(vocab_size=50, embedding_size=8, **SIZES)),
        lambda: RobertaForMaskedLM(RobertaConfig(vocab_size=50, type_vocab_size=1, **SIZES)),
    ],
)
def test_the_conditional_model_starts_as_the_pretrained_one(
    make: Callable[[], torch.nn.Module], tmp_path: Path
) -> None:
    torch.manual_seed(1)
    old = make().eval()
    for parameter in old.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    old.save_pretrained(tmp_path / "old")
    ConditionalMaskedLM.from_encoder(str(tmp_path / "old"), window=128).save_pretrained(tmp_path / "new")
    new = ConditionalMaskedLM.load(tmp_path / "new")
    input_ids, masked = torch.randint(5, 50, (3, 12)), torch.rand(3, 12) < 0.5
    attention_mask = torch.ones_like(input_ids)
    with torch.inference_mode():
        expected = old(input_ids=input_ids, attention_mask=attention_mask).logits[masked]
        assert torch.allclose(
            new(input_ids, attention_mask, torch.tensor([0, 7, 29]), masked).logits, expected, atol=1e-5
        )
        segment = new.encoder.embeddings.token_type_embeddings.weight[7]
        segment += torch.randn_like(segment)
        other = new(input_ids, attention_mask, torch.tensor([0, 7, 29]), masked).logits
    same = masked.nonzero()[:, 0] != 1
    assert torch.allclose(other[same], expected[same], atol=1e-5)
    assert not torch.allclose(other[~same], expected[~same], atol=1e-2)


def test_an_encoder_without_a_head_gets_one_that_is_its_own_embeddings(encoder_folder: Path) -> None:
    model = ConditionalMaskedLM.from_encoder(str(encoder_folder), window=128, layers=1).eval()
    assert model.config.num_hidden_layers == 1
    encoder = AutoModel.from_pretrained(encoder_folder, num_hidden_layers=1).eval()
    input_ids = torch.arange(5, 12).unsqueeze(0)
    with torch.inference_mode():
        states = model.norm(
            model.activation(encoder(input_ids, torch.ones_like(input_ids)).last_hidden_state[0])
        )
        logits = model(
            input_ids,
            torch.ones_like(input_ids),
            torch.tensor([4]),
            torch.ones_like(input_ids, dtype=torch.bool),
        ).logits
        assert torch.allclose(logits, states @ encoder.embeddings.word_embeddings.weight.T, atol=1e-5)


# the Trainer's, of checkpoints within a second of each other
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:mtime may not be reliable")
def test_an_interrupted_run_resumes_to_the_same_weights(
    environment: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    short = overrides("train_rows=160", "batch_size=16", "epochs=2", "save_steps=5", "bf16=false")
    whole, resumed = (
        [f"{environment}/recipe.yaml", *short, *overrides(f"output={tmp_path / name}")]
        for name in ("whole", "resumed")
    )
    assert main(whole) == 0
    summary = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (summary["model"], summary["rows"], summary["held_out"]) == (str(tmp_path / "whole"), 143, 17)
    assert json.loads((tmp_path / "whole" / "run.json").read_bytes())["data"].keys() == {"train"}
    assert ContextualRecipe.read(tmp_path / "whole" / "recipe.yaml").train_rows == 160
    assert main([*whole, *overrides("mask_ratio=0.3", f"validation={environment}/held_out.jsonl")]) == 2
    assert "was begun with another mask_ratio, validation;" in capsys.readouterr().err
    assert main([*whole, *overrides("learning_rate=1e30", f"output={tmp_path}/wild")]) == 2
    assert "training.contextual: learning_rate: training diverged" in capsys.readouterr().err
    assert not (tmp_path / "wild" / "metrics.json").exists()
    assert summary["loss_true_relation"] > 0

    class Interrupted(Exception): ...

    with pytest.MonkeyPatch.context() as patched:
        save = ConditionalTrainer._save_checkpoint

        def save_once(self: ConditionalTrainer, *arguments: object) -> None:
            save(self, *arguments)
            raise Interrupted

        patched.setattr(ConditionalTrainer, "_save_checkpoint", save_once)
        with pytest.raises(Interrupted):
            main(resumed)
    assert main(resumed) == 0
    expected, got = (load_file(tmp_path / name / "model.safetensors") for name in ("whole", "resumed"))
    assert all(torch.equal(expected[name], got[name]) for name in expected)


@pytest.mark.slow
def test_file_to_file(
    model: Path, environment: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write(tmp_path / "rows.jsonl", corpus(PEOPLE[7:8])[:40])
    outputs = [tmp_path / f"{name}.jsonl" for name in ("first", "again", "other", "new")]
    wild = ["--alpha", "0.4", "--temperature", "5", "--top-k", "100", "--min-probability", "0"]
    for output, more in zip(outputs, [[], [], ["--seed", "7"], ["--only-new"]], strict=True):
        assert (
            augment([str(source), str(output), "--method", "contextual", "--model", str(model), *wild, *more])
            == 0
        )
    summary = json.loads(capsys.readouterr().out.splitlines()[-1])
    first, again, other, new = (output.read_bytes() for output in outputs)
    assert first == again != other
    assert first == source.read_bytes() + new
    made = read_labelled(outputs[3])
    assert (summary["method"], summary["model"], summary["new"]) == ("contextual", str(model), len(made))
    assert len(made) > 20
    assert all("-contextual-1" in json.loads(line)["guid"] for line in new.splitlines())


@pytest.mark.slow
def test_a_recipe_trains_on_refilled_rows(
    model: Path, environment: Path, recipe_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    start = RelationTrainer.__init__

    def note(self: RelationTrainer, recipe: object, model: object, training: object, *more: object) -> None:
        seen.append(len(training.rows))
        start(self, recipe, model, training, *more)

    monkeypatch.setattr(RelationTrainer, "__init__", note)
    monkeypatch.setenv("CONDITIONAL", str(model))
    block = "augmentation={method: contextual, model: $CONDITIONAL, copies: 2}"
    rows = f"train={environment}/train.jsonl"
    assert (
        train(
            [
                str(recipe_file),
                *overrides(block, rows, "epochs=1", "train_rows=30", f"output={tmp_path}/member"),
            ]
        )
        == 0
    )
    assert seen[0] > 50
    assert (tmp_path / "member" / "metrics.json").is_file()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ([], "--model: Field required"),
        (
            ["--model", "no/such/folder"],
            "--model: Value error, no/such/folder is not a folder that python -m training.contextual wrote",
        ),
        (["--model", "ENCODER"], "is not a folder that"),
        (["--model", "MODEL", "--top-k", "0"], "--top-k"),
        (["--model", "MODEL", "--temperature", "0"], "--temperature"),
        (["--model", "MODEL", "--ratio", "0.5"], "--ratio: not an option of contextual"),
    ],
)
def test_what_cannot_be_done_gets_one_plain_line(
    more: list[str],
    message: str,
    model: Path,
    encoder_folder: Path,
    rows_file: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    places = {"MODEL": str(model), "ENCODER": str(encoder_folder)}
    arguments = [
        str(rows_file),
        str(tmp_path / "out"),
        "--method",
        "contextual",
        *(places.get(one, one) for one in more),
    ]
    assert augment(arguments) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert message in line
    assert not list(tmp_path.iterdir())


def test_a_recipe_or_encoder_that_cannot_be_used_gets_one_plain_line(
    environment: Path, encoder_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def line(*fields: str) -> str:
        assert main([f"{environment}/recipe.yaml", *overrides(f"output={tmp_path}/out", *fields)]) == 2
        (line,) = capsys.readouterr().err.strip().splitlines()
        return line

    assert "mask_ratio" in line("mask_ratio=2")
    assert "pooling" in line("pooling=mean")
    assert "no-such-encoder" in line("encoder=./no-such-encoder")
    (tmp_path / "config.json").write_text("[]")
    with pytest.raises(ValueError, match="is not a folder that"):
        Contextual(model=str(tmp_path))
    assert "Hangul" in line(
        f"train={write(tmp_path / 'latin.jsonl', [as_row(HOSTILE[10]) | {'label': 'no_relation'}] * 20)}"
    )
    tokenizer = AutoTokenizer.from_pretrained(encoder_folder)
    tokenizer.mask_token = None
    AutoModel.from_pretrained(encoder_folder).save_pretrained(tmp_path / "maskless")
    tokenizer.save_pretrained(tmp_path / "maskless")
    assert "no mask token" in line(f"encoder={tmp_path}/maskless")
    DistilBertModel(
        DistilBertConfig(vocab_size=500, dim=16, n_layers=1, n_heads=2, hidden_dim=16)
    ).save_pretrained(tmp_path / "other")
    AutoTokenizer.from_pretrained(encoder_folder).save_pretrained(tmp_path / "other")
    assert "the form of no BERT, RoBERTa or ALBERT" in line(f"encoder={tmp_path}/other")


@pytest.mark.parametrize("folder", ["tiny", "study"])
def test_the_recipes_that_come_along_are_recipes(folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KORE_ENCODER", "an-encoder")
    assert (
        ContextualRecipe.read(ROOT / "recipes" / folder / "contextual.yaml").output
        == Path("runs") / folder / "contextual"
    )
