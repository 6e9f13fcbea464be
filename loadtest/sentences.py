"""Korean sentences with two marked entities and a relation, for trials and tests. No row is from KLUE-RE."""

import itertools
import random

Row = dict[str, object]

PEOPLE = ["강하늘", "문다솔", "서윤재", "최이든", "한가온", "윤가람", "박누리", "김도담", "진보라", "이새벽"]
COMPANIES = [
    "한빛전자",
    "도레미상사",
    "푸른나래재단",
    "새벽바다",
    "가람출판",
    "누리통신",
    "바른내일당",
    "다솜병원",
]
PLACES = ["수원", "대전광역시 유성구", "부산", "인천", "제주도", "전주시"]
DATES = ["1987년", "1990년 3월 2일", "2015년", "지난 5월"]
TITLES = ["무신", "소설가", "배우", "건축가"]

TEMPLATES = [
    ("per:title", "PER", PEOPLE, "POH", TITLES,
     ["{s}은 이름난 {o}이다.", "{o} {s}이 상을 받았다."]),
    ("org:founded", "ORG", COMPANIES, "DAT", DATES,
     ["{s}는 {o}에 문을 열었다.", "{o}에 세워진 {s}는 지금도 크다."]),
    ("org:place_of_headquarters", "ORG", COMPANIES, "LOC", PLACES,
     ["{s}의 본부는 {o}에 있다.", "{o}에 본사를 둔 {s}가 새 건물을 지었다."]),
    ("org:top_members/employees", "ORG", COMPANIES, "PER", PEOPLE,
     ["{s} 대표이사 {o}은 목표를 올렸다.", "{o}은 {s}의 회장으로 뽑혔다."]),
    ("per:date_of_birth", "PER", PEOPLE, "DAT", DATES,
     ["{s}은 {o}에 태어났다.", "{o} 태어난 {s}은 노래를 좋아한다."]),
    ("per:spouse", "PER", PEOPLE, "PER", PEOPLE,
     ["{s}은 {o}과 결혼하였다.", "{s}의 배우자 {o}은 말이 없었다."]),
    ("no_relation", "PER", PEOPLE, "LOC", PLACES,
     ["{s}이 우산을 접을 때 {o}에는 눈이 왔다.", "{o} 소식이 들렸고, {s}은 책을 덮었다."]),
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


CONTEXT = [
    "이 소식은 지난주 여러 신문에 실렸다.",
    "당시 사람들은 그 일을 오래도록 이야기하였다.",
    "한편 같은 해에 마을에는 큰 다리가 놓였고, 장이 서는 날이면 멀리서도 손님이 찾아왔다.",
    "그 뒤로도 비슷한 일이 여러 번 있었다.",
    "기록에 따르면 그날은 비가 내렸으며, 행사는 예정보다 두 시간 늦게 시작되었다고 한다.",
    "전문가들은 앞으로 몇 년 동안 이런 흐름이 이어질 것으로 내다보았다.",
]


def make_long_rows(count: int, seed: int = 11) -> list[Row]:
    """Rows with sentences before and after them, as long as real text: 20 to 300 characters, mostly about
    90."""
    generator = random.Random(seed)
    return [_lengthen(row, generator) for row in generator.choices(make_rows(), k=count)]


def _lengthen(row: Row, generator: random.Random) -> Row:
    before = " ".join(generator.choices(CONTEXT, k=generator.choice([0, 0, 1, 1, 2, 3])))
    after = " ".join(generator.choices(CONTEXT, k=generator.choice([0, 1, 1, 2, 3])))
    shift = len(before) + 1 if before else 0
    moved = {
        field: {**entity, "start_idx": entity["start_idx"] + shift, "end_idx": entity["end_idx"] + shift}
        for field in ("subject_entity", "object_entity")
        if isinstance(entity := row[field], dict)
    }
    return {
        **row,
        "sentence": " ".join(part for part in (before, str(row["sentence"]), after) if part),
        **moved,
    }


def mark(
    template: str,
    subject: str,
    subject_type: str | None,
    object_: str,
    object_type: str | None,
    relation: str,
) -> Row:
    """Fill a template's `{s}` and `{o}` and record their positions."""
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
