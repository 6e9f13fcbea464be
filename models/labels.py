"""The 30 relations of KLUE-RE (Park et al., 2021, arXiv:2105.09680), in the order of their ids."""

from typing import Final

NO_RELATION: Final = "no_relation"

RELATIONS: Final[tuple[str, ...]] = (
    NO_RELATION,
    "org:dissolved",
    "org:founded",
    "org:place_of_headquarters",
    "org:alternate_names",
    "org:member_of",
    "org:members",
    "org:political/religious_affiliation",
    "org:product",
    "org:founded_by",
    "org:top_members/employees",
    "org:number_of_employees/members",
    "per:date_of_birth",
    "per:date_of_death",
    "per:place_of_birth",
    "per:place_of_death",
    "per:place_of_residence",
    "per:origin",
    "per:employee_of",
    "per:schools_attended",
    "per:alternate_names",
    "per:parents",
    "per:children",
    "per:siblings",
    "per:spouse",
    "per:other_family",
    "per:colleagues",
    "per:product",
    "per:religion",
    "per:title",
)
"""In the order of KLUE's `relation_list.json`. A relation's index is its label id in all of this project."""

RELATION_IDS: Final[dict[str, int]] = {relation: index for index, relation in enumerate(RELATIONS)}

COMPETITION_TO_OFFICIAL: Final[tuple[int, ...]] = (
    0, 10, 6, 8, 29, 4, 18, 3, 27, 11, 22, 16, 20, 25, 26,
    17, 23, 24, 2, 7, 5, 21, 1, 19, 13, 12, 14, 15, 9, 28,
)  # fmt: skip
"""The NAVER Boostcamp competition numbered the same relations differently: competition id -> official id."""

COMPETITION_RELATIONS: Final[tuple[str, ...]] = tuple(RELATIONS[index] for index in COMPETITION_TO_OFFICIAL)
"""The relations in the competition's order, in which its submissions list their probabilities."""
