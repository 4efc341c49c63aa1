"""The sentence on whether a card can run a model, and the table of formats to run it in."""

from collections.abc import Iterator

from weighbridge.base.wording import printable, printable_lines
from weighbridge.base.words import Words
from weighbridge.engines.table import title
from weighbridge.faces.view.answer import in_ram, mark, weighed
from weighbridge.faces.view.changes import language, quality_cell
from weighbridge.faces.view.records import Cell, Column, Grid, Mark, Paste
from weighbridge.faces.view.shown import card, left, sizes
from weighbridge.memory.report.fit import Fit
from weighbridge.memory.report.plan import Plan, Rung


def sentence(fit: Fit, words: Words, unit: str | None) -> Cell:
    """Return the cell that answers "can I run it?": yes and in which format; slowly; or no, and
    what would do."""
    if unread := fit.workload.get("not_understood"):
        return Cell(words("ladder.not_understood", words=printable(unread)), "unknown")
    rung = fit.plan.rung
    if rung is None:
        return _nothing_fits(fit.ladder[-1], words, unit)
    v = weighed(rung.verdict)
    size = sizes(v.usable_bytes, unit)
    line = words(
        f"ladder.{_sentence_key(fit.plan)}",
        form=form(rung, words),
        engine=title(rung.engine),
        needs=size.bare(v.per_device.expected),
        has=in_ram(words, rung.verdict, size.of(v.usable_bytes)),
        card=card(rung.report),
        kept=_kept_layers(rung, words),
        slower=_slowdown(rung, words),
        ram=_host_size(rung, unit),
        flags=printable(rung.undoes),
    )
    if rung.longest and rung.whole and rung.fits == "yes":
        line += words("ladder.longest", tokens=f"{rung.longest:,}")
    return Cell(line, plan_mark(fit.plan))


def _sentence_key(plan: Plan) -> str:
    """Return the key of the sentence about a plan."""
    if plan.why == "divided" and plan.fits != "yes":
        return "divided.open"
    return plan.why if plan.why in ("divided", "undone", "elsewhere") else plan.fits


def plan_mark(plan: Plan) -> Mark:
    """Return the mark of a plan for the cards that the user named."""
    return plan.fits if plan.rung is None or not plan.here else _rung_mark(plan.rung)


def _rung_mark(rung: Rung) -> Mark:
    """Return the mark of a rung (one format with its engine) for the cards it is planned on."""
    if rung.short_of:
        return "no"
    return "tight" if rung.fits == "yes" and not rung.whole else mark(rung.verdict)


def _nothing_fits(rung: Rung, words: Words, unit: str | None) -> Cell:
    """Return a cell on the bytes by which even the smallest format is too large, or on the context
    that its engine reaches."""
    engine = title(rung.engine)
    if rung.short_of:
        tokens = f"{rung.report.setting('context'):,}"
        line = words("ladder.shorter", engine=engine, tokens=tokens, asked=f"{rung.short_of:,}")
        return Cell(line, "no")
    v = weighed(rung.verdict)
    needs = v.per_device.expected
    line = words(
        "ladder.nothing",
        form=form(rung, words),
        engine=engine,
        needs=in_ram(words, rung.verdict, sizes(needs, unit).of(needs)),
        margin=left(words, needs, v.margin_bytes, unit),
    )
    return Cell(line, "no")


def form(rung: Rung, words: Words) -> str:
    """Return a rung's format as text: "as published (bfloat16)", "at 4 bit (Q4_K_M)"."""
    key = "ladder.form.bits" if rung.bits else "ladder.form.published"
    return words(key, bits=rung.bits, form=printable(rung.format))


def _kept_layers(rung: Rung, words: Words, *, rest: bool = False) -> str:
    """Return how many layers, or layers with their experts, the engine keeps on the card, as text;
    with `rest`, those in RAM."""
    on_card, of = rung.layers or (0, 0)
    key = "experts" if rung.report.derived.get("divided_by") == "experts" else "layers"
    if rest:
        return words(f"ladder.{key}.rest", layers=of - on_card)
    return words(f"ladder.{key}", layers=on_card, all=of)


def _slowdown(rung: Rung, words: Words) -> str:
    times = rung.report.derived.get("times_slower")
    if times is None:
        return words("cost.much_slower")
    return words("ladder.slower", low=f"{times[0]:g}", high=f"{times[1]:g}")


def _host_size(rung: Rung, unit: str | None) -> str:
    host = rung.verdict.host
    return "" if host is None else sizes(host.needed.expected, unit).of(host.needed.expected)


def brief(fit: Fit, words: Words) -> Cell:
    """Return a cell with the plan's format and engine in a few words ("4 bit, Ollama"), or where
    else it runs."""
    rung = fit.plan.rung
    if rung is None or not fit.plan.here:
        there = "" if rung is None else words("ladder.only", where=_other_place(rung, words))
        return Cell(there, plan_mark(fit.plan))
    label = words("ladder.bits", bits=rung.bits) if rung.bits else words("ladder.published")
    label = rung.change.get("quantization", label) if fit.pictures else label
    return Cell(words("ladder.brief", label=label, engine=title(rung.engine)), _rung_mark(rung))


def _other_place(rung: Rung, words: Words) -> str:
    """Return a phrase with the other cards that a rung is for, or the other setting it has."""
    if rung.undoes:
        return words("ladder.with", flags=printable(rung.undoes))
    return words("ladder.on", card=card(rung.report))


def grid(fit: Fit, about: str, words: Words, unit: str | None) -> Grid:
    """Return the table of formats, best first: engine, bytes, longest context in tokens, and
    quality loss. `about` is the head of the first column."""
    text = any(rung.longest or rung.short_of for rung in fit.ladder)
    quality = any(_remark(rung, words) for rung in fit.ladder)
    columns = (
        Column(about),
        Column(words("ladder.head.engine"), rank=1),
        Column(words("ladder.head.needs")),
        *([Column(words("ladder.head.longest"), right=True, rank=2)] if text else []),
        *([Column(words("ladder.head.quality"), folds=True)] if quality else []),
    )
    rows = tuple(tuple(_cells(rung, words, unit, (text, quality))) for rung in fit.ladder)
    actions = tuple(dict(rung.change) or None for rung in fit.ladder)
    return Grid(columns, rows, actions=actions)


def _cells(rung: Rung, words: Words, unit: str | None, shown: tuple[bool, bool]) -> Iterator[Cell]:
    needs = weighed(rung.verdict).per_device.expected
    label = words("ladder.bits", bits=rung.bits) if rung.bits else words("ladder.published")
    yield Cell(words("ladder.row", label=label, form=printable(rung.format)))
    yield Cell(title(rung.engine))
    yield Cell(in_ram(words, rung.verdict, sizes(needs, unit).of(needs)), _rung_mark(rung))
    if shown[0]:
        longest = rung.longest if rung.whole else None
        reach = rung.report.setting("context") if rung.short_of else longest
        yield Cell("" if reach is None else f"{reach:,}")
    if shown[1]:
        yield Cell(printable(_remark(rung, words)))


def _remark(rung: Rung, words: Words) -> str:
    """Return the cost of a rung in words: another card, layers in RAM, or its format's published
    loss; "" if it has none."""
    if rung.undoes or rung.elsewhere:
        return _other_place(rung, words)
    if rung.layers is not None:
        return words("ladder.in_ram", rest=_kept_layers(rung, words, rest=True))
    if not rung.bits or rung.quality is None:
        return words("ladder.unknown_loss") if rung.bits else ""
    loss = quality_cell(words, rung.quality._replace(near="model"))
    near = rung.quality.near == "model" or not rung.quality.change
    return loss if near else words("ladder.about", quality=loss)


def paste(fit: Fit, words: Words) -> Iterator[Paste]:
    """Yield the line to paste that runs the plan, if its engine has one."""
    rung = fit.plan.rung
    line = None if rung is None else rung.report.derived.get("launch")
    if rung is None or not line:
        return
    heading = words("ladder.run", form=form(rung, words), engine=title(rung.engine))
    if not fit.plan.here:
        heading = words("ladder.run.on", heading=heading, where=_other_place(rung, words))
    yield Paste(heading, printable_lines(line), language(line))
