"""BERT and the encoders that keep its layer: ERNIE, LayoutLM, BigBird, ELECTRA, RoFormer, DPR.

    embeddings  V x E words, P x E positions, T x E segments, norm
    L layers    query, key, value, output D x D; norm; D x F, F x D; norm     (all with bias)
    pooler      D x D, only in the classes that classify whole sequences

The whole-sequence classes hold the pooler and the others do not: so BertForMaskedLM is smaller
than BertModel by it. Source: transformers 5.23 models/<type>/modeling_<type>.py.
"""

from collections.abc import Iterator, Mapping

from weighbridge.models.arch.blueprint import (
    Family,
    Param,
    ParamRule,
    affine,
    embedding,
    layer_norm,
    linear,
)
from weighbridge.models.arch.config import Config
from weighbridge.models.arch.heads import (
    dense_project,
    ids,
    joined,
    pooler,
    prediction_head,
    predictions,
    project,
    summary,
    tied,
)
from weighbridge.models.arch.model_types import ModelType

IDS = ids("position_ids", "token_type_ids")
LAYERS = ("encoder.layer.*",)
WORDS = "embeddings.word_embeddings.weight"
UNUSED = (  # in configs of Google's first Chinese BERT, and read by no class
    "pooler_num_attention_heads",
    "pooler_num_fc_layers",
    "pooler_size_per_head",
)
PLANES = ("x", "y", "h", "w")  # LayoutLM: where a word stands on the page, and its size


def attention(
    c: Config, prefix: str, *, qkv_bias: bool = True, suffix: str = ""
) -> Iterator[Param]:
    width = c.num("hidden_size")
    for name in ("query", "key", "value"):
        yield from linear(f"{prefix}self.{name}{suffix}", width, width, bias=qkv_bias)


def attention_output(c: Config, prefix: str) -> Iterator[Param]:
    width = c.num("hidden_size")
    yield from affine(f"{prefix}output.dense", width, width)
    yield from layer_norm(f"{prefix}output.LayerNorm", width)


def feed_forward(c: Config, prefix: str) -> Iterator[Param]:
    width, inner = c.num("hidden_size"), c.num("intermediate_size")
    yield from affine(f"{prefix}intermediate.dense", inner, width)
    yield from affine(f"{prefix}output.dense", width, inner)
    yield from layer_norm(f"{prefix}output.LayerNorm", width)


def crosses(c: Config) -> bool:
    """Return whether the layers have cross-attention. Raises an error if a class that is no decoder
    asks for it."""
    crossing = c.flag("add_cross_attention")
    if crossing and not c.flag("is_decoder"):
        raise c.error("add_cross_attention", "is.without_decoder")
    return crossing


def layer(c: Config, prefix: str) -> Iterator[Param]:
    paths = ("attention", "crossattention") if crosses(c) else ("attention",)
    for path in paths:
        yield from attention(c, f"{prefix}{path}.", qkv_bias=c.enabled("use_bias"))
        yield from attention_output(c, f"{prefix}{path}.")
    yield from feed_forward(c, prefix)


def encoder(c: Config, prefix: str) -> Iterator[Param]:
    for i in range(c.layers("num_hidden_layers")):
        yield from layer(c, f"{prefix}encoder.layer.{i}.")


def words(c: Config, prefix: str, width: int) -> Iterator[Param]:
    """Yield the token and segment embeddings and their norm, which all these classes have."""
    c.skip("num_attention_heads", "projection_dim", *UNUSED)
    yield from embedding(f"{prefix}embeddings.word_embeddings", c.num("vocab_size"), width)
    yield from embedding(
        f"{prefix}embeddings.token_type_embeddings", c.num("type_vocab_size"), width
    )
    yield from layer_norm(f"{prefix}embeddings.LayerNorm", width)


def positions(c: Config, prefix: str, width: int) -> Iterator[Param]:
    rows = c.num("max_position_embeddings")
    yield from embedding(f"{prefix}embeddings.position_embeddings", rows, width)


def embeddings(c: Config, prefix: str) -> Iterator[Param]:
    yield from words(c, prefix, c.num("hidden_size"))
    yield from positions(c, prefix, c.num("hidden_size"))


def ernie_tasks(c: Config, prefix: str) -> Iterator[Param]:
    if c.flag("use_task_id"):
        rows = c.num("task_type_vocab_size")
        yield from embedding(f"{prefix}embeddings.task_type_embeddings", rows, c.num("hidden_size"))


def layout_positions(c: Config, prefix: str) -> Iterator[Param]:
    rows = c.num("max_2d_position_embeddings")
    for plane in PLANES:
        path = f"{prefix}embeddings.{plane}_position_embeddings"
        yield from embedding(path, rows, c.num("hidden_size"))


def embedding_size(c: Config) -> int:
    """Return the token embedding's width; ELECTRA's and RoFormer's may be below the hidden size."""
    return c.num("embedding_size", default=c.num("hidden_size"))


def embeddings_project(c: Config, prefix: str) -> Iterator[Param]:
    width, hidden = embedding_size(c), c.num("hidden_size")
    if width != hidden:
        yield from affine(f"{prefix}embeddings_project", hidden, width)


def electra(c: Config, prefix: str) -> Iterator[Param]:
    yield from words(c, prefix, embedding_size(c))
    yield from positions(c, prefix, embedding_size(c))
    yield from embeddings_project(c, prefix)
    yield from encoder(c, prefix)


def electra_generator(c: Config, prefix: str) -> Iterator[Param]:
    width = embedding_size(c)
    yield from layer_norm(f"{prefix}generator_predictions.LayerNorm", width)
    yield from affine(f"{prefix}generator_predictions.dense", width, c.num("hidden_size"))
    head = f"{prefix}generator_lm_head"
    params = affine(head, c.num("vocab_size"), width)
    yield from tied(c, params, {f"{head}.weight": f"{prefix}electra.{WORDS}"})


def roformer(c: Config, prefix: str) -> Iterator[Param]:
    """Yield RoFormer's parameters; rotary positions are a table of sines, [positions, head
    size]."""
    yield from words(c, prefix, embedding_size(c))
    yield from embeddings_project(c, prefix)
    rows = c.num("max_position_embeddings")
    size = c.num("hidden_size") // max(1, c.num("num_attention_heads"))
    yield from embedding(f"{prefix}encoder.embed_positions", rows, size)
    yield from encoder(c, prefix)


def roformer_lm(c: Config, prefix: str) -> Iterator[Param]:
    prefix, owner = f"{prefix}cls.predictions.", f"{prefix}roformer.{WORDS}"
    yield from prediction_head(c, prefix, owner, width=embedding_size(c))


def big_bird_pooler(c: Config, prefix: str) -> Iterator[Param]:
    yield from affine(f"{prefix}pooler", c.num("hidden_size"), c.num("hidden_size"))


def big_bird_spans(c: Config, prefix: str) -> Iterator[Param]:
    yield from feed_forward(c, f"{prefix}qa_classifier.")
    yield from project("qa_classifier.qa_outputs", 2)(c, prefix)


def dpr_projection(parent: str) -> ParamRule:
    def body(c: Config, prefix: str) -> Iterator[Param]:
        if size := c.num("projection_dim", default=0):
            yield from affine(f"{prefix}{parent}encode_proj", size, c.num("hidden_size"))

    return body


def dpr_reader(c: Config, prefix: str) -> Iterator[Param]:
    yield from dpr_projection("span_predictor.encoder.")(c, prefix)
    width = c.num("projection_dim", default=0) or c.num("hidden_size")
    yield from affine(f"{prefix}span_predictor.qa_outputs", 2, width)
    yield from affine(f"{prefix}span_predictor.qa_classifier", 1, width)


def pair_heads(base: str) -> dict[str, ParamRule]:
    """Return the heads of the classes with a pooler, in BERT and ERNIE."""
    relation = project("cls.seq_relationship", 2)
    return {
        "ForPreTraining": joined(predictions(f"{base}.{WORDS}"), relation),
        "ForNextSentencePrediction": relation,
        "ForMultipleChoice": project("classifier", 1),
        "ForSequenceClassification": project("classifier"),
    }


def token_heads(base: str) -> dict[str, ParamRule]:
    """Return the heads of the classes without a pooler."""
    lm = predictions(f"{base}.{WORDS}")
    return {
        "ForMaskedLM": lm,
        "LMHeadModel": lm,
        "ForCausalLM": lm,
        "ForTokenClassification": project("classifier"),
        "ForQuestionAnswering": project("qa_outputs"),
    }


def pooled(
    stack: ParamRule,
    base: str,
    cls: str,
    heads: Mapping[str, ParamRule],
    bare: Mapping[str, ParamRule],
) -> Family:
    """Return a family in which the classes of `heads` have a pooler and those of `bare` do not."""
    without = Family(body=stack, base=base, heads=bare, buffers=IDS, blocks=BLOCKS[base])
    return Family(
        body=joined(stack, pooler),
        base=base,
        cls=cls,
        heads=heads,
        classes=dict.fromkeys(bare, without),
        buffers=IDS,
        blocks=BLOCKS[base],
    )


BLOCKS = {"bert": ("embeddings", *LAYERS), "ernie": LAYERS}
SEQUENCE = dense_project("classifier")
CHOICE, TOKENS, SPANS = project("classifier", 1), project("classifier"), project("qa_outputs")

BERT = pooled(
    joined(embeddings, encoder),
    base="bert",
    cls="BertModel",
    heads=pair_heads("bert"),
    bare=token_heads("bert"),
)
ERNIE = pooled(
    joined(embeddings, ernie_tasks, encoder),
    base="ernie",
    cls="ErnieModel",
    heads=pair_heads("ernie"),
    bare=token_heads("ernie"),
)
LAYOUTLM = Family(
    body=joined(embeddings, layout_positions, encoder, pooler),
    base="layoutlm",
    cls="LayoutLMModel",
    heads={
        "ForMaskedLM": predictions(f"layoutlm.{WORDS}"),
        "ForSequenceClassification": TOKENS,
        "ForTokenClassification": TOKENS,
        "ForQuestionAnswering": SPANS,
    },
    buffers=ids("position_ids"),
    blocks=(),
)
BIG_BIRD = Family(
    body=joined(embeddings, encoder, big_bird_pooler),
    base="bert",
    cls="BigBirdModel",
    heads={
        "ForPreTraining": pair_heads("bert")["ForPreTraining"],
        "ForMaskedLM": predictions(f"bert.{WORDS}"),
        "ForCausalLM": predictions(f"bert.{WORDS}"),
        "ForMultipleChoice": CHOICE,
        "ForSequenceClassification": SEQUENCE,
        "ForTokenClassification": TOKENS,
    },
    classes={
        "ForQuestionAnswering": Family(
            body=joined(embeddings, encoder),
            base="bert",
            heads={"ForQuestionAnswering": big_bird_spans},
            buffers=IDS,
            blocks=(),
        )
    },
    buffers=IDS,
    blocks=(),
)
ELECTRA = Family(
    body=electra,
    base="electra",
    cls="ElectraModel",
    heads={
        "ForPreTraining": dense_project(
            "discriminator_predictions", ("dense", "dense_prediction"), 1
        ),
        "ForMaskedLM": electra_generator,
        "ForCausalLM": electra_generator,
        "ForMultipleChoice": joined(summary, CHOICE),
        "ForSequenceClassification": SEQUENCE,
        "ForTokenClassification": TOKENS,
        "ForQuestionAnswering": SPANS,
    },
    buffers=IDS,
    blocks=(),
)
ROFORMER = Family(
    body=roformer,
    base="roformer",
    cls="RoFormerModel",
    heads={
        "ForMaskedLM": roformer_lm,
        "ForCausalLM": roformer_lm,
        "ForMultipleChoice": joined(summary, CHOICE),
        "ForSequenceClassification": SEQUENCE,
        "ForTokenClassification": TOKENS,
        "ForQuestionAnswering": project("qa_outputs", 2),
    },
    blocks=(),
)


def dpr(base: str, suffix: str, head: ParamRule) -> Family:
    return Family(
        body=joined(embeddings, encoder),
        base=f"{base}bert_model",
        cls="DPRContextEncoder",
        stems=("DPR",),
        heads={suffix: head},
        buffers=IDS,
        blocks=BLOCKS["bert"],
    )


_CONTEXT = dpr("ctx_encoder.", "ContextEncoder", dpr_projection("ctx_encoder."))
DPR = Family(
    body=_CONTEXT.body,
    base=_CONTEXT.base,
    cls=_CONTEXT.cls,
    stems=("DPR",),
    heads=_CONTEXT.heads,
    classes={
        "QuestionEncoder": dpr(
            "question_encoder.", "QuestionEncoder", dpr_projection("question_encoder.")
        ),
        "Reader": dpr("span_predictor.encoder.", "Reader", dpr_reader),
    },
    buffers=IDS,
    blocks=_CONTEXT.blocks,
)

TYPES = {
    "bert": ModelType(
        BERT,
        no_cache="encoder",
        decodes=True,
        computes=("not_rotary", "norms_behind", "buffered_positions", "own_softmax"),
    ),
    "ernie": ModelType(
        ERNIE, no_cache="encoder", decodes=True, computes=("norms_behind", "own_softmax")
    ),
    "layoutlm": ModelType(LAYOUTLM, no_cache="encoder", computes=("norms_behind",)),
    "big_bird": ModelType(BIG_BIRD, no_cache="encoder", gguf="none"),
    "electra": ModelType(
        ELECTRA,
        no_cache="encoder",
        decodes=True,
        computes=(
            "not_rotary",
            "norms_behind",
            "buffered_positions",
            "gelu_classifier",
            "own_softmax",
        ),
        gguf="none",
    ),
    "roformer": ModelType(ROFORMER, no_cache="encoder", computes=("own_softmax",)),
    "dpr": ModelType(DPR, no_cache="encoder"),
}
