"""The bundle's model card as a page: how good the model is, and what it must not be used for.

The page around the card, and the card's own phrases in Korean, are the browser's work (`files/card.js`).
"""

import re
from html import escape
from typing import Final

from markdown_it import MarkdownIt

_FRONT_MATTER: Final = re.compile(r"\A---\n.*?\n---\n", re.DOTALL)
"""What model hubs read, at the top of a card."""

_markdown: Final = MarkdownIt("commonmark", {"html": False}).enable("table").disable(["image", "link"])
"""Neither HTML nor links nor pictures: a card can come from a stranger, and the page loads nothing from
elsewhere."""

_FRAME: Final = '<div class="sideways" role="region" tabindex="0">'
"""Around each table: it scrolls sideways on a phone, also by keyboard."""


def card_page(card: str, html: str) -> str:
    """The page of a model card.

    Args:
        card: Markdown, with or without front matter.
        html: the page, with `{title}` and `{card}` in the places of both.
    """
    text = _FRONT_MATTER.sub("", card)
    text = re.sub(r"^!\[.*$", "", text, flags=re.MULTILINE)  # a picture alone on its line
    title = re.search(r"^# (.+)$", text, re.MULTILINE)
    rendered = _markdown.render(text)
    rendered = rendered.replace("<table>", f"{_FRAME}<table>").replace("</table>", "</table></div>")
    parts = {"{title}": escape(title[1] if title else "Model card"), "{card}": rendered}
    return re.sub("|".join(map(re.escape, parts)), lambda found: parts[found[0]], html)
