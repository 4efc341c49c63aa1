"""Programs of frameworks and of classes that nobody recorded: shapes fit (conftest.py)."""

import pytest

from tests.torch.training_oracle import settled
from weighbridge.training.run import run

WIDE = {"num_hidden_layers": 2, "num_attention_heads": 8, "vocab_size": 512}
LLAMA = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 128,
    "intermediate_size": 384,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    **WIDE,
}
MHA = {**LLAMA, "num_key_value_heads": 8}
MPT = {"d_model": 128, "n_heads": 8, "n_layers": 2, "vocab_size": 512, "max_seq_len": 512}
FEW = {"num_local_experts": 8, "num_experts_per_tok": 2}
LORA = {"method": "lora"}
TWO = {"gpu": "h100:2"}


def of(kind, cls, config):
    return {"model_type": kind, "architectures": [cls], **config}


CASES = (
    *((LLAMA, {"framework": "litgpt", **more}) for more in ({}, LORA, {"checkpointing": "full"})),
    (MHA, {"framework": "litgpt"}),
    ({**LLAMA, "num_key_value_heads": 1}, {"framework": "litgpt", "attention": "math"}),
    *((LLAMA, {"framework": "torchtune", **more}) for more in ({}, LORA, {"loss": "standard"})),
    (LLAMA, {"framework": "torchtitan"}),
    (LLAMA, {"framework": "torchtitan", **TWO, "shard": "fsdp2"}),
    (LLAMA, {"framework": "torchtitan", **TWO, "tensor_parallel_size": 2}),
    *((LLAMA, {"framework": "unsloth", **LORA, "checkpointing": c}) for c in ("none", "offload")),
    (LLAMA, {"framework": "trl", "loss": "trl"}),
    (LLAMA, {"framework": "trainer", "loss": "liger"}),
    (LLAMA, {"framework": "axolotl", **LORA}),
    *((LLAMA, {**TWO, "shard": shard}) for shard in ("fsdp2", "zero2", "zero3", "ddp")),
    ({**LLAMA, **FEW, "head_dim": 16, **of("llama4_text", "Llama4ForCausalLM", {})}, {}),
    ({**LLAMA, **FEW, **of("mixtral", "MixtralForCausalLM", {})}, {}),
    *((of("mpt", "MptForCausalLM", {**MPT, "attn_config": a}), {}) for a in ({}, {"clip_qkv": 6})),
)


@pytest.mark.parametrize(("config", "said"), CASES)
def test_shapes_fit(asserted, all_read, config, said):
    asked = {"batch_size": 2, "seq_len": 64, **said}
    if "framework" not in said:
        asked["precision"] = "bf16"
    assert run(settled(config, **asked)).moments
