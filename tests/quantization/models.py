"""Blueprints for tests: published models from the keys of their configs that decide shapes."""

from functools import cache

from weighbridge.base.dtypes import BFLOAT16
from weighbridge.models.arch.blueprint import Blueprint, Param
from weighbridge.models.arch.builder import blueprint
from weighbridge.models.arch.config import Config
from weighbridge.models.quantization.schemes import scheme, stored

CONFIGS = {
    "llama-3.1-8b": {
        "model_type": "llama",
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "vocab_size": 128256,
        "tie_word_embeddings": False,
    },
    "llama-2-13b": {
        "model_type": "llama",
        "hidden_size": 5120,
        "intermediate_size": 13824,
        "num_hidden_layers": 40,
        "num_attention_heads": 40,
        "vocab_size": 32000,
        "tie_word_embeddings": False,
    },
    "qwen2.5-0.5b": {
        "model_type": "qwen2",
        "hidden_size": 896,
        "intermediate_size": 4864,
        "num_hidden_layers": 24,
        "num_attention_heads": 14,
        "num_key_value_heads": 2,
        "vocab_size": 151936,
        "tie_word_embeddings": True,
    },
    "qwen3-14b": {
        "model_type": "qwen3",
        "hidden_size": 5120,
        "intermediate_size": 17408,
        "num_hidden_layers": 40,
        "num_attention_heads": 40,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "vocab_size": 151936,
        "tie_word_embeddings": False,
    },
    "qwen-7b": {
        "model_type": "qwen",
        "architectures": ["QWenLMHeadModel"],
        "hidden_size": 4096,
        "intermediate_size": 22016,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "kv_channels": 128,
        "vocab_size": 151936,
        "no_bias": True,
        "tie_word_embeddings": False,
    },
    "qwen3-30b-a3b": {
        "model_type": "qwen3_moe",
        "hidden_size": 2048,
        "intermediate_size": 6144,
        "moe_intermediate_size": 768,
        "num_experts": 128,
        "num_experts_per_tok": 8,
        "num_hidden_layers": 48,
        "num_attention_heads": 32,
        "num_key_value_heads": 4,
        "head_dim": 128,
        "vocab_size": 151936,
        "tie_word_embeddings": False,
    },
    "gpt-oss-20b": {
        "model_type": "gpt_oss",
        "hidden_size": 2880,
        "intermediate_size": 2880,
        "num_hidden_layers": 24,
        "num_attention_heads": 64,
        "num_key_value_heads": 8,
        "head_dim": 64,
        "num_local_experts": 32,
        "num_experts_per_tok": 4,
        "vocab_size": 201088,
        "attention_bias": True,
        "tie_word_embeddings": False,
    },
    "deepseek-v3": {
        "model_type": "deepseek_v3",
        "hidden_size": 7168,
        "intermediate_size": 18432,
        "moe_intermediate_size": 2048,
        "num_hidden_layers": 61,
        "num_attention_heads": 128,
        "num_key_value_heads": 128,
        "q_lora_rank": 1536,
        "kv_lora_rank": 512,
        "qk_nope_head_dim": 128,
        "qk_rope_head_dim": 64,
        "v_head_dim": 128,
        "n_routed_experts": 256,
        "n_shared_experts": 1,
        "num_experts_per_tok": 8,
        "first_k_dense_replace": 3,
        "vocab_size": 129280,
        "tie_word_embeddings": False,
    },
}


@cache
def model(name: str) -> Blueprint:
    return blueprint(Config(CONFIGS[name]))


def plan(*params: Param, cls: str = "LlamaForCausalLM", blocks=("model.layers.*",), **more):
    return Blueprint(cls=cls, params=params, blocks=blocks, **more)


def one(outputs: int, inputs: int, kind="linear", name="model.layers.0.mlp.up_proj.weight"):
    """A model of one embedding, one weight and a norm behind it."""
    shape = (inputs, outputs) if kind == "conv1d" else (outputs, inputs)
    return plan(
        Param("model.embed_tokens.weight", (7, 256), "embedding"),
        Param(name, shape, kind),
        Param("model.norm.weight", (5,), "norm"),
    )


def total(what: Blueprint, name: str, dtype=BFLOAT16, transformers: int = 5) -> int:
    found = stored(what, scheme(name), dtype=dtype, transformers=transformers)
    return sum(t.nbytes for t in found)


def pieces(what: Blueprint, name: str, source: str, dtype=BFLOAT16, transformers: int = 5):
    """{end of the name: (dtype, shape)} of what `name` stores of one parameter."""
    found = stored(what, scheme(name), dtype=dtype, transformers=transformers)
    at = source.removesuffix("weight")
    return {t.name.removeprefix(at): (t.dtype.name, t.shape) for t in found if t.source == source}


def packed(what: Blueprint, name: str, transformers: int = 5) -> set[str]:
    """Parameters that are not left alone in bfloat16."""
    found = stored(what, scheme(name), dtype=BFLOAT16, transformers=transformers)
    whole = {p.name: p.shape for p in what.params}
    return {t.source for t in found if t.dtype is not BFLOAT16 or t.shape != whole[t.source]}
