/** Korean particles: which one follows a word, and which one a selected word ends with. */

const PARTICLES = [
  "에서는",
  "에게서",
  "으로는",
  "에서",
  "에게",
  "께서",
  "까지",
  "부터",
  "으로",
  "처럼",
  "이다",
  "은",
  "는",
  "이",
  "가",
  "을",
  "를",
  "과",
  "와",
  "의",
  "에",
  "로",
  "도",
  "만",
];
const AFTER_CONSONANT = ["은", "이", "을", "과", "으로", "으로는", "이다"];
const AFTER_VOWEL = ["는", "가", "를", "와", "로"];

/** Whether a word ends in a consonant; null if its last character is not a Hangul syllable. */
function endsInConsonant(word) {
  const code = word.codePointAt(word.length - 1) - 0xac00;
  return code >= 0 && code < 11172 ? code % 28 > 0 : null;
}

/** `word` with the fitting one of a pair such as "은/는". */
export function withParticle(word, pair) {
  const [consonant, vowel] = pair.split("/");
  const ends = endsInConsonant(word);
  return ends === null ? `${consonant}(${vowel})` : ends ? consonant : vowel;
}

/** The particle at the end of a selected word: "이순신은" gives "은". Null if there is none. */
export function particleOf(word) {
  return (
    PARTICLES.find((particle) => {
      const rest = word.slice(0, -particle.length);
      if (!word.endsWith(particle) || rest.length < 2) return false;
      const consonant = endsInConsonant(rest);
      return (
        !(AFTER_CONSONANT.includes(particle) && consonant === false) &&
        !(AFTER_VOWEL.includes(particle) && consonant)
      );
    }) ?? null
  );
}
