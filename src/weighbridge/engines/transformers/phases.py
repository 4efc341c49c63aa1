"""From what is held and the peaks of the steps to the phases of one device.

    load      the tensors                   prefill, decode   the tensors and the fullest moment

A moment's parts are the components; rounding and fragmentation are the allocator's own, of the
tensors and of what the step makes together. Blocks that nothing lives in are given back to the
driver before torch gives up: they are between the low and the high end.
"""

from collections.abc import Iterable, Iterator

from weighbridge.components import spelled
from weighbridge.components.activations import LivePeak
from weighbridge.components.device import cached
from weighbridge.engines.transformers.holding import Holding
from weighbridge.engines.transformers.keeping import KV, STATE
from weighbridge.engines.transformers.plan import GenerationPlan
from weighbridge.memory import Bytes, Component, Phase, exactly
from weighbridge.units import MIB

REPLAY = "c10/cuda/CUDACachingAllocator.cpp, replayed tensor by tensor"
SAMPLING = 6  # float32 copies of the last row that sampling may make: sort, softmax, sums, numbers

FOLLOWED, GUESSED = 20, 3  # one part in so many
SMALL = 8 * MIB


def phases(p: GenerationPlan, held: Holding, peaks: Iterable[LivePeak]) -> Iterator[Phase]:
    """The phases, each when its step is walked."""
    load = (
        *held.fixed,
        *held.loading,
        *_allocator(held.rounding, Bytes(held.free, held.free, held.free)),
    )
    yield Phase("load", load)
    for name, peak in zip(("prefill", "decode"), peaks, strict=False):
        yield Phase(name, _moment(p, held, peak, name))


def _moment(p: GenerationPlan, held: Holding, peak: LivePeak, name: str) -> tuple[Component, ...]:
    free = held.free + peak.fragmentation
    return (
        *held.fixed,
        *held.working,
        *_parts(p, peak, name),
        *_allocator(held.rounding + peak.rounding, cached(free)),
    )


def _parts(p: GenerationPlan, peak: LivePeak, phase: str) -> Iterator[Component]:
    for name, nbytes in peak.live.items():
        guessed = name == "activations" and p.guessed
        yield Component(
            name=name,
            bytes=_interval(p, name, nbytes),
            basis="assumed" if guessed else "computed",
            formula=_formula(p, name, phase, nbytes),
            source=SOURCES.get(name, "transformers models/*/modeling_*.py, as a program"),
        )


SOURCES = {
    KV: "transformers cache_utils.py",
    STATE: "transformers cache_utils.py",
    "logits": "transformers generation/utils.py, models/*/modeling_*.py",
}


def _interval(p: GenerationPlan, name: str, nbytes: int) -> Bytes:
    """Activations: the live tensors of tiny models are within 5 % of the programs; small ones that
    a program leaves out are a few MiB. Logits: sampling may copy the last row."""
    if name == "activations":
        share = GUESSED if p.guessed else FOLLOWED
        return Bytes(nbytes - nbytes // share, nbytes, nbytes + nbytes // share + SMALL)
    if name != "logits" or not p.new:
        return exactly(nbytes)
    return Bytes(nbytes, nbytes, nbytes + SAMPLING * 4 * p.prompt.batch * p.outputs)


def _formula(p: GenerationPlan, name: str, phase: str, nbytes: int) -> str:
    tokens = p.prompt.tokens if phase == "prefill" else p.context
    of = f"{p.prompt.batch:,} x {tokens:,} tokens"
    if name == KV and p.prompt.cache == "dynamic":
        lengths = (tokens, tokens - 1)  # the last token is written, and never read
        told = spelled.cache(
            p.kinds, nbytes, batch=p.prompt.batch, tokens=lengths, dtype=p.prompt.dtype
        )
        if told:
            return told
    rows = p.prompt.batch * (tokens if phase == "prefill" else 1)
    outputs = "of all tokens" if not p.logits_kept else f"of {p.logits_kept} tokens a sequence"
    return {
        KV: f"{of}, {p.prompt.cache} cache in {p.prompt.dtype.name}",
        STATE: f"{p.prompt.batch:,} sequences",
        "activations": f"one layer of a step: {spelled.each(nbytes, rows, 'tokens')}",
        "logits": f"{spelled.each(nbytes, p.outputs, 'outputs')}, {outputs}",
        "temporaries": "caches while they are joined; what is packed, unpacked for a moment",
    }[name]


def _allocator(rounding: int, free: Bytes) -> Iterator[Component]:
    if rounding:
        yield Component(
            name="rounding",
            bytes=exactly(rounding),
            basis="computed",
            formula="blocks of 512 bytes, and remainders too small to split off",
            source=REPLAY,
        )
    if free.high:
        yield Component(
            name="fragmentation",
            bytes=free,
            basis="computed",
            formula="free room in segments of 2 MiB, 20 MiB or a tensor's own",
            source=REPLAY,
        )
