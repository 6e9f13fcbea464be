"""All pairs of a sentence's entities in one request, over real HTTP."""

from typing import Any

import httpx
import pytest
from servers import ASKED, metric, post

from models.labels import RELATIONS

SENTENCE = "강하늘은 문다솔과 결혼하였고, 한빛전자의 본부는 수원에 있다."
ENTITIES: list[dict[str, Any]] = [
    {"word": "강하늘", "start_idx": 0, "end_idx": 2, "type": "PER"},
    {"word": "문다솔", "type": "PER"},
    {"word": "한빛전자"},
    {"word": "수원", "type": "LOC"},
]
ALL = {"sentence": SENTENCE, "entities": ENTITIES, "top_k": 30}
PAIRS = [(0, 1), (0, 2), (0, 3), (1, 0), (1, 2), (1, 3), (2, 0), (2, 1), (2, 3)]


@pytest.fixture(scope="module")
def singly(client: httpx.Client) -> dict[tuple[int, int], dict[str, Any]]:
    """The answer to each pair that is asked as an ordinary example."""
    return {
        (subject, object_): post(
            client,
            {
                "sentence": SENTENCE,
                "subject_entity": ENTITIES[subject],
                "object_entity": ENTITIES[object_],
                "top_k": 30,
            },
        ).json()
        for subject, object_ in PAIRS
    }


def faults(response: httpx.Response) -> list[tuple[list[str | int], str]]:
    assert response.status_code == 422, response.text
    return [(fault["loc"], fault["type"]) for fault in response.json()["detail"]]


def test_each_pair_gets_the_answer_that_it_gets_alone(
    client: httpx.Client, singly: dict[tuple[int, int], dict[str, Any]]
) -> None:
    answer = post(client, ALL)
    assert answer.status_code == 200, answer.text
    assert list(answer.json()) == ["relations", "pairs"]
    assert answer.json()["pairs"] == len(PAIRS)
    relations = answer.json()["relations"]
    related = {pair for pair, alone in singly.items() if alone["relation"] != "no_relation"}
    assert related, "the sentence must have relations, or this test shows nothing"
    assert {(one["subject"], one["object"]) for one in relations} == related
    scores = [one["score"] for one in relations]
    assert scores == sorted(scores, reverse=True)
    for one in relations:
        alone = singly[one.pop("subject"), one.pop("object")]
        assert one["probabilities"] == pytest.approx(alone["probabilities"], abs=1e-4)
        assert {**one, "score": 0, "probabilities": 0} == {**alone, "score": 0, "probabilities": 0}


def test_pairs_below_min_score_are_left_out(client: httpx.Client) -> None:
    every = post(client, ALL).json()["relations"]
    least = every[0]["score"]
    some = post(client, {**ALL, "min_score": least - 1e-6}).json()
    assert some["relations"] == [one for one in every if one["score"] >= least - 1e-6]
    assert post(client, {**ALL, "min_score": 1}).json() == {"relations": [], "pairs": len(PAIRS)}


def test_sentences_and_examples_are_answered_in_one_request(client: httpx.Client) -> None:
    sentence = {"sentence": SENTENCE, "entities": ENTITIES}
    some = {**sentence, "min_score": 0.99}
    answer = post(client, {"examples": [sentence, ASKED, some], "top_k": 2})
    assert answer.status_code == 200, answer.text
    alone = [post(client, {**one, "top_k": 2}).json() for one in (sentence, ASKED, some)]
    predictions = answer.json()["predictions"]
    assert predictions[1]["probabilities"] == pytest.approx(alone[1]["probabilities"], abs=1e-4)
    for together, one in ((predictions[0], alone[0]), (predictions[2], alone[2])):
        assert together["pairs"] == one["pairs"] == len(PAIRS)
        assert [each["relation"] for each in together["relations"]] == [
            each["relation"] for each in one["relations"]
        ]


def test_a_requests_min_score_holds_for_every_sentence_without_its_own(client: httpx.Client) -> None:
    sentence = {"sentence": SENTENCE, "entities": ENTITIES}
    answer = post(client, {"examples": [sentence, {**sentence, "min_score": 0}], "min_score": 1}).json()
    assert answer["predictions"][0]["relations"] == []
    assert answer["predictions"][1]["relations"] != []


@pytest.mark.parametrize("count", [2, 3])
def test_entities_that_cannot_be_subjects_make_no_pair(client: httpx.Client, count: int) -> None:
    places = [{"word": word, "type": "LOC"} for word in ("강하늘", "문다솔", "수원")[:count]]
    answer = post(client, {"sentence": SENTENCE, "entities": places})
    assert (answer.status_code, answer.json()) == (200, {"relations": [], "pairs": 0})


def test_pairs_are_counted_as_predictions(client: httpx.Client) -> None:
    def counted() -> float:
        return sum(
            metric(client, f'kore_predictions_total{{relation="{relation}"}}') for relation in RELATIONS
        )

    before = counted()
    post(client, ALL)
    assert counted() == before + len(PAIRS)


@pytest.mark.parametrize(
    ("changes", "loc", "kind"),
    [
        ({"entities": ENTITIES[:1]}, ["entities"], "too_short"),
        ({"entities": ENTITIES[:2] * 9}, ["entities"], "too_long"),
        ({"entities": [*ENTITIES, {"word": "다"}]}, ["entities", 4, "word"], "ambiguous_word"),
        ({"entities": [*ENTITIES, {"word": "하늘"}]}, ["entities", 4], "overlap"),
        ({"entities": [ENTITIES[0], {"start_idx": 1.5}]}, ["entities", 1, "start_idx"], "int_type"),
        ({"min_score": 1.5}, ["min_score"], "less_than_equal"),
        ({"min_score": "0.5"}, ["min_score"], "float_type"),
        ({"subject_entity": ENTITIES[0]}, ["entities"], "ambiguous"),
        ({"examples": [ASKED]}, [], "ambiguous"),
        (
            {"sentence": SENTENCE.replace("고, ", "고, " + "멀고 먼 길을 걸어 " * 60)},
            ["entities", 2],
            "window",
        ),
    ],
)
def test_a_bad_sentence_is_refused_with_its_place(
    client: httpx.Client, changes: dict[str, Any], loc: list[str | int], kind: str
) -> None:
    found = faults(post(client, {**ALL, **changes}))
    assert found.count((["body", *loc], kind)) == 1


def test_one_bad_sentence_makes_the_whole_request_422(client: httpx.Client) -> None:
    bad = {"sentence": SENTENCE, "entities": [*ENTITIES[:2], {"word": "부산"}], "min_score": 2}
    assert faults(post(client, {"examples": [ASKED, {**ALL, "min_score": 1}, bad]})) == [
        (["body", "examples", 2, "min_score"], "less_than_equal")
    ]
    del bad["min_score"]
    assert faults(post(client, {"examples": [ASKED, bad]})) == [
        (["body", "examples", 1, "entities", 2, "word"], "not_in_sentence")
    ]


def test_the_limit_of_examples_counts_pairs(client: httpx.Client) -> None:
    words = [f"사람{number:02d}" for number in range(16)]
    sentence = {"sentence": ", ".join(words), "entities": [{"word": word} for word in words]}
    assert post(client, sentence).json()["pairs"] == 240
    answer = post(client, {"examples": [sentence, *[ASKED] * 17]})
    assert answer.status_code == 413
    assert answer.json()["detail"] == (
        "a request can hold 256 examples; this one holds 257, 240 of them pairs of entities"
    )


def test_a_long_sentence_says_for_each_pair_whether_it_was_cut(client: httpx.Client) -> None:
    far = SENTENCE + " 그리고 오래도록 살았다." * 100
    relations = post(client, {**ALL, "sentence": far}).json()["relations"]
    assert {one["truncated"] for one in relations} == {True}


def test_openapi_describes_sentences_with_entities(client: httpx.Client) -> None:
    document = client.get("/openapi.json").json()
    schemas = document["components"]["schemas"]
    entities = schemas["OneSentence"]["properties"]["entities"]
    assert (entities["minItems"], entities["maxItems"]) == (2, 16)
    assert set(schemas["PairOut"]["properties"]) >= {"subject", "object", "relation", "score"}
    answers = document["paths"]["/relations"]["post"]["responses"]["200"]["content"]["application/json"]
    forms = [form["$ref"].rpartition("/")[2] for form in answers["schema"]["anyOf"]]
    assert forms == ["PredictionOut", "RelationsOut", "PredictionsOut"]
    examples = document["paths"]["/relations"]["post"]["requestBody"]["content"]["application/json"]
    for example in examples["examples"].values():
        assert post(client, example["value"]).status_code == 200
