"""A rank's weights on the card: the engine's tensors (`servers/shards.py`), with the allocator's
rounding, replayed tensor by tensor in layer order.

    allocated   tensors with rounding: to 512 bytes, and remainders of up to 1 MiB
    reserved    whole segments: what the driver has given

How vLLM splits a model over devices.

Source: vllm 0.33 and 0.19: distributed/utils.py (get_pp_indices, VLLM_PP_LAYER_PARTITION),
model_executor/layers/{linear,mla,vocab_parallel_embedding}.py, fused_moe/{config,
expert_map_manager}.py and the get_pp_group() of model_executor/models/*.py; lora/layers/*.py and
config/lora.py (MaxLoRARanks).

Buffers of a model's class per token of a batch, besides its weights.

    per-layer inputs   Gemma 3n and 4 E2B/E4B: layers x elements of a slice. A class with encoders
                       makes them a buffer beside the weights, and one tensor more lives through
                       all layers of a step, which take a slice each
    deepstack          Qwen3-VL, Qwen3-Omni: hidden states that encoder layers add to the first
                       layers of the language model, one buffer per level
    indices            DeepSeek 3.2 and its kin: tokens that sparse attention looks at, int32

Buffers are made with the model, so the log's "Model loading took" includes them.

Source: vllm 0.26 and 0.33 model_executor/models/gemma4_mm.py (per_layer_embeddings), gemma4.py
(project_per_layer_inputs, _run_decoder_layers), gemma3n_mm.py, gemma3n.py; 0.13 and 0.33
qwen3_vl.py, qwen3_omni_moe_thinker.py (deepstack_input_embeds); deepseek_v2.py, glm4_moe_lite.py
(topk_indices_buffer).
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any

from weighbridge.base.dtypes import FLOAT32
from weighbridge.base.memory import Bytes
from weighbridge.base.records import frozen_record
from weighbridge.base.units import MIB, power_of_two
from weighbridge.engines.engine import Version
from weighbridge.engines.interface import Subject
from weighbridge.engines.parallel import rules as parallel
from weighbridge.engines.parallel.rules import SpreadArgs
from weighbridge.engines.servers import host, shards
from weighbridge.engines.servers.replica import AtOnce, Replica
from weighbridge.engines.vllm import ENGINE, hardware
from weighbridge.engines.vllm.effective import VllmLaunch
from weighbridge.engines.vllm.rules import Arrives, VllmRules, rules
from weighbridge.machines.accelerators.seen import Card
from weighbridge.machines.allocator.filling import filled
from weighbridge.machines.allocator.options import DEFAULT, AllocatorOptions
from weighbridge.memory.components.kv_cache import mixers
from weighbridge.memory.components.weights import PlacedTensor, total
from weighbridge.models.arch.mixers import Latent, Recurrent
from weighbridge.models.arch.model_types import facts

if TYPE_CHECKING:
    from weighbridge.workload import Infer

MXFP4, NVFP4 = "mxfp4", "nvfp4"
UNSPLIT = AllocatorOptions(max_split_size_mb=20)
INTERLEAVED = 3  # layers in memory at once, if files interleave their tensors
LATENT_BUFFER = 128 * MIB  # v1/attention/backends/mla/: allocated on import
BLACKWELL = 10  # and 12, of consumer cards
OWN_BUFFERS = (9, 10)  # major compute capabilities of those kernels
LORA_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
SLICE, LEVELS, CHOSEN = "hidden_size_per_layer_input", "deepstack_visual_indexes", "index_topk"
TEXT, SEES, THINKER = "text_config", "vision_config", "thinker_config"
INT32 = 4


@frozen_record
class RankWeights:
    """Bytes of weights and buffers of one rank."""

    weights: int
    buffers: int
    allocated: int
    reserved: int
    offloaded: host.PinnedWeights  # kept in host memory
    asleep: host.PinnedWeights  # in host memory while it sleeps at level 1


def replica(subject: Subject, launch: VllmLaunch, w: "Infer", card: Card) -> Replica:
    rules = split_rules(launch.rules.version, eager=launch.eager, towers=not launch.language_only)
    return Replica(ENGINE, subject, w, rules, sizes(launch, card))


def imported(subject: Subject, launch: VllmLaunch, card: Card) -> int:
    """Return the bytes of workspaces allocated when MLA backends are imported: one for each that is
    tried. On Kimi-VL-A3B and DeepSeek-V2-Lite 128 MiB were read, on one rank and on two."""
    if not any(isinstance(m, Latent) for m in mixers(subject.layers)):
        return 0
    return LATENT_BUFFER * launch.rules.latent_buffers[not hardware.blackwell(card)]


def sizes(launch: VllmLaunch, card: Card) -> SpreadArgs:
    """Return how the model is split, as `engines/parallel` takes it."""
    return {
        "tensor": launch.tensor,
        "pipeline": launch.pipeline,
        "partition": launch.partition,
        "data": launch.data,
        "expert_parallel": launch.expert_parallel,
        "capability": hardware.major(card),
    }


def keeps_workspace(subject: Subject, card: Card) -> bool:
    """Return whether the MoE kernel uses the workspace that is never freed. The Triton and
    TensorRT-LLM kernels for MXFP4 allocate their own (oracle/mxfp4.py)."""
    scheme = subject.choice.scheme
    if scheme is None or scheme.name != MXFP4:
        return True
    return hardware.major(card) not in OWN_BUFFERS


def shuffles(subject: Subject, rules: VllmRules, card: Card) -> bool:
    """Return whether experts run in vLLM's own CUTLASS kernel for NVFP4, which permutes rows into
    expert order, back again, and weighs them (experts/cutlass_moe.py, run_cutlass_moe_fp4): on
    Blackwell, if FlashInfer's kernel, which vLLM tries first, lacks their activation."""
    scheme = subject.choice.scheme
    packed = scheme is not None and scheme.name == NVFP4 and hardware.major(card) >= BLACKWELL
    return packed and not rules.fused_gelu and facts(subject.model_type).vllm.gelu_experts


def loaded(rank: shards.Rank, launch: VllmLaunch, extra: Iterable[int]) -> RankWeights:
    """Return the bytes of one rank. `extra`: tensors of drafts, of LoRA slots, of kernels."""
    attention = sum(not isinstance(m, Recurrent) for m in mixers(rank.layers))
    scales = (FLOAT32.size(1),) * (launch.rules.scales * attention)
    sizes = (*(t.nbytes for t in rank.tensors), *extra, *scales)
    allocated, reserved = _replay(sizes, unsplit=launch.rules.unsplit)
    weights = total(rank.tensors, "weights")
    gone = host.taken(rank.tensors, launch.offload)
    away = host.of_tensors(gone)
    asleep = host.PinnedWeights()
    if launch.sleeps:
        left = Counter(sizes) - Counter(t.nbytes for t in gone)
        here = tuple(nbytes for nbytes in sizes if _takes(left, nbytes))
        asleep = _segments(here, unsplit=launch.rules.unsplit)
    return RankWeights(
        weights=weights - away.nbytes,
        buffers=total(rank.tensors, "buffers") + sum(scales),
        allocated=allocated - away.nbytes,
        reserved=reserved - away.nbytes,
        offloaded=away,
        asleep=asleep,
    )


def _takes(left: Counter[int], nbytes: int) -> bool:
    """Take one tensor of `nbytes` from `left`; return whether there was one."""
    left[nbytes] -= 1
    return left[nbytes] >= 0


def of_layers(rank: shards.Rank) -> tuple[PlacedTensor, ...]:
    """Return the tensors of numbered layers."""
    return tuple(t for t in rank.tensors if host.layer_of(t))


@lru_cache(maxsize=64)
def _segments(sizes: tuple[int, ...], *, unsplit: bool) -> host.PinnedWeights:
    """Return the segments of the pool that sleep mode copies, each into its own pinned block
    (device_allocator/cumem.py, sleep)."""
    filling = filled(sizes, UNSPLIT if unsplit else DEFAULT)
    blocks = sum(count * power_of_two(size) for size, count in filling.segments.items())
    return host.PinnedWeights(filling.reserved, blocks)


@lru_cache(maxsize=64)
def _replay(sizes: tuple[int, ...], *, unsplit: bool) -> tuple[int, int]:
    filling = filled(sizes, UNSPLIT if unsplit else DEFAULT)
    return filling.allocated, filling.reserved


def _whole(packed: int, whole: int, layer: int) -> Bytes:
    saved = max(0, whole - packed)
    return Bytes(saved, saved, saved + layer)


def _both(packed: int, whole: int, _: int) -> Bytes:
    saved = max(0, whole - packed)
    return Bytes(saved, 2 * saved, whole)


def _between(packed: int, whole: int, layer: int) -> Bytes:
    return Bytes(0, min(max(0, whole - packed), layer), whole)


def _streamed(packed: int, whole: int, layer: int) -> Bytes:
    saved = max(0, whole - packed)
    return Bytes(0, min(saved, layer), min(saved, INTERLEAVED * layer))


# (quantized, 16-bit, one layer's bytes) -> bytes of 16-bit weights in memory at once
AT_ONCE: Mapping[Arrives, AtOnce] = {
    "whole": _whole,
    "both": _both,
    "between": _between,
    "streamed": _streamed,
}


# How ranks split the model


def bounds(layers: int, ranks: int) -> tuple[int, ...]:
    """Return stage bounds: layers // stages each; the rest to the last but one and before it."""
    sizes = [layers // ranks] * ranks
    for i in range(2, layers % ranks + 2):
        sizes[-i] += 1
    return parallel.bounds(sizes)


def of_class(model_type: str) -> parallel.ClassSplit:
    """Return how vLLM splits the class of a model type."""
    known = facts(model_type).vllm
    return parallel.ClassSplit(
        embedding=known.every_stage in ("embedding", "both"),
        head=known.every_stage in ("head", "both"),
        # is_sequence_parallel of vllm model_executor/models/*.py
        whole_shared=known.whole_shared_experts,
        library_towers=known.library_towers,  # AutoModel.from_config
        adapted=known.adapted_embedding,
        fills_shared=known.fills_shared,
    )


@cache
def split_rules(
    version: Version, *, eager: bool = False, towers: bool = True
) -> parallel.SplitRules:
    """Return the split rules, the same object each time: `shards` caches by it."""
    r = rules(version)
    return parallel.SplitRules(
        name=ENGINE.name,
        version=version,
        bounds=bounds,
        of_class=of_class,
        grows=False,
        uneven=True,
        replicas_share=True,
        absorbs=False,
        rotary_latent=FLOAT32 if eager and r.wide_latents else None,
        towers_everywhere=r.towers_everywhere,
        towers=towers,
        partial_blocks=r.partial_blocks,
        shared_hold=r.shared_hold,
        hopper=r.hopper,
        blackwell=r.blackwell,
        lora_source="vllm lora/layers/*.py",
        uneven_seen="vllm 0.33 distributed/utils.py: is not divisible by; Total number of "
        "attention heads must be divisible by tensor parallel size",
        lora_ranks=LORA_RANKS,
        extra_vocabulary=r.extra_vocabulary,
    )


# Buffers per token of a batch


def batch_buffers(subject: Subject, tokens: int) -> tuple[int, ...]:
    """Return the bytes of each buffer for batches of `tokens`."""
    itemsize = int(subject.choice.dtype.nbytes)
    sizes = [tokens * subject.body.hidden * itemsize] * deepstack_levels(subject)
    if TEXT in _model_config(subject):
        sizes.append(tokens * elements_through(subject) * itemsize)
    sizes.append(tokens * _count(_text_config(subject).get(CHOSEN)) * INT32)
    return tuple(n for n in sizes if n)


def elements_through(subject: Subject) -> int:
    """Return the elements per token that live through all layers, a slice per layer: a rank with
    some of the layers has those of all."""
    return len(subject.layers) * _count(_text_config(subject).get(SLICE))


def deepstack_levels(subject: Subject) -> int:
    """Return the number of deepstack buffers, extra outputs of the encoder; 0 without it."""
    tower = _model_config(subject).get(SEES)
    listed = tower.get(LEVELS) if isinstance(tower, Mapping) and subject.body.towers else None
    return len(listed) if isinstance(listed, list) else 0


def _model_config(subject: Subject) -> Mapping[str, Any]:
    inner = subject.raw.get(THINKER)
    return inner if isinstance(inner, Mapping) else subject.raw


def _text_config(subject: Subject) -> Mapping[str, Any]:
    whole = _model_config(subject)
    inner = whole.get(TEXT)
    return inner if isinstance(inner, Mapping) else whole


def _count(value: Any) -> int:
    return value if isinstance(value, int) and value > 0 else 0
