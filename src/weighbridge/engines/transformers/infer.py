"""`infer` with transformers: one process that loads, prefills the prompts and generates.

    load      weights and buffers; the context of the process
    prefill   all prompts at once: the cache grows to them, activations of one layer at a time,
              logits of the last token (or of all: rules.py)
    decode    one token per request: the cache at its longest, one layer of it concatenated

Prefill ends when the first new token exists; up to 4.41 its logits live through the next step,
which counts to it. Requests have equal lengths, so that no padding mask is needed.

A phase holds the tensors that stay and, in prefill and decode, its peak, whose parts are the
components; rounding and fragmentation are the allocator's, of the tensors and of what the step
makes together. torch returns empty blocks to the driver before it fails: they are between the low
and the high end.

Source: transformers 4.30 to 5.23, generation/utils.py (`generate`, `_sample`).
"""

from collections.abc import Callable, Hashable, Iterable, Iterator
from itertools import count, islice
from threading import Lock
from typing import TYPE_CHECKING

from weighbridge.base.memo import memo
from weighbridge.base.memory import Bytes, Component, Device, Instant, NamedBytes, exactly
from weighbridge.base.records import replace
from weighbridge.base.sentences import clauses, sentence
from weighbridge.base.units import MIB
from weighbridge.engines.interface import EngineAnswer, Probe, SearchPoint, Subject
from weighbridge.engines.interface import HeldBytes as Serving
from weighbridge.engines.transformers import derived, formats
from weighbridge.engines.transformers.forward import encode, head, pick, run
from weighbridge.engines.transformers.placement import Holding, LoadedShare, holding, loaded
from weighbridge.engines.transformers.plan import GenerationPlan, plan
from weighbridge.engines.transformers.stage import (
    JOINED,
    KV,
    STATE,
    DeviceLayers,
    ForwardStage,
    grow,
    growth,
    stepped,
    stored_kv,
)
from weighbridge.engines.transformers.step import ForwardStep
from weighbridge.memory.components import device, spelled
from weighbridge.memory.components.activations import Heap, LivePeak, LiveTensor
from weighbridge.models.arch.body import Body
from weighbridge.models.arch.mixers import Attention

if TYPE_CHECKING:
    from weighbridge.machines.accelerators.budget import Budget
    from weighbridge.workload import Infer


SAMPLING = 6  # float32 copies of the last row that sampling may make: sort, softmax, sums, indices

FOLLOWED, GUESSED = 20, 3  # margins: 1 / 20 for programs that were followed, 1 / 3 for guessed ones
SMALL = 8 * MIB


def phases(plan: GenerationPlan, holding: Holding, peaks: Iterable[LivePeak]) -> Iterator[Instant]:
    """Yield the phases of one device, each when its step has been walked."""
    load = (
        *holding.fixed,
        *holding.loading,
        *_allocator(holding.rounding, Bytes(holding.free, holding.free, holding.free)),
    )
    yield Instant("load", load)
    for name, peak in zip(("prefill", "decode"), peaks, strict=False):
        yield Instant(name, _moment(plan, holding, peak, name))


def _moment(
    plan: GenerationPlan, holding: Holding, peak: LivePeak, name: str
) -> tuple[Component, ...]:
    free = holding.free + peak.fragmentation
    return (
        *holding.fixed,
        *holding.working,
        *_parts(plan, peak, name),
        *_allocator(holding.rounding + peak.rounding, device.cached(free)),
    )


def _parts(plan: GenerationPlan, peak: LivePeak, phase: str) -> Iterator[Component]:
    for name, nbytes in peak.live.items():
        guessed = name == "activations" and plan.guessed
        yield Component(
            name=name,
            bytes=_interval(plan, name, nbytes),
            basis="assumed" if guessed else "computed",
            formula=_formula(plan, name, phase, nbytes),
            source=SOURCES.get(name, "transformers models/*/modeling_*.py, as a program"),
        )


SOURCES = {
    KV: "transformers cache_utils.py",
    STATE: "transformers cache_utils.py",
    "logits": "transformers generation/utils.py, models/*/modeling_*.py",
}


def _interval(plan: GenerationPlan, name: str, nbytes: int) -> Bytes:
    """Return a component's interval. Activations: live tensors of tiny models are within 5 % of the
    programs; small omitted ones are a few MiB. Logits: sampling may copy the last row."""
    if name == "activations":
        share = GUESSED if plan.guessed else FOLLOWED
        least = 0 if set(plan.packages) - {"kernels"} else nbytes - nbytes // share
        return Bytes(least, nbytes, nbytes + nbytes // share + SMALL)
    if name != "logits" or not plan.new:
        return exactly(nbytes)
    return Bytes(nbytes, nbytes, nbytes + SAMPLING * 4 * plan.prompt.batch * plan.outputs)


def _formula(plan: GenerationPlan, name: str, phase: str, nbytes: int) -> str:
    tokens = plan.prompt.tokens if phase == "prefill" else plan.context
    of = f"{plan.prompt.batch:,} x {tokens:,} tokens"
    if name == KV and plan.prompt.cache == "dynamic":
        lengths = (tokens, tokens - 1)  # the last token is generated, and never read
        formula = spelled.cache(
            plan.kinds, nbytes, batch=plan.prompt.batch, tokens=lengths, dtype=plan.prompt.dtype
        )
        if formula:
            return formula
    rows = plan.prompt.batch * (tokens if phase == "prefill" else 1)
    outputs = (
        "of all tokens" if not plan.logits_kept else f"of {plan.logits_kept} tokens a sequence"
    )
    return {
        KV: f"{of}, {plan.prompt.cache} cache in {plan.prompt.dtype.name}",
        STATE: f"{plan.prompt.batch:,} sequences",
        "activations": f"one layer of a step: {spelled.each(nbytes, rows, 'tokens')}",
        "logits": f"{spelled.each(nbytes, plan.outputs, 'outputs')}, {outputs}",
        "temporaries": "caches while they are joined; what is packed, unpacked for a moment",
    }[name]


def _allocator(rounding: int, free: Bytes) -> Iterator[Component]:
    if rounding:
        yield device.rounding(rounding)
    if free.high:
        yield device.fragmentation(free)


# ---- infer


def infer(subject: Subject, w: "Infer", budget: "Budget | None") -> EngineAnswer:
    subject, asked, unpacked = _planned(subject, w, budget)
    devices = tuple(_devices(subject, asked))
    if subject.draft is not None:
        draft = infer(subject.draft, w.but(draft_model=None), None).devices[0]
        devices = (derived.beside(devices[0], draft), *devices[1:])
    host = derived.on_host(subject, asked)
    return EngineAnswer(
        devices=(*devices, host),
        settings=derived.settings(subject, w, asked) | ({"quantization": None} if unpacked else {}),
        derived=derived.facts(subject, w, asked, devices, budget)
        | ({"as_stored": False, "dtype_from": subject.why} if unpacked else {})
        | ({"without_packages": [*asked.packages]} if asked.packages else {}),
        warnings=(
            *derived.warnings(subject, asked),
            *filter(None, (unpacked, formats.advised(asked.part, subject.choice))),
        ),
    )


def probe(subject: Subject, w: "Infer", budget: "Budget") -> Probe:
    """Return a function from a point to the bytes of `infer`'s devices, as far as needed."""

    def held_bytes(point: SearchPoint) -> Serving:
        s, p, _ = _planned(replace(subject, context=point.context), point.of(w), budget)
        by_share: dict[Hashable, list[list[NamedBytes]]] = {}
        kinds = []
        for i, on in enumerate(loaded(s, p)):
            room = budget.of(i).low
            alike = room, on.held, _layers(s.body, on)
            if alike not in by_share:
                by_share[alike] = list(_numbers(_phases(s, p, on), room))
            kinds.append(by_share[alike])
        return Serving(len(kinds), kinds if budget.mixed else list(by_share.values()))

    return held_bytes


def _layers(body: Body, share: LoadedShare) -> Hashable:
    """Return a key for a device's share of the layers: their kinds in order, and whether it has the
    first and the last. The deepest models are split over a hundred devices, most of which are
    alike."""
    start, end = share.share.start, share.share.end
    kinds = memo(body, ("kinds",), lambda: DeviceLayers.of_blocks(body.blocks).kinds)
    return start == 0, end == len(kinds), kinds[start:end]


def _numbers(phases: Iterable[Instant], room: int) -> Iterator[list[NamedBytes]]:
    """Yield the bytes of phases, up to one that is surely too large: later ones do not matter."""
    for phase in phases:
        yield [(c.name, c.bytes) for c in phase.components]
        if sum(c.bytes.high for c in phase.components) > room:
            return


def _planned(
    subject: Subject, w: "Infer", budget: "Budget | None"
) -> tuple[Subject, GenerationPlan, str]:
    """Return the model as that card loads it, its plan, and a note if it is dequantized. If the
    user does not say whether a package is installed, it may stay quantized."""
    asked = plan(subject, w, budget)
    how = formats.Unpacking(
        asked.part, asked.rules.version, w.kernels == "installed", asked=w.dequantize
    )
    loaded, unpacked = formats.suited(subject, how)
    if not unpacked:
        return loaded, asked, ""
    changed = plan(loaded, w, budget)
    stays, _ = formats.suited(subject, how._replace(package=w.kernels is None))
    if stays.choice != subject.choice:
        return loaded, changed, unpacked
    known = clauses(unpacked, sentence("unpacks.installed"))
    return loaded, changed.packed(subject.choice), known


def _devices(subject: Subject, plan: GenerationPlan) -> Iterator[Device]:
    for i, on in enumerate(loaded(subject, plan)):
        yield Device(index=i, kind="gpu", phases=tuple(_phases(subject, plan, on)))


def _phases(subject: Subject, plan: GenerationPlan, share: LoadedShare) -> Iterator[Instant]:
    """Yield the phases of one device, with its memory step by step."""
    layers = (share.share.start, share.share.end)
    facts = (
        plan.prompt,
        plan.context,
        plan.new,
        plan.logits_kept,
        plan.devices,
        *plan.items.items(),
        plan.pixels,
    )
    steps = memo(
        subject.body,
        (_layers(subject.body, share), *facts),
        lambda: Walked(lambda: peaks(subject, plan, *layers)),
    )
    return phases(plan, holding(subject, plan, share), steps)


class Walked:
    """The peaks of steps, each computed on first use, by one thread at a time."""

    def __init__(self, walk: Callable[[], Iterator[LivePeak]]) -> None:
        self._walk, self._steps = walk, walk()
        self._walked, self._lock = list[LivePeak](), Lock()

    def __iter__(self) -> Iterator[LivePeak]:
        for step in count():
            with self._lock:
                if step == len(self._walked):
                    self._next()
                if step == len(self._walked):
                    return
            yield self._walked[step]

    def _next(self) -> None:
        """Walk one more step. An interrupted walk is restarted."""
        try:
            self._walked.extend(islice(self._steps, 1))
        except BaseException:
            self._steps = islice(self._walk(), len(self._walked), None)
            raise


def peaks(subject: Subject, plan: GenerationPlan, start: int, end: int) -> Iterator[LivePeak]:
    """Yield the peaks of prefill and decode, without the weights, on the device that has these
    layers."""
    heap = Heap()
    stage = ForwardStage.of(subject.body, start, end)
    prompt = plan.prompt
    heap.all([8 * prompt.rows] * 3, "activations")  # ids, mask, positions
    if stage.first:
        _pixels(heap, plan)
        _encoders(heap, subject, plan)
    outputs = _step(heap, prompt, stage, plan)
    if not subject.body.causal or not plan.new:
        yield heap.phase()
        return
    if plan.rules.outputs_kept:
        second = replace(prompt, tokens=1, past=prompt.tokens)
        heap.drop(*_step(heap, second, stage, plan))
    heap.drop(*outputs)
    if outputs:  # generate's variables hold the last row in float32 until the next
        heap.take(4 * prompt.batch * subject.body.vocab, "logits")
    yield heap.phase()
    if prompt.cache == "none":
        heap.drop(*_step(heap, replace(prompt, tokens=max(1, plan.context - 1)), stage, plan))
        yield heap.phase()
        return
    first = _second(heap, prompt, stage, plan)
    last = replace(prompt, tokens=1, past=plan.context - 1)
    _grown(heap, replace(last, past=max(1, plan.context - 2)), stage)
    heap.phase()
    heap.drop(*_step(heap, last, stage, plan))
    decode = told_apart(heap.phase(), stored_kv(last, stage))
    yield max(decode, first or decode, key=lambda peak: peak.allocated)


def _second(
    heap: Heap, prompt: ForwardStep, stage: ForwardStage, plan: GenerationPlan
) -> LivePeak | None:
    """Return the peak of the step after the prompt, before windows free older tokens; or None."""
    windows = (m.reach for b in stage.blocks for m in b.mixers if isinstance(m, Attention))
    reach = min((n for n in windows if n is not None), default=None)
    if reach is None or reach >= prompt.tokens or prompt.cache != "dynamic":
        return None
    step = replace(prompt, tokens=1, past=prompt.tokens)
    heap.drop(*_step(heap, step, stage, plan))
    return told_apart(heap.phase(), stored_kv(step, stage))


def told_apart(peak: LivePeak, cache: int) -> LivePeak:
    """Return the peak split into cache and temporaries: while tensors are concatenated there is
    more than the cache, and the rest is temporary."""
    live = dict(peak.live)
    beyond = live.get(KV, 0) + live.get(JOINED, 0) - cache
    if beyond < 0:
        return peak
    live[KV], live[JOINED] = cache, beyond
    return replace(peak, live={name: nbytes for name, nbytes in live.items() if nbytes})


def _pixels(heap: Heap, plan: GenerationPlan) -> None:
    """Put the images on the heap: in float32, as a processor makes them, and in the model's
    dtype."""
    count = plan.prompt.batch * plan.pixels
    heap.all((4 * count, count * plan.prompt.size if plan.prompt.size < 4 else 0), "activations")


def _encoders(heap: Heap, subject: Subject, plan: GenerationPlan) -> None:
    """Run the encoders first; their outputs stay."""
    for tower in subject.body.towers:
        if plan.items.get(tower.kind):
            encode(heap, plan.prompt, tower, plan.prompt.batch * plan.items[tower.kind])
    encoder = subject.body.encoder
    if encoder is not None:
        s = replace(
            plan.prompt,
            tokens=plan.prompt.encoder,
            past=0,
            hidden=encoder.hidden,
            # Llama 3.2's encoder gives sdpa a mask, which tells of no groups; others count none
            style=replace(plan.prompt.style, counts_groups=False),
        )
        states = run(heap, s, ForwardStage.of(encoder, 0, len(encoder.blocks)))
        heap.take(s.wide(encoder.hidden))
        heap.drop(*states)


def _step(
    heap: Heap, step: ForwardStep, stage: ForwardStage, plan: GenerationPlan
) -> list[LiveTensor]:
    """Run one forward; return the outputs that the caller holds."""
    states = run(heap, step, stage)
    outputs: list[LiveTensor] = []
    if stage.last:
        outputs = head(heap, step, stage.body, plan.logits_kept, states)
    else:
        heap.drop(*states)
    stepped(heap, stage)
    if plan.devices > 1:  # the logits are copied to the first device, and go from the last
        if stage.first and not stage.last:
            outputs = [heap.take(plan.logits(step), "logits")]
        elif not stage.first:
            heap.drop(*outputs)
            return []
    if stage.body.causal and outputs:
        pick(heap, step, stage.body)
    return outputs


def _grown(heap: Heap, step: ForwardStep, stage: ForwardStage) -> None:
    """Grow every layer's cache to its length before the last step."""
    sizes = growth(step, stage)
    for block, mixers, kind in zip(stage.blocks, stage.kept, stage.layers.kinds, strict=True):
        grow(heap, step, block, mixers, sizes[kind])
    stepped(heap, stage)
