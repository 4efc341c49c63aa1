"""How far context and batch can go on a device: the largest numbers for which the verdict is yes.

A search, since estimates are monotone; in numbers alone where the engine has a probe.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Literal

from weighbridge import bounds
from weighbridge.engines.interface import EngineAnswer, HeldBytes, SearchPoint, Subject
from weighbridge.engines.table import Engine
from weighbridge.estimate import uncounted
from weighbridge.estimate.facts import layers
from weighbridge.report.keys import DerivedFacts
from weighbridge.settings import Infer
from weighbridge.verdict import on_devices

if TYPE_CHECKING:
    from weighbridge.accelerators.budget import Budget

UNBOUNDED = 1 << 20  # tokens: where a model names no end, the search stops here
Setting = Literal["context", "batch_size"]
LIMITED: tuple[Setting, ...] = ("context", "batch_size")
MANY = 1 << 16  # requests: the search for the most at once stops here
Holds = Callable[[int], bool]


def limits(
    s: Subject,
    w: Infer,
    kind: Engine,
    answer: EngineAnswer,
    budget: "Budget | None",
    wanted: Sequence[Setting],
) -> DerivedFacts:
    """How far context and batch can go on the device, each with all else as it was asked; null
    where something is not counted."""
    if budget is None:
        return {}
    own = any(d.taken is not None for d in answer.devices)  # an engine's share decides
    if uncounted.of_subject(s, w):
        unknown: DerivedFacts = {
            "largest_context": None,
            "largest_batch_size": None,
            "searched_to": None,
        }
        return unknown if own else unknown | {"kv_cache_tokens": None, "max_concurrency": None}

    def longer(n: int) -> bool:
        return _holds(replace(s, context=n), _of_length(w, n), kind, budget)

    def more(n: int) -> bool:
        return _holds(s, w.but(batch_size=n), kind, budget)

    batch, tokens = w.batch_size or 1, max(s.longest or UNBOUNDED, s.context)
    most = w.max_num_seqs or max(MANY, batch)
    quick = _quick(s, w, kind, budget)
    by_length = None if quick is None else lambda n: quick(SearchPoint(n, _prompt(w, n), batch))
    by_batch = None if quick is None else lambda n: quick(SearchPoint(s.context, w.prompt_len, n))
    found: DerivedFacts = {}
    if "context" in wanted:
        length = largest(longer, tokens, near=s.context, quick=by_length)
        found["largest_context"] = length
        found |= _flags(s, w, length, kind, budget) if own else {}
    if "batch_size" in wanted:
        found["largest_batch_size"] = largest(more, most, near=batch, quick=by_batch)
    found["searched_to"] = {"context": tokens, "batch_size": most}
    held = found.get("largest_batch_size")
    if not own and held is not None:
        found |= {"kv_cache_tokens": held * s.context, "max_concurrency": float(held)}
    return found


def _flags(s: Subject, w: Infer, context: int, kind: Engine, budget: "Budget") -> DerivedFacts:
    """What a launch of that context has beside what was set; "" where nothing holds."""
    if not context:
        return {"largest_context_flags": ""}
    serves = answered(replace(s, context=context), _of_length(w, context), kind, budget).serves
    return {"largest_context_flags": serves.flags if serves is not None else ""}


def _of_length(w: Infer, context: int) -> Infer:
    return w.but(context=context, prompt_len=_prompt(w, context))


def _prompt(w: Infer, context: int) -> int | None:
    """A longer or shorter prompt: what is written stays."""
    return None if w.prompt_len is None else max(1, context - (w.max_new_tokens or 0))


def _holds(s: Subject, w: Infer, kind: Engine, budget: "Budget") -> bool:
    if kind.holds is not None and not s.model.rough and not kind.holds(s, w, budget):
        return False  # nor does it with the margins of published runs
    found = answered(s, w, kind, budget)
    phases = {id(d.phases): d.phases for d in found.devices if d.kind == "gpu"}
    told = HeldBytes(
        gpus=sum(d.kind == "gpu" for d in found.devices),
        kinds=[[p.parts for p in own] for own in phases.values()],
        surely="yes" if found.serves is None else found.serves.surely,
    )
    return _surely(told, runs(s, kind), budget)


def _quick(
    s: Subject, w: Infer, kind: Engine, budget: "Budget"
) -> Callable[[SearchPoint], bool] | None:
    """`_holds` in numbers alone, where the engine has them."""
    if kind.probe is None or s.model.rough:
        return None
    probe, like = kind.probe(s, w, budget), runs(s, kind)

    @cache
    def holds(at: SearchPoint) -> bool:
        found = probe(at)
        if found is None:
            return False
        if _surely(found, like, budget):
            return True
        between = found.bounds
        if between is None or not _surely(found._replace(kinds=between.least), like, budget):
            return False
        return _surely(between.exactly(), like, budget)

    return holds


def _surely(found: HeldBytes, like: bounds.RunForm, budget: "Budget") -> bool:
    """Whether the verdict is yes, with the margins of such runs."""
    if budget.mixed and len(found.kinds) == found.gpus == budget.choice.count:
        each = enumerate(bounds.highest([k], like, several=found.gpus > 1) for k in found.kinds)
        rooms = all(on_devices.surely(high, 1, budget.alone(i)) for i, high in each)
        return found.surely == "yes" and rooms
    high = bounds.highest(found.kinds, like, several=found.gpus > 1)
    return found.surely == "yes" and on_devices.surely(high, found.gpus, budget)


def answered(s: Subject, w: Infer, kind: Engine, budget: "Budget | None") -> EngineAnswer:
    if not s.model.rough:
        return kind.infer(s, w, budget)
    from weighbridge.estimate import rough

    return rough.answer(s, w)


def runs(s: Subject, kind: Engine) -> bounds.RunForm:
    """The published runs that an answer is like."""
    form = s.choice.scheme
    return bounds.RunForm("serve", kind.name, bounds.form(form.name if form else None), layers(s))


def largest(holds: Holds, most: int, near: int = 1, *, quick: Holds | None = None) -> int:
    """Find an n of 1 to `most` that holds while n + 1 does not; 0 where not even one holds.

    The search begins at `near`, which is never above what is found where it holds itself. Where
    there is a `quick` way to say the same, it is searched instead, and `holds` judges what it
    found and the number above it; where they do not agree, `holds` is searched from the start.
    """
    if quick is not None:
        found = _searched(quick, most, near)
        if (not found or holds(found)) and (found == most or not holds(found + 1)):
            return found
    return _searched(holds, most, near)


def _searched(holds: Holds, most: int, near: int) -> int:
    if holds(most):
        return most
    low, high = 0, most  # low holds (nothing is asked of 0), high does not
    if near < most and holds(near):
        low = near
    else:
        high = min(near, most)
    while high - low > 1:
        middle = (low + high) // 2
        if holds(middle):
            low = middle
        else:
            high = middle
    return low
