"""A screen in Markdown: six lines for a ticket or a model card, or all of it with `--details`."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from weighbridge.base.wording import safe_markdown
from weighbridge.faces.view.records import (
    Bar,
    Block,
    Cell,
    Column,
    Grid,
    Headline,
    Lines,
    Mark,
    Note,
    Paste,
    Screen,
)

if TYPE_CHECKING:
    from weighbridge.faces.view.records import RenderOptions

MARKS: dict[Mark, str] = {"yes": "✓", "tight": "✓", "no": "✗", "unknown": "?"}


def markdown(screen: Screen, look: "RenderOptions") -> str:
    full = look.details or look.explain or not screen.brief
    blocks = screen.blocks if full else screen.brief
    parts = [[f"**{safe_markdown(screen.title)}**"], *(list(drawn(b)) for b in blocks)]
    parts += [[safe_markdown(text)] for text in screen.footer]
    parts.append([f"- warning: {safe_markdown(text)}" for text in screen.warnings])
    return "\n\n".join("\n".join(lines) for lines in parts if lines) + "\n"


def drawn(block: Block) -> Iterator[str]:
    match block:
        case Headline():
            yield _headline(block)
        case Bar():
            yield safe_markdown(": ".join(filter(None, (block.label, block.legend))))
        case Grid():
            yield from _grid(block)
        case Lines():
            yield from _lines(block)
        case Paste():
            yield from _paste(block)
        case Note():
            yield safe_markdown(block.text)


def _headline(block: Headline) -> str:
    sign = "" if block.mark is None else f"{MARKS[block.mark]} "
    figures = "; ".join(
        map(safe_markdown, filter(None, (block.figures, block.margin, block.reason)))
    )
    return f"{sign}**{safe_markdown(block.verdict)}**: {figures}"


def _lines(block: Lines) -> Iterator[str]:
    if block.heading:
        yield from (f"**{safe_markdown(block.heading)}**", "")
    yield from (f"- {_cell(line)}" for line in block.lines)


def _paste(block: Paste) -> Iterator[str]:
    fence = "```" + "`" * block.text.count("`")  # longer than any run of backticks in a name
    yield from (safe_markdown(block.heading), "", f"{fence}{block.language}", block.text, fence)


def _grid(block: Grid) -> Iterator[str]:
    if block.heading:
        yield from (f"**{safe_markdown(block.heading)}**", "")
    shown = [i for i, c in enumerate(block.columns) if c.head or any(r[i].text for r in block.rows)]
    columns = [block.columns[i] for i in shown]
    yield _row(c.head for c in columns)
    yield f"| {' | '.join(_rule(c) for c in columns)} |"
    for row in block.rows:
        yield _row(_cell(row[i]) for i in shown)


def _rule(column: Column) -> str:
    return "---:" if column.right else "---"


def _cell(cell: Cell) -> str:
    sign = "" if cell.mark is None else f"{MARKS[cell.mark]} "
    text = safe_markdown(cell.text)
    return f"{sign}**{text}**" if cell.tone == "strong" and text.strip() else f"{sign}{text}"


def _row(cells: Iterator[str]) -> str:
    return "| " + " | ".join(cells) + " |"
