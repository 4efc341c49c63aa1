"""weighbridge measure TARGET"""

import json
import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import click

from weighbridge.base.sentences import about, sentence
from weighbridge.base.wording import safe_json
from weighbridge.faces.cli.accuracy import columns, markdown
from weighbridge.faces.cli.options import (
    FORMS,
    chart_file,
    chart_option,
    output_form,
    switch,
    talk,
    tasks_option,
)

if TYPE_CHECKING:
    from weighbridge_lab.measure.record import Measurement

LEVELS = ("allocated", "reserved", "driver")
HEAD = ("phase", "level", "measured", "predicted", "error")
BRIEF = ("program", "outcome", *(word for level in LEVELS for word in (level, "error")))
NEAR = {
    "allocated": 0.005,
    "reserved": 0.02,
}  # level -> largest error counted as near, a fraction of the measured bytes


@click.command(context_settings={"allow_interspersed_args": False})
@click.argument("target")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@switch("--history", help="Compare every allocation, in order.")
@click.option("-o", "--output", metavar="FOLDER", help="Write each record there, as JSON.")
@chart_option
@tasks_option
@click.option("--format", "form", type=click.Choice(FORMS), default="auto", show_default=True)
@switch("--json", "as_json", help="Same as --format json: a record a line.")
@switch("-q", "--quiet", help="Target; allocated bytes, measured, predicted.")
def measure(form: str, as_json: bool, quiet: bool, **asked: Any) -> int:
    """Run a program on the GPU that is here, and compare with what we predict for it.

    TARGET is `script.py`, `script.py:function`, a golden program (docs/measure.md; `llama-*` for
    several) or `golden` for all of them. `infer`, `train`, `image`, `video` and `train-image`, with
    what these commands take, are run with random parameters beside what they answer. Needs a GPU;
    `weighbridge trace` answers without one.

    \b
    weighbridge measure train.py --epochs 1
    weighbridge measure --chart bars.svg --chart-of tasks train.py
    weighbridge measure --history llama-1b-lora
    weighbridge measure -o records golden
    weighbridge measure infer qwen3-0.6b --prompt-len 2K --max-new-tokens 64
    weighbridge measure train qwen3-0.6b --method lora
    weighbridge measure image flux.1-dev --offload model
    """
    from weighbridge_lab.measure.record import Measurement
    from weighbridge_lab.measure.run import measure as measured
    from weighbridge_lab.measure.run import targets

    chart = chart_file(asked)
    chosen = targets(asked["target"], asked["arguments"])
    form = output_form(form, as_json=as_json, quiet=quiet)
    records: list[Measurement] = []
    code = 0
    by_task = asked["chart_of"] == "tasks"
    for result in measured(chosen, events=asked["history"], tasks=by_task):
        if isinstance(result, Measurement):
            records.append(result)
            _report_one(result, form, asked["output"], alone=len(chosen) == 1)
        else:
            talk(f"error: {result}")
            code = result.code
    if form in ("human", "markdown") and records:
        click.echo("\n".join(_result_lines(records, form)))
    if chart is not None and records:
        from weighbridge.faces.cli.files import draw
        from weighbridge_lab.measure.chart import pairs

        draw(chart, pairs(records))
    return code


def _report_one(record: "Measurement", form: str, output: str | None, *, alone: bool) -> None:
    if output is not None:
        write(output, record)
    if form == "json":
        click.echo(safe_json(json.dumps(record.to_dict(), ensure_ascii=False)))
    elif form == "quiet":
        predicted = record.predicted.peak.allocated if record.predicted else "-"
        click.echo(f"{record.target} {record.measured.peak.allocated} {predicted}")
    elif not alone:
        talk(f"measured {record.target}")


def write(folder: str, record: "Measurement") -> None:
    """Write a measurement to FOLDER/CARD/TARGET.json, and its allocations to TARGET.events.json.gz
    if they were recorded."""
    from weighbridge_lab.measure import history

    place = os.path.join(folder, record.machine.card or "unknown")
    os.makedirs(place, exist_ok=True)
    name = os.path.basename(record.target).replace(":", "-")
    with open(os.path.join(place, f"{name}.json"), "w", encoding="utf-8") as file:
        json.dump(record.to_dict(), file, indent=1, ensure_ascii=False)
        file.write("\n")
    if record.measured.events is not None:
        history.write(os.path.join(place, f"{name}.events.json.gz"), record.measured.events)


def _result_lines(records: "Sequence[Measurement]", form: str) -> Iterator[str]:
    if len(records) == 1:
        yield from _single_lines(records[0], form)
        return
    table = [BRIEF, *map(_brief_row, records)]
    yield from markdown(table, 2) if form == "markdown" else columns(table, 2)
    yield from _summary_lines(records)
    yield from (f"{r.target}: {r.note}" for r in records if r.note)


def _single_lines(record: "Measurement", form: str) -> Iterator[str]:
    here = record.machine
    machine = [here.gpu, f"torch {here.versions['torch']}", f"CUDA {here.versions['cuda']}"]
    machine += [f"driver {here.driver}"] if here.driver else []
    yield f"{record.target} on {', '.join(machine)}: {record.measured.outcome}"
    table = [HEAD, *_rows(record)]
    yield from markdown(table, 2) if form == "markdown" else columns(table, 2)
    if record.history is not None:
        yield _history_text(record.history)
    if record.note:
        yield record.note


def _rows(record: "Measurement") -> Iterator[tuple[str, ...]]:
    from weighbridge_lab.measure.record import errors

    ours = record.predicted.phases if record.predicted else ()
    for i, phase in enumerate(record.measured.phases):
        predicted = ours[i].peak if i < len(ours) else None
        off = errors(predicted, phase.peak) if predicted else dict.fromkeys(LEVELS)
        for level in LEVELS:
            measured = getattr(phase.peak, level)
            size = ours[i].in_words(level) if predicted else "-"
            yield phase.name, level, _format_size(measured), size, _format_percent(off[level])


def _brief_row(record: "Measurement") -> tuple[str, ...]:
    off = record.error or dict.fromkeys(LEVELS)
    peak = record.measured.peak._asdict()
    cells = (
        cell
        for level in LEVELS
        for cell in (_format_size(peak[level]), _format_percent(off[level]))
    )
    outcome = record.measured.outcome
    if record.predicted and record.predicted.outcome != outcome:
        outcome += f" (predicted: {record.predicted.outcome})"
    return record.target, outcome, *cells


def _summary_lines(records: "Sequence[Measurement]") -> Iterator[str]:
    for level, limit in NEAR.items():
        off = [r.error[level] for r in records if r.error]
        near = sum(1 for e in off if e is not None and abs(e) <= limit)
        yield about(
            level, sentence("measured.near", percent=100 * limit, count=near, total=len(records))
        )


def _history_text(history: dict[str, Any]) -> str:
    events = f"{history['measured_events']:,} events"
    if history["equal"]:
        return f"every allocation is as predicted ({events})"
    lines = [f"{events}, {history['predicted_events']:,} predicted: alike for the first "]
    lines[0] += f"{history['same_until']:,}"
    for side in ("only_measured", "only_predicted"):
        sizes = ", ".join(f"{count} x {nbytes:,}" for nbytes, count in history[side][:5])
        lines.append(f"  {side.replace('_', ' ')}: {sizes or 'nothing'}")
    return "\n".join(lines)


def _format_size(nbytes: int) -> str:
    return f"{nbytes / 2**20:,.2f} MiB"


def _format_percent(error: float | None) -> str:
    return "-" if error is None else f"{100 * error:+.2f}%"
