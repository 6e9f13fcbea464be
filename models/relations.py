"""The relations in words, for people: a name and a definition of each, in Korean and in English.

A relation goes from the subject (주체) to the object (대상): `per:parents` says that the object is a parent
of the subject.
"""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Words:
    """The same text in Korean and in English."""

    ko: str
    en: str


@dataclass(frozen=True, slots=True)
class Relation:
    """A relation in words.

    Attributes:
        label: its label in `models.labels.RELATIONS`.
        name: a few words. No two relations have the same.
        definition: one sentence about the subject and the object.
    """

    label: str
    name: Words
    definition: Words


RELATIONS_IN_WORDS: Final[tuple[Relation, ...]] = (
    Relation(
        "no_relation",
        Words("관계 없음", "no relation"),
        Words(
            "문장에 주체와 대상의 관계가 드러나지 않거나, 나머지 29가지 관계에 들지 않아요.",
            "The sentence states none of the other 29 relations between the subject and the object.",
        ),
    ),
    Relation(
        "org:dissolved",
        Words("해산일", "date of dissolution"),
        Words(
            "대상은 주체가 해산하거나 없어진 때예요.",
            "The object is the date when the subject was dissolved.",
        ),
    ),
    Relation(
        "org:founded",
        Words("설립일", "date of founding"),
        Words("대상은 주체가 세워진 때예요.", "The object is the date when the subject was founded."),
    ),
    Relation(
        "org:place_of_headquarters",
        Words("본부 소재지", "place of headquarters"),
        Words(
            "대상은 주체의 본부나 본사가 있는 곳이에요.",
            "The object is the place where the subject has its headquarters.",
        ),
    ),
    Relation(
        "org:alternate_names",
        Words("단체의 다른 이름", "other name of an organisation"),
        Words(
            "대상은 약칭이나 옛 이름처럼 주체를 달리 부르는 이름이에요.",
            "The object is another name of the subject, such as a short form or a former name.",
        ),
    ),
    Relation(
        "org:member_of",
        Words("상위 단체", "parent organisation"),
        Words("대상은 주체가 속한 단체예요.", "The object is an organisation to which the subject belongs."),
    ),
    Relation(
        "org:members",
        Words("하위 단체", "member organisation"),
        Words("대상은 주체에 속한 단체예요.", "The object is an organisation that belongs to the subject."),
    ),
    Relation(
        "org:political/religious_affiliation",
        Words("정치·종교 성향", "political or religious affiliation"),
        Words(
            "대상은 주체가 따르거나 속한 정치 이념, 정파 또는 종교예요.",
            "The object is a political or religious movement to which the subject belongs.",
        ),
    ),
    Relation(
        "org:product",
        Words("제품", "product of an organisation"),
        Words(
            "대상은 주체가 만들거나 내놓은 제품, 작품 또는 서비스예요.",
            "The object is a product, a work or a service of the subject.",
        ),
    ),
    Relation(
        "org:founded_by",
        Words("설립자", "founder"),
        Words(
            "대상은 주체를 세운 사람이나 단체예요.",
            "The object is a person or an organisation that founded the subject.",
        ),
    ),
    Relation(
        "org:top_members/employees",
        Words("대표·구성원", "leader or member"),
        Words(
            "대상은 주체를 대표하거나 주체에 소속된 사람이에요.",
            "The object is a person who leads the subject, works for it or belongs to it.",
        ),
    ),
    Relation(
        "org:number_of_employees/members",
        Words("인원수", "number of members"),
        Words(
            "대상은 주체에 속한 직원이나 구성원의 수예요.",
            "The object is the number of the subject's employees or members.",
        ),
    ),
    Relation(
        "per:date_of_birth",
        Words("생년월일", "date of birth"),
        Words("대상은 주체가 태어난 때예요.", "The object is the date when the subject was born."),
    ),
    Relation(
        "per:date_of_death",
        Words("사망일", "date of death"),
        Words("대상은 주체가 세상을 떠난 때예요.", "The object is the date when the subject died."),
    ),
    Relation(
        "per:place_of_birth",
        Words("출생지", "place of birth"),
        Words("대상은 주체가 태어난 곳이에요.", "The object is the place where the subject was born."),
    ),
    Relation(
        "per:place_of_death",
        Words("사망지", "place of death"),
        Words("대상은 주체가 세상을 떠난 곳이에요.", "The object is the place where the subject died."),
    ),
    Relation(
        "per:place_of_residence",
        Words("거주지", "place of residence"),
        Words(
            "대상은 주체가 살고 있거나 살았던 곳이에요.",
            "The object is a place where the subject lives or has lived.",
        ),
    ),
    Relation(
        "per:origin",
        Words("출신·국적", "origin or nationality"),
        Words(
            "대상은 주체의 국적이나 민족, 출신지예요.",
            "The object is the nationality, the ethnic group or the home region of the subject.",
        ),
    ),
    Relation(
        "per:employee_of",
        Words("직장·소속", "employer"),
        Words(
            "대상은 주체가 일하거나 소속된 단체예요.",
            "The object is an organisation where the subject works or to which the subject belongs.",
        ),
    ),
    Relation(
        "per:schools_attended",
        Words("출신 학교", "school attended"),
        Words(
            "대상은 주체가 다니고 있거나 다녔던 학교예요.",
            "The object is a school that the subject attends or attended.",
        ),
    ),
    Relation(
        "per:alternate_names",
        Words("사람의 다른 이름", "other name of a person"),
        Words(
            "대상은 별명이나 예명, 호처럼 주체를 달리 부르는 이름이에요.",
            "The object is another name of the subject, such as a nickname or a stage name.",
        ),
    ),
    Relation(
        "per:parents",
        Words("부모", "parent"),
        Words("대상은 주체의 아버지나 어머니예요.", "The object is the father or the mother of the subject."),
    ),
    Relation(
        "per:children",
        Words("자녀", "child"),
        Words("대상은 주체의 아들이나 딸이에요.", "The object is a son or a daughter of the subject."),
    ),
    Relation(
        "per:siblings",
        Words("형제자매", "sibling"),
        Words("대상은 주체의 형제자매예요.", "The object is a brother or a sister of the subject."),
    ),
    Relation(
        "per:spouse",
        Words("배우자", "spouse"),
        Words("대상은 주체의 남편이나 아내예요.", "The object is the husband or the wife of the subject."),
    ),
    Relation(
        "per:other_family",
        Words("그 밖의 가족", "other family member"),
        Words(
            "대상은 주체의 가족이나 친척 가운데 부모, 자녀, 형제자매, 배우자가 아닌 사람이에요.",
            "The object is a relative of the subject other than a parent, child, sibling or spouse.",
        ),
    ),
    Relation(
        "per:colleagues",
        Words("동료", "colleague"),
        Words(
            "대상은 주체와 함께 일하거나 활동하는 사람이에요.",
            "The object is a person who works together with the subject.",
        ),
    ),
    Relation(
        "per:product",
        Words("작품", "work of a person"),
        Words(
            "대상은 주체가 만든 작품이나 제품이에요.",
            "The object is a work or a product that the subject made.",
        ),
    ),
    Relation(
        "per:religion",
        Words("종교", "religion"),
        Words("대상은 주체가 믿는 종교예요.", "The object is the religion of the subject."),
    ),
    Relation(
        "per:title",
        Words("직업·직함", "occupation or title"),
        Words(
            "대상은 주체의 직업이나 직위를 나타내는 말이에요.",
            "The object is a word for the occupation or the position of the subject.",
        ),
    ),
)
"""In the order of `models.labels.RELATIONS`. The definitions are this project's own words."""
