"""weighbridge trace --fit batch: the search, and its answer on a screen."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from weighbridge.base._version import __version__
from weighbridge.base.errors import UsageError
from weighbridge.base.sentences import sentence
from weighbridge.base.units import human
from weighbridge.base.wording import printable
from weighbridge.base.words import Words, words_in

SCHEMA = "weighbridge.trace-fit/1"
VALUES = (
    *("gpu", "gpu_memory", "torch_version", "world_size", "rank", "steps", "alloc_conf"),
    *("time_limit", "host_memory", "stub", "data", "train"),
)
ALONE = ("network", "bf16", "module")


def fit_batch(words: Sequence[str], options: Mapping[str, Any], run: Any) -> tuple[str, int]:
    """Search the largest batch of a script, or of a net (`run`). Return what to print, and the exit
    code: 0 where a batch fits, 1 where none does."""
    from weighbridge_lab.trace import fit_batch as search

    if options["gpu"] is None:
        raise UsageError(sentence("trace.fit_no_card"))
    passed = list(_passed(options))
    if run is None:
        line, first = search.with_flag(words)
        trace, others = search.runner(passed, line), None
    else:
        first = run.inputs[0].shape[0] if run.inputs[0].shape else 1
        checkpoint = ["--checkpoint"] * run.checkpoint
        trace = search.runner([*passed, *checkpoint], _inputs(words, options["inputs"], first))
        others = search.runner([*passed, "--checkpoint"], _inputs(words, options["inputs"], first))
        if run.checkpoint or not run.optimizer:
            others = None
    found = search.largest(trace, first)
    lighter = _lighter(search.estimated, others, found)
    code = 0 if found.batch else 1
    if options["quiet"]:
        return f"{found.batch}\n", code
    if options["as_json"] or options["form"] == "json":
        plain: dict[str, Any] = {
            "schema": SCHEMA,
            "version": __version__,
            "accelerator": found.accelerator,
        }
        plain |= {"usable_bytes": found.usable, "batch": found.batch, "beyond": found.beyond}
        runs = [{"batch": b, "driver": peak, "fits": fits} for b, peak, fits in found.runs]
        return json.dumps(
            {**plain, "runs": runs, "with_checkpoint": lighter}, indent=2
        ) + "\n", code
    said = words_in(options["lang"] or "en")
    return "\n".join(_lines(found, lighter, said, trains=_trains(found.report))) + "\n", code


def _lines(found: Any, lighter: int | None, words: Words, *, trains: bool) -> Iterator[str]:
    from weighbridge_lab.trace.fit_batch import hindrance

    yield words("trace.fit", card=found.accelerator, batch=f"{found.batch:,}")
    tried = {batch: peak for batch, peak, _ in found.runs}
    if found.batch:
        sizes = {"needs": human(tried[found.batch]), "has": human(found.usable)}
        beyond = "" if found.beyond is None else f"{found.beyond:,}"
        yield words("trace.fit.takes" if beyond else "trace.fit.endless", beyond=beyond, **sizes)
    else:
        least = min(tried)
        yield words(
            "trace.fit.none", batch=least, needs=human(tried[least]), has=human(found.usable)
        )
    top = hindrance(found.report)
    if top is not None:
        role, nbytes, op, line = top
        yield printable(
            words("trace.fit.most", role=role, size=human(nbytes), op=op, line=line or "?")
        )
    if lighter:
        yield words("trace.fit.checkpoint", batch=f"{lighter:,}")
    if trains and found.batch:
        yield words("trace.fit.accumulate", batch=f"{found.batch:,}", whole=f"{4 * found.batch:,}")
    runs = ", ".join(f"{batch:,} ({human(peak)})" for batch, peak, _ in found.runs)
    yield words("trace.fit.runs", runs=runs)


def _trains(report: Mapping[str, Any]) -> bool:
    phases = (phase["name"] for device in report["devices"] for phase in device["phases"])
    return "backward" in phases


def _lighter(estimate: Callable[..., int], others: Any, found: Any) -> int | None:
    """Return about how large a batch fits with blocks computed again; None where nobody can say."""
    from weighbridge.base.errors import UnsupportedError

    if others is None or not found.batch:
        return None
    try:
        about = estimate(others, found.batch)
    except UnsupportedError:  # a net without a list of blocks
        return None
    return about if about > found.batch else None


def _passed(options: Mapping[str, Any]) -> Iterator[str]:
    for name in VALUES:
        if options[name] is not None:
            yield from (f"--{name.replace('_', '-')}", str(options[name]))
    yield from (f"--{name}" for name in ALONE if options[name])
    for text in options["assume"]:
        yield from ("--assume", text)


def _inputs(
    words: Sequence[str], inputs: Sequence[str], first: int
) -> Callable[[int], Sequence[str]]:
    """Return the line for each batch: the first size of every input that has the batch first."""

    def line(batch: int) -> Sequence[str]:
        sized = []
        for text in inputs:
            parts = (_batched(part.strip(), first, batch) for part in text.split(","))
            sized += ["--input", ",".join(parts)]
        return [*sized, *words]

    return line


def _batched(part: str, first: int, batch: int) -> str:
    shape, colon, dtype = part.partition(":")
    size, x, others = shape.partition("x")
    return f"{batch}{x}{others}{colon}{dtype}" if size == str(first) else part
