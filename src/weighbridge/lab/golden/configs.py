"""Configs of the golden programs in code: no file is read, and no weights are downloaded.

The sizes are those of published models of a billion parameters or less, or a few layers of larger
ones.
"""

from collections.abc import Callable
from typing import Any

import transformers


def _llama() -> Any:
    """Make the config of Llama 3.2 1B: 1,235,814,400 parameters."""
    return transformers.LlamaConfig(
        vocab_size=128256,
        hidden_size=2048,
        intermediate_size=8192,
        num_hidden_layers=16,
        num_attention_heads=32,
        num_key_value_heads=8,
        head_dim=64,
        max_position_embeddings=131072,
        rope_parameters={"rope_type": "default", "rope_theta": 500000.0},
        tie_word_embeddings=True,
    )


def _qwen3() -> Any:
    """Make the config of Qwen3 0.6B."""
    return transformers.Qwen3Config(
        vocab_size=151936,
        hidden_size=1024,
        intermediate_size=3072,
        num_hidden_layers=28,
        num_attention_heads=16,
        num_key_value_heads=8,
        head_dim=128,
        tie_word_embeddings=True,
    )


def _gemma3() -> Any:
    """Make the config of Gemma 3 1B: five layers with a window of 512 to one without."""
    return transformers.Gemma3TextConfig(
        vocab_size=262144,
        hidden_size=1152,
        intermediate_size=6912,
        num_hidden_layers=26,
        num_attention_heads=4,
        num_key_value_heads=1,
        head_dim=256,
        sliding_window=512,
    )


def _mixtral() -> Any:
    """Make a config with eight experts, two for a token."""
    return transformers.MixtralConfig(
        vocab_size=32000,
        hidden_size=1024,
        intermediate_size=3584,
        num_hidden_layers=6,
        num_attention_heads=16,
        num_key_value_heads=8,
    )


def _qwen3_moe() -> Any:
    """Make a config with many small experts: 64, eight for a token."""
    return transformers.Qwen3MoeConfig(
        vocab_size=32000,
        hidden_size=1024,
        num_hidden_layers=6,
        num_attention_heads=16,
        num_key_value_heads=4,
        head_dim=64,
        num_experts=64,
        num_experts_per_tok=8,
        moe_intermediate_size=512,
    )


def _deepseek() -> Any:
    """Make a config with multi-head latent attention, and experts from the second layer on."""
    return transformers.DeepseekV3Config(
        vocab_size=32000,
        hidden_size=1024,
        intermediate_size=2816,
        moe_intermediate_size=512,
        num_hidden_layers=6,
        num_attention_heads=16,
        num_key_value_heads=16,
        n_routed_experts=16,
        num_experts_per_tok=4,
        n_group=4,
        topk_group=2,
        first_k_dense_replace=1,
        q_lora_rank=384,
        kv_lora_rank=256,
        qk_nope_head_dim=64,
        qk_rope_head_dim=32,
        v_head_dim=64,
    )


def _mamba() -> Any:
    """Make the config of Mamba 130M, a third of its layers: without its kernels it goes token by
    token."""
    return transformers.MambaConfig(
        vocab_size=50280, hidden_size=768, num_hidden_layers=8, state_size=16
    )


CONFIGS: dict[str, Callable[[], Any]] = {
    "gpt2": transformers.GPT2Config,  # 124 M
    "llama": _llama,
    "qwen3": _qwen3,
    "gemma3": _gemma3,
    "mixtral": _mixtral,
    "qwen3-moe": _qwen3_moe,
    "deepseek": _deepseek,
    "mamba": _mamba,
}
