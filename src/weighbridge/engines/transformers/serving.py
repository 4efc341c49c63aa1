"""`infer` with transformers: one process that loads, reads the prompts and writes the answers.

    load      weights and buffers; the context of the process
    prefill   all prompts at once: the cache grows to them, activations of one layer at a time,
              logits of the last token (or of all: rules.py)
    decode    one token a request: the cache at its longest, one layer of it joined anew

Prefill ends when the first new token is there; up to 4.41 its logits live through the step behind
it, which is counted to it. Requests are of equal length, so that no mask is needed for padding.
Source: transformers 4.30 to 5.23, generation/utils.py (`generate`, `_sample`).
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from weighbridge.arch.mixers import Attention
from weighbridge.components.activations import Heap, Held, Peak
from weighbridge.engines.serving import Answer, Subject
from weighbridge.engines.transformers import derived, units
from weighbridge.engines.transformers.forward import (
    Stage,
    grow,
    head,
    pick,
    run,
    stepped,
    stored_kv,
)
from weighbridge.engines.transformers.holding import holding, loaded
from weighbridge.engines.transformers.keeping import JOINED, KV
from weighbridge.engines.transformers.phases import phases
from weighbridge.engines.transformers.plan import Plan, plan
from weighbridge.engines.transformers.step import Step
from weighbridge.engines.transformers.towers import encode
from weighbridge.memory import Device
from weighbridge.workload import Infer

if TYPE_CHECKING:
    from weighbridge.accelerators.budget import Budget


def infer(subject: Subject, w: Infer, budget: "Budget | None") -> Answer:
    asked = plan(subject, w, budget)
    subject, unpacked = units.suited(subject, asked.part, asked.rules.version)
    if unpacked:
        asked = plan(subject, w, budget)
    found = tuple(_devices(subject, asked))
    if subject.draft is not None:
        draft = infer(subject.draft, replace(w, draft_model=None), None).devices[0]
        found = (derived.beside(found[0], draft), *found[1:])
    host = derived.on_host(subject, asked)
    return Answer(
        devices=(*found, host),
        settings=derived.settings(subject, w, asked) | ({"quantization": None} if unpacked else {}),
        derived=derived.facts(subject, w, asked, found, budget)
        | ({"as_stored": False, "dtype_from": subject.why} if unpacked else {}),
        warnings=(
            *derived.warnings(subject, asked),
            *filter(None, (unpacked, units.advised(asked.part, subject.choice))),
        ),
    )


def _devices(subject: Subject, p: Plan) -> Iterator[Device]:
    for i, on in enumerate(loaded(subject, p)):
        prefill, decode = peaks(subject, p, on.share.start, on.share.end)
        found = phases(p, holding(subject, p, on), prefill, decode)
        yield Device(index=i, kind="gpu", phases=found)


def peaks(subject: Subject, p: Plan, start: int, end: int) -> tuple[Peak, Peak | None]:
    """Of prefill and decode, beside the weights, on the device that has these layers."""
    heap = Heap()
    stage = Stage.of(subject.body, start, end)
    prompt = p.prompt
    heap.all([8 * prompt.rows] * 3, "activations")  # ids, mask, positions
    if stage.first:
        _pixels(heap, p)
        _encoders(heap, subject, p)
    outputs = _step(heap, prompt, stage, p)
    if not subject.body.causal or not p.new:
        return heap.phase(), None
    if p.rules.outputs_kept:
        second = replace(prompt, tokens=1, past=prompt.tokens)
        heap.drop(*_step(heap, second, stage, p))
    heap.drop(*outputs)
    if outputs:  # generate's variables have the last row in float32 until there is another
        heap.take(4 * prompt.batch * subject.body.vocab, "logits")
    prefill = heap.phase()
    first = _second(heap, prompt, stage, p)
    last = replace(prompt, tokens=1, past=p.context - 1)
    _grown(heap, replace(last, past=max(1, p.context - 2)), stage)
    heap.phase()
    heap.drop(*_step(heap, last, stage, p))
    decode = told_apart(heap.phase(), sum(stored_kv(last, stage)))
    return prefill, max(decode, first or decode, key=lambda peak: peak.allocated)


def _second(heap: Heap, prompt: Step, stage: Stage, p: Plan) -> Peak | None:
    """The step behind the prompt, where windows have yet to let go of what lies before them."""
    windows = (m.reach for b in stage.blocks for m in b.mixers if isinstance(m, Attention))
    reach = min((n for n in windows if n is not None), default=None)
    if reach is None or reach >= prompt.tokens or prompt.cache != "dynamic":
        return None
    step = replace(prompt, tokens=1, past=prompt.tokens)
    heap.drop(*_step(heap, step, stage, p))
    return told_apart(heap.phase(), sum(stored_kv(step, stage)))


def told_apart(peak: Peak, cache: int) -> Peak:
    """While tensors are joined there is more than the cache: what is beyond it is temporary."""
    live = dict(peak.live)
    beyond = live.get(KV, 0) + live.get(JOINED, 0) - cache
    if beyond < 0:
        return peak
    live[KV], live[JOINED] = cache, beyond
    return replace(peak, live={name: nbytes for name, nbytes in live.items() if nbytes})


def _pixels(heap: Heap, p: Plan) -> None:
    """As a processor gives them, in float32, and in the model's dtype."""
    count = p.prompt.batch * p.pixels
    heap.all((4 * count, count * p.prompt.size if p.prompt.size < 4 else 0), "activations")


def _encoders(heap: Heap, subject: Subject, p: Plan) -> None:
    """Towers and the encoder run first; what they give stays."""
    for tower in subject.body.towers:
        if p.items.get(tower.kind):
            encode(heap, p.prompt, tower, p.prompt.batch * p.items[tower.kind])
    encoder = subject.body.encoder
    if encoder is not None:
        s = replace(p.prompt, tokens=p.prompt.encoder, past=0, hidden=encoder.hidden)
        states = run(heap, s, Stage.of(encoder, 0, len(encoder.blocks)))
        heap.take(s.wide(encoder.hidden))
        heap.drop(*states)


def _step(heap: Heap, s: Step, stage: Stage, p: Plan) -> list[Held]:
    """One forward; the outputs that the caller has."""
    states = run(heap, s, stage)
    outputs: list[Held] = []
    if stage.last:
        outputs = head(heap, s, stage.body, p.logits_kept, states)
    else:
        heap.drop(*states)
    stepped(heap, stage)
    if p.devices > 1:  # the logits are copied to the first device, and go from the last
        if stage.first and not stage.last:
            outputs = [heap.take(p.logits(s), "logits")]
        elif not stage.first:
            heap.drop(*outputs)
            return []
    if stage.body.causal and outputs:
        pick(heap, s, stage.body)
    return outputs


def _grown(heap: Heap, s: Step, stage: Stage) -> None:
    """Every layer at the length before the last step."""
    for block, kept in zip(stage.blocks, stage.kept, strict=True):
        grow(heap, s, block, kept)
    stepped(heap, stage)
