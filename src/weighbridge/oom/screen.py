"""What a person sees: what ran out, what filled it, what to change, a line to paste."""

from collections.abc import Iterator, Mapping
from typing import Any

from weighbridge.oom import figures
from weighbridge.oom.record import Change, Match, Oom, OomReading
from weighbridge.render import RenderOptions, draw
from weighbridge.view.records import (
    Bar,
    Block,
    Cell,
    Column,
    Grid,
    Headline,
    Lines,
    Mark,
    Paste,
    Screen,
    Section,
    ShownSegment,
    lines,
    row,
)
from weighbridge.view.shown import sizes
from weighbridge.wording import printable, redacted
from weighbridge.words import Words, words_in

SHOWN = 3  # changes on the first screen; all of them with --details
SHELL = ("export ", "nvidia-smi", "docker ", "sudo ", "cmake ", "rocm-smi", "npu-smi", "ollama ")
LEAST = 200  # a part of less than so small a share of the device is not drawn
TOLD = 2  # further causes


def view(oom: Oom, look: RenderOptions) -> Screen:
    """The screen of an answer, for any renderer."""
    s = words_in(look.lang, "oom", unit=look.unit)
    answer: Section = (_headline(oom, s), *_bar(oom, s), *_beside(oom, s))
    most = None if look.details else SHOWN
    changes = tuple(b for change in oom.remedies[:most] for b in _change(change, s))
    heading = (Lines((), s("change.heading")),) if changes else ()
    told: list[Section] = [answer, (*heading, *changes)]
    if look.explain:
        told.append(tuple(_arithmetic(oom, s)))
    if look.details:
        told.append((_read(oom.found, s),))
    return Screen(
        title=_title(oom.found, s),
        sections=tuple(section for section in told if section),
        footer=(_footer(oom, s),),
        warnings=tuple(printable(redacted(line)) for line in oom.warnings),
        lang=look.lang,
        brief=(*answer, *changes),
    )


def screen(oom: Oom, look: RenderOptions = RenderOptions(), form: str = "human") -> str:  # noqa: B008
    """The same as text."""
    return draw(view(oom, look), form, look)


def _arithmetic(oom: Oom, s: Words) -> Iterator[Block]:
    """What of the model was compared, as people multiply."""
    texts = [f"{m.component}: {printable(m.formula)} = {s.size(m.nbytes)}" for m in oom.explained]
    if texts:
        yield lines(*texts, heading=s("explain.heading"))


def _read(found: OomReading, s: Words) -> Grid:
    """Every figure of the message, by its name in the JSON form."""
    rows = []
    for name, value in found.parsed.items():
        if value is not None and not isinstance(value, list):
            shown = f"{value:,}" if isinstance(value, int) else printable(str(value))
            rows.append(row(name, shown, s.size(value) if name.endswith("_bytes") else ""))
    columns = (Column(), Column(right=True), Column(right=True))
    return Grid(columns, tuple(rows), s("details.heading"))


def _title(found: OomReading, s: Words) -> str:
    capacity = found.size("capacity")
    text = s("title", program=s(f"tool.{found.tool}"))
    if "device" in found.parsed:
        text += s("title.device", device=found.parsed["device"])
    return text + (s("title.capacity", size=s.size(capacity)) if capacity else "")


def _headline(oom: Oom, s: Words) -> Headline:
    judged = oom.judged
    verdict = s(f"cause.{judged.cause or 'none'}")
    if judged.sure == "likely":
        verdict = s("sure.likely") + verdict
    mark: Mark = "no" if judged.cause else "unknown"
    return Headline(verdict, _figures(oom.found, s), mark, reason=_why(oom, s))


def _why(oom: Oom, s: Words) -> str:
    request = next((m for m in oom.explained if m.matches == "request"), None)
    values: dict[str, Any] = {name: s.size(n) for name, n in oom.judged.figures.items()}
    values |= {"formula": printable(request.formula) if request else "", **_counts(oom)}
    sized = {
        name.removesuffix("_bytes"): n for name, n in oom.parsed.items() if name.endswith("_bytes")
    }
    values = {**{name: s.size(n) for name, n in sized.items() if isinstance(n, int)}, **values}
    return s.filled(f"why.{oom.judged.why}", values)


def _counts(oom: Oom) -> dict[str, str]:
    named = {"asked": "max_model_len", "there": "max_tokens", "context": "n_ctx"}
    counts = {key: f"{oom.parsed[name]:,}" for key, name in named.items() if oom.parsed.get(name)}
    if "share" in oom.judged.figures:
        counts["share"] = str(oom.judged.figures["share"])
    return counts


FIGURES: tuple[tuple[str, Mapping[str, str]], ...] = (  # the first of which all is known
    ("figures.kv", {"needed": "needed_kv_bytes", "there": "available_kv_bytes"}),
    ("figures.tokens", {"asked": "max_model_len", "there": "max_tokens"}),
    (
        "figures.startup",
        {"desired": "desired_bytes", "free": "free_bytes", "capacity": "capacity_bytes"},
    ),
    ("figures.host", {"needed": "needed_host_bytes", "there": "available_host_bytes"}),
    ("figures.asked", {"requested": "requested_bytes", "free": "free_bytes"}),
    ("figures.allowed", {"requested": "requested_bytes", "allowed": "allowed_bytes"}),
    ("figures.asked_alone", {"requested": "requested_bytes"}),
    ("figures.process", {"process": "process_bytes"}),
)


def _figures(found: OomReading, s: Words) -> str:
    for key, named in FIGURES:
        values = {name: found.parsed.get(field) for name, field in named.items()}
        if all(isinstance(v, int) for v in values.values()):
            told = {n: _told(named[n], v, s) for n, v in values.items() if isinstance(v, int)}
            return s(key, **told)
    return s("figures.none")


def _told(field: str, value: int, s: Words) -> str:
    return s.size(value) if field.endswith("_bytes") else f"{value:,}"


def _bar(oom: Oom, s: Words) -> Iterator[Bar]:
    """What the message says of the device, where it says enough."""
    found = oom.found
    capacity = found.size("capacity") or found.size("allowed")
    parts = list(_parts(found))
    used = sum(nbytes for _, nbytes in parts)
    if not capacity or not parts or used > capacity * 1.05 or used == 0:
        return
    unit = sizes(capacity, s.unit)
    segments = tuple(ShownSegment(key, s(f"part.{key}"), n, unit.bare(n)) for key, n in parts)
    legend = " · ".join(f"{p.name} {p.size}" for p in segments) + f" {unit.unit}"
    requested = found.size("requested")
    margin = s("bar.margin", size=s.size(requested)) if requested else ""
    words = ", ".join(f"{p.name} {p.size} {unit.unit}" for p in segments)
    yield Bar(segments, used, capacity, used, used, "", margin, legend, s("bar.words", parts=words))


def _parts(found: OomReading) -> Iterator[tuple[str, int]]:
    allocated = found.size("allocated")
    if allocated is None:
        return
    mine, held = figures.own_process(found), figures.held(found)
    beside = max(mine - held, 0) if mine is not None and held is not None else 0
    named = {
        "loaded" if found.tool == "llama.cpp" else "allocated": allocated,
        "unallocated": figures.unallocated(found) or 0,
        "own": beside,
        "rest" if mine is None else "others": figures.others(found) or 0,
        "other_allocations": found.size("other") or 0,
    }
    least = (found.size("capacity") or found.size("allowed") or 0) // LEAST
    yield from ((key, nbytes) for key, nbytes in named.items() if nbytes > least)


def _beside(oom: Oom, s: Words) -> Iterator[Block]:
    """What the model tells, and what else it may be."""
    told: list[str] = []
    for match in oom.explained:
        told += _match(oom, match, s)
    verdict = oom.estimate.verdict if oom.estimate is not None else None
    if verdict is not None and verdict.fits == "yes":
        told.append(s("estimate.fits"))
    elif verdict is not None:
        told.append(s("estimate", reason=verdict.reason.partition("; runs like")[0]))
    others = [c for c in oom.judged.others if oom.judged.sure in ("likely", "unknown")][:TOLD]
    if others:
        told.append(s("others", causes=s("or").join(s(f"cause.{c}") for c in others)))
    if told:
        yield Lines(tuple(Cell(line) for line in told))


def _match(oom: Oom, match: Match, s: Words) -> list[str]:
    if match.matches == "device" or oom.judged.why == "model.request":
        return []
    return [s("needed", formula=printable(match.formula), size=s.size(match.nbytes))]


def _change(change: Change, s: Words) -> Iterator[Block]:
    """What it does and what it costs, with the line to paste below."""
    told = _does(change, s)
    if change.peak_bytes is not None:
        told += f", {s('change.peak', size=s.size(change.peak_bytes))}"
    told += s("change.add") if change.paste.startswith("-") else ""
    cost = s.translated(change.cost, "cost") or change.cost
    told += s("change.costs", cost=printable(cost))
    if change.paste:
        yield Paste(told, printable_lines(change.paste), _language(change.paste))
    else:
        yield Lines((Cell(told, None, "strong"),))


def _does(change: Change, s: Words) -> str:
    """The settings that it changes, in words."""
    words = []
    for name, value in change.change.items():
        key = f"do.{name}" if f"do.{name}" in s.sentences else "do.other"
        shown = f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else value
        words.append(s(key, name=name.replace("_", "-"), value=printable(str(shown))))
    return ", ".join(dict.fromkeys(words))


def printable_lines(text: str) -> str:
    return "\n".join(printable(line) for line in text.split("\n"))


def _language(paste: str) -> Any:
    shell = paste.startswith(("-", *SHELL)) or paste.split(" ")[0] in (
        "vllm",
        "python",
        "llama-server",
    )
    return "sh" if shell else "python"


def _program(oom: Oom, s: Words) -> str:
    """Tell which program wrote the message, with the releases that word it so: torch-2.2..2.3,
    torch-2.4.."""
    program = s(f"tool.{oom.found.tool}")
    first, dots, last = oom.wording.removeprefix("torch-").partition("..")
    if not first[:1].isdigit():
        return program
    key = "footer.until" if last else "footer.since" if dots else "footer.only"
    return s(key, program=program, first=first, last=last)


def _footer(oom: Oom, s: Words) -> str:
    told = [s("footer", program=_program(oom, s))]
    if oom.estimate is None:
        told.append(s("footer.model"))
    else:
        told.append(
            s("footer.estimate", name=printable(oom.estimate.model.name), task=oom.estimate.task)
        )
    return " · ".join(told)
