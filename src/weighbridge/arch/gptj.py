"""GPT-J and CodeGen: attention and MLP side by side after one norm; lm_head with a bias.

    GPT-J q, k, v, out D x D      CodeGen qkv 3 D x D, out D x D      both fc_in, fc_out with bias

Both keep a table of sines in every layer, P x R (R: rotary_dim, or D). MOSS 003 is CodeGen under
another name. Source: transformers 5.23 models/{gptj,codegen}/modeling_*.py.
"""

from collections.abc import Callable, Iterator
from functools import partial

from weighbridge.arch.blueprint import Buffer, Family, Param, embedding, linear, norm
from weighbridge.arch.config import Config
from weighbridge.arch.heads import DECODER_HEADS, labels


def separate(at: str, width: int) -> Iterator[Param]:
    for name in ("k_proj", "v_proj", "q_proj"):
        yield from linear(f"{at}{name}", width, width)


def together(at: str, width: int) -> Iterator[Param]:
    yield from linear(f"{at}qkv_proj", 3 * width, width)


def decoder(c: Config, at: str, qkv: Callable[[str, int], Iterator[Param]]) -> Iterator[Param]:
    width = c.num("n_embd")
    inner = c.num("n_inner", default=4 * width)
    c.skip("n_head", "rotary_dim")
    yield from embedding(f"{at}wte", c.num("vocab_size"), width)
    for i in range(c.layers("n_layer")):
        here = f"{at}h.{i}."
        yield from norm(f"{here}ln_1", width, bias=True)
        yield from qkv(f"{here}attn.", width)
        yield from linear(f"{here}attn.out_proj", width, width)
        yield from linear(f"{here}mlp.fc_in", inner, width, bias=True)
        yield from linear(f"{here}mlp.fc_out", width, inner, bias=True)
    yield from norm(f"{at}ln_f", width, bias=True)


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
    body=partial(decoder, qkv=separate),
    base="transformer",
    cls="GPTJForCausalLM",
    heads={**DECODER_HEADS, "ForCausalLM": biased_lm, "ForQuestionAnswering": spans},
    buffers=sines,
    blocks=("h.*",),
)
CODEGEN = Family(
    body=partial(decoder, qkv=together),
    base="transformer",
    cls="CodeGenForCausalLM",
    heads={"ForCausalLM": biased_lm},
    buffers=sines,
    blocks=("h.*",),
)
MOSS = Family(
    body=partial(decoder, qkv=together),
    base="transformer",
    cls="MossForCausalLM",
    heads={"ForCausalLM": biased_lm},
    blocks=("h.*",),
)
