"""GPT-J and CodeGen: attention and MLP side by side after one norm; lm_head with a bias.

    GPT-J q, k, v, out D x D      CodeGen qkv 3 D x D, out D x D      both fc_in, fc_out with bias

Both keep a table of sines in every layer, P x R (R: rotary_dim, or D). MOSS 003 is CodeGen under
another name. Source: transformers 5.23 models/{gptj,codegen}/modeling_*.py.
"""

from collections.abc import Iterator, Mapping
from functools import partial

from weighbridge.arch.blueprint import Buffer, Family, Param, embedding, linear, norm
from weighbridge.arch.config import Config
from weighbridge.arch.decoder import alike
from weighbridge.arch.heads import DECODER_HEADS, labels
from weighbridge.arch.model_types import (
    NEVER,
    ModelType,
    TrainingFacts,
    TransformersFacts,
    VllmFacts,
)
from weighbridge.arch.modules import Decoder, Submodules, multi_head, normed, submodule, ungated
from weighbridge.arch.windows import layer_kinds

SEPARATE = {"k_proj": 1, "v_proj": 1, "q_proj": 1}  # rows in widths of the model
TOGETHER = {"qkv_proj": 3}


def layer(c: Config, qkv: Mapping[str, int]) -> Submodules:
    width = c.num("n_embd")
    inner = c.num("n_inner", default=4 * width)
    return (
        normed(width, "ln_1", bias=True),
        submodule(
            *(linear(f"attn.{name}", times * width, width) for name, times in qkv.items()),
            linear("attn.out_proj", width, width),
            mixer=multi_head(c.num("n_head"), width),
        ),
        ungated("mlp", width, inner, names=("fc_in", "fc_out"), bias=True),
    )


def decoder(c: Config, qkv: Mapping[str, int]) -> Decoder:
    width = c.num("n_embd")
    c.skip("rotary_dim")
    return Decoder(
        width=width,
        first=tuple(embedding("wte", c.num("vocab_size"), width)),
        layers=alike(c, lambda: layer(c, qkv), "n_layer"),
        last=tuple(norm("ln_f", width, bias=True)),
        path="h.",
        kinds=layer_kinds,
    )


def sines(c: Config, at: str) -> Iterator[Buffer]:
    shape = (c.num("n_positions"), c.num("rotary_dim") or c.num("n_embd"))
    for i in range(c.layers("n_layer")):
        yield Buffer(f"{at}h.{i}.attn.embed_positions", shape, "float32")


def biased_lm(c: Config, at: str) -> Iterator[Param]:
    yield from linear(f"{at}lm_head", c.num("vocab_size"), c.num("n_embd"), bias=True)


def spans(c: Config, at: str) -> Iterator[Param]:
    """Yield the head for spans of text: an output for each label, 2 unless the config says
    otherwise."""
    yield from linear(f"{at}qa_outputs", labels(c), c.num("n_embd"), bias=True)


GPTJ = Family(
    tree=partial(decoder, qkv=SEPARATE),
    base="transformer",
    cls="GPTJForCausalLM",
    heads={**DECODER_HEADS, "ForCausalLM": biased_lm, "ForQuestionAnswering": spans},
    buffers=sines,
    blocks=("h.*",),
)
CODEGEN = Family(
    tree=partial(decoder, qkv=TOGETHER),
    base="transformer",
    cls="CodeGenForCausalLM",
    heads={"ForCausalLM": biased_lm},
    buffers=sines,
    blocks=("h.*",),
)
MOSS = Family(
    tree=partial(decoder, qkv=TOGETHER),
    base="transformer",
    cls="MossForCausalLM",
    heads={"ForCausalLM": biased_lm},
    blocks=("h.*",),
)

TYPES = {
    "codegen": ModelType(
        CODEGEN,
        computes=("parallel", "own_softmax", "wide_queries", "lingering_scores"),
        training=TrainingFacts(lora=("qkv_proj",)),
        transformers=TransformersFacts(caches=(4, 45), last_logits=(5, 0), sdpa=NEVER),
    ),
    "gptj": ModelType(
        GPTJ,
        computes=("parallel", "own_softmax", "wide_queries", "lingering_scores"),
        gguf="none",
        training=TrainingFacts(net="gpt.gptj", lora=("q_proj", "v_proj"), litgpt="parallel"),
        transformers=TransformersFacts(caches=(4, 45), last_logits=(5, 0), sdpa=NEVER),
        vllm=VllmFacts(every_stage="both"),
    ),
    "moss": ModelType(MOSS),
}
