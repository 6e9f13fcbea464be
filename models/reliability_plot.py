"""How well scores agree with accuracy, as a picture. It is written as SVG, so that serving does not install a
plotting library."""

from models.metrics import Reliability

SIDE, MARGIN = 320, 46
"""Pixels: the plot, and the space around it."""


def reliability_plot(reliability: Reliability) -> str:
    """Each bar is the share of right answers of a bin, each dot its mean score."""
    bins, bottom, size = len(reliability.rows), MARGIN + SIDE, SIDE + 2 * MARGIN
    step = SIDE / bins
    parts = [_rect(MARGIN, MARGIN, SIDE, SIDE, 'fill="none" stroke="#999"')]
    for index, rows in enumerate(reliability.rows.tolist()):
        tick, along = f"{index / bins:g}", step * index
        parts.append(_text(MARGIN + along, bottom + 15, tick, "middle"))
        parts.append(_text(MARGIN - 6, bottom - along + 4, tick, "end"))
        if not rows:
            continue
        accuracy, score = reliability.right[index] / rows, reliability.scores[index] / rows
        title = f"{rows} rows, mean score {score:.3f}, {100 * accuracy:.1f} % right"
        top = bottom - SIDE * accuracy
        bar = _rect(MARGIN + along + 1, top, step - 2, SIDE * accuracy, 'fill="#6f8fb8"')
        dot = f'<circle cx="{MARGIN + SIDE * score:.1f}" cy="{top:.1f}" r="4" fill="#b8621b"/>'
        parts.append(f"<g><title>{title}</title>{bar}{dot}</g>")
    ends = f'x1="{MARGIN}" y1="{bottom}" x2="{bottom}" y2="{MARGIN}"'
    parts.append(f'<line {ends} stroke="#222" stroke-dasharray="4 4"/>')
    parts.append(_text(size / 2, size - 10, "score", "middle"))
    parts.append(_text(MARGIN, MARGIN - 12, "share of right predictions; the dots show the mean score"))
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{size}" height="{size}"'
    return "\n".join([f'{head} font-family="sans-serif" font-size="11">', *parts, "</svg>"])


def _rect(x: float, y: float, width: float, height: float, style: str) -> str:
    return f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" {style}/>'


def _text(x: float, y: float, text: str, anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{text}</text>'
