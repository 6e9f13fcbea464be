"""Korean sentences of our own with two marked entities and a relation: what the tests train, export and ask. No row of KLUE-RE."""

import itertools
import random

Row = dict[str, object]

PEOPLE = ["강하늘", "문다솔", "서윤재", "최이든", "한가온", "윤가람", "박누리", "김도담", "진보라", "이새벽"]
COMPANIES = ["한빛전자", "도레미상사", "푸른나래재단", "새벽바다", "가람출판", "누리통신", "바른내일당", "다솜병원"]
PLACES = ["수원", "대전광역시 유성구", "부산", "인천", "제주도", "전주시"]
DATES = ["1987년", "1990년 3월 2일", "2015년", "지난 5월"]
TITLES = ["무신", "소설가", "배우", "건축가"]

TEMPLATES = [
    ("per:title", "PER", PEOPLE, "POH", TITLES, ["{s}은 이름난 {o}이다.", "{o} {s}이 상을 받았다."]),
    ("org:founded", "ORG", COMPANIES, "DAT", DATES, ["{s}는 {o}에 문을 열었다.", "{o}에 세워진 {s}는 지금도 크다."]),
    ("org:place_of_headquarters", "ORG", COMPANIES, "LOC", PLACES, ["{s}의 본부는 {o}에 있다.", "{o}에 본사를 둔 {s}가 새 건물을 지었다."]),
    ("org:top_members/employees", "ORG", COMPANIES, "PER", PEOPLE, ["{s} 대표이사 {o}은 목표를 올렸다.", "{o}은 {s}의 회장으로 뽑혔다."]),
    ("per:date_of_birth", "PER", PEOPLE, "DAT", DATES, ["{s}은 {o}에 태어났다.", "{o} 태어난 {s}은 노래를 좋아한다."]),
    ("per:spouse", "PER", PEOPLE, "PER", PEOPLE, ["{s}은 {o}과 결혼하였다.", "{s}의 배우자 {o}은 말이 없었다."]),
    ("no_relation", "PER", PEOPLE, "LOC", PLACES, ["{s}이 우산을 접을 때 {o}에는 눈이 왔다.", "{o} 소식이 들렸고, {s}은 책을 덮었다."]),
]  # fmt: skip


def make_rows() -> list[Row]:
    """Every template with every fitting pair of names, in a fixed random order, as KLUE-RE rows."""
    rows = [
        mark(template, subject, subject_type, object_, object_type, relation)
        for relation, subject_type, subjects, object_type, objects, templates in TEMPLATES
        for subject, object_, template in itertools.product(subjects, objects, templates)
        if subject != object_
    ]
    random.Random(7).shuffle(rows)
    return [{"guid": f"own-{number:04d}", **row} for number, row in enumerate(rows)]


def mark(template: str, subject: str, subject_type: str | None, object_: str, object_type: str | None, relation: str) -> Row:
    """Fill a template's `{s}` and `{o}` and note where they stand."""
    sentence = template.format(s=subject, o=object_)
    before_subject, before_object = (template[: template.index(slot)] for slot in ("{s}", "{o}"))
    return {
        "sentence": sentence,
        "subject_entity": _entity(subject, len(before_subject.format(o=object_)), subject_type),
        "object_entity": _entity(object_, len(before_object.format(s=subject)), object_type),
        "label": relation,
        "source": "own",
    }


def _entity(word: str, start: int, type_: str | None) -> dict[str, object]:
    entity = {"word": word, "start_idx": start, "end_idx": start + len(word) - 1}
    return entity | ({"type": type_} if type_ else {})
