"""T5 and its relatives: mT5, UMT5, LongT5, Switch Transformers; Flan-T5 and T5 1.1 are configs.

    shared V x D; each stack: L x (self-attention; in the decoder, cross-attention; feed-forward),
    a norm before each, a final norm. Attention is N x H wide, whatever D is.

`relative_attention_bias` (buckets x N) stands in the first layer of each stack, in UMT5 in all.
T5 1.1 and its descendants say tie_word_embeddings false and store an lm_head of their own:
transformers 5 builds it tied from the config alone, and unties it when the checkpoint's two
tensors differ (modeling_utils.py tie_weights), as they do: so it counts.

Source: transformers 5.23 models/{t5,mt5,umt5,longt5,switch_transformers}/modeling_*.py.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from weighbridge.base.records import frozen_record, replace
from weighbridge.models.arch.blueprint import (
    NOT_IN_HALF,
    Family,
    Param,
    ParamRule,
    embedding,
    experts,
    linear,
    norm,
)
from weighbridge.models.arch.config import Config
from weighbridge.models.arch.heads import causal_lm, dense_project, joined, project
from weighbridge.models.arch.model_types import (
    ModelType,
)

if TYPE_CHECKING:
    from weighbridge.models.arch.mixers import Attention as Mixer
    from weighbridge.models.arch.mixers import Layer


@frozen_record
class T5Stack:
    """The encoder or the decoder of a model."""

    name: str  # "encoder" or "decoder"
    layers: int

    @property
    def crosses(self) -> bool:
        return self.name == "decoder"


FeedForward = Callable[[Config, str, T5Stack, int], Iterator[Param]]
Attention = Callable[[Config, str, T5Stack, int], Iterator[Param]]


def projections(c: Config, prefix: str) -> Iterator[Param]:
    width, inner = c.num("d_model"), c.num("num_heads") * c.num("d_kv")
    for name in "qkv":
        yield from linear(f"{prefix}{name}", inner, width)
    yield from linear(f"{prefix}o", width, inner)


def position_bias(c: Config, path: str) -> Iterator[Param]:
    yield from embedding(path, c.num("relative_attention_num_buckets"), c.num("num_heads"))


def attention(c: Config, prefix: str, stack: T5Stack, i: int) -> Iterator[Param]:
    yield from projections(c, f"{prefix}SelfAttention.")
    if i == 0:
        yield from position_bias(c, f"{prefix}SelfAttention.relative_attention_bias")


def biased_attention(c: Config, prefix: str, stack: T5Stack, i: int) -> Iterator[Param]:
    """Yield UMT5's attention, which has a position bias in every layer."""
    yield from attention(c, prefix, stack, 0)


# LongT5's encoder: encoder_attention_type -> the module
LONG = {"local": "LocalSelfAttention", "transient-global": "TransientGlobalSelfAttention"}


def long_attention(c: Config, prefix: str, stack: T5Stack, i: int) -> Iterator[Param]:
    if stack.crosses:
        yield from attention(c, prefix, stack, i)
        return
    kind = c.word("encoder_attention_type")
    if kind not in LONG:
        raise c.error("encoder_attention_type", "is.unknown", kind=kind, known=", ".join(LONG))
    path = f"{prefix}{LONG[kind]}."
    yield from projections(c, path)
    if i == 0:
        yield from position_bias(c, f"{path}relative_attention_bias")
    if kind == "transient-global":
        if i == 0:
            yield from position_bias(c, f"{path}global_relative_attention_bias")
        yield from norm(f"{path}global_input_layer_norm", c.num("d_model"))


def output(prefix: str, width: int, inner: int) -> Iterator[Param]:
    """Yield the linear `wo`, which classes keep in float32 if loaded in float16, since it overflows
    there."""
    for p in linear(f"{prefix}wo", width, inner):
        yield p._replace(dtype=NOT_IN_HALF)


def feed_forward(c: Config, prefix: str, stack: T5Stack, i: int) -> Iterator[Param]:
    width, inner, path = c.num("d_model"), c.num("d_ff"), f"{prefix}DenseReluDense."
    gated = c.flag("is_gated_act", default=c.word("feed_forward_proj").startswith("gated-"))
    for name in ("wi_0", "wi_1") if gated else ("wi",):
        yield from linear(f"{path}{name}", inner, width)
    yield from output(path, width, inner)


def two_linears(c: Config, prefix: str) -> Iterator[Param]:
    yield from linear(f"{prefix}wi", c.num("d_ff"), c.num("d_model"))
    yield from output(prefix, c.num("d_model"), c.num("d_ff"))


def is_sparse(c: Config, stack: T5Stack, i: int) -> bool:
    """Return whether layer `i` has experts: every step-th from the second on, or every layer with a
    step of 1."""
    sparse = c.num(f"num_sparse_{stack.name}_layers")
    step = stack.layers // sparse if sparse else stack.layers
    return step == 1 or (step > 0 and i % step == 1)


def switch_feed_forward(c: Config, prefix: str, stack: T5Stack, i: int) -> Iterator[Param]:
    if not is_sparse(c, stack, i):
        yield from two_linears(c, f"{prefix}mlp.")
        return
    count, router = c.num("num_experts"), f"{prefix}mlp.router.classifier"
    yield Param(f"{router}.weight", (count, c.num("d_model")), "router")
    if c.flag("router_bias"):
        yield Param(f"{router}.bias", (count,), "bias")
    yield from experts(
        f"{prefix}mlp.experts.expert_",
        lambda path: two_linears(c, f"{path}."),
        top_k=1,
        count=count,
    )


@frozen_record
class T5Variant:
    """Parts in which classes of T5's kind differ."""

    attention: Attention = attention
    feed_forward: FeedForward = feed_forward
    forced: bool = True  # the stacks share the embedding even where the config unties it


def block(c: Config, prefix: str, kind: T5Variant, stack: T5Stack, i: int) -> Iterator[Param]:
    """Yield a layer: its sublayers by number, each with a norm before it."""
    width = c.num("d_model")
    yield from kind.attention(c, f"{prefix}layer.0.", stack, i)
    if stack.crosses:
        yield from projections(c, f"{prefix}layer.1.EncDecAttention.")
    last = 1 + stack.crosses
    yield from kind.feed_forward(c, f"{prefix}layer.{last}.", stack, i)
    for sublayer in range(last + 1):
        yield from norm(f"{prefix}layer.{sublayer}.layer_norm", width)


def tower(c: Config, prefix: str, kind: T5Variant, stack: T5Stack) -> Iterator[Param]:
    path, shape = f"{prefix}{stack.name}.", (c.num("vocab_size"), c.num("d_model"))
    shares = kind.forced or c.enabled("tie_word_embeddings")
    owner = f"{prefix}shared.weight" if shares else ""
    yield Param(f"{path}embed_tokens.weight", shape, "embedding", tied=owner)
    for i in range(stack.layers):
        yield from block(c, f"{path}block.{i}.", kind, stack, i)
    yield from norm(f"{path}final_layer_norm", c.num("d_model"))


def encoder(kind: T5Variant) -> ParamRule:
    def body(c: Config, prefix: str) -> Iterator[Param]:
        c.skip("num_decoder_layers", "num_sparse_decoder_layers")  # where there is no decoder
        yield from embedding(f"{prefix}shared", c.num("vocab_size"), c.num("d_model"))
        yield from tower(c, prefix, kind, T5Stack(name="encoder", layers=c.layers("num_layers")))

    return body


def decoder(kind: T5Variant) -> ParamRule:
    def body(c: Config, prefix: str) -> Iterator[Param]:
        layers = c.layers("num_decoder_layers", default=c.layers("num_layers"))
        yield from tower(c, prefix, kind, T5Stack(name="decoder", layers=layers))

    return body


TOWERS = ("encoder.block.*", "decoder.block.*")


def family(kind: T5Variant, name: str) -> Family:
    whole = joined(encoder(kind), decoder(kind))
    bare = Family(
        body=whole,
        base="",
        heads={
            "ForConditionalGeneration": causal_lm,
            "ForQuestionAnswering": project("qa_outputs"),
        },
        blocks=TOWERS,
        ties=True,
    )
    alone = Family(
        body=encoder(kind),
        base="transformer",
        heads={"ForTokenClassification": project("classifier")},
        blocks=TOWERS[:1],
    )
    return Family(
        body=whole,
        base="transformer",
        cls=f"{name}ForConditionalGeneration",
        heads={"ForSequenceClassification": dense_project("classification_head")},
        classes={
            **dict.fromkeys(bare.heads, bare),
            **dict.fromkeys(("EncoderModel", *alone.heads), alone),
        },
        blocks=TOWERS,
    )


T5 = family(T5Variant(), "T5")
MT5 = family(T5Variant(), "MT5")
UMT5 = family(T5Variant(attention=biased_attention), "UMT5")
LONGT5 = family(T5Variant(attention=long_attention), "LongT5")
SWITCH = family(T5Variant(feed_forward=switch_feed_forward, forced=False), "SwitchTransformers")


def decoder_layers(c: Config) -> "tuple[Layer, ...]":
    """Return the decoder's layers, with self-attention and cross-attention to a text."""
    from weighbridge.models.arch.cache_layers import AttentionSizes, pairs

    heads = c.num("num_heads")
    sizes = AttentionSizes(heads, heads, c.num("d_kv"))
    count = c.layers("num_decoder_layers", default=c.num("num_layers"))
    return pairs(c, count, sizes, "text")


def heads_of_t5(c: Config, count: int) -> "Sequence[Mixer]":
    """Return the attention of each of `count` encoder layers, with the head size in the config."""
    from weighbridge.models.arch import encoders

    return (encoders.one(c.num("num_heads"), c.num("d_kv")),) * count


def heads_of_longt5(c: Config, count: int) -> "Sequence[Mixer]":
    """Return attention in blocks of radius + 1 tokens; each block sees itself and its
    neighbours."""
    near = replace(heads_of_t5(c, 1)[0], window=3 * (c.num("local_radius") + 1))
    return (near,) * count


TYPES = {
    "t5": ModelType(
        T5,
        layers=decoder_layers,
        encoder_heads=heads_of_t5,
        positions="endless",
        computes=("not_rotary", "own_softmax"),
    ),
    "mt5": ModelType(
        MT5,
        layers=decoder_layers,
        encoder_heads=heads_of_t5,
        positions="endless",
        computes=("not_rotary", "unscaled_head", "own_softmax"),
        gguf="t5",
    ),
    "umt5": ModelType(
        UMT5,
        layers=decoder_layers,
        encoder_heads=heads_of_t5,
        positions="endless",
        computes=("not_rotary", "own_softmax"),
        gguf="t5",
    ),
    "longt5": ModelType(
        LONGT5,
        layers=decoder_layers,
        encoder_heads=heads_of_longt5,
        positions="endless",
        computes=("not_rotary",),
    ),
    "switch_transformers": ModelType(
        SWITCH,
        layers=decoder_layers,
        encoder_heads=heads_of_t5,
        positions="endless",
        computes=("own_softmax",),
    ),
}
