"""Memory of an SGLang rank besides weights and pools, outside the memory fraction.

    attention    its workspace, and rows of contexts for captured batches
    cuBLAS       kernels/workspaces.py
    captured     logits in float32 and activations of the largest batch, in the graphs' own pool
    graphs       driver memory: about 60 MiB, and 0.12 MiB per layer and captured batch (0.25 if
                 ranks communicate, 0.4 by NCCL); 10 MiB per captured length of prefill
    chunk        the widest layer of a prefill chunk, or the encoder of the images before it
    logits       of the last token of each request: own dtype, float32, probabilities

Sources: sglang 0.5.23 srt/layers/attention/*_backend.py, srt/layers/logits_processor.py,
srt/layers/sampler.py, srt/model_executor/runner/decode_cuda_graph_runner.py,
srt/arg_groups/memory_hook.py (reserve_for_graph_mb, which counts 8 MB per length of prefill).
Graphs, published `mem usage` less what is computed here: decoding 0.08 to 0.15 MiB per layer and
batch (Qwen3 8B, 36 and 52 batches, 0.34 and 0.60 GB with logits), 0.03 GB in all (LFM2 700M, 4
batches), 0.09 (Granite 4 micro, 4), 0.11 (Llama 8B, 4), 0.07 (Gemma 4 31B, 1); 1.0 MiB per layer
and batch with NCCL captured (QwQ 32B on four L4, 0.93 GB); 0.89 GB in all on eight linked cards (23
batches); prefill 7 to 14 MiB per length (Qwen3 8B, 58 lengths 1.40 and 1.71 GB, 74 of them 2.32).
"""

from collections.abc import Iterator

from weighbridge.base.memo import memo
from weighbridge.base.memory import Bytes, Component, exactly, total
from weighbridge.base.records import NamedTuple, frozen_record
from weighbridge.base.units import MIB
from weighbridge.engines.interface import Subject
from weighbridge.engines.servers import device_support
from weighbridge.engines.servers.shards import Rank
from weighbridge.engines.sglang import card_defaults
from weighbridge.engines.sglang.cases import RankResidents
from weighbridge.engines.sglang.effective import WHOLE, Effective, classes, generates
from weighbridge.engines.sglang.rules import rules
from weighbridge.engines.sglang.step import RankSplit, tower
from weighbridge.machines.accelerators.chips import LINKED
from weighbridge.machines.kernels import workspaces
from weighbridge.models.arch.mixers import Latent

SOURCE = "sglang 0.5.23 srt/layers, srt/model_executor"
GRAPHS = Bytes(20 * MIB, 60 * MIB, 100 * MIB)  # once: kernels are loaded
GRAPH = Bytes(5 * MIB // 100, 12 * MIB // 100, 25 * MIB // 100)  # per layer and captured batch
GRAPH_TALKING = Bytes(8 * MIB // 100, 25 * MIB // 100, 60 * MIB // 100)
GRAPH_NCCL = Bytes(10 * MIB // 100, 40 * MIB // 100, 110 * MIB // 100)
PREFILL_GRAPH = Bytes(6 * MIB, 10 * MIB, 14 * MIB)  # per captured length
LATENT_GRAPHS = Bytes(0, 1536 * MIB, 1536 * MIB)  # all prefill graphs, with MLA
PROMPTS = 16_384  # max_prefill_tokens, for unchunked prompts
IMAGES = Bytes(0, 50 * MIB, 100 * MIB)  # cache of encoded images: SGLANG_VLM_CACHE_SIZE_MB


@frozen_record
class ReplicaLoad:
    """Concurrent requests of one replica."""

    requests: int
    images: int = 1

    def rows(self, settings: Effective) -> int:
        """Return the rows of logits per step: all draft tokens when speculating."""
        return self.requests * max(1, settings.drafted)


class Amounts(NamedTuple):
    """Bytes of one rank that depend on context or requests."""

    tokens: int  # per prefill step
    reading: Bytes  # its activations
    encoding: bool  # whether the encoder's are the largest of those
    writing: Bytes | None  # activations of decode; None if nothing is generated
    captured: tuple[int, int, int] | None  # captured batches: rows of contexts, logits, a layer
    logits: Bytes | None

    def sums(self, standing: Bytes) -> tuple[Bytes, ...]:
        """Return the bytes held in each phase, with `standing`, which all phases hold."""
        both = standing if self.captured is None else standing.plus(exactly(sum(self.captured)))
        both = both if self.logits is None else both.plus(self.logits)
        moments = (self.reading,) if self.writing is None else (self.reading, self.writing)
        return tuple(both.plus(one) for one in moments)


def amounts(
    subject: Subject, kind: RankResidents, settings: Effective, load: ReplicaLoad
) -> Amounts:
    tokens, size, widest = prefilled(settings, load), _itemsize(subject), kind.widest
    each = (widest.widest, widest.widest, widest.with_cached)
    prefill = Bytes(*(tokens * n * size for n in each))
    encoded = _encoded(subject, load, kind.split) if kind.rank.first else 0
    writing = None
    if generates(subject):
        # captured prefill keeps its activations; decoding runs in the same pool
        step = load.rows(settings) * widest.widest * size
        writing = prefill if settings.prefills else exactly(step)
    return Amounts(
        tokens=tokens,
        reading=Bytes(*(max(b, encoded) for b in prefill)),
        encoding=prefill.expected < encoded,
        writing=writing,
        captured=_captured(subject, kind, settings) if settings.largest else None,
        logits=_logits(subject, kind.rank, settings, load),
    )


def components(
    subject: Subject,
    kind: RankResidents,
    settings: Effective,
    load: ReplicaLoad,
    compute: tuple[int, int] | None,
) -> dict[str, tuple[Component, ...]]:
    """Return what is allocated besides weights and caches, by phase: prefill, and decode if there
    is one."""
    amounts_of, rows = amounts(subject, kind, settings, load), load.rows(settings)
    workspaces, graphs, _ = standing(subject, kind, settings, compute)
    always = (*workspaces, *_batches(settings, amounts_of), *graphs)
    answers = () if amounts_of.logits is None else (_answers(subject, amounts_of.logits, rows),)
    read = f"{amounts_of.tokens:,} tokens x {_itemsize(subject)} bytes of {kind.widest.formula}"
    what = "the encoder's widest layer" if amounts_of.encoding else read
    phases = {"prefill": (*always, _part("activations", amounts_of.reading, what), *answers)}
    if amounts_of.writing is not None:
        what = "as prefill captured them" if settings.prefills else f"{rows:,} rows"
        phases["decode"] = (*always, _part("activations", amounts_of.writing, what), *answers)
    return phases


def prefilled(settings: Effective, load: ReplicaLoad) -> int:
    """Return the tokens of a prefill step. Captured lengths are as long as a chunk can be."""
    whole = load.requests * settings.context
    if settings.chunk == WHOLE:
        return min(whole, max(PROMPTS, settings.context))
    return settings.chunk if settings.prefills else min(whole, settings.chunk)


Standing = tuple[tuple[Component, ...], tuple[Component, ...], Bytes]


def standing(
    subject: Subject, kind: RankResidents, settings: Effective, compute: tuple[int, int] | None
) -> Standing:
    """Return (workspaces, graphs, bytes of both), which no context changes."""

    def made() -> Standing:
        spaces = tuple(_workspaces(subject, kind.rank, settings, compute))
        graphs = (_graphs(kind.rank, settings, compute),) if settings.largest else ()
        return spaces, graphs, total(c.bytes for c in (*spaces, *graphs))

    return memo(kind, ("outside", settings.backend, settings.captured, settings.prefills), made)


def _captured(subject: Subject, kind: RankResidents, settings: Effective) -> tuple[int, int, int]:
    tokens = settings.largest * max(1, settings.drafted)
    return (
        card_defaults.rows(
            settings.backend,
            settings.largest,
            settings.context,
            settings.page,
            _tables(subject, kind, settings),
        ),
        tokens * subject.body.vocab * 4 if kind.rank.last else 0,
        tokens * kind.widest.widest * _itemsize(subject),
    )


def _tables(subject: Subject, kind: RankResidents, settings: Effective) -> int:
    chunked = bool((subject.text or {}).get("attention_chunk_size"))
    windows = kind.cells.sliding > 0
    return card_defaults.tables(
        rules(settings.version), settings.backend, chunked=chunked, windows=windows
    )


def _batches(settings: Effective, amounts: Amounts) -> Iterator[Component]:
    if amounts.captured is not None:
        rows, logits, wide = amounts.captured
        yield _part(
            "workspaces",
            exactly(rows + logits + wide),
            f"{settings.largest} requests: rows of contexts {rows:,}, logits {logits:,}, a layer "
            f"{wide:,}",
            detail="captured batches",
        )


def _workspaces(
    subject: Subject, rank: Rank, settings: Effective, compute: tuple[int, int] | None
) -> Iterator[Component]:
    workspace = card_defaults.workspace(settings.backend, classes(subject))
    if workspace:
        yield _part("workspaces", exactly(workspace), f"of {settings.backend}", detail="attention")
    size = workspaces.product(card_defaults.major(compute))
    unsure = Bytes(workspaces.USUAL, size, workspaces.LARGE) if compute is None else exactly(size)
    yield _part("workspaces", unsure, "one handle and stream", detail="cuBLAS")
    if subject.body.towers and rank.first:
        yield _part("temporaries", IMAGES, "kept for prefixes", detail="encoded images")


def _graphs(rank: Rank, settings: Effective, compute: tuple[int, int] | None) -> Component:
    each = len(settings.captured) * len(rank.blocks)
    linked = compute is None or compute in LINKED  # they reduce without NCCL
    talking = GRAPH_TALKING if linked else GRAPH_NCCL
    each_graph = GRAPH if settings.tensor == 1 else talking
    decodes = Bytes(*(each * b for b in each_graph))
    prefills = Bytes(*(len(settings.prefills) * b for b in PREFILL_GRAPH))
    if settings.prefills and settings.backend in ("dsa", "fa3", "flashmla") and _latent(rank):
        prefills = LATENT_GRAPHS
    return Component(
        name="cuda_graphs",
        bytes=total((decodes, GRAPHS, prefills, device_support.host_of_graphs(compute))),
        basis="assumed",
        formula=f"{len(settings.captured)} batches x {len(rank.blocks)} layers x "
        f"{each_graph.expected / MIB:.2f} MiB, and {len(settings.prefills)} lengths of prefill",
        source="published start-up logs; sglang srt/arg_groups/memory_hook.py",
    )


def _latent(rank: Rank) -> bool:
    return any(isinstance(m, Latent) for b in rank.blocks for m in b.mixers)


def _encoded(subject: Subject, load: ReplicaLoad, split: RankSplit) -> int:
    items = load.images
    return max(
        (items * tower(t, split) * _itemsize(subject) for t in subject.body.towers), default=0
    )


def _logits(subject: Subject, rank: Rank, settings: Effective, load: ReplicaLoad) -> Bytes | None:
    if not (rank.last and subject.body.vocab and generates(subject)):
        return None
    rows, size = load.rows(settings), _itemsize(subject)
    gathered = 2 * size if settings.tensor > 1 else size
    return Bytes(*(rows * subject.body.vocab * b for b in (size + 4, gathered + 8, gathered + 16)))


def _answers(subject: Subject, nbytes: Bytes, rows: int) -> Component:
    return Component(
        name="logits",
        bytes=nbytes,
        basis="assumed",
        formula=(
            f"{rows:,} rows x {subject.body.vocab:,}: {_itemsize(subject)} bytes, a "
            "float32 copy, "
            "probabilities"
        ),
        source="sglang 0.5.23 srt/layers/logits_processor.py, srt/layers/sampler.py",
    )


def _itemsize(subject: Subject) -> int:
    """Return the bytes per element of activations. Quantized formats compute in the dtype of the
    weights that they leave alone."""
    return 4 if subject.choice.dtype.name == "float32" else 2


def _part(name: str, nbytes: Bytes, formula: str, *, detail: str = "") -> Component:
    return Component(
        name=name, bytes=nbytes, basis="computed", detail=detail, formula=formula, source=SOURCE
    )
