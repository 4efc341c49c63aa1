"""Memory that mlx-lm takes on a Mac: weights, growing caches, and outputs of running steps.

    infer(subject, workload, budget) -> EngineAnswer

All of it is unified memory, and the verdict is about what Metal recommends per process
(`recommendedMaxWorkingSetSize`, which mlx-lm wires). Freed buffers are cached until allocations
come near to that, and then freed: they need no room. `mlx_lm.generate` prints the allocated peak as
"Peak memory", without those. Source: mlx 846d176 backend/metal/allocator.cpp; mlx-lm d78bf58
generate.py, server.py.
"""

from collections.abc import Iterator
from functools import cached_property
from typing import TYPE_CHECKING

from weighbridge.base.memory import ONCE, Basis, Bytes, Component, Device, around, exactly
from weighbridge.base.records import dataclass, replace
from weighbridge.base.sentences import sentence
from weighbridge.base.units import MIB, human
from weighbridge.engines.engine import version
from weighbridge.engines.interface import EngineAnswer, Subject
from weighbridge.engines.mlx import ENGINE, launching
from weighbridge.engines.mlx.caches import paged, sizes
from weighbridge.engines.mlx.plan import MlxPlan, planned, unpacked
from weighbridge.engines.mlx.rules import (
    COMMITS,
    COMMITS_OF_OTHERS,
    NEAR,
    STEP,
    mlx_rules,
)
from weighbridge.engines.mlx.step import CHUNK, Moment, temporaries
from weighbridge.machines.accelerators.budget import Budget
from weighbridge.memory.components.kv_cache import CacheBytes, components
from weighbridge.models.arch.mixers import Attention, Latent
from weighbridge.models.arch.model_types import facts

if TYPE_CHECKING:
    from weighbridge.workload import Infer

RUNTIME = Bytes(20 * MIB, 100 * MIB, 400 * MIB)  # Metal's queues and compiled kernels
PYTHON = Bytes(150 * MIB, 400 * MIB, 1000 * MIB)  # Python, transformers' tokenizer, libraries
ALLOCATOR = "mlx backend/metal/allocator.cpp"


@dataclass(frozen=True, kw_only=True)  # not slotted, for cached properties
class Run:
    """A model as mlx-lm holds it, and how it runs."""

    subject: Subject
    plan: MlxPlan

    @cached_property
    def tensors(self) -> tuple[int, ...]:
        """Return the bytes of each weight array: a layer's experts are one. No encoders."""
        plan = self.subject.part.blueprint
        return tuple(
            t.nbytes * t.copies
            for t in self.subject.tensors
            if t.component == "weights" and plan.part(f"{t.module}.") == "language model"
        )

    @property
    def bits(self) -> float:
        """Return the bits per weight, including scales."""
        return min(16.0, 8 * sum(self.tensors) / max(1, self.subject.part.blueprint.parameters))

    def cache(self, *, reading: bool) -> CacheBytes:
        return sizes(self.subject.layers, self.plan.setting(reading=reading))

    def moment(self, tokens: int) -> Moment:
        return Moment(
            tokens=tokens,
            cells=self.plan.context,
            bits=self.bits,
            stored=self._stored and tokens > 1,
            scanned=tokens if self.plan.rules.whole_scans else CHUNK,
            expanded=self.plan.expanded,
            most=COMMITS if self.plan.large else COMMITS_OF_OTHERS,
        )

    @property
    def _stored(self) -> bool:
        """Return whether the attention scores of a prompt are stored in arrays."""
        mixers = [m for layer in self.subject.layers for m in layer.mixers]
        if self.plan.expanded:
            mixers = [m.expanded if isinstance(m, Latent) else m for m in mixers]
        heads = {
            m.key_dim if m.key_dim == m.value_dim else 0 for m in mixers if isinstance(m, Attention)
        }
        rules = self.plan.rules
        always = self.plan.bits is not None or rules.stored_scores
        capped = facts(self.subject.model_type).mlx.capped
        return always or capped or not heads <= rules.fused


def infer(subject: Subject, w: "Infer", budget: Budget | None) -> EngineAnswer:
    """Return the answer. Raises UsageError for settings that mlx-lm refuses."""
    number, subject = version(ENGINE, w.engine_version)[0], unpacked(subject)
    run = Run(subject=subject, plan=planned(subject, w, budget, mlx_rules(number)))
    return EngineAnswer(
        devices=(_gpu(run), _host()),
        settings=run.plan.to_dict(),
        derived={
            "kv_cache_bytes_per_token": _marginal(run),
            **launching.facts(subject, w, run.plan),
        },
        warnings=tuple(_warnings(run, w, budget)),
    )


def _gpu(run: Run) -> Device:
    reading = (*_cached(run, reading=True), *_steps(run, run.plan.step, last=True))
    writing = (*_cached(run, reading=False), *_steps(run, run.plan.batch, last=False))
    phases = around(_loaded(run), {"load": (), "prefill": reading, "decode": writing})
    return Device(index=0, kind="gpu", phases=phases)


def _host() -> Device:
    python = _component("other", PYTHON, "process", "assumed", "Python, tokenizer, libraries", "")
    always = (replace(python, role=ONCE),)
    names = ("load", "prefill", "decode")
    return Device(index=0, kind="host", phases=around(always, dict.fromkeys(names, ())))


def _loaded(run: Run) -> Iterator[Component]:
    whole = sum(run.tensors)
    basis: Basis = "read" if run.subject.choice.as_stored else "computed"
    how = f"{len(run.tensors):,} arrays in {run.subject.choice.name}; towers are not loaded"
    yield _component("weights", exactly(whole), "", basis, how, "mlx-lm utils.py (load_model)")
    lost = sum(paged(n) for n in run.tensors) - whole
    yield _component(
        "rounding", exactly(lost), "", "computed", "each array to pages of 16 KiB", ALLOCATOR
    )
    runtime = _component(
        "other", RUNTIME, "Metal's runtime", "assumed", "no reading is published", ""
    )
    yield replace(runtime, role=ONCE)


def _cached(run: Run, *, reading: bool) -> Iterator[Component]:
    p = run.plan
    how = f"{p.batch} x {p.context:,} tokens in steps of {STEP}, {p.to_dict()['kv_cache_dtype']}"
    yield from components(run.cache(reading=reading), formula=how, source="mlx-lm models/cache.py")


def _steps(run: Run, tokens: int, *, last: bool) -> Iterator[Component]:
    body, itemsize = run.subject.body, run.plan.dtype.nbytes
    yield _component(
        "activations",
        temporaries(body.blocks, body.hidden, run.moment(tokens), itemsize),
        "",
        "assumed",
        f"outputs of eleven command buffers of a step of {tokens:,} tokens",
        "mlx backend/metal/device.cpp (needs_commit), transforms.cpp (MAX_ACTIVE_TASKS)",
    )
    every = last and not run.plan.rules.last_logits
    rows = run.plan.rest if every else run.plan.batch
    yield _component(
        "logits",
        exactly(rows * body.vocab * itemsize),
        "",
        "computed",
        f"{rows:,} rows of {body.vocab:,} in {run.plan.dtype.name}",
        "mlx-lm generate.py (generate_step)",
    )


def _component(
    name: str, size: Bytes, detail: str, basis: Basis, formula: str, source: str
) -> Component:
    return Component(
        name=name, bytes=size, detail=detail, basis=basis, formula=formula, source=source
    )


def _marginal(run: Run) -> int:
    """Return the bytes per additional token of one request, in layers that keep all tokens."""
    now = replace(run.plan.setting(reading=False), batch=1)
    more = replace(now, tokens=now.tokens + STEP)
    grown = sizes(run.subject.layers, more).kv - sizes(run.subject.layers, now).kv
    return grown // STEP


def _warnings(run: Run, w: "Infer", budget: Budget | None) -> Iterator[str]:
    if w.max_kv_size is not None and run.plan.most is None:
        yield sentence("mlx_caches", size=w.max_kv_size, kind=run.subject.model_type)
    if budget is None:
        return
    room, weights = budget.choice.part.visible.bytes.expected, sum(run.tensors)
    if NEAR * room < weights <= room:
        yield sentence("mlx_near", size=human(weights), room=human(room))
