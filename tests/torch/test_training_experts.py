"""Further mixtures of experts: programs over shapes against the real classes."""

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

from tests.torch.training_oracle import differences, ours, real

SMALL = 1024  # bytes below which tensors are scalars and tables
CLOSE = 0.006
SHARED = {
    "hidden_size": 256,
    "num_hidden_layers": 2,
    "num_attention_heads": 8,
    "vocab_size": 1000,
}
EXPERTS = {"moe_intermediate_size": 192, "intermediate_size": 448, "num_experts_per_tok": 4}
GPT_OSS = {
    **SHARED,
    "intermediate_size": 192,
    "num_key_value_heads": 2,
    "head_dim": 48,
    "num_local_experts": 16,
    "num_experts_per_tok": 4,
    "sliding_window": 100,
}
CONFIGS = {"gpt_oss": GPT_OSS}
BF16 = {"precision": "bf16", "seq_len": 200}
FP32 = {"precision": "fp32", "checkpointing": True}
MIXED = {"precision": "bf16-mixed", "seq_len": 200}
AGAIN = {**MIXED, "checkpointing": True}
CASES = [
    *[("gpt_oss", {}, s) for s in (BF16, FP32, MIXED, AGAIN, {**BF16, "padded": True})],
]


@pytest.mark.parametrize(
    ("model_type", "more", "settings"),
    CASES,
    ids=[f"{name}-{'-'.join(map(str, s.values()))}-{i}" for i, (name, _, s) in enumerate(CASES)],
)
def test_saved_tensors_and_peaks_are_those_of_the_class(model_type, more, settings):
    config = CONFIGS[model_type] | more
    seen = real(model_type, config, **settings)
    mine = ours(model_type, config, **settings)
    assert differences(seen, mine, small=SMALL, close=CLOSE) == []


def test_adapters_beside_frozen_experts():
    peft = pytest.importorskip("peft")
    import torch

    names = ["q_proj", "v_proj"]

    def prepare(model):
        made = peft.LoraConfig(r=8, target_modules=names)
        return peft.get_peft_model(model.to(torch.bfloat16), made)

    seen = real("gpt_oss", GPT_OSS, prepare=prepare, **MIXED)
    mine = ours("gpt_oss", GPT_OSS, method="lora", lora_r=8, lora_targets=tuple(names), **MIXED)
    assert differences(seen, mine, small=SMALL, close=CLOSE) == []
