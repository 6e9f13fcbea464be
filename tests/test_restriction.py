"""Relations that entity types admit: never against a row that was learned from, in every member's vote, and
only where a bundle says so."""

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from manifests import refusal, rewrite

from engine.lanes import Lanes
from export.__main__ import main as export
from export.inspect import main as inspect
from export.verify import main as verify
from loadtest.sentences import Row
from models.bundle import Bundle, Manifest
from models.example import ENTITY_TYPES, Entity, EntityType, Example
from models.labels import NO_RELATION, RELATION_IDS, RELATIONS
from models.restriction import TypeMask, TypeRestriction, learn_restriction
from models.rows import LabelledExample, read_labelled

KLUE_RE_DATA = os.environ.get("KLUE_RE_DATA")


def typed(subject: EntityType | None, object_: EntityType | None) -> Example:
    return Example("가람 나래", Entity("가람", 0, 1, subject), Entity("나래", 3, 4, object_))


def labelled(subject: EntityType | None, object_: EntityType | None, relation: str) -> LabelledExample:
    return LabelledExample(typed(subject, object_), RELATION_IDS[relation])


def admitted(
    restriction: TypeRestriction, subject: EntityType | None, object_: EntityType | None
) -> list[str]:
    allowed = TypeMask(restriction).allowed(typed(subject, object_))
    return (
        list(RELATIONS)
        if allowed is None
        else [relation for relation, admits in zip(RELATIONS, allowed, strict=True) if admits]
    )


LEARNED = learn_restriction(
    [
        labelled("PER", "ORG", "per:employee_of"),
        labelled("PER", "DAT", "per:date_of_birth"),
        labelled("ORG", "DAT", "org:founded"),
        labelled("ORG", "DAT", NO_RELATION),
    ]
)


def test_what_is_learned_reads_as_json() -> None:
    assert json.loads(json.dumps(LEARNED)) == {
        "ORG": {"DAT": ["no_relation", "org:founded"]},
        "PER": {"DAT": ["no_relation", "per:date_of_birth"], "ORG": ["no_relation", "per:employee_of"]},
    }


def test_a_pair_admits_what_it_was_seen_with_and_an_unknown_type_restricts_nothing() -> None:
    assert admitted(LEARNED, "PER", "ORG") == ["no_relation", "per:employee_of"], "no_relation always"
    assert admitted(LEARNED, "PER", "LOC") == list(RELATIONS), "a pair never seen"
    for subject, object_ in (("PER", None), (None, "DAT"), (None, "LOC"), (None, None)):
        assert admitted(LEARNED, subject, object_) == list(RELATIONS), "it may be a pair never seen"
    every_object: TypeRestriction = {
        "PER": {kind: ["per:title"] for kind in ENTITY_TYPES} | {"LOC": ["per:origin"]}
    }
    assert admitted(every_object, "PER", None) == ["no_relation", "per:origin", "per:title"], (
        "what any pair of that subject admits"
    )
    assert admitted(every_object, None, "LOC") == list(RELATIONS), "other subjects' pairs were never seen"
    assert admitted({}, "PER", "ORG") == list(RELATIONS)
    assert admitted({"PER": {"ORG": []}}, "PER", "ORG") == ["no_relation"], "also where a manifest forgets it"


def assert_forbids_none(rows: list[LabelledExample]) -> None:
    mask = TypeMask(learn_restriction(rows))
    for row in rows:
        subject, object_ = row.example.subject_entity, row.example.object_entity
        for example in (
            row.example,
            replace(row.example, subject_entity=replace(subject, type=None)),
            replace(row.example, object_entity=replace(object_, type=None)),
            replace(
                row.example,
                subject_entity=replace(subject, type=None),
                object_entity=replace(object_, type=None),
            ),
        ):
            allowed = mask.allowed(example)
            assert allowed is None or allowed[row.label_id]


@pytest.mark.parametrize("seed", range(50))
def test_no_row_that_was_learned_from_is_forbidden_whatever_types_it_lacks(seed: int) -> None:
    generator = np.random.default_rng(seed)
    types = [None, *ENTITY_TYPES][: generator.integers(1, 8)]
    rows = [
        labelled(types[subject], types[object_], RELATIONS[label])
        for subject, object_, label in zip(
            *generator.integers(0, len(types), (2, 60)), generator.integers(0, 30, 60), strict=True
        )
    ]
    assert_forbids_none(rows)


@pytest.mark.skipif(KLUE_RE_DATA is None, reason="KLUE_RE_DATA is not set")
def test_no_row_of_klue_res_training_set_is_forbidden() -> None:
    assert_forbids_none(read_labelled(Path(str(KLUE_RE_DATA)) / "train.jsonl"))


@pytest.fixture(scope="module")
def free(tiny_bundle: Path) -> Lanes:
    return Lanes.load(Bundle.open(tiny_bundle))


@pytest.fixture(scope="module")
def restricted(free: Lanes) -> Lanes:
    """The tiny ensemble where a person has a title only, and other pairs are as free as ever."""
    bundle = free.ensemble.bundle
    manifest = bundle.manifest.model_copy(update={"type_restriction": {"PER": {"POH": ["per:title"]}}})
    return Lanes.load(replace(bundle, manifest=manifest))


def test_every_members_forbidden_relations_are_zero_and_the_others_share_what_is_left(
    free: Lanes, restricted: Lanes, rows: list[Row]
) -> None:
    examples = [Example.from_row(row) for row in rows[:200]]
    masked = [
        example.subject_entity.type == "PER" and example.object_entity.type == "POH" for example in examples
    ]
    assert 0 < sum(masked) < len(masked)
    before, after = free.member_probabilities(examples), restricted.member_probabilities(examples)
    allowed = np.isin(RELATIONS, [NO_RELATION, "per:title"])
    expected = np.where(np.array(masked)[:, None] & ~allowed, 0, before)
    assert after == pytest.approx(expected / expected.sum(axis=2, keepdims=True))
    votes = np.average(
        after, axis=0, weights=[member.weight for member in restricted.ensemble.bundle.manifest.members]
    )
    together = restricted.predict(examples)
    for index, (example, prediction) in enumerate(zip(examples, together, strict=True)):
        assert prediction.probabilities == pytest.approx(votes[index])
        assert prediction.probabilities.sum() == pytest.approx(1)
        (alone,) = restricted.ensemble.run([restricted.ensemble.encode(example)])
        assert alone.probabilities == pytest.approx(prediction.probabilities, abs=1e-6)
        if masked[index]:
            assert (prediction.probabilities > 0).tolist() == allowed.tolist()
            assert list(prediction.top(4))[2:] == ["org:dissolved", "org:founded"], (
                "ties at 0 keep the official order"
            )


def test_without_a_restriction_nothing_changes(free: Lanes, rows: list[Row]) -> None:
    assert free.ensemble.encode(Example.from_row(rows[0])).allowed is None
    assert (
        Manifest.model_validate_json(free.ensemble.bundle.manifest.model_dump_json()).type_restriction is None
    )


def test_export_learns_the_restriction_and_proves_the_ensemble_with_it(
    checkpoints: list[Path], rows_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output, data = tmp_path / "bundle", ["--data", str(rows_file)]
    assert (
        export([str(checkpoints[1]), "--output", str(output), *data, "--type-restriction", str(rows_file)])
        == 0
    )
    assert Bundle.open(output).manifest.type_restriction == learn_restriction(read_labelled(rows_file))
    assert verify([str(output), *data]) == inspect([str(output)]) == 0
    assert (
        "type restriction: 7 pairs of entity types, which admit 1 to 2 of the 30 relations"
        in capsys.readouterr().out
    )
    rewrite(output, lambda manifest: manifest["type_restriction"]["PER"].update(POH=["per:tiger"]))
    assert "type_restriction: PER, POH: 'per:tiger' is none of the 30 relations" in refusal(output)
