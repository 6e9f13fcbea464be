"""Augmentation: whatever it does to a sentence, both entities stay where their spans say, and the label stays
true."""

import json
import os
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT
from hostile_examples import HOSTILE, as_row, example

from loadtest.sentences import Row, make_long_rows
from models.example import Example
from models.labels import RELATION_IDS, RELATIONS
from models.markers import TYPE_WORDS
from models.rows import LabelledExample, read_labelled
from training.augment import main
from training.augmentation.aeda import PUNCTUATION, Aeda
from training.augmentation.eda import Eda
from training.augmentation.entities import REVERSED, SUBJECT_TYPES, EntityMask, EntitySwap
from training.augmentation.nouns import nouns
from training.augmentation.synonyms import particle, synonyms
from training.augmentation.variants import Augmentation, variants
from training.augmentation.words import join, split
from training.errors import InvalidRecipe
from training.run.recipe import Recipe
from training.train import main as train

METHODS: list[Augmentation] = [
    Eda(),
    Eda(alpha_sr=1, alpha_ri=0, alpha_rs=0, p_rd=0),
    Eda(alpha_sr=0, alpha_ri=0.6, alpha_rs=0, p_rd=0),
    Eda(alpha_sr=0, alpha_ri=0, alpha_rs=0.6, p_rd=0),
    Eda(alpha_sr=0, alpha_ri=0, alpha_rs=0, p_rd=0.6),
    Aeda(),
    Aeda(ratio=1),
    EntitySwap(),
]
MASKS = [
    EntityMask(),
    EntityMask(entity="subject"),
    EntityMask(entity="object"),
    EntityMask(entity="both", placeholder="@ [MASK] #"),
]


@pytest.fixture(scope="module")
def ordinary() -> list[Example]:
    real = (
        read_labelled(Path(os.environ["KLUE_RE_DATA"]) / "train.jsonl")[:300]
        if os.environ.get("KLUE_RE_DATA")
        else []
    )
    return [*(Example.from_row(row) for row in make_long_rows(300)), *(row.example for row in real)]


def many(
    examples: list[Example], methods: list[Augmentation], times: int
) -> Iterator[tuple[Augmentation, Example, Example, int]]:
    """(method, example, what became of it, seed), `times` in all, the hostile examples as often as the
    ordinary ones."""
    generator = np.random.default_rng(0)
    made = seed = 0
    while made < times:
        seed += 1
        pool = HOSTILE if seed % 2 else examples
        before, method = pool[generator.integers(len(pool))], methods[seed // 2 % len(methods)]
        after = method.vary(before, np.random.default_rng(seed))
        assert after == method.vary(before, np.random.default_rng(seed)), "the seed decides"
        if after is not None:
            made += 1
            yield method, before, after, seed


@pytest.mark.slow
def test_thousands_of_times_both_entities_stay_letter_for_letter_under_their_spans(
    ordinary: list[Example],
) -> None:
    used = Counter[str]()
    for method, before, after, seed in many(ordinary, METHODS, 3_000):
        context = f"{method!r}, seed {seed}: {before!r} became {after!r}"
        assert Example.from_row(as_row(after)) == after, context
        assert after != before, context
        pairs = [(before.subject_entity, after.subject_entity), (before.object_entity, after.object_entity)]
        if isinstance(method, EntitySwap):
            pairs = [
                (before.object_entity, after.subject_entity),
                (before.subject_entity, after.object_entity),
            ]
        for old, new in pairs:
            assert (new.word, new.type) == (old.word, old.type), context
            assert after.sentence[new.start_idx : new.end_idx + 1] == old.word, context
            if not isinstance(method, EntitySwap):
                # Its particles stay too: the word that holds the entity is the same, only elsewhere.
                word_before, word_after = holder(before, old.start_idx), holder(after, new.start_idx)
                assert word_after == word_before, context
                if isinstance(method, Eda):
                    assert not second_mentions(before, old.word) - second_mentions(after, old.word), context
        used[repr(method)] += 1
    assert len(used) == len(METHODS)
    assert min(used.values()) > 90, used


def holder(example: Example, index: int) -> str:
    """The text between white space around a character of an entity."""
    words, _ = split(example)
    return next(
        word.text
        for word in words
        for field, offset in word.opens
        if getattr(example, field).start_idx == index
    )


def second_mentions(example: Example, entity: str) -> Counter[str]:
    return Counter(word.text for word in split(example)[0] if entity in word.text and not word.fixed)


def test_a_masked_entity_stands_under_its_span_as_the_placeholder(ordinary: list[Example]) -> None:
    for method, before, after, seed in many(ordinary, MASKS, 600):
        assert isinstance(method, EntityMask)
        context = f"{method!r}, seed {seed}: {before!r} became {after!r}"
        assert Example.from_row(as_row(after)) == after, context
        masked = 0
        for old, new in (
            (before.subject_entity, after.subject_entity),
            (before.object_entity, after.object_entity),
        ):
            assert new.type == old.type
            assert after.sentence[new.start_idx : new.end_idx + 1] == new.word, context
            placeholder = method.placeholder or TYPE_WORDS[old.type or "PER"]
            assert new.word in (old.word, placeholder), context
            masked += new.word == placeholder
        assert masked == (2 if method.entity == "both" else 1), context
        # Everything around the entities is as it was.
        assert around(after) == around(before), context
    untyped = replace(HOSTILE[0], subject_entity=replace(HOSTILE[0].subject_entity, type=None))
    after = EntityMask(entity="subject").vary(untyped, np.random.default_rng(0))
    assert after is not None
    assert after.sentence == "대상의 아들 문종"


def around(example: Example) -> list[str]:
    first, second = sorted(
        (example.subject_entity, example.object_entity), key=lambda entity: entity.start_idx
    )
    sentence = example.sentence
    return [
        sentence[: first.start_idx],
        sentence[first.end_idx + 1 : second.start_idx],
        sentence[second.end_idx + 1 :],
    ]


def test_words_join_to_the_sentence_they_were_split_from(ordinary: list[Example]) -> None:
    for before in [*HOSTILE, *ordinary]:
        assert join(*split(before), before) == before


def test_each_operation_does_what_its_paper_says(ordinary: list[Example]) -> None:
    """Checked on words alone: which are new, which are gone, which stand elsewhere."""
    _, replacement, insertion, swap, deletion, aeda = METHODS[:6]
    known = synonyms()
    for method, before, after, _ in many(ordinary, [replacement, insertion, swap, deletion, aeda], 600):
        old, new = ([word.text for word in split(either)[0]] for either in (before, after))
        gone, come = Counter(old) - Counter(new), Counter(new) - Counter(old)
        if method is replacement:
            assert len(new) == len(old)
            assert gone
            changes = [(was, is_) for was, is_ in zip(old, new, strict=True) if was != is_]
            assert all(
                any(is_.startswith(known.get(was[:end], ())) for end in range(1, len(was) + 1))
                for was, is_ in changes
            )
        elif method is insertion:
            assert not gone
            assert come.total() == max(1, int(0.6 * len(old)))
            assert all(word in known for word in come)
        elif method is swap:
            assert not gone
            assert not come
        elif method is deletion:
            assert not come
            assert gone
            remaining = iter(old)
            assert all(word in remaining for word in new), "the order of the rest stays"
        else:
            assert not gone
            assert 1 <= come.total() <= max(1, len(old) // 3)
            assert set(come) <= set(PUNCTUATION)


def test_a_row_in_which_nothing_can_be_changed_gives_no_new_row() -> None:
    row = LabelledExample(example("세종문종", "세종", "문종"), RELATION_IDS["per:parents"])
    assert list(variants([row], Eda(), seed=1)) == []
    assert list(variants([row], Eda(alpha_sr=0, alpha_ri=0, alpha_rs=0, p_rd=0), seed=1)) == []


def test_swapped_twice_a_row_is_itself_again() -> None:
    assert all(REVERSED[reversed_] == relation for relation, reversed_ in REVERSED.items())
    swap, sentence = EntitySwap(), example("세종의 아들 문종", "세종", "문종")
    for relation in RELATIONS:
        types = [
            SUBJECT_TYPES.get(name.partition(":")[0]) for name in (relation, REVERSED.get(relation, relation))
        ]
        typed = replace(
            sentence,
            subject_entity=replace(sentence.subject_entity, type=types[0]),
            object_entity=replace(sentence.object_entity, type=types[1]),
        )
        row = LabelledExample(typed, RELATION_IDS[relation])
        swapped = [variant.row for variant in variants([row], swap, seed=1)]
        assert len(swapped) == (relation in REVERSED)
        for once in swapped:
            assert once.example.subject_entity == row.example.object_entity
            assert [variant.row for variant in variants([once], swap, seed=1)] == [row]


def test_a_swap_that_would_make_a_subject_of_the_wrong_type_is_left_out() -> None:
    place = replace(HOSTILE[0], object_entity=replace(HOSTILE[0].object_entity, type="LOC"))
    untyped = replace(HOSTILE[0], object_entity=replace(HOSTILE[0].object_entity, type=None))
    relation = RELATION_IDS["per:spouse"]
    assert list(variants([LabelledExample(place, relation)], EntitySwap(), seed=1)) == []
    assert len(list(variants([LabelledExample(untyped, relation)], EntitySwap(), seed=1))) == 1


def test_no_row_comes_twice_and_none_contradicts_a_row_that_is_there() -> None:
    there, back = HOSTILE[0], EntitySwap().vary(HOSTILE[0], np.random.default_rng(0))
    assert back is not None
    rows = [
        LabelledExample(there, RELATION_IDS["per:children"]),
        LabelledExample(back, RELATION_IDS["no_relation"]),
    ]
    assert list(variants(rows, EntitySwap(), seed=1)) == []
    masked = list(variants(rows[:1], EntityMask(copies=5), seed=1))
    assert [variant.row.example.sentence for variant in masked] in (
        [first, second]
        for first, second in (
            ("사람의 아들 문종", "세종의 아들 사람"),
            ("세종의 아들 사람", "사람의 아들 문종"),
        )
    )


def test_balancing_brings_rare_labels_up_to_the_target_and_leaves_the_others(rows_file: Path) -> None:
    rows = read_labelled(rows_file)
    have = Counter(row.label_id for row in rows)
    target = sorted(have.values())[len(have) // 2]
    new = list(variants(rows, Aeda(balance=target), seed=3))
    after = have + Counter(variant.row.label_id for variant in new)
    assert all(after[label_id] == max(target, count) for label_id, count in have.items())
    used = Counter(variant.source for variant in new)
    for label_id in have:
        times = [used[index] for index, row in enumerate(rows) if row.label_id == label_id]
        assert max(times) - min(times) <= 1, "rows take turns"
    few = list(variants(rows, Aeda(balance=10_000, copies=2), seed=3))
    assert max(Counter(variant.source for variant in few).values()) == 2, "copies bounds what one row gives"


def test_balancing_by_swap_counts_the_label_that_comes_out() -> None:
    rows = [
        LabelledExample(example(f"{number} 세종의 아들 문종", "세종", "문종"), RELATION_IDS["per:children"])
        for number in range(9)
    ]
    new = list(variants(rows, EntitySwap(balance=5), seed=3))
    assert [RELATIONS[variant.row.label_id] for variant in new] == ["per:parents"] * 5
    assert len(list(variants(rows, EntitySwap(balance=50), seed=3))) == 9, "a row can be swapped once"


def test_synonyms_go_both_ways_and_none_is_in_two_groups() -> None:
    table = ROOT / "training" / "augmentation" / "synonyms.tsv"
    lines = table.read_text(encoding="utf-8").splitlines()
    nouns_of_lines = [noun for line in lines for noun in line.split("\t")]
    assert len(lines) >= 300
    assert len(set(nouns_of_lines)) == len(nouns_of_lines)
    assert all(word in synonyms()[other] for word, others in synonyms().items() for other in others)
    assert not {"여편네", "사내", "의사", "선조"} & set(nouns_of_lines)


@pytest.mark.parametrize(
    ("noun", "form", "expected"),
    [
        ("남성", "가", "이"),
        ("남자", "이", "가"),
        ("길", "으로", "로"),
        ("시골", "로부터", "로부터"),
        ("마을", "로", "로"),
        ("결정", "로서", "으로서"),
        ("친구", "이나", "나"),
        ("여성", "에서", "에서"),
        ("고독", "와", "과"),
    ],
)
def test_a_particle_takes_the_form_that_the_noun_needs(noun: str, form: str, expected: str) -> None:
    assert particle(noun, form) == expected


@pytest.mark.parametrize(
    ("sentence", "replaced"),
    [
        ("그 여자가 마을로 갔다.", {"여성이", "동네로"}),
        ("주민들은 까닭을 물었다.", {"거주민", "이유를"}),  # 들은 stays
        ("그는 배우였다.", {"연기자"}),
        ("그녀는 아내이다.", set()),  # 부인이다 would be 아내다's
        ("한국 배우 협회가 배우를 뽑았다.", {"연기자를"}),  # a name, and a noun on its own
        ("《여자》와 '친척'을 읽은 남자", {"남성"}),
        ("서울 근처에서 만났다.", set()),
        ("큰아버지의 이야기하던 모습", {"백부의"}),  # not 큰부친, and no verb
        ("사과와 의사", set()),
    ],
)
def test_nouns_are_replaced_only_where_they_stand_alone(sentence: str, replaced: set[str]) -> None:
    assert {text for noun in nouns(sentence) for text in noun.replacements} == replaced


def test_edas_parameters_follow_the_number_of_copies_as_in_the_paper() -> None:
    """Table 3 of the paper. On 40 words: with 0.1 four swaps, with 0.05 two."""
    before = example(" ".join(["세종", *(f"낱말{number}" for number in range(38)), "문종"]), "세종", "문종")
    for copies, most in ((None, 8), (4, 8), (8, 4), (16, 4)):
        method = Eda(copies=copies, alpha_sr=0, alpha_ri=0, p_rd=0)
        moved = set()
        for seed in range(60):
            after = method.vary(before, np.random.default_rng(seed))
            old, new = before.sentence.split(), after.sentence.split() if after else []
            moved.add(sum(one != other for one, other in zip(old, new, strict=True)))
        assert max(moved) == most


def test_the_table_of_replacements_in_the_docs_is_what_the_command_makes(tmp_path: Path) -> None:
    """The first word that differs, by row. The page judges these."""
    source, out = ROOT / "recipes" / "tiny" / "augmentation.jsonl", tmp_path / "out.jsonl"
    only = ["--alpha-sr", "0.01", "--alpha-ri", "0", "--alpha-rs", "0", "--p-rd", "0", "--only-new"]
    assert main([str(source), str(out), "--method", "eda", *only]) == 0
    page = (ROOT / "docs" / "augmentation.md").read_text(encoding="utf-8")
    new = read_labelled(out)
    assert len(new) == 100
    for row, made in zip(read_labelled(source), new, strict=True):
        words = zip(row.example.sentence.split(), made.example.sentence.split(), strict=True)
        ((old, other),) = [(one.strip(".,"), other.strip(".,")) for one, other in words if one != other]
        assert f"| {old} | {other} |" in page


def test_without_kiwipiepy_eda_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match="kiwipiepy is not installed"):
        Eda()
    assert Eda(alpha_sr=0, alpha_ri=0), "swaps and deletions need no nouns"


@pytest.mark.parametrize("method", ["eda", "aeda", "entity_mask", "entity_swap"])
def test_file_to_file(
    method: str, rows: list[Row], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows_file = tmp_path / "rows.jsonl"
    rows_file.write_text(
        "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows[:150]), encoding="utf-8"
    )
    outputs = [tmp_path / f"{name}.jsonl" for name in ("first", "again", "other", "new")]
    for output, more in zip(outputs, [[], [], ["--seed", "7"], ["--only-new"]], strict=True):
        assert main([str(rows_file), str(output), "--method", method, "--copies", "2", *more]) == 0
    captured = capsys.readouterr()
    summary = json.loads(captured.out.splitlines()[-1])
    assert method in captured.err, "progress"
    first, again, other, new = (output.read_bytes() for output in outputs)
    assert first == again
    assert first == rows_file.read_bytes() + new
    assert (first == other) == (method == "entity_swap"), "a swap leaves nothing to chance"
    made = read_labelled(outputs[3])
    assert (summary["method"], summary["rows"], summary["new"]) == (method, 150, len(made))
    assert summary["new_by_label"] == Counter(RELATIONS[row.label_id] for row in made)
    guids = [json.loads(line)["guid"] for line in first.splitlines()]
    assert len(set(guids)) == 150 + len(made)
    assert all(f"-{method}-" in guid for guid in guids[150:])
    assert not list(tmp_path.glob("*.partial"))


def test_a_file_of_odd_rows_keeps_what_augmentation_does_not_know(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "rows.jsonl"
    row = '{"label": "per:children", "sentence": "세종의 아들 문종", "subject_entity": {"word": "세종"}, '
    row += '"object_entity": {"word": "문종"}, %s}'
    text = row % '"source": "\\ud800", "score": 1e400' + "\r\n" + row.replace("아들", "딸") % '"guid": 7'
    path.write_bytes(text.encode())
    assert main([str(path), str(path), "--method", "aeda", "--balance", "5"]) == 0, "onto the file itself"
    summary = json.loads(capsys.readouterr().out)
    assert summary["new_by_label"] == {"per:children": 3}
    assert summary["below_balance"]["per:spouse"] == 0
    assert "per:children" not in summary["below_balance"]
    lines = path.read_text(encoding="utf-8").splitlines()
    assert lines[:2] == text.splitlines()
    new = [json.loads(line) for line in lines[2:]]
    assert {row["guid"] for row in new} <= {"row-00000-aeda-1", "row-00000-aeda-2", "7-aeda-1", "7-aeda-2"}
    assert all(row["source"] == "\ud800" for row in new if row["guid"].startswith("row-00000"))
    assert len(read_labelled(path)) == 5


def test_a_file_of_another_form_becomes_json_lines(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    row = "0,세종의 아들 문종,{'word': '세종'},{'word': '문종'},22\n"
    text = "id;sentence;subject_entity;object_entity;label\n" + row.replace(",", ";").replace("};", "};")
    (tmp_path / "rows.csv").write_bytes(text.encode("cp949"))
    assert main([str(tmp_path / "rows.csv"), str(tmp_path / "out.jsonl"), "--method", "aeda"]) == 0
    assert json.loads(capsys.readouterr().out)["new"] == 1
    first, second = (
        json.loads(line) for line in (tmp_path / "out.jsonl").read_text(encoding="utf-8").splitlines()
    )
    assert first["subject_entity"] == {"word": "세종"}
    assert second["guid"] == "row-00000-aeda-1"
    assert [RELATIONS[row.label_id] for row in read_labelled(tmp_path / "out.jsonl")] == ["per:children"] * 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing.jsonl", "OUT", "--method", "eda"], "nothing.jsonl"),
        (["IN", "no/such/folder/out.jsonl", "--method", "eda"], "no/such/folder"),
        (["IN", ".", "--method", "eda"], "training.augment: "),
        (["IN", "OUT", "--method", "eda", "--ratio", "0.5"], "--ratio: not an option of eda"),
        (["IN", "OUT", "--method", "aeda", "--ratio", "2"], "--ratio"),
        (["IN", "OUT", "--method", "aeda", "--copies", "0"], "--copies"),
        (["IN", "OUT", "--method", "aeda", "--balance", "many"], "--balance"),
        (["IN", "OUT", "--method", "aeda", "--seed", "-1"], "--seed"),
        (["IN", "OUT", "--method", "entity_mask", "--placeholder", " "], "--placeholder"),
    ],
)
def test_what_cannot_be_done_gets_one_plain_line(
    arguments: list[str],
    message: str,
    rows_file: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    places = {"IN": str(rows_file), "OUT": str(tmp_path / "out.jsonl")}
    status = None
    with suppress(SystemExit):
        status = main([places.get(argument, argument) for argument in arguments])
    assert status in (2, None)
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert line.startswith("training.augment: ")
    assert message in line
    assert not list(tmp_path.iterdir())


def test_a_recipe_augments_the_rows_it_trains_on(
    recipe_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    class Stop(Exception): ...

    def note(
        self: object, recipe: Recipe, model: object, training: object, validation: object, *_: object
    ) -> None:
        seen.append((training.rows, validation.rows))
        raise Stop

    monkeypatch.setattr("training.run.training.RelationTrainer.__init__", note)
    block = "augmentation={method: aeda, copies: 2, ratio: 0.2}"
    for more in ([], [], ["--set", "seed=5"]):
        with pytest.raises(Stop):
            train(
                [
                    str(recipe_file),
                    "--set",
                    block,
                    "--set",
                    "train_rows=20",
                    "--set",
                    f"output={tmp_path}",
                    *more,
                ]
            )
    (rows, validation), (again, _), (other, _) = seen
    assert len(rows) == 60
    assert len(validation) == len(read_labelled(Path(Recipe.read(recipe_file).validation)))
    assert rows == again
    assert rows != other


@pytest.mark.parametrize(
    "block",
    ["{method: magic}", "{method: eda, alpha_sr: 2}", "{method: aeda, colour: red}", "eda", "{copies: 1}"],
)
def test_a_recipe_with_a_wrong_augmentation_is_refused(recipe_file: Path, block: str) -> None:
    with pytest.raises(InvalidRecipe, match="augmentation"):
        Recipe.read(recipe_file, {"augmentation": block})
