"""Examples that are hard to change without damage to an entity, and examples as KLUE-RE rows."""

import unicodedata

from loadtest.sentences import Row
from models.example import Example


def example(sentence: str, subject: str, object_: str) -> Example:
    """An example whose entities are the first occurrences of two words."""
    spans = [
        {
            "word": word,
            "start_idx": sentence.index(word),
            "end_idx": sentence.index(word) + len(word) - 1,
            "type": type_,
        }
        for word, type_ in ((subject, "PER"), (object_, "PER"))
    ]
    return Example.from_row({"sentence": sentence, "subject_entity": spans[0], "object_entity": spans[1]})


HOSTILE = [
    example("세종의 아들 문종", "세종", "문종"),  # an entity at either end, and nothing else but one word
    example("문종은 관계를 정리하고 회사의 가격을 세종", "세종", "문종"),
    example("세종문종", "세종", "문종"),  # adjacent, one word
    example("세종문종은 왕의 관계를 밝혔다", "문종", "세종"),
    example(
        "앞 세종은 뒤의 세종과 세종시에서 세종을 문종에게 보냈다 세종", "세종", "문종"
    ),  # the word again elsewhere
    example("😀 배우 👨‍👩‍👧가람은 😀🏽 관계 누리👍🏿 정부 정책", "👨‍👩‍👧가람", "누리👍🏿"),
    example(
        unicodedata.normalize("NFD", "배우 윤가람은 회사의 관계를 누리와 끊었다."),
        *(unicodedata.normalize("NFD", w) for w in ("가람", "누리")),
    ),
    example("@ * 사람 * 세종 @ 은 # ^ 사람 ^ 문종 # 의 관계 </s> [MASK] ", "세종", "문종"),
    example("  \t관계가\n 조지 해리슨이   쓰고\r\n폴  매카트니 가 정부 ", "조지 해리슨", "폴  매카트니"),
    example(" 세종 은 문종 의 회사 가격 ", " 세종 ", "문종 "),  # spans that begin and end with white space
    example("a b", "a", "b"),
    example("ab", "b", "a"),
    example("\u200b세종\u200d은 \ufeff문종\u0301의 관계", "세종\u200d", "\ufeff문종"),
    example("가격 회사 정부 관계 세종 정책 문종 방법 결정 조절 가격 회사", "문종", "세종"),
]


def as_row(example: Example) -> Row:
    entities = {
        field: {"word": entity.word, "start_idx": entity.start_idx, "end_idx": entity.end_idx}
        | ({"type": entity.type} if entity.type else {})
        for field, entity in (
            ("subject_entity", example.subject_entity),
            ("object_entity", example.object_entity),
        )
    }
    return {"sentence": example.sentence, **entities}
