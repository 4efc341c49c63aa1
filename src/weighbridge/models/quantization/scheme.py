"""The record of a weight format, and what the libraries' loaders have in common.

A scheme answers, for one parameter of a blueprint, with the tensors that its loader puts on the
device, or None: then the parameter is left alone, in the dtype of the model. Letters: a matrix
has `outputs` x `inputs` values (nn.Linear's [out, in]); `stack` is before them where all experts
are one parameter.
"""

from collections.abc import Callable, Iterable

from weighbridge.base.dtypes import DType
from weighbridge.base.records import NamedTuple, frozen_record
from weighbridge.models.arch.blueprint import Blueprint, Param, ParamKind, last_name
from weighbridge.models.arch.roles import role_of


class PackedPiece(NamedTuple):
    """One tensor of a quantized parameter, under its full name."""

    name: str
    dtype: DType
    shape: tuple[int, ...]


class LoaderFacts(NamedTuple):
    """What a loader knows of the model before it looks at a parameter."""

    plan: Blueprint
    dtype: DType  # the model's own
    major: int  # version of transformers


Pack = Callable[[Param], Iterable[PackedPiece] | None]
Takes = Callable[[Param], bool]


@frozen_record
class Scheme:
    """A weight format. `left`: text on what it does not quantize; `source`: where that is
    documented."""

    name: str
    loader: Callable[[LoaderFacts], Pack]
    left: str
    source: str
    engine: str = ""  # the only engine that loads it, if not transformers
    maker: str = ""  # whose quantizer makes it, if there are several
    named: Callable[[LoaderFacts], Pack] | None = None  # for modules named in a config, of any kind
    by_layer: Takes | None = None  # equal weights that two layers may store differently
    by_expert: bool = False  # whether two experts of a layer may be stored differently
    stacks: bool = False  # bitsandbytes: stacks of experts are quantized, too
    fitted: "Callable[[Blueprint], Scheme] | None" = None  # its variant for a model's shapes


class Matrix(NamedTuple):
    """One weight as a format sees it, whatever layout its class has."""

    outputs: int
    inputs: int
    stack: tuple[int, ...] = ()

    @property
    def numel(self) -> int:
        """Return the elements of all matrices in the stack."""
        count = self.outputs * self.inputs
        for size in self.stack:
            count *= size
        return count


Pieces = Callable[[Param, Matrix], Iterable[PackedPiece]]

DOWN = ("down", "w2", "output_linear")  # the projections of experts back to the model's width


def matrix(param: Param, width: int) -> Matrix:
    """Return `param` as [out, in]. Conv1D is [in, out]; stacked experts are either, and the side
    that has the model's `width` tells (gpt-oss and Llama 4: [E, in, out])."""
    *stack, outputs, inputs = param.shape
    turned = param.kind == "conv1d"
    if param.kind == "experts" and outputs != inputs:
        down = any(word in param.name.rpartition("experts")[2] for word in DOWN)
        turned = width == (inputs if down else outputs)
    if turned:
        outputs, inputs = inputs, outputs
    return Matrix(outputs, inputs, tuple(stack))


def width(plan: Blueprint) -> int:
    """Return the width of the token embedding; 0 without one."""
    return next((p.shape[-1] for p in plan.counted if p.kind == "embedding"), 0)


def module(param: Param) -> str:
    return param.name.removesuffix(".weight")


def in_tower(plan: Blueprint, param: Param) -> bool:
    """Return whether `param` is in a vision or audio encoder, or its projector to the language
    model."""
    return plan.part(param.name) != "language model"


def is_head(plan: Blueprint) -> Takes:
    """Return a test for the output layer: `lm_head` by name, or the shape of the token
    embedding."""
    shape = next((p.shape for p in plan.counted if p.kind == "embedding"), None)

    def takes(param: Param) -> bool:
        named = param.name.endswith(("lm_head.weight", "embed_out.weight"))
        return param.kind == "linear" and (named or param.shape == shape)

    return takes


# Linears that transformers 5.23 keeps in float32 (_keep_in_fp32_modules) and so never quantizes:
# the start of the class's name, the end of the module's.
FLOAT32_MODULES = (
    ("T5", "wo"),
    ("MT5", "wo"),
    ("UMT5", "wo"),
    ("Udop", "wo"),
    ("Pop2Piano", "wo"),
    ("DeepseekV32", "indexer.weights_proj"),
    ("GlmMoeDsa", "indexer.weights_proj"),
)


def not_converted(facts: LoaderFacts) -> frozenset[str]:
    """Return the modules that transformers does not convert by default: get_keys_to_not_convert.

    Tied weights, the output embedding, and the module of the last parameter. Version 5 takes only
    ".weight" off the last parameter's name, so a last Linear with a bias is not recognised and is
    quantized; version 4 took ".bias" off as well.
    """
    untied = [p for p in facts.plan.counted if not p.tied]
    left = {name for p in facts.plan.counted if p.tied for name in (p.name, p.tied)}
    head = is_head(facts.plan)
    left |= {p.name for p in untied if head(p)}
    if untied:
        left.add(last_name(untied[-1]))
    names = {name.removesuffix(".weight") for name in left}
    if facts.major < 5:
        names = {name.removesuffix(".bias") for name in names}
    return frozenset(names)


# Routers by the start of the class's name. transformers 5.23 makes them bare parameters, but these
# are nn.Linear, and these a subclass of it; in 4.57 they are nn.Linear, but these are bare.
LINEAR_ROUTERS_5 = (
    "Afmoe",
    "Dbrx",
    "DiffusionGemma",
    "Gemma4",
    "HunYuanMoEV1",
    "JetMoe",
    "LongcatFlash",
    "NllbMoe",
    "SwitchTransformers",
)
DERIVED_ROUTERS_5 = ("Llama4", "Phimoe")
BARE_ROUTERS_4 = ("Deepseek", "Dots1", "Glm4Moe", "Glm4vMoe", "GptOss")


def replaced_kinds(facts: LoaderFacts, *, derived: bool) -> set[ParamKind]:
    """Return the kinds of parameters that are weights of nn.Linear; with `derived`, also of its
    subclasses.

    Version 5 stacks all experts into 3-D parameters, which no quantizer of a Linear touches; in
    version 4 each expert has Linears of its own.
    """
    kinds: set[ParamKind] = {"linear"} if facts.major >= 5 else {"linear", "expert"}
    named = LINEAR_ROUTERS_5 + (DERIVED_ROUTERS_5 if derived else ())
    if (
        facts.plan.cls.startswith(named)
        if facts.major >= 5
        else not facts.plan.cls.startswith(BARE_ROUTERS_4)
    ):
        kinds.add("router")
    return kinds


def linears(facts: LoaderFacts, *, conv1d: bool = False) -> Takes:
    """Return a test for the weights that transformers' quantizers replace: every Linear outside the
    skip list.

    bitsandbytes (`conv1d`) asks for nn.Linear itself or Conv1D, the others for subclasses too.
    """
    kinds = replaced_kinds(facts, derived=not conv1d)
    if conv1d:
        kinds.add("conv1d")
    skip = not_converted(facts)
    ends = tuple(end for start, end in FLOAT32_MODULES if facts.plan.cls.startswith(start))

    def takes(param: Param) -> bool:
        name = module(param)
        return param.kind in kinds and name not in skip and not (ends and name.endswith(ends))

    return takes


def checkpoint_linears(facts: LoaderFacts, *, kinds: tuple[ParamKind, ...]) -> Takes:
    """Return a test for the weights that published checkpoints quantize: the language model's
    `kinds` without its head."""
    head = is_head(facts.plan)
    tied = {p.tied for p in facts.plan.counted if p.tied}

    def takes(param: Param) -> bool:
        known = param.kind in kinds and param.name not in tied
        return known and not head(param) and not in_tower(facts.plan, param)

    return takes


def is_weight(param: Param) -> bool:
    """Return whether `param` is a weight; False for stacked biases of experts (gpt-oss)."""
    return param.kind != "experts" or not param.name.endswith("bias")


def packing(takes: Takes, pieces: Pieces, facts: LoaderFacts, *, group: int = 1) -> Pack:
    """Return a loader that quantizes the weights that `takes` accepts, if `group` divides their
    inputs; None for other parameters."""
    size = width(facts.plan)

    def pack(param: Param) -> Iterable[PackedPiece] | None:
        if not (takes(param) and is_weight(param)):
            return None
        weight = matrix(param, size)
        return None if weight.inputs % group else pieces(param, weight)

    return pack


# text on what formats with `published` do not quantize
PUBLISHED_LEFT = (
    "embeddings, norms, biases, routers, gates, the output layer and vision and audio parts stay "
    "in the model's dtype"
)
# Projections to a number a head, or to one: modules_to_not_convert of Qwen3.8-2.4T-A95B-FP8 and
# GLM-5-FP8, and what quantized_layers of nvidia/Qwen3.6-27B-NVFP4 lacks
HEADS = 128  # a projection to fewer outputs counts as one per head
A_NUMBER_A_HEAD = (
    *("linear_attn.in_proj_a", "linear_attn.in_proj_b", "linear_attn.in_proj_ba"),
    *("shared_expert_gate", "indexer.weights_proj"),
)


MATRICES: tuple[ParamKind, ...] = ("linear", "conv1d", "expert", "experts")


def published(facts: LoaderFacts) -> Takes:
    """Return a test for weight matrices that `checkpoint_linears` accepts, experts included, except
    projections to one element per head."""
    takes = checkpoint_linears(facts, kinds=MATRICES)
    return lambda param: takes(param) and not _a_number_a_head(param)


def _a_number_a_head(param: Param) -> bool:
    gate = role_of(param) == "by_head" and param.shape[0] < HEADS
    return gate or module(param).endswith(A_NUMBER_A_HEAD)


def sibling(param: Param, name: str) -> str:
    """Return the name of a tensor next to `param`: "x.weight" -> "x.name", "x.up" ->
    "x.up_name"."""
    if param.name.endswith(".weight"):
        return f"{param.name.removesuffix('weight')}{name}"
    return f"{param.name}_{name}"
