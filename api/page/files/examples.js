/** Sentences to begin with. People and organisations in them are invented. */

import { onlyPlace } from "./offsets.js";

const spans = (sentence, ...entities) => ({
  sentence,
  entities: entities.map(([word, type]) => ({ ...onlyPlace(sentence, word), type })),
});

export const EXAMPLES = [
  {
    name: { ko: "결혼", en: "Marriage" },
    ...spans(
      "지휘자 문태경은 바이올리니스트 오세린과 2011년 빈에서 결혼했다.",
      ["문태경", "PER"],
      ["오세린", "PER"],
    ),
  },
  {
    name: { ko: "고향", en: "Birthplace" },
    ...spans(
      "소설가 서하린은 강릉에서 태어나 평생 바다를 이야기로 옮겼다.",
      ["서하린", "PER"],
      ["강릉", "LOC"],
    ),
  },
  {
    name: { ko: "창업", en: "Founding" },
    ...spans("도담출판사의 설립자 임나루는 경주 출신이다.", ["도담출판사", "ORG"], ["임나루", "PER"]),
  },
  {
    name: { ko: "신제품", en: "Product" },
    ...spans("가람전자의 새 노트북 ‘가람북’이 다음 달 출시된다.", ["가람전자", "ORG"], ["가람북", "POH"]),
  },
  {
    name: { ko: "본사", en: "Headquarters" },
    ...spans(
      "전남 여수시에 본사를 둔 바다빛식품은 직원이 340명인 중견 기업이다.",
      ["바다빛식품", "ORG"],
      ["전남 여수시", "LOC"],
    ),
  },
  {
    name: { ko: "국적", en: "Origin" },
    ...spans(
      "프랑스 출신의 셰프 뤼카 모렐은 서울 성수동에 식당을 열었다.",
      ["뤼카 모렐", "PER"],
      ["프랑스", "LOC"],
    ),
  },
  {
    name: { ko: "예명", en: "Stage name" },
    ...spans("신예 싱어송라이터 노을빛의 본명은 윤서아이다.", ["노을빛", "PER"], ["윤서아", "PER"]),
  },
  {
    name: { ko: "한 팀, 여섯 쌍", en: "A team, six pairs" },
    ...spans(
      "한강 FC의 주장 강태오와 감독 유정민은 우승 소감을 밝혔다.",
      ["한강 FC", "ORG"],
      ["강태오", "PER"],
      ["유정민", "PER"],
    ),
  },
];
