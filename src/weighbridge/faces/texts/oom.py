"""The screen of an out-of-memory message: what filled the device, and what to change, one line
each."""

from collections.abc import Iterator, Mapping
from typing import Any

from weighbridge.base.sentences import without
from weighbridge.base.wording import printable, printable_lines, redacted
from weighbridge.base.words import Words, words_in
from weighbridge.faces.view.records import (
    Bar,
    Block,
    Cell,
    Column,
    Grid,
    Headline,
    Lines,
    Mark,
    Paste,
    RenderOptions,
    Screen,
    Section,
    ShownSegment,
    lines,
    row,
)
from weighbridge.faces.view.shown import sizes
from weighbridge.files.oom import figures
from weighbridge.files.oom.record import Change, Match, Oom, OomReading

SHOWN = 3  # most changes on the first screen; --details shows all
SHELL = (
    *("export ", "nvidia-smi", "docker ", "sudo ", "cmake ", "rocm-smi", "npu-smi", "ollama "),
    *("vllm ", "python ", "llama-server "),
)
LOADERS = ("llama.cpp", "mlx")  # their messages count only the weights as allocated
LEAST = 200  # divisor: a part below 1/LEAST of the device is not drawn
TOLD = 2  # most further causes that are shown


def view(oom: Oom, look: RenderOptions) -> Screen:
    """Return the screen of an answer about an out-of-memory message, for any renderer."""
    words = words_in(look.lang, "oom", unit=look.unit)
    answer: Section = (_headline(oom, words), *_bar(oom, words), *_model_sentences(oom, words))
    most = None if look.details else SHOWN
    changes = tuple(b for change in oom.remedies[:most] for b in _change_blocks(change, words))
    heading = (Lines((), words("change.heading")),) if changes else ()
    sections: list[Section] = [answer, (*heading, *changes)]
    if look.explain:
        sections.append(tuple(_arithmetic(oom, words)))
    if look.details:
        sections.append((_figures_table(oom.reading, words),))
    return Screen(
        title=_title(oom.reading, words),
        sections=tuple(section for section in sections if section),
        footer=(_footer(oom, words),),
        warnings=tuple(redacted(words.told(line)) for line in oom.warnings),
        lang=look.lang,
        brief=(*answer, *changes),
    )


def _arithmetic(oom: Oom, words: Words) -> Iterator[Block]:
    """Yield lines with the model's sizes that match the message, as products."""
    texts = [
        f"{m.component}: {printable(m.formula)} = {words.size(m.nbytes)}" for m in oom.explained
    ]
    if texts:
        yield lines(*texts, heading=words("explain.heading"))


def _figures_table(reading: OomReading, words: Words) -> Grid:
    """Return a table of every figure of the message, by its name in the JSON form."""
    rows = []
    for name, value in reading.parsed.items():
        if value is not None and not isinstance(value, list):
            shown = f"{value:,}" if isinstance(value, int) else printable(str(value))
            rows.append(row(name, shown, words.size(value) if name.endswith("_bytes") else ""))
    columns = (Column(), Column(right=True), Column(right=True))
    return Grid(columns, tuple(rows), words("details.heading"))


def _title(reading: OomReading, words: Words) -> str:
    capacity = reading.size("capacity")
    text = words("title", program=words(f"tool.{reading.tool}"))
    if "device" in reading.parsed:
        text += words("title.device", device=reading.parsed["device"])
    return text + (words("title.capacity", size=words.size(capacity)) if capacity else "")


def _headline(oom: Oom, words: Words) -> Headline:
    judged = oom.judged
    verdict = words(f"cause.{judged.cause or 'none'}")
    if judged.sure == "likely":
        verdict = words("sure.likely") + verdict
    mark: Mark = "no" if judged.cause else "unknown"
    return Headline(verdict, _figures(oom.reading, words), mark, reason=_reason(oom, words))


def _reason(oom: Oom, words: Words) -> str:
    request = next((m for m in oom.explained if m.matches == "request"), None)
    values: dict[str, Any] = {name: words.size(n) for name, n in oom.judged.figures.items()}
    values |= {"formula": printable(request.formula) if request else "", **_count_texts(oom)}
    sized = {
        name.removesuffix("_bytes"): n for name, n in oom.parsed.items() if name.endswith("_bytes")
    }
    values = {**{name: words.size(n) for name, n in sized.items() if isinstance(n, int)}, **values}
    each = _per_token_texts(oom, words) if oom.judged.why == "kv_bytes" else {}
    return words.filled(f"why.{oom.judged.why}{'.each' if each else ''}", {**values, **each})


def _per_token_texts(oom: Oom, words: Words) -> dict[str, str]:
    """Return texts for the KV cache per token (`each`) and the bytes lacking for the context
    (`lacking`); {} if the message does not state them."""
    needed, there = oom.reading.size("needed_kv"), oom.reading.size("available_kv")
    tokens = oom.parsed.get("max_model_len")
    if not needed or there is None or not tokens:
        return {}
    return {"each": words.size(round(needed / tokens)), "lacking": words.size(needed - there)}


def _count_texts(oom: Oom) -> dict[str, str]:
    named = {"asked": "max_model_len", "there": "max_tokens", "context": "n_ctx"}
    counts = {key: f"{oom.parsed[name]:,}" for key, name in named.items() if oom.parsed.get(name)}
    if "share" in oom.judged.figures:
        counts["share"] = str(oom.judged.figures["share"])
    return counts


FIGURES: tuple[
    tuple[str, Mapping[str, str]], ...
] = (  # the first sentence whose figures are all known is shown
    ("figures.kv", {"needed": "needed_kv_bytes", "there": "available_kv_bytes"}),
    ("figures.tokens", {"asked": "max_model_len", "there": "max_tokens"}),
    (
        "figures.startup",
        {"desired": "desired_bytes", "free": "free_bytes", "capacity": "capacity_bytes"},
    ),
    ("figures.host", {"needed": "needed_host_bytes", "there": "available_host_bytes"}),
    ("figures.asked", {"requested": "requested_bytes", "free": "free_bytes"}),
    ("figures.allowed", {"requested": "requested_bytes", "allowed": "allowed_bytes"}),
    ("figures.beside", {"requested": "requested_bytes", "held": "buffers_bytes"}),
    ("figures.asked_alone", {"requested": "requested_bytes"}),
    ("figures.process", {"process": "process_bytes"}),
    ("figures.loaded", {"loaded": "allocated_bytes", "capacity": "capacity_bytes"}),
)


def _figures(reading: OomReading, words: Words) -> str:
    for key, named in FIGURES:
        values = {name: reading.parsed.get(field) for name, field in named.items()}
        if all(isinstance(v, int) for v in values.values()):
            shown = {
                n: (words.size(v) if named[n].endswith("_bytes") else f"{v:,}")
                for n, v in values.items()
                if isinstance(v, int)
            }
            return words(key, **shown)
    return words("figures.none")


def _bar(oom: Oom, words: Words) -> Iterator[Bar]:
    """Yield the bar of the device's memory as the message states it, if it states enough."""
    reading = oom.reading
    capacity = reading.size("capacity") or reading.size("allowed")
    parts = list(_memory_parts(reading))
    used = sum(nbytes for _, nbytes in parts)
    if not capacity or not parts or used > capacity * 1.05 or used == 0:
        return
    unit = sizes(capacity, words.unit)
    segments = tuple(ShownSegment(key, words(f"part.{key}"), n, unit.bare(n)) for key, n in parts)
    legend = " · ".join(f"{p.name} {p.size}" for p in segments) + f" {unit.unit}"
    requested = reading.size("requested")
    margin = words("bar.margin", size=words.size(requested)) if requested else ""
    listed = ", ".join(f"{p.name} {p.size} {unit.unit}" for p in segments)
    yield Bar(
        segments, used, capacity, used, used, "", margin, legend, words("bar.words", parts=listed)
    )


def _memory_parts(reading: OomReading) -> Iterator[tuple[str, int]]:
    allocated = reading.size("allocated")
    if allocated is None:
        return
    mine, reserved = figures.own_process(reading), figures.in_process(reading)
    beside = max(mine - reserved, 0) if mine is not None and reserved is not None else 0
    named = {
        "loaded" if reading.tool in LOADERS else "allocated": allocated,
        "unallocated": figures.unallocated(reading) or 0,
        "own": beside,
        "rest" if mine is None else "others": figures.others(reading) or 0,
        "other_allocations": reading.size("other") or 0,
    }
    least = (reading.size("capacity") or reading.size("allowed") or 0) // LEAST
    yield from ((key, nbytes) for key, nbytes in named.items() if nbytes > least)


def _model_sentences(oom: Oom, words: Words) -> Iterator[Block]:
    """Yield sentences on the sizes that the model explains, and on other possible causes."""
    sentences: list[str] = []
    for match in oom.explained:
        sentences += _match_sentences(oom, match, words)
    verdict = oom.estimate.verdict if oom.estimate is not None else None
    if verdict is not None and verdict.fits == "yes":
        sentences.append(words("estimate.fits"))
    elif verdict is not None:
        sentences.append(words("estimate", reason=without(verdict.reason, "published_runs")))
    others = [c for c in oom.judged.others if oom.judged.sure in ("likely", "unknown")][:TOLD]
    if others:
        sentences.append(
            words("others", causes=words("or").join(words(f"cause.{c}") for c in others))
        )
    if sentences:
        yield Lines(tuple(Cell(line) for line in sentences))


def _match_sentences(oom: Oom, match: Match, words: Words) -> list[str]:
    if match.matches == "device" or oom.judged.why == "model.request":
        return []
    return [words("needed", formula=printable(match.formula), size=words.size(match.nbytes))]


def _change_blocks(change: Change, words: Words) -> Iterator[Block]:
    """Yield a change with its cost, and the line to paste below."""
    sentence = _change_in_words(change, words)
    if change.peak_bytes is not None:
        sentence += f", {words('change.peak', size=words.size(change.peak_bytes))}"
    sentence += words("change.add") if change.paste.startswith("-") else ""
    cost = words.translated(change.cost, "cost") or change.cost
    sentence += words("change.costs", cost=printable(cost))
    if change.paste:
        yield Paste(sentence, printable_lines(change.paste), _language(change.paste))
    else:
        yield Lines((Cell(sentence, None, "strong"),))


def _change_in_words(change: Change, words: Words) -> str:
    """Return the settings that a change sets, each with its new value, in words."""
    changes = []
    for name, value in change.change.items():
        key = f"do.{name}" if f"do.{name}" in words.sentences else "do.other"
        shown = f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else value
        changes.append(words(key, name=name.replace("_", "-"), value=printable(str(shown))))
    return ", ".join(dict.fromkeys(changes))


def _language(paste: str) -> Any:
    return "sh" if paste.startswith(("-", *SHELL)) else "python"


def _program(oom: Oom, words: Words) -> str:
    """Return the program that wrote the message, with its releases that use this wording:
    torch-2.2..2.3, torch-2.4.."""
    program = words(f"tool.{oom.reading.tool}")
    first, dots, last = oom.wording.removeprefix("torch-").partition("..")
    if not first[:1].isdigit():
        return program
    key = "footer.until" if last else "footer.since" if dots else "footer.only"
    return words(key, program=program, first=first, last=last)


def _footer(oom: Oom, words: Words) -> str:
    sentences = [words("footer", program=_program(oom, words))]
    if oom.estimate is None:
        key = "footer.named" if oom.reading.model else "footer.model"
        sentences.append(words(key, model=printable(oom.reading.model)))
    else:
        sentences.append(
            words(
                "footer.estimate", name=printable(oom.estimate.model.name), task=oom.estimate.task
            )
        )
    return " · ".join(sentences)
