"""Language models of transformers: from a config, on the device, without weights. They are
trained, or generate with each kind of cache: a prompt, then token by token.
"""

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
import transformers
from transformers import (
    AutoModelForCausalLM,
    BertConfig,
    BertForMaskedLM,
    T5Config,
    T5ForConditionalGeneration,
    WhisperConfig,
    WhisperForConditionalGeneration,
)

from weighbridge_lab.golden import phase, steps
from weighbridge_lab.golden.nets import OPTIMIZERS

# Generation

NEW = 8  # tokens


def causal_model(config: str, device: str, dtype: str, attention: str | None = None) -> Any:
    """Return a model on the device, loaded as with `device_map=`. By default, attention is the
    class's own choice."""
    with torch.device(device):
        return AutoModelForCausalLM.from_config(
            CONFIGS[config](), dtype=getattr(torch, dtype), attn_implementation=attention
        )


def causal(
    device: str,
    *,
    config: str,
    dtype: str = "bfloat16",
    optimizer: str = "adamw",
    rows: int = 2,
    tokens: int = 512,
    **options: Any,
) -> None:
    """Train a causal model. `options`: autocast (a dtype), attention, checkpointing (what
    `gradient_checkpointing_enable` takes), batches (per step)."""
    phase("load")
    model = causal_model(config, device, dtype, options.get("attention"))
    model.train()
    if "checkpointing" in options:
        model.gradient_checkpointing_enable(options["checkpointing"])
    chosen = OPTIMIZERS[optimizer](model.parameters())
    cast = options.get("autocast")
    for _ in steps():
        for _ in range(options.get("batches", 1)):
            ids = torch.randint(0, model.config.vocab_size, (rows, tokens), device=device)
            with torch.autocast(device, getattr(torch, cast)) if cast else nullcontext():
                loss = model(input_ids=ids, labels=ids, use_cache=False).loss
            loss.backward()
        chosen.step()
        chosen.zero_grad()
    phase("infer")
    with torch.no_grad():
        model.eval()(input_ids=ids)


def bert(device: str, *, optimizer: str) -> None:
    """Train bert-base-cased, with the head that it was trained with."""
    phase("load")
    model = BertForMaskedLM(BertConfig(vocab_size=28996)).to(device)
    chosen = OPTIMIZERS[optimizer](model.parameters())
    for _ in steps():
        ids = torch.randint(0, 28996, (8, 128), device=device)
        mask = torch.ones_like(ids)
        chosen.zero_grad()
        model(input_ids=ids, attention_mask=mask, labels=ids).loss.backward()
        chosen.step()
    phase("infer")
    with torch.no_grad():
        model.eval()(input_ids=ids, attention_mask=mask)


def t5(device: str) -> None:
    """Train T5 small."""
    phase("load")
    model = T5ForConditionalGeneration(T5Config(decoder_start_token_id=0)).to(device)
    optimizer = OPTIMIZERS["adafactor"](model.parameters())
    for _ in steps():
        ids = torch.randint(0, 32128, (8, 256), device=device)
        labels = torch.randint(0, 32128, (8, 64), device=device)
        optimizer.zero_grad()
        model(input_ids=ids, labels=labels).loss.backward()
        optimizer.step()
    phase("infer")
    with torch.no_grad():
        model.eval().generate(ids, max_new_tokens=4, eos_token_id=None)


def whisper(device: str) -> None:
    """Train Whisper tiny: two convolutions over 30 seconds of sound, then T5's shape."""
    phase("load")
    model = WhisperForConditionalGeneration(WhisperConfig()).to(device)
    optimizer = OPTIMIZERS["adamw"](model.parameters())
    for _ in steps():
        sound = torch.randn(4, 80, 3000, device=device)
        ids = torch.randint(0, 50000, (4, 64), device=device)
        optimizer.zero_grad()
        model(input_features=sound, labels=ids).loss.backward()
        optimizer.step()


def generate(
    device: str,
    *,
    config: str,
    dtype: str = "bfloat16",
    rows: int = 4,
    prompt: int = 512,
    **options: Any,
) -> None:
    """Generate 8 tokens. `options`: cache (an implementation by name), beams, padded (rows of
    different lengths, so that attention gets a mask)."""
    phase("load")
    model = causal_model(config, device, dtype).eval()
    ids = torch.randint(0, model.config.vocab_size, (rows, prompt), device=device)
    mask = torch.ones_like(ids)
    if "padded" in options:
        mask[0, : prompt // 2] = 0
    phase("generate")
    model.generate(
        ids,
        attention_mask=mask,
        max_new_tokens=NEW,
        do_sample=False,
        num_beams=options.get("beams", 1),
        cache_implementation=options.get("cache"),
        eos_token_id=None,
        pad_token_id=0,
        disable_compile=True,
    )


# Configs: sizes are those of published models of a billion parameters or less, or of a few layers


def _llama() -> Any:
    """Return the config of Llama 3.2 1B: 1,235,814,400 parameters."""
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
    """Return the config of Qwen3 0.6B."""
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
    """Return the config of Gemma 3 1B: five layers with a window of 512 per full one."""
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
    """Return a config with eight experts, two per token."""
    return transformers.MixtralConfig(
        vocab_size=32000,
        hidden_size=1024,
        intermediate_size=3584,
        num_hidden_layers=6,
        num_attention_heads=16,
        num_key_value_heads=8,
    )


def _qwen3_moe() -> Any:
    """Return a config with many small experts: 64, eight per token."""
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
    """Return a config with multi-head latent attention, and experts from the second layer on."""
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
    """Return the config of Mamba 130M with a third of its layers: without its kernels it computes
    token by token."""
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
