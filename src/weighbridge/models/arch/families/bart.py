"""BART and the encoder-decoders built alike: mBART, M2M-100 (NLLB), Marian, Pegasus, Blenderbot,
LED, FSMT.

    shared V x D; encoder and decoder each: positions, L layers, norms
    layer: q, k, v, out D x D; fc1 F x D, fc2 D x F; the decoder attends to the encoder as well

They differ in their positions (learned, or sines kept as a frozen parameter or as a buffer; with
two rows to spare in BART) and in the norms after the embedding and after the last layer.

Source: transformers 5.23 models/<type>/modeling_<type>.py.
"""

from collections.abc import Iterator
from functools import partial

from weighbridge.base.records import frozen_record, replace
from weighbridge.models.arch.blueprint import (
    Buffer,
    Family,
    Param,
    ParamRule,
    affine,
    embedding,
    layer_norm,
    linear,
)
from weighbridge.models.arch.config import Config
from weighbridge.models.arch.heads import Buffers, causal_lm, dense_project, joined, labels, project
from weighbridge.models.arch.model_types import ModelType

IDLE = (  # heads only split a projection; the encoder's keys are idle where it is not built
    "encoder_attention_heads",
    "decoder_attention_heads",
    "num_hidden_layers",
    "encoder_layers",
    "decoder_layers",
    "encoder_ffn_dim",
    "decoder_ffn_dim",
    "vocab_size",
    "attention_window",
)
BLOCKS = ("encoder.layers.*", "decoder.layers.*")


@frozen_record
class BartVariant:
    """Switches in which classes of BART's kind differ; the defaults are BART's."""

    spare: int = 0  # rows of positions beyond the configured number
    in_buffer: bool = False  # positions are computed and not a parameter
    embedding_norm: bool = False
    final_norm: bool = False
    k_bias: bool = True
    long: bool = False  # LED: the encoder attends as Longformer does
    positions: tuple[str, str] = ("max_position_embeddings", "max_position_embeddings")


def attention(c: Config, prefix: str, kind: BartVariant) -> Iterator[Param]:
    width = c.num("d_model")
    for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
        bias = kind.k_bias or name != "k_proj"
        yield from linear(f"{prefix}.{name}", width, width, bias=bias)
    yield from layer_norm(f"{prefix}_layer_norm", width)


def long_attention(c: Config, prefix: str) -> Iterator[Param]:
    width, path = c.num("d_model"), f"{prefix}.longformer_self_attn."
    for name in ("query", "key", "value"):
        yield from affine(f"{path}{name}", width, width)
        yield from affine(f"{path}{name}_global", width, width)
    yield from affine(f"{prefix}.output", width, width)
    yield from layer_norm(f"{prefix}_layer_norm", width)


def layer(c: Config, prefix: str, kind: BartVariant, half: str) -> Iterator[Param]:
    width, inner = c.num("d_model"), c.num(f"{half}_ffn_dim")
    if kind.long and half == "encoder":
        yield from long_attention(c, f"{prefix}self_attn")
    else:
        yield from attention(c, f"{prefix}self_attn", kind)
    if half == "decoder":
        yield from attention(c, f"{prefix}encoder_attn", kind)
    yield from affine(f"{prefix}fc1", inner, width)
    yield from affine(f"{prefix}fc2", width, inner)
    yield from layer_norm(f"{prefix}final_layer_norm", width)


def rows(c: Config, kind: BartVariant, half: str) -> int:
    return c.num(kind.positions[half == "decoder"]) + kind.spare


def tower(c: Config, prefix: str, kind: BartVariant, half: str) -> Iterator[Param]:
    """Yield one `half` (encoder or decoder) of the model, without its token embedding."""
    path, width = f"{prefix}{half}.", c.num("d_model")
    c.skip(*IDLE)
    if not kind.in_buffer:
        yield from embedding(f"{path}embed_positions", rows(c, kind, half), width)
    for i in range(c.layers(f"{half}_layers")):
        yield from layer(c, f"{path}layers.{i}.", kind, half)
    if kind.embedding_norm:
        yield from layer_norm(f"{path}layernorm_embedding", width)
    if kind.final_norm:
        yield from layer_norm(f"{path}layer_norm", width)


def words(c: Config, prefix: str) -> Iterator[Param]:
    """Yield the shared token embedding, and the embedding of each half, tied to it unless the
    config unties them."""
    count, width = c.num("vocab_size"), c.num("d_model")
    owner = f"{prefix}shared.weight" if c.enabled("tie_word_embeddings") else ""
    yield from embedding(f"{prefix}shared", count, width)
    for half in ("encoder", "decoder"):
        path = f"{prefix}{half}.embed_tokens.weight"
        yield Param(path, (count, width), "embedding", tied=owner)


def marian_words(c: Config, prefix: str) -> Iterator[Param]:
    """Yield Marian's token embeddings: one shared table, or without `shared` one per language."""
    if c.enabled("share_encoder_decoder_embeddings"):
        yield from words(c, prefix)
        return
    yield from embedding(f"{prefix}encoder.embed_tokens", c.num("vocab_size"), c.num("d_model"))
    yield from embedding(f"{prefix}decoder.embed_tokens", decoder_vocabulary(c), c.num("d_model"))


def decoder_vocabulary(c: Config) -> int:
    return c.num("decoder_vocab_size", default=c.num("vocab_size"))


def marian_target(c: Config) -> int:
    shared = c.enabled("share_encoder_decoder_embeddings")
    return c.num("vocab_size") if shared else decoder_vocabulary(c)


def marian_lm(c: Config, prefix: str) -> Iterator[Param]:
    untied = not c.enabled("share_encoder_decoder_embeddings")
    ties = untied and c.enabled("tie_word_embeddings")
    owner = f"{prefix}model.decoder.embed_tokens.weight" if ties else ""
    yield Param(f"{prefix}lm_head.weight", (marian_target(c), c.num("d_model")), tied=owner)


def towers(kind: BartVariant) -> ParamRule:
    def body(c: Config, prefix: str) -> Iterator[Param]:
        for half in ("encoder", "decoder"):
            yield from tower(c, prefix, kind, half)

    return body


def decoder(kind: BartVariant, *, own_words: bool = False) -> ParamRule:
    """Return a rule for the decoder of a ForCausalLM class, without the encoder. With `own_words`,
    it has as many embedding rows as the decoder's own vocabulary."""

    def body(c: Config, prefix: str) -> Iterator[Param]:
        count = decoder_vocabulary(c) if own_words else c.num("vocab_size")
        yield from embedding(f"{prefix}decoder.embed_tokens", count, c.num("d_model"))
        yield from tower(c, prefix, kind, "decoder")

    return body


def bart_classifier(c: Config, prefix: str) -> Iterator[Param]:
    """Yield the classifier, with three labels if the config names none: BART was tuned on MNLI."""
    named = c.has("id2label") or c.has("num_labels")
    yield from dense_project("classification_head", size=labels(c) if named else 3)(c, prefix)


def sines(kind: BartVariant, *halves: str) -> Buffers:
    def buffers(c: Config, prefix: str) -> Iterator[Buffer]:
        for half in halves if kind.in_buffer else ():
            shape = (rows(c, kind, half), c.num("d_model"))
            yield Buffer(f"{prefix}{half}.embed_positions.weights", shape, "")

    return buffers


def final_logits_bias(c: Config, prefix: str) -> Iterator[Buffer]:
    """Yield `final_logits_bias`: zeros as wide as the vocabulary, stored in the checkpoint."""
    yield Buffer("final_logits_bias", (1, marian_target(c)), "", persistent=True)


def decoder_lm(base: str) -> ParamRule:
    """Return a rule for the `lm_head` of a class with only the decoder, tied to the decoder's
    embedding."""

    def body(c: Config, prefix: str) -> Iterator[Param]:
        ties = c.enabled("tie_word_embeddings")
        owner = f"{prefix}{base}.decoder.embed_tokens.weight" if ties else ""
        yield Param(f"{prefix}lm_head.weight", (c.num("vocab_size"), c.num("d_model")), tied=owner)

    return body


def alone(kind: BartVariant, blocks: tuple[str, ...], base: str = "model") -> Family:
    """Return the family of ForCausalLM classes, which hold the decoder but no encoder."""
    return Family(
        body=decoder(kind),
        base=base,
        heads={"ForCausalLM": decoder_lm(base)},
        buffers=sines(kind, "decoder"),
        blocks=tuple(b for b in blocks if b.startswith("decoder")),
    )


def family(
    kind: BartVariant, name: str, *, blocks: tuple[str, ...] = (), base: str = "model"
) -> Family:
    """Return the family of BART's kind; only ForConditionalGeneration has `final_logits_bias`."""
    whole = joined(words, towers(kind))
    generator = Family(
        body=whole,
        base=base,
        heads={"ForConditionalGeneration": causal_lm},
        buffers=final_logits_bias,
        blocks=blocks,
    )
    return Family(
        body=whole,
        base=base,
        cls=f"{name}ForConditionalGeneration",
        heads={
            "ForSequenceClassification": dense_project("classification_head"),
            "ForQuestionAnswering": project("qa_outputs", 2),
        },
        classes={"ForConditionalGeneration": generator, "ForCausalLM": alone(kind, blocks, base)},
        blocks=blocks,
    )


def fsmt(c: Config, prefix: str) -> Iterator[Param]:
    """Yield FSMT's parameters: one vocabulary per language, and sines as a parameter, which begins
    with the rows up to the padding token."""
    kind = BartVariant(spare=c.num("pad_token_id", default=1) + 1)
    width, target = c.num("d_model"), c.num("tgt_vocab_size")
    owner = f"{prefix}decoder.embed_tokens.weight"
    tied = owner if c.flag("tie_word_embeddings") else ""
    shape = (c.num("src_vocab_size"), width)
    yield from embedding(f"{prefix}decoder.embed_tokens", target, width)
    yield Param(f"{prefix}encoder.embed_tokens.weight", shape, "embedding", tied=tied)
    yield Param(f"{prefix}decoder.output_projection.weight", (target, width), tied=tied)
    yield from towers(kind)(c, prefix)


def nothing(c: Config, prefix: str) -> Iterator[Param]:
    """Yield no parameters: the class adds none to the base model."""
    yield from ()


LEARNED = BartVariant(spare=2, embedding_norm=True)
BART = replace(
    family(LEARNED, "Bart", blocks=BLOCKS),
    heads={
        "ForSequenceClassification": bart_classifier,
        "ForQuestionAnswering": project("qa_outputs", 2),
    },
)
MBART = family(BartVariant(spare=2, embedding_norm=True, final_norm=True), "MBart", blocks=BLOCKS)
PEGASUS = family(BartVariant(final_norm=True), "Pegasus")
BLENDERBOT = family(BartVariant(final_norm=True), "Blenderbot")
BLENDERBOT_SMALL = family(BartVariant(embedding_norm=True), "BlenderbotSmall")
LED = family(
    BartVariant(
        embedding_norm=True,
        long=True,
        positions=("max_encoder_position_embeddings", "max_decoder_position_embeddings"),
    ),
    "LED",
    base="led",
)
SINES = BartVariant(spare=2, in_buffer=True, final_norm=True)
M2M_100 = Family(
    body=joined(words, towers(SINES)),
    cls="M2M100ForConditionalGeneration",
    heads={"ForConditionalGeneration": causal_lm},
    buffers=sines(SINES, "encoder", "decoder"),
    blocks=BLOCKS,
)
_MARIAN = Family(
    body=joined(marian_words, towers(BartVariant())),
    heads={"MTModel": marian_lm},
    buffers=final_logits_bias,
    blocks=(),
)
MARIAN = Family(
    body=_MARIAN.body,
    cls="MarianMTModel",
    stems=("Marian",),
    classes={
        "MTModel": _MARIAN,
        "ForCausalLM": replace(
            alone(BartVariant(), ()), body=decoder(BartVariant(), own_words=True)
        ),
    },
    blocks=(),
)
FSMT = Family(
    body=fsmt,
    cls="FSMTForConditionalGeneration",
    heads={"ForConditionalGeneration": nothing},
    blocks=(),
)

_reads = partial(
    ModelType, layers="beside_text", heads_key="encoder_attention_heads", width_key="d_model"
)
TYPES = {
    "bart": _reads(
        BART,
        computes=("not_rotary", "norms_behind", "own_softmax"),
        gguf="none",
    ),
    "mbart": _reads(
        MBART,
        computes=("not_rotary", "own_softmax"),
        gguf="none",
    ),
    "m2m_100": _reads(
        M2M_100,
        computes=("not_rotary", "unbiased_logits", "own_softmax"),
        gguf="none",
    ),
    "marian": _reads(
        MARIAN,
        computes=("not_rotary", "norms_behind", "own_softmax"),
        gguf="none",
    ),
    "pegasus": _reads(
        PEGASUS,
        computes=("not_rotary", "own_softmax"),
        gguf="none",
    ),
    "blenderbot": _reads(
        BLENDERBOT,
        computes=("not_rotary", "own_softmax"),
        gguf="none",
    ),
    "blenderbot-small": _reads(
        BLENDERBOT_SMALL,
        computes=("not_rotary", "norms_behind", "own_softmax"),
    ),
    "led": ModelType(
        LED,
        layers="beside_text",
        encoder_heads="window_by_layer",
        computes=("own_softmax",),
        gguf="none",
    ),
    "fsmt": _reads(
        FSMT,
        computes=("own_softmax",),
    ),
}
