"""The answer of `fit` as text: a line for each question."""

import json
from collections.abc import Iterator

from weighbridge.fitted import Fit, Question, Solved
from weighbridge.units import human as size
from weighbridge.wording import safe_json

SIGNS = {"yes": "✓", "no": "✗", "unknown": "?"}
NAMED = {"load": "load", "infer": "infer", "lora": "LoRA", "qlora": "QLoRA", "train": "full"}


def as_json(found: Fit) -> str:
    return safe_json(json.dumps(found.to_dict(), indent=2, ensure_ascii=False)) + "\n"


def quiet(found: Fit) -> str:
    """The verdict that the exit code is about: yes, no or unknown."""
    return f"{found.fits}\n"


def human(found: Fit) -> str:
    return "\n".join(_lines(found)) + "\n"


def markdown(found: Fit) -> str:
    return "\n".join(f"    {line}".rstrip() for line in _lines(found)) + "\n"


def html(found: Fit) -> str:
    from html import escape

    return f"<pre>{escape(human(found))}</pre>"


def _lines(found: Fit) -> Iterator[str]:
    a = found.accelerator
    yield f"{found.model.name} on {a.count} x {a.name}, {size(a.free)} for you on each"
    yield ""
    for q in found.questions:
        yield _line(q)
    if found.solved is not None:
        yield ""
        yield from _solved(found.solved)


def _solved(s: Solved) -> Iterator[str]:
    value = f"{s.value:,}" if isinstance(s.value, int) else s.value or "not known"
    yield f"{s.unknown}: {value}{f' ({s.note})' if s.note else ''}"


def _line(q: Question) -> str:
    if q.report is None or q.verdict is None:
        return f"{NAMED[q.name]:<8} {SIGNS['unknown']} {q.reason}"
    needs = size(q.verdict.per_device.expected)
    return f"{NAMED[q.name]:<8} {SIGNS[q.fits]} {needs:>11} {size(q.verdict.margin_bytes):>12}"
