"""Largest context and batch size for which the verdict is "yes" on a device.

Found by a search, since estimates are monotone; by a quick probe of bytes if the engine has one.
"""

from collections.abc import Callable, Sequence
from functools import cache
from typing import TYPE_CHECKING, Literal

from weighbridge.answers import bounds
from weighbridge.answers.estimate import traits, uncounted
from weighbridge.answers.estimate.facts import layers
from weighbridge.base.records import replace
from weighbridge.base.watching import go_on
from weighbridge.engines.interface import EngineAnswer, HeldBytes, SearchPoint, Subject
from weighbridge.engines.table import Engine
from weighbridge.memory.report.keys import DerivedFacts
from weighbridge.workload import Infer

if TYPE_CHECKING:
    from weighbridge.machines.accelerators.budget import Budget

USUAL = 4096  # tokens: the search starts at this context, the most usual one
UNBOUNDED = 1 << 20  # tokens: the search ends here if the model has no maximum
Setting = Literal["context", "batch_size"]
LIMITED: tuple[Setting, ...] = ("context", "batch_size")
MANY = 1 << 16  # requests: the search for the largest batch ends here
CLOSER = 64  # a good guess is checked on its other side, within 1/64 of the interval
Holds = Callable[[int], bool]
Margin = Callable[[int], int | None]  # bytes to spare, negative if it does not fit


def limits(
    subject: Subject,
    workload: Infer,
    kind: Engine,
    answer: EngineAnswer,
    budget: "Budget | None",
    wanted: Sequence[Setting],
) -> DerivedFacts:
    """Return the largest context and batch on the device, each with all other settings as they are.
    None if something is not counted."""
    if budget is None:
        return {}
    shared = any(d.taken is not None for d in answer.devices)  # an engine's share decides
    if uncounted.of_subject(subject, workload):
        unknown: DerivedFacts = {
            "largest_context": None,
            "largest_batch_size": None,
            "searched_to": None,
        }
        return unknown if shared else unknown | {"kv_cache_tokens": None, "max_concurrency": None}

    @cache
    def longer(n: int) -> bool:
        return _holds(replace(subject, context=n), _of_length(workload, n), kind, budget)

    def more(n: int) -> bool:
        return _holds(subject, workload.but(batch_size=n), kind, budget)

    # A server that budgets a share of the card grows in steps with that share
    batch, tokens = workload.batch_size or 1, max(subject.longest or UNBOUNDED, subject.context)
    most = workload.max_num_seqs or max(MANY, batch)
    quick = _quick(subject, workload, kind, _beside_processes(budget, workload, answer))
    by_length = (
        None if quick is None else lambda n: quick(SearchPoint(n, _prompt(workload, n), batch))
    )
    by_batch = (
        None
        if quick is None
        else lambda n: quick(SearchPoint(subject.context, workload.prompt_len, n))
    )
    facts: DerivedFacts = {}
    if "context" in wanted:
        length = _furthest(
            lambda near: largest(longer, tokens, near, quick=by_length, straight=not shared),
            longer,
            (min(USUAL, tokens), subject.context),
            again=shared and not workload.engine_defaults,
        )
        facts["largest_context"] = length
        facts |= _flags(subject, workload, length, kind, budget) if shared else {}
    if "batch_size" in wanted:
        facts["largest_batch_size"] = _furthest(
            lambda near: largest(more, most, near, quick=by_batch, straight=not shared),
            more,
            (1, batch),
        )
    facts["searched_to"] = {"context": tokens, "batch_size": most}
    requests = facts.get("largest_batch_size")
    if not shared and requests is not None:
        facts |= {"kv_cache_tokens": requests * subject.context, "max_concurrency": float(requests)}
    return facts


def _furthest(
    search: Callable[[int], int],
    holds: Holds,
    near: tuple[int, int],
    *,
    again: bool = False,
) -> int:
    """Return the largest number found by `search`. It starts at the first of `near`, so the result
    does not depend on the user's number: allocator rounding makes bytes go up and down. Only if the
    user's number (second of `near`) is larger and holds, the search starts there; `again`: also
    from each result, since another launch may hold more."""
    begin, asked = near
    number = search(begin)
    if number < asked and holds(asked):
        number = search(asked)
    while again and number and (further := search(number)) > number:
        number = further
    return number


def _beside_processes(budget: "Budget", workload: Infer, answer: EngineAnswer) -> "Budget":
    """Return the budget less what host processes need, on a device that shares its memory with
    them; unchanged if the engine budgets a share, which leaves them room."""
    from weighbridge.answers.verdict.on_host import never_swapped

    machine = workload.host_memory()
    hosts = (never_swapped(d, machine) for d in answer.devices if d.kind == "host")
    phases = [phase for host in hosts for phase in host.phases]
    if machine is None or not machine.shared or not phases or answer.devices[0].taken is not None:
        return budget
    left = machine.room.low - max(phase.needed.high for phase in phases)
    return replace(budget, headroom=budget.headroom + max(0, budget.usable.low - left))


def _flags(
    subject: Subject, workload: Infer, context: int, kind: Engine, budget: "Budget"
) -> DerivedFacts:
    """Return the flags that a launch with `context` adds to the user's; "" if none fits."""
    if not context:
        return {"largest_context_flags": ""}
    serves = answered(
        replace(subject, context=context), _of_length(workload, context), kind, budget
    ).serves
    return {"largest_context_flags": serves.flags if serves is not None else ""}


def _of_length(workload: Infer, context: int) -> Infer:
    return workload.but(context=context, prompt_len=_prompt(workload, context))


def _prompt(workload: Infer, context: int) -> int | None:
    """Return the prompt length in another context: the number of generated tokens stays."""
    return None if workload.prompt_len is None else max(1, context - (workload.max_new_tokens or 0))


def _holds(subject: Subject, workload: Infer, kind: Engine, budget: "Budget") -> bool:
    if (
        kind.holds is not None
        and not subject.model.rough
        and not kind.holds(subject, workload, budget)
    ):
        return False  # it does not fit with wider margins either
    answer = answered(subject, workload, kind, budget)
    budget = _beside_processes(budget, workload, answer)
    phases = [d.phases for d in answer.devices if d.kind == "gpu"]
    differ = phases if budget.mixed else {id(one): one for one in phases}.values()
    nbytes = HeldBytes(
        gpus=len(phases),
        kinds=[[p.parts for p in components] for components in differ],
        surely="yes" if answer.serves is None else answer.serves.surely,
    )
    return _enough(_spare(nbytes, runs(subject, kind, workload), budget))


def _quick(
    subject: Subject, workload: Infer, kind: Engine, budget: "Budget"
) -> Callable[[SearchPoint], int | None] | None:
    """Return a function from a point to the bytes to spare, if the engine has a probe. It agrees
    with `_holds` wherever it is not negative."""
    if kind.probe is None or subject.model.rough:
        return None
    probe, like = kind.probe(subject, workload, budget), runs(subject, kind, workload)

    @cache
    def spare(point: SearchPoint) -> int | None:
        go_on()
        probed = probe(point)
        if probed is None:
            return None
        most = _spare(probed, like, budget)
        between = probed.bounds
        if between is None or (most is not None and most >= 0):
            return most
        least = _spare(probed._replace(kinds=between.least), like, budget)
        if least is None or least < 0:
            return least
        return _spare(between.exactly(), like, budget)

    return spare


def _spare(nbytes: HeldBytes, like: bounds.RunForm, budget: "Budget") -> int | None:
    """Return the bytes that the fullest device surely has to spare, with margins of published runs;
    None if another reason than bytes decides."""
    if nbytes.surely != "yes":
        return None
    several = nbytes.gpus > 1
    if budget.mixed and len(nbytes.kinds) == nbytes.gpus == budget.choice.count:
        return min(
            budget.alone(i).usable.low - bounds.highest([kind], like, several=several)
            for i, kind in enumerate(nbytes.kinds)
        )
    if nbytes.gpus > budget.choice.count:
        return None
    return budget.usable.low - bounds.highest(nbytes.kinds, like, several=several)


def _enough(spare: int | None) -> bool:
    return spare is not None and spare >= 0


def answered(
    subject: Subject, workload: Infer, kind: Engine, budget: "Budget | None"
) -> EngineAnswer:
    """Return the answer by the engine's rules, or a rough one for a bare size."""
    go_on()
    if not subject.model.rough:
        return kind.infer(subject, workload, budget)
    from weighbridge.answers.estimate import rough

    return rough.answer(subject, workload, 1 if budget is None else budget.choice.count)


def runs(subject: Subject, kind: Engine, workload: Infer) -> bounds.RunForm:
    """Describe the published runs that an answer is like."""
    form = subject.choice.scheme
    return bounds.RunForm(
        "serve",
        kind.name,
        bounds.form(form.name if form else None),
        layers(subject),
        traits=traits.serving(subject, kind, workload),
        doubt=subject.doubt,
    )


def largest(
    holds: Holds,
    most: int,
    near: int = 1,
    *,
    quick: Margin | None = None,
    straight: bool = False,
) -> int:
    """Return an n of 1 to `most` that holds while n + 1 does not; 0 if not even 1 holds.

    The search begins at `near`, and finds no less than that if it holds. If bytes to spare are
    known quickly (`quick`), they are searched instead, and `holds` judges the result and the number
    above it; if they disagree, `holds` is searched from the start. `straight`: these bytes grow
    along a line, but for the steps of an allocator.
    """
    if quick is not None:
        most_sure = searched(lambda n: _enough(quick(n)), most, near, quick if straight else None)
        if (not most_sure or holds(most_sure)) and (most_sure == most or not holds(most_sure + 1)):
            return most_sure
    return searched(holds, most, near)


def searched(holds: Holds, most: int, near: int, spare: Margin | None = None) -> int:
    if holds(most):
        return most
    low, high = 0, most  # low holds (0 by definition), high does not
    if near < most and holds(near):
        low = near
    else:
        high = min(near, most)
    while high - low > 1:
        wide = high - low
        guess = between(spare, low, high) if spare is not None else None
        n = (low + high) // 2 if guess is None else guess
        low, high = (n, high) if holds(n) else (low, n)
        if guess is None or high - low <= 1:
            continue
        close = max(1, wide // CLOSER)  # close to the other end, if the guess was good
        n = min(low + close, high - 1) if low == guess else max(high - close, low + 1)
        low, high = (n, high) if holds(n) else (low, n)
        if high - low > wide // 2:  # it was not: guesses may only creep
            n = (low + high) // 2
            low, high = (n, high) if holds(n) else (low, n)
    return low


def between(spare: Margin, low: int, high: int) -> int | None:
    """Return the n where the straight line through both ends has no byte to spare; None if an end
    has no number. `spare` is not called for 0."""
    left, lacks = (spare(low) if low else None), spare(high)
    if left is None or lacks is None:
        return None
    n = low + (high - low) * left // (left - lacks)
    return min(max(n, low + 1), high - 1)
