/** The request of the present case as curl, Python and JavaScript. */

import { hasKey } from "./api.js";
import { copyButton } from "./copying.js";
import { button, el, fill } from "./dom.js";
import { say } from "./language.js";

const FORMS = { curl, Python: python, JavaScript: javascript };
let chosen = "curl";

/** Shows the request in the chosen form; `body` is null while there is nothing to ask. */
export function showSnippets(container, body) {
  if (body === null) {
    fill(container, el("p", { class: "note" }, say("codeEmpty")));
    return;
  }
  const code = FORMS[chosen](new URL("relations", document.baseURI).href, body, hasKey());
  const choose = (form) => {
    chosen = form;
    showSnippets(container, body);
  };
  fill(
    container,
    el(
      "div",
      { class: "line between" },
      el(
        "div",
        { class: "switch", role: "group", "aria-label": say("code") },
        Object.keys(FORMS).map((form) =>
          button(form, () => choose(form), { "aria-pressed": String(form === chosen), "data-focus": form }),
        ),
      ),
      copyButton("copyCode", () => code),
    ),
    el("pre", { tabindex: 0, role: "region", "aria-label": chosen }, el("code", {}, code)),
  );
}

function curl(url, body, withKey) {
  const json = JSON.stringify(body).replaceAll("'", "'\\''");
  const key = withKey ? ` \\\n  -H "Authorization: Bearer $KORE_API_KEY"` : "";
  return `curl -s ${url}${key} \\\n  -H 'Content-Type: application/json' \\\n  -d '${json}'`;
}

function python(url, body, withKey) {
  const imports = withKey ? "import os\n\nimport requests" : "import requests";
  const key = withKey ? `,\n    headers={"Authorization": f"Bearer {os.environ['KORE_API_KEY']}"}` : "";
  return `${imports}

answer = requests.post(
    "${url}",
    json=${indented(body, 4)}${key},
)
answer.raise_for_status()
print(answer.json())`;
}

function javascript(url, body, withKey) {
  const key = withKey ? "\n    Authorization: `Bearer ${process.env.KORE_API_KEY}`," : "";
  return `const answer = await fetch("${url}", {
  method: "POST",
  headers: {
    "Content-Type": "application/json",${key}
  },
  body: JSON.stringify(${indented(body, 2)}),
});
if (!answer.ok) throw new Error(await answer.text());
console.log(await answer.json());`;
}

/** JSON over several lines, each entity on one. Strings and numbers only, so Python reads it too. */
function indented(body, spaces) {
  const inner = " ".repeat(spaces + 4);
  const value = (field) =>
    Array.isArray(field)
      ? `[\n${field.map((one) => `${inner}    ${flat(one)}`).join(",\n")},\n${inner}]`
      : flat(field);
  const lines = Object.entries(body).map(([name, field]) => `${inner}"${name}": ${value(field)},`);
  return `{\n${lines.join("\n")}\n${" ".repeat(spaces)}}`;
}

const flat = (field) =>
  typeof field === "object"
    ? `{${Object.entries(field)
        .map(([name, value]) => `"${name}": ${JSON.stringify(value)}`)
        .join(", ")}}`
    : JSON.stringify(field);
