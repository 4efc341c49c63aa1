"""Prices of changes: in points that compare, in plain words, and where that is written.

    quality   3 points for each percent by which perplexity rises          (assumed: the exchange)
    speed     1 point for each 5 percent slower                            (assumed)
    scope     1 point for each 2 percent of what was asked and is given up (assumed)
    effort    5 for a checkpoint that must be made first, 6 for another program (assumed)
    money     60 for each doubling of the memory that is bought            (assumed)

Points only put changes in an order; the words beside them say what was measured, and by whom.
Formats are priced in losses.py.
"""

from collections.abc import Mapping
from math import log2

from weighbridge.remedies.case import Cost
from weighbridge.remedies.losses import SLOWER, points
from weighbridge.report.verdict import Price

PART, OTHER, DOUBLE = 1 / 2, 6.0, 60.0
ON_HOST = {  # its flag, and percent slower where all of them are there (assumed)
    "experts": ("--n-cpu-moe", 150),
    "layers": ("--n-gpu-layers", 400),
}
BUS = 32.0  # GB/s at which weights come from the host: PCIe 4.0 x16 (PCI-SIG)
ACROSS = 800  # percent slower where all of them do, of a card of unknown bandwidth (assumed)
AGAIN = 2.0  # each further change of a set: one more thing to keep in mind (assumed)

ASSUMED = "assumed: no published figure"


CHANGES: Mapping[str, Cost] = {
    "16 bits": Cost(
        price=Price(quality=0.3),
        words="16 bits instead of 32, as models of today are released",
        source=ASSUMED,
    ),
    "tensor parallel": Cost(
        price=Price(speed=1.0),
        words="the cards share every layer, and talk after each",
        source="https://docs.vllm.ai/en/latest/serving/parallelism_scaling/",
    ),
    "pipeline parallel": Cost(
        price=Price(speed=3.0),
        words="the cards share the layers out; one request is no faster than on one card",
        source="https://docs.vllm.ai/en/latest/serving/parallelism_scaling/",
    ),
    "another layout": Cost(
        price=Price(speed=2.0),
        words="copies of the attention, or stages: fewer cards work on one token",
        source="https://docs.vllm.ai/en/latest/serving/expert_parallel_deployment/",
    ),
    "dealt out": Cost(
        price=Price(),
        words="so many layers for each card, by what it has: the same result",
        source="llama.cpp 0c1e57098 src/llama-model.cpp (load_tensors: tensor_split)",
    ),
    "kv cache": Cost(
        price=Price(quality=1.5),
        words="keys and values in 8 bits: a small loss",
        source="https://docs.vllm.ai/en/latest/features/quantization/quantized_kvcache/",
    ),
    "kv cache in 4 bits": Cost(
        price=Price(quality=12.0),
        words="keys and values in 4 bits: perplexity 4 % up on GLM-5.1, more on some models",
        source="https://github.com/ikawrakow/ik_llama.cpp/pull/1821",
    ),
    "files": Cost(
        price=Price(effort=OTHER),
        words="llama.cpp runs it instead",
        source="https://github.com/ggml-org/llama.cpp",
    ),
    "server": Cost(
        price=Price(effort=OTHER),
        words="vLLM runs it instead",
        source="https://github.com/vllm-project/vllm",
    ),
    "flags": Cost(
        price=Price(speed=1.0),
        words="other flags of the same engine",
        source="vllm 0.33 gpu_worker.py; sglang 0.5.23 server_args.py",
    ),
    "attention": Cost(
        price=Price(),
        words="a kernel that does not store attention scores: the same result",
        source="https://arxiv.org/abs/2112.05682",
    ),
    "kernels": Cost(
        price=Price(effort=1.0),
        words="kernels for state layers (pip install flash-linear-attention causal-conv1d)",
        source="transformers 5.23 integrations/hub_kernels.py",
    ),
    "flash attention": Cost(
        price=Price(effort=1.0),
        words="a kernel that does not store attention scores (pip install flash-attn)",
        source="transformers 5.23 integrations/flash_attention.py (softcap)",
    ),
    # of training
    "unmerged experts": Cost(
        price=Price(effort=2.0),
        words="transformers 4.57, whose experts are linears, which bitsandbytes packs",
        source="transformers 4.57 and 5.23 integrations/bitsandbytes.py",
    ),
    "liger": Cost(
        price=Price(effort=1.0),
        words="logits are never whole: the same result (pip install liger-kernel)",
        source="https://arxiv.org/abs/2410.10989",
    ),
    "chunked": Cost(
        price=Price(effort=0.5),
        words="logits are made in pieces: the same result",
        source="torchtune 0.4 modules/loss/ce_chunked_output_loss.py",
    ),
    "checkpointing": Cost(
        price=Price(speed=30 * SLOWER),
        words="layers are computed again in backward: about 30 % slower",
        source="https://arxiv.org/abs/1604.06174",
    ),
    "distributed optimizer": Cost(
        price=Price(),
        words="ranks share the optimizer's states: the same result",
        source="https://arxiv.org/abs/1910.02054",
    ),
    "sequence parallel": Cost(
        price=Price(),
        words="tensor ranks share tokens out between layers: the same result",
        source="https://arxiv.org/abs/2205.05198",
    ),
    "fused loss": Cost(
        price=Price(),
        words="the loss is computed where the outputs lie: the same result",
        source="Transformer Engine c188b53 pytorch/cross_entropy.py",
    ),
    "tensor parallel training": Cost(
        price=Price(speed=20 * SLOWER),
        words="more cards share each layer, and talk inside it: slower",
        source=ASSUMED,
    ),
    "pipeline parallel training": Cost(
        price=Price(speed=25 * SLOWER),
        words="more stages, which wait for each other: slower without many micro-batches",
        source="https://arxiv.org/abs/2104.04473",
    ),
    "expert parallel training": Cost(
        price=Price(speed=15 * SLOWER),
        words="more cards share the experts out, and send tokens to each other",
        source=ASSUMED,
    ),
    "growing segments": Cost(
        price=Price(effort=0.5),
        words="segments of the allocator grow: the same result (PYTORCH_CUDA_ALLOC_CONF)",
        source="https://docs.pytorch.org/docs/stable/notes/cuda.html (expandable_segments)",
    ),
    "no mask": Cost(
        price=Price(),
        words="the data loader makes no mask, which causal kernels do not read: the same result",
        source="Megatron-LM d98e8a6 megatron/training/arguments.py",
    ),
    "norms again": Cost(
        price=Price(speed=3 * SLOWER),
        words="norms are computed again in backward: a little slower",
        source=ASSUMED,
    ),
    "experts' activation again": Cost(
        price=Price(speed=11 * SLOWER),
        words="norms and what experts' activations make are computed again: 2 to 11 % slower",
        source="NVIDIA-NeMo/Megatron-Bridge 067f987 skills/nemo-mbridge-perf-activation-recompute",
    ),
    "uneven stages": Cost(
        price=Price(speed=2 * SLOWER),
        words="the fullest stage has fewer layers, and the others wait a little for one that has "
        "more",
        source="https://arxiv.org/abs/2104.04473",
    ),
    "no upcast": Cost(
        price=Price(effort=0.5, quality=0.5),
        words="without prepare_model_for_kbit_training: hidden states stay in 16 bits",
        source="PEFT 0.19.1 utils/other.py",
    ),
    "8-bit states": Cost(
        price=Price(quality=0.5, effort=0.5),
        words="states in 8 bits: results as with 32 bits in the paper",
        source="https://arxiv.org/abs/2110.02861",
    ),
    "paged states": Cost(
        price=Price(quality=0.5, effort=0.5, speed=20 * SLOWER),
        words="states in 8 bits, which go to the host where the device is full: slower then",
        source="https://arxiv.org/abs/2305.14314",
    ),
    "adafactor": Cost(
        price=Price(quality=6.0),
        words="factored states: learning rates must be found anew",
        source="https://arxiv.org/abs/1804.04235",
    ),
    "micro-batches": Cost(
        price=Price(speed=5 * SLOWER),
        words="the same global batch in smaller pieces: a little slower",
        source="https://huggingface.co/docs/transformers/perf_train_gpu_one",
    ),
    "bf16": Cost(
        price=Price(quality=8.0),
        words="weights in 16 bits without a copy in 32: small steps are lost",
        source="https://arxiv.org/abs/2010.06192",
    ),
    "mixed": Cost(
        price=Price(quality=0.3),
        words="products in 16 bits",
        source="https://arxiv.org/abs/1710.03740",
    ),
    "lora": Cost(
        price=Price(quality=6.0, scope=4.0),
        words="adapters alone are trained",
        source="https://arxiv.org/abs/2106.09685",
    ),
    "qlora": Cost(
        price=Price(quality=points("nf4"), speed=30 * SLOWER),
        words="the frozen base is in 4 bits: as good as 16 in the paper, and slower",
        source="https://arxiv.org/abs/2305.14314",
    ),
    "int8 base": Cost(
        price=Price(quality=0.5, speed=25 * SLOWER),
        words="the frozen base is in 8 bits: slower",
        source="https://arxiv.org/abs/2208.07339",
    ),
    "fewer targets": Cost(
        price=Price(quality=4.0, scope=2.0),
        words="adapters beside queries and values alone",
        source="https://arxiv.org/abs/2106.09685",
    ),
    "states and gradients shared": Cost(
        price=Price(speed=5 * SLOWER),
        words="ranks share states and gradients out",
        source="https://arxiv.org/abs/1910.02054",
    ),
    "sequences shared": Cost(
        price=Price(speed=1.5),
        words="each sequence is cut over all cards, which pass their keys on: fewer at once",
        source="https://arxiv.org/abs/2310.01889",
    ),
    "everything shared": Cost(
        price=Price(speed=15 * SLOWER),
        words="ranks share everything out: half as much again is sent between them",
        source="https://arxiv.org/abs/1910.02054",
    ),
    "states on the host": Cost(
        price=Price(speed=60 * SLOWER),
        words="states live in host memory, and the processor steps: slower",
        source="https://arxiv.org/abs/2101.06840",
    ),
    "parameters on the host": Cost(
        price=Price(speed=150 * SLOWER),
        words="parameters come from host memory for each layer: much slower",
        source="https://arxiv.org/abs/2104.07857",
    ),
    "prompts are dropped": Cost(
        price=Price(speed=2 * SLOWER),
        words="prompts of earlier requests are not kept: a conversation is read anew",
        source="https://github.com/ggml-org/llama.cpp/pull/16391",
    ),
    "weights are dropped": Cost(
        price=Price(speed=2 * SLOWER),
        words="asleep it keeps no weights: when it wakes they are read again, or sent to it",
        source="https://docs.vllm.ai/en/latest/features/sleep_mode/",
    ),
    "saved in parts": Cost(
        price=Price(effort=0.5),
        words="each rank saves its part: they are put together afterwards",
        source="https://deepspeed.readthedocs.io/en/latest/model-checkpointing.html (zero_to_fp32)",
    ),
    "less on the host": Cost(
        price=Price(),
        words="less is kept in host memory than was asked, and more on the cards: faster",
        source="https://arxiv.org/abs/2101.06840",
    ),
    "one rank reads": Cost(
        price=Price(speed=1 * SLOWER),
        words="one rank reads the weights, and sends the others theirs",
        source="https://huggingface.co/docs/accelerate/usage_guides/fsdp",
    ),
    "pages not pinned": Cost(
        price=Price(speed=10 * SLOWER),
        words="copies to and from pages that are not pinned wait: slower",
        source="https://deepspeed.readthedocs.io/en/latest/zero3.html (pin_memory)",
    ),
    "eager": Cost(
        price=Price(speed=20 * SLOWER),
        words="no CUDA graphs: tokens are written more slowly",
        source="https://docs.vllm.ai/en/latest/configuration/conserving_memory/",
    ),
    "text only": Cost(
        price=Price(scope=10),
        words="images and sounds are refused",
        source="vllm 0.33 arg_utils.py",
    ),
}


def shorter(was: int, now: int, what: str) -> Cost:
    """Price less of what was asked: tokens, requests."""
    lost = 100 * (was - now) / was
    return Cost(
        price=Price(scope=max(1.0, lost * PART)),
        words=f"{now:,} {what} instead of {was:,}",
        source="what was asked",
    )


def less_beside(was: float, now: float, unit: str) -> Cost:
    """Price a smaller second level of a cache: prefixes that it loses are read anew."""
    return Cost(
        price=Price(speed=2 * SLOWER * (was - now) / was),
        words=f"{now:,g} {unit} of the cache in host memory instead of {was:,.4g}: more "
        "prefixes are read anew",
        source="https://docs.vllm.ai/en/latest/features/ (KV offloading); "
        "https://docs.sglang.ai/advanced_features/hicache.html",
    )


def again(share: float) -> Cost:
    """Price norms and feed-forwards that are computed again, which take such a share of a step's
    FLOPs more: more than the time, since a step does more than products."""
    return Cost(
        price=Price(speed=100 * share * SLOWER),
        words=f"norms and feed-forwards are computed again in backward: {share:.0%} more FLOPs",
        source="counted: a forward is a third of a step",
    )


def on_host(what: str, count: int, whole: int) -> Cost:
    """Price layers, or their experts, that the processor runs."""
    share, flag, slower = count / max(whole, 1), *ON_HOST[what]
    return Cost(
        price=Price(speed=max(1.0, slower * share * SLOWER)),
        words=f"{what} of {count} of {whole} layers run on the processor: slower"
        if what == "experts"
        else f"{count} of {whole} layers run on the processor: slower",
        source=f"https://github.com/ggml-org/llama.cpp/tree/master/tools/server ({flag})",
    )


def micro(share: int, words: str) -> Cost:
    """Price a batch in that many pieces."""
    change = CHANGES["micro-batches"]
    return Cost(
        price=Price(speed=change.price.speed * log2(share)), words=words, source=change.source
    )


def less(was: int, now: int, words: str, quality: float) -> Cost:
    """Price a smaller adapter."""
    return Cost(
        price=Price(scope=2.0, quality=quality * log2(was / now)),
        words=words,
        source="https://arxiv.org/abs/2106.09685",
    )


def crossing(share: float, bandwidth: float | None = None) -> Cost:
    """Price a part of the weights that is read from the host for every token, of a card that reads
    its own memory at so many GB/s."""
    slower = ACROSS if bandwidth is None else 100 * max(1.0, bandwidth / BUS)
    return Cost(
        price=Price(speed=max(10.0, slower * share * SLOWER)),
        words=f"{_percent(share)} of the weights comes from RAM for every token: much slower",
        source="https://docs.vllm.ai/en/latest/configuration/conserving_memory/",
    )


def _percent(share: float) -> str:
    """Write a share in percent, never 0 % of something."""
    if share >= 0.01:
        return f"{share:.0%}"
    return f"{share:.1%}" if share >= 0.001 else "less than 0.1%"


def hardware(was: int, now: int, words: str) -> Cost:
    """Price more memory than there is, in bytes."""
    return Cost(
        price=Price(money=max(DOUBLE / 2, DOUBLE * log2(max(now, 1) / max(was, 1)))),
        words=words,
        source="accelerators/parts.jsonl; prices are not in our tables",
    )


def together(costs: tuple[Cost, ...]) -> Cost:
    """Price several changes, one after the other."""
    prices = [cost.price for cost in costs]
    return Cost(
        price=Price(
            quality=sum(price.quality for price in prices),
            speed=sum(price.speed for price in prices),
            scope=sum(price.scope for price in prices),
            effort=sum(price.effort for price in prices) + AGAIN * (len(prices) - 1),
            money=sum(price.money for price in prices),
        ),
        words="; ".join(dict.fromkeys(cost.words for cost in costs)),
        source="; ".join(dict.fromkeys(cost.source for cost in costs)),
    )
