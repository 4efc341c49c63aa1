"""The option --fit batch of weighbridge trace: the search for the largest batch, and its screen."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from weighbridge.base._version import __version__
from weighbridge.base.errors import CODES, UnsupportedError, UsageError
from weighbridge.base.sentences import sentence
from weighbridge.base.units import human
from weighbridge.base.wording import printable
from weighbridge.base.words import Words, words_in

if TYPE_CHECKING:
    from weighbridge_lab.trace.fit_batch import BatchFit
    from weighbridge_lab.trace.net import NetRun

SCHEMA = "weighbridge.trace-fit/1"
_VALUES = """
gpu gpu_memory torch_version world_size rank steps alloc_conf time_limit host_memory stub data
train loss
"""
VALUES = tuple(_VALUES.split())
ALONE = ("network", "bf16", "module")
LIGHTER_RUNS = 6  # most traces of the search with recomputed blocks


def fit_batch(words: Sequence[str], options: Mapping[str, Any], run: Any) -> tuple[str, int]:
    """Search the largest batch of a script, or of the network `run`. Return the text to print and
    the exit code: 0 if a batch fits, 1 if none does, 4 if unknown."""
    from weighbridge_lab.trace import fit_batch as search

    if options["gpu"] is None:
        raise UsageError(sentence("trace.fit_no_card"))
    first, trace, lighter = _trace_functions(words, options, run)
    fit = search.largest(trace, first)
    return _format(fit, _batch_with_checkpoint(lighter, fit), options), CODES[fit.fits]


def _trace_functions(
    words: Sequence[str], options: Mapping[str, Any], run: Any
) -> tuple[int, Any, Any]:
    """Return the first batch to try, a function that traces a batch, and one that traces it with
    recomputed blocks (None if the run cannot)."""
    from weighbridge_lab.trace.fit_batch import runner, with_flag

    typed = list(passed(options))
    if run is None:
        line, first = with_flag(words)
        return first, runner(typed, line), None
    if words[1:]:
        behind = " ".join(words[1:])
        raise UsageError(sentence("trace.behind_net", name=words[0], words=behind))
    first = run.inputs[0].shape[0] if run.inputs[0].shape else 1
    sized, again = _arguments_for_batch(words, run, first), [*typed, "--checkpoint"]
    if run.checkpoint:
        return first, runner(again, sized), None
    return first, runner(typed, sized), runner(again, sized) if run.optimizer else None


def _format(fit: "BatchFit", lighter: int | None, options: Mapping[str, Any]) -> str:
    if options["quiet"]:
        return f"{fit.batch}\n"
    if options["as_json"] or options["form"] == "json":
        return json.dumps(_json_body(fit, lighter), indent=2) + "\n"
    return "\n".join(_screen_lines(fit, lighter, words_in(options["lang"] or "en"))) + "\n"


def _json_body(fit: "BatchFit", lighter: int | None) -> dict[str, Any]:
    return {
        "schema": SCHEMA,
        "version": __version__,
        "accelerator": fit.accelerator,
        "usable_bytes": fit.usable,
        "batch": fit.batch,
        "beyond": fit.beyond,
        "no": fit.no,
        "unanswered": [{"batch": b, "reason": reason} for b, reason in fit.unanswered],
        "runs": [{"batch": b, "driver": peak, "fits": fits} for b, peak, fits in fit.runs],
        "with_checkpoint": lighter,
    }


def _screen_lines(fit: "BatchFit", lighter: int | None, words: Words) -> Iterator[str]:
    from weighbridge_lab.trace.fit_batch import hindrance

    known = f"{fit.batch:,}" if fit.fits != "unknown" else words("verdict.unknown")
    key = "trace.fit.at_least" if fit.batch and fit.no is None else "trace.fit"
    yield words(key, card=fit.accelerator, batch=known)
    yield _memory_line(fit, words)
    yield from (f"  {words.told(reason)}" for _, reason in fit.unanswered)
    yield from fit.on_cards(words)
    top = hindrance(fit.report)
    if top is not None:
        role, nbytes, op, line = top
        place = {"op": op.removeprefix("within "), "line": line or words("trace.fit.outside")}
        yield printable(words("trace.fit.most", role=role, size=human(nbytes), **place))
    if lighter:
        yield words("trace.fit.checkpoint", batch=f"{lighter:,}")
    if fit.batch and _has_backward(fit.report):
        yield words("trace.fit.accumulate", batch=f"{fit.batch:,}", whole=f"{4 * fit.batch:,}")
    runs = ", ".join(f"{batch:,} ({human(peak)})" for batch, peak, _ in fit.runs)
    yield words("trace.fit.runs", runs=runs)


def _memory_line(fit: "BatchFit", words: Words) -> str:
    """Return a line on the bytes that the largest fitting batch, or the smallest one tried, takes
    of the card, with the batches of unknown verdict."""
    shown = fit.batch or fit.runs[0][0]
    needs = {batch: peak for batch, peak, _ in fit.runs}[shown]
    sizes = {"needs": human(needs), "high": human(fit.high), "has": human(fit.usable)}
    zone = {"fits": f"{fit.batch:,}", "first": f"{fit.batch + 1:,}"}
    if fit.beyond is None:
        return words("trace.fit.endless", **sizes)
    if fit.no is None:
        key = "trace.fit.open"
    else:
        key = "trace.fit.zone" if fit.no > fit.batch + 1 else "trace.fit.sharp"
        zone |= {"last": f"{fit.no - 1:,}", "no": f"{fit.no:,}"}
    if fit.batch:
        return words("trace.fit.takes", zone=words(key, **zone), **sizes)
    if fit.fits == "no":
        return words("trace.fit.none", batch=shown, **sizes)
    reason = fit.report["verdict"]["reason"]
    return words("trace.fit.unknown", batch=shown, reason=reason, **sizes)


def _has_backward(report: Mapping[str, Any]) -> bool:
    phases = (phase["name"] for device in report["devices"] for phase in device["phases"])
    return "backward" in phases


def _batch_with_checkpoint(run: Any, fit: "BatchFit") -> int | None:
    """Return a larger batch that a trace proved to fit with recomputed blocks; None without one."""
    from weighbridge_lab.trace.fit_batch import largest

    if run is None or not fit.batch:
        return None
    try:
        proved = largest(run, 2 * fit.batch, most=LIGHTER_RUNS, zone=False).batch
    except UnsupportedError:  # a net without a list of blocks
        return None
    return proved if proved > fit.batch else None


def passed(options: Mapping[str, Any]) -> Iterator[str]:
    """Yield the options of a trace as command-line arguments for another process."""
    for name in VALUES:
        if options[name] is not None:
            yield from (f"--{name.replace('_', '-')}", str(options[name]))
    yield from (f"--{name}" for name in ALONE if options[name])
    for text in options["assume"]:
        yield from ("--assume", text)


def _arguments_for_batch(
    words: Sequence[str], run: "NetRun", first: int
) -> Callable[[int], Sequence[str]]:
    """Return a function from a batch to command-line arguments, in which it is the first size of
    inputs whose first size is `first`."""

    def line(batch: int) -> Sequence[str]:
        sized = (one.with_batch(batch) if one.shape[:1] == (first,) else one for one in run.inputs)
        return ["--input", ",".join(one.typed for one in sized), *words]

    return line
