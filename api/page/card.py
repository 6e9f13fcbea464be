"""The bundle's model card as a page: how good the model is, and what it must not be used for."""

import re
from html import escape
from typing import Final

from markdown_it import MarkdownIt

_FRONT_MATTER: Final = re.compile(r"\A---\n.*?\n---\n", re.DOTALL)
"""What model hubs read, at the top of a card."""

_markdown: Final = MarkdownIt("commonmark", {"html": False}).enable("table").disable(["image", "link"])
"""Neither HTML nor links nor pictures: a card can come from a stranger, and the page loads nothing from
elsewhere."""


def card_page(card: str, folder: str) -> str:
    """The page of a model card.

    Args:
        card: Markdown, with or without front matter.
        folder: path of the page's files.
    """
    text = _FRONT_MATTER.sub("", card)
    text = re.sub(r"^!\[.*$", "", text, flags=re.MULTILINE)  # a picture alone on its line
    title = re.search(r"^# (.+)$", text, re.MULTILINE)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title[1] if title else 'Model card')}</title>"
        f'<link rel="stylesheet" href="{folder}/style.css">'
        f'<link rel="stylesheet" href="{folder}/card.css"></head>'
        f'<body class="document"><main>{_markdown.render(text)}</main></body></html>'
    )
