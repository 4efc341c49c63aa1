"""One step as the layers see it: number of tokens, dtype, code path and weight format.

    rows     batch x tokens of this step
    past     tokens that are cached before it

How a class computes follows from its parameters' names and its config: which norm, whether queries
and keys have norms of their own, whether MLP and attention run in parallel.

A quantized matrix takes, while it is used and besides its own bytes:

    before   alive through the product: the matrix dequantized to the compute dtype, or the input
             quantized, with their scales
    beside   alive with the result for a moment

    nf4            the whole matrix in the compute dtype; a single row has a separate kernel
    fp4            as BitsAndBytesConfig computes by default: dequantized to the model's dtype and
                   from there to float32, with the input
    bnb-int8       the input in int8 with a float32 scale per row, and an int32 result
    fp8-block      the input in 8 bits with a float32 scale for every 128
    fp8-tensor     the input in 8 bits
    mxfp4, mxfp8, nvfp4, hqq, quanto, compressed-tensors    the whole matrix in the compute dtype
    GPTQ, AWQ      kernels dequantize in registers

Source: bitsandbytes autograd/_functions.py (MatMul4Bit, MatMul8bitLt); transformers 4.51 and 5.23
integrations/finegrained_fp8.py (act_quant); hqq core/quantize.py (HQQLinear.forward).
"""

from collections.abc import Callable, Iterable, Mapping
from functools import cached_property

from weighbridge.base.dtypes import DType
from weighbridge.base.records import dataclass, frozen_record
from weighbridge.base.units import ceil_div
from weighbridge.engines.transformers.caches import CacheKind
from weighbridge.engines.transformers.rules import TransformersRules
from weighbridge.memory.components.activations import Heap, LiveTensor
from weighbridge.models.arch.config import Config
from weighbridge.models.arch.model_types import differs, facts
from weighbridge.models.arch.roles import role

Sizes = tuple[int, ...]
# (rows, inputs, outputs, bytes of an activation) -> (before, beside)
Around = Callable[[int, int, int, int], tuple[Sizes, Sizes]]


def _unpacked(rows: int, inputs: int, outputs: int, size: int) -> tuple[Sizes, Sizes]:
    return (inputs * outputs * size,), ()


def _four_bits(rows: int, inputs: int, outputs: int, size: int) -> tuple[Sizes, Sizes]:
    return ((), ()) if rows == 1 else _unpacked(rows, inputs, outputs, size)


def _default_bits(rows: int, inputs: int, outputs: int, size: int) -> tuple[Sizes, Sizes]:
    if rows == 1:
        return (4 * inputs, 4 * outputs), ()
    matrix = inputs * outputs
    return (matrix * size, 4 * matrix if size < 4 else 0, 4 * rows * (inputs + outputs)), ()


def _int8(rows: int, inputs: int, outputs: int, size: int) -> tuple[Sizes, Sizes]:
    return (rows * inputs, 4 * rows, 4 * rows * outputs), ()


def _blocks(rows: int, inputs: int, outputs: int, size: int) -> tuple[Sizes, Sizes]:
    return (rows * inputs, 4 * rows * ceil_div(inputs, 128)), ()


AROUND: Mapping[str, Around] = {
    "nf4": _four_bits,
    "fp4": _default_bits,
    "bnb-int8": _int8,
    "fp8-block": _blocks,
    "fp8-tensor": _blocks,
    "mxfp4": _unpacked,
    "mxfp8": _unpacked,
    "nvfp4": _unpacked,
    "hqq": _unpacked,
    "quanto": _unpacked,
    "w4a16": _unpacked,
    "pack": _unpacked,
}


def around(name: str) -> Around | None:
    """Return the rule of a format by its name, None if its kernels need nothing."""
    return next((rule for start, rule in AROUND.items() if name.startswith(start)), None)


# ---- step


# Activations that Python code computes in several operations: tensors alive beside the input.
# transformers activations.py: NewGELUActivation, FastGELUActivation, QuickGELUActivation,
# ReLUSquaredActivation.
SEVERAL = {"gelu_new": 2, "gelu_fast": 2, "quick_gelu": 1, "gelu_accurate": 2, "relu2": 1}
ACTIVATIONS = ("hidden_act", "activation_function", "hidden_activation", "ffn_act_fn")
AFTER = ("post_feedforward_layernorm", "post_mlp_layernorm", "post_ffw_norm")
LEARNED = (".wpe.", "embed_positions.")


@dataclass(frozen=True, slots=True)
class Distances:
    """Distances that have embeddings (`count`), and parts of the scores made with them."""

    count: int
    parts: int


@frozen_record
class ClassStyle:
    """Differences between classes in what every class computes."""

    float_norms: bool = True  # RMS norms written out in float32; LayerNorm is one kernel
    query_norms: bool = False
    norms_after: bool = False  # a norm after attention and MLP, too
    norms_before: bool = True  # attention and MLP read normed inputs
    holds_normed: bool = False  # attention's input lives to the layer's end
    holds_attended: bool = False  # attention's output, too
    frees_fed: bool = False  # an MLP's input is freed with its first product
    two_norms: bool = False  # parallel attention and MLP have separate norms
    parallel: bool = False  # attention and MLP read the same normed input
    fused_queries: bool = False  # one linear makes queries, keys and values
    rotary: bool = True
    turned: int = 0  # elements per head with positions; 0: all
    wide_rotary: bool = False  # in float32, one after the other, and cast back
    float_rotary: bool = False  # both are cast to float32 first
    learned: bool = False  # a table of positions is added to the embedding, and kept beside it
    biased: bool = False  # a bias by distance is added to the scores: T5
    norms_behind: bool = False  # the sum is normed, not a layer's input: BERT
    several: int = 0  # temporaries of the activation
    joined_gates: bool = False  # a gated delta net projects its gate with queries, keys, values
    wide_stream: bool = False  # layers pass on float32: Mamba
    chunk: int = 256  # tokens per chunk of Mamba 2's scan
    float_routes: bool = False  # routing weights stay float32, and so do the outputs they scale
    sinks: bool = False  # a column of scores that no token has
    counts_groups: bool = False  # the class has num_key_value_groups: sdpa reads it
    ungrouped: bool = False  # KV heads go to the kernel unrepeated: Falcon's one
    clamped: bool = False  # experts with biases and a gate of their own: gpt-oss
    shared_first: bool = False  # the shared expert runs before the others, since 5
    kept_scores: bool = False  # scores live beside their softmax: MPNet
    every_expert: bool = False  # every expert processes every token: Llama 4
    looped_experts: bool = False  # run one after the other, in transformers 5 too: DBRX
    sorted_experts: bool = False  # in transformers 4 too: Granite
    repeated_experts: bool = False  # every expert processes every token, only before transformers 5
    expert_attention: bool = False  # each expert of a token has queries of its own: JetMoE
    two_halves: bool = False  # attention and MLP twice, what experts give over both: LongCat
    scaled_latents: bool = False  # queries without positions are multiplied: LongCat
    own_softmax: bool = False  # eager softmax is in the dtype of the scores
    wide_queries: bool = False  # queries and keys are cast to float32 before their product
    wide_biases: bool = False  # float32 distance biases are added to the scores
    raw_scores: bool = False  # they stay beside what the mask was added to
    distances: Distances | None = None  # contents and positions are compared apart: DeBERTa
    per_layer: int = 0  # elements per token of per-layer inputs: Gemma 3n and 4
    beside: int = 0  # elements per token that live through all layers: Gemma 3n
    always_masked: bool = False  # it sees both ways by masks of its own, which no kernel is spared
    lingering: bool = False  # attention weights live to the end of the next layer


# Ways that the table of model types has under the name of their field
_OWN_WAYS = """
kept_scores every_expert looped_experts sorted_experts repeated_experts expert_attention
two_halves scaled_latents wide_rotary float_rotary own_softmax wide_queries wide_biases
raw_scores holds_normed holds_attended frees_fed norms_behind
"""
OWN_WAYS = frozenset(_OWN_WAYS.split())


def style(names: Iterable[str], config: Config, turned: int = 0) -> ClassStyle:
    """Return the style of a class. `names`: parameters and buffers; `config`: the language model's;
    `turned`: elements per head with positions."""
    known = tuple(names)
    roles = {role(name) for name in known}
    kind = config.model_type
    activation = config.get(*ACTIVATIONS) or "silu"
    return ClassStyle(
        **dict.fromkeys(OWN_WAYS.intersection(facts(kind).computes), True),
        sinks="sinks" in roles,
        counts_groups=config.get("num_key_value_heads", "kv_lora_rank") is not None,
        ungrouped=differs(kind, "one_kv_head"),
        clamped=_any(known, ["experts.gate_up_proj_bias"]),
        shared_first=_any(known, ["shared_expert_gate", "gate.wg"])
        or differs(kind, "narrow_routes"),
        turned=turned,
        per_layer=_per_layer(config),
        beside=_beside(config),
        distances=_distances(config),
        always_masked=config.sees_both_ways,
        lingering=differs(kind, "lingering_scores"),
        float_norms=not any(_layer_norm(name) for name in known),
        query_norms="q_norm" in roles,
        norms_after=_any(known, AFTER),
        norms_before=not differs(kind, "norms_behind")
        and (_any(known, ["input_layernorm"]) or not _any(known, AFTER)),
        two_norms=_any(known, [".ln_mlp."]),
        parallel=differs(kind, "parallel") and config.get("use_parallel_residual") is not False,
        fused_queries="qkv" in roles,
        rotary=not differs(kind, "not_rotary"),
        learned=_any(known, LEARNED),
        biased=_any(known, ["relative_attention_bias"]),
        wide_stream=config.get("residual_in_fp32") is True,
        joined_gates=_any(known, ["in_proj_qkvz"]),
        several=3 if differs(kind, "own_gelu") else SEVERAL.get(str(activation), 0),
        chunk=config.num("chunk_size", "mamba_chunk_size", default=256),
        float_routes=differs(kind, "float_routes")
        or (_any(known, ["e_score_correction_bias"]) and not differs(kind, "narrow_routes")),
    )


def _per_layer(config: Config) -> int:
    """Gemma3nTextModel.project_per_layer_inputs, and Gemma 4's"""
    each = config.num("hidden_size_per_layer_input", default=0)
    return config.num("num_hidden_layers", default=0) * each


def _beside(config: Config) -> int:
    """Return the extra states of Gemma3nTextModel.forward: of n states for one, n - 1 as they were
    made and one before its norm, n that a layer reads and n that it predicts (less the one that all
    classes have), and four of its variables that others free."""
    inputs = config.num("altup_num_inputs", default=0)
    return (3 * inputs + 3) * config.num("hidden_size") if inputs else 0


def _distances(config: Config) -> Distances | None:
    """DebertaV2Encoder.__init__: buckets, or the longest distance, to both sides."""
    parts = sum(part in (config.get("pos_att_type") or ()) for part in ("c2p", "p2c"))
    if not differs(config.model_type, "relative_scores") or not config.get("relative_attention"):
        return None
    sides = (config.get(name) for name in ("position_buckets", "max_relative_positions"))
    side = next((n for n in sides if isinstance(n, int) and n > 0), 0)
    side = side or config.num("max_position_embeddings", default=512)
    return Distances(2 * side, parts) if parts else None


def _any(names: Iterable[str], words: Iterable[str]) -> bool:
    words = tuple(words)
    return any(word in name for name in names for word in words)


def _layer_norm(name: str) -> bool:
    """Return whether a parameter is a layer norm's: RMS norms have no bias."""
    module, _, last = name.rpartition(".")
    owner = module.rpartition(".")[2].lower()
    return last == "bias" and ("norm" in owner or owner.startswith("ln"))


@dataclass(frozen=True, kw_only=True)  # not slotted: it keeps what it has computed
class ForwardStep:
    """One step. `kernel` is sdpa, or what the user set."""

    batch: int
    tokens: int
    past: int
    hidden: int
    dtype: DType  # of activations
    kernel: str
    rules: TransformersRules
    style: ClassStyle
    cache: CacheKind = "dynamic"
    longest: int = 0  # of a static cache
    encoder: int = 0  # encoder tokens
    packed: Around | None = None  # extra memory of a quantized matrix in use
    kind: str = ""  # model type

    @cached_property
    def rows(self) -> int:
        return self.batch * self.tokens

    @cached_property
    def size(self) -> int:
        """Return the bytes per element of activations."""
        return int(self.dtype.nbytes)

    @property
    def context(self) -> int:
        return self.past + self.tokens

    @property
    def prompt(self) -> bool:
        return self.past == 0

    def wide(self, width: int) -> int:
        """Return the bytes of an activation with `width` elements per token."""
        return self.rows * width * self.size


def linear(heap: Heap, step: ForwardStep, inputs: int, outputs: int) -> LiveTensor:
    """Return a matmul's output; quantized formats first dequantize or quantize."""
    if step.packed is None:
        return heap.take(step.wide(outputs))
    before, beside = step.packed(step.rows, inputs, outputs, step.size)
    unpacked = heap.all(before, "temporaries")
    out = heap.take(step.wide(outputs))
    heap.passing(*beside, name="temporaries")
    heap.drop(*unpacked)
    return out


def norm(heap: Heap, step: ForwardStep, width: int | None = None) -> LiveTensor:
    """Return a normed copy. RMS norms in Python: float32, its square, product, two casts."""
    count = step.rows * (width or step.hidden)
    if not step.style.float_norms:
        out = heap.take(count * step.size)
        heap.passing(4 * step.rows, 4 * step.rows)  # mean and deviation
        return out
    if step.size == 4:
        heap.passing(4 * count)
        return heap.into(4 * count, heap.take(4 * count))
    copy = heap.take(4 * count)
    heap.passing(4 * count)
    scaled = heap.into(4 * count, copy)
    cast = heap.take(count * step.size)
    out = heap.take(count * step.size)
    heap.drop(scaled, cast)
    return out


def rotated(heap: Heap, nbytes: int, wider: int = 1) -> LiveTensor:
    """Return x cos + rotate(x) sin: apply_rotary_pos_emb. Products are `wider` times as large if
    cosines and sines are in float32."""
    first = heap.take(wider * nbytes)
    half = heap.take(nbytes // 2)
    turned = heap.into(nbytes, half)
    second = heap.into(wider * nbytes, turned)
    return heap.into(wider * nbytes, first, second)
