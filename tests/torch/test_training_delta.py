"""Hybrids of attention and other mixers of tokens: programs over shapes against real classes."""

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

from tests.cases import each
from tests.torch.training_oracle import differences, ours, real

SMALL = 1024  # bytes below which tensors are scalars and tables

ATTENTION = {
    "hidden_size": 192,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 64,
    "vocab_size": 1000,
}
DELTA = {
    **ATTENTION,
    "layer_types": ["linear_attention", "full_attention"],
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 24,
    "linear_value_head_dim": 40,
}
MOE = {
    "moe_intermediate_size": 96,
    "shared_expert_intermediate_size": 80,
    "num_experts": 16,
    "num_experts_per_tok": 4,
}
QWEN3_NEXT = {**DELTA, **MOE, "intermediate_size": 320}
QWEN3_5 = {**DELTA, "intermediate_size": 320}
QWEN3_5_MOE = {**DELTA, **MOE}
LFM2 = {
    "hidden_size": 192,
    "intermediate_size": 480,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "layer_types": ["conv", "full_attention", "conv"],
    "vocab_size": 1000,
}
LFM2_MOE = {
    **LFM2,
    "moe_intermediate_size": 64,
    "num_experts": 8,
    "num_experts_per_tok": 4,
    "num_dense_layers": 1,
}
RECURRENT = {
    "hidden_size": 192,
    "intermediate_size": 640,
    "num_hidden_layers": 2,
    "num_attention_heads": 6,
    "num_key_value_heads": 1,
    "lru_width": 240,
    "attention_window_size": 50,
    "block_types": ["recurrent", "attention"],
    "vocab_size": 1000,
}
EVEN = {"linear_num_key_heads": 4}  # keys and queries are not repeated
CASES = [
    ("qwen3_next", QWEN3_NEXT, {"precision": "bf16", "seq_len": 450}),
    ("qwen3_next", QWEN3_NEXT, {"precision": "fp32", "seq_len": 128}),
    ("qwen3_next", QWEN3_NEXT, {"precision": "fp32", "padded": True}),
    ("qwen3_next", QWEN3_NEXT, {"precision": "bf16-mixed", "checkpointing": True}),
    ("qwen3_5_text", QWEN3_5, {"precision": "bf16", "checkpointing": True}),
    ("qwen3_5_text", QWEN3_5, {"precision": "bf16-mixed", "seq_len": 450}),
    ("qwen3_5_text", {**QWEN3_5, **EVEN}, {"precision": "fp32", "batch_size": 1, "seq_len": 448}),
    ("qwen3_5_moe_text", QWEN3_5_MOE, {"precision": "bf16"}),
    ("lfm2", LFM2, {"precision": "bf16"}),
    ("lfm2", LFM2, {"precision": "fp32", "checkpointing": True, "padded": True}),
    ("lfm2", {**LFM2, "conv_bias": True}, {"precision": "bf16-mixed"}),
    ("lfm2_moe", LFM2_MOE, {"precision": "bf16-mixed"}),
    ("lfm2_moe", {**LFM2_MOE, "use_expert_bias": False}, {"precision": "bf16"}),
    ("lfm2_moe", LFM2_MOE, {"precision": "fp32", "checkpointing": True}),
    ("recurrent_gemma", RECURRENT, {"precision": "bf16", "seq_len": 70}),
    ("recurrent_gemma", RECURRENT, {"precision": "fp32", "seq_len": 30}),
    ("recurrent_gemma", RECURRENT, {"precision": "bf16-mixed", "seq_len": 30}),
    ("recurrent_gemma", RECURRENT, {"precision": "bf16", "seq_len": 70, "checkpointing": True}),
]


def names(cases):
    return [f"{name}-{'-'.join(map(str, s.values()))}-{i}" for i, (name, _, s) in enumerate(cases)]


@pytest.mark.parametrize(("model_type", "config", "settings"), each(4, CASES), ids=names(CASES))
def test_saved_tensors_and_peaks_are_those_of_the_class(model_type, config, settings):
    settings = {"seq_len": 200, **settings}
    seen = real(model_type, config, **settings)
    mine = ours(model_type, config, **settings)
    assert differences(seen, mine, small=SMALL) == []


def test_the_class_with_images_is_the_same_without_them():
    vision = {"depth": 2, "hidden_size": 64, "intermediate_size": 96, "num_heads": 4}
    vision |= {"out_hidden_size": 192, "num_position_embeddings": 64}
    config = {"text_config": QWEN3_5, "vision_config": vision}
    settings = {"cls": "Qwen3_5ForConditionalGeneration", "seq_len": 100}
    found = differences(
        real("qwen3_5", config, **settings), ours("qwen3_5", config, **settings), small=SMALL
    )
    assert found == []


def test_a_step_with_adapters_on_delta_layers():
    peft = pytest.importorskip("peft")
    targets = ["q_proj", "in_proj_qkvz", "in_proj_ba", "out_proj"]
    settings = {"precision": "bf16", "seq_len": 200}

    def adapted(model):
        return peft.get_peft_model(model, peft.LoraConfig(r=8, target_modules=targets))

    seen = real("qwen3_next", QWEN3_NEXT, prepare=adapted, **settings)
    mine = ours(
        "qwen3_next", QWEN3_NEXT, method="lora", lora_r=8, lora_targets=tuple(targets), **settings
    )
    assert differences(seen, mine, small=SMALL) == []


def test_an_inverse_row_by_row_saves_what_torch_saves():
    """Transformers before 5.17 made clones of each row and of what is before it."""
    import torch

    from weighbridge.base.dtypes import FLOAT32
    from weighbridge.memory.components.activations import Heap
    from weighbridge.training.forward.machine import Machine
    from weighbridge.training.forward.ops.scans import substituted

    seen = {}

    def pack(t):
        seen[t.untyped_storage().data_ptr()] = t
        return t

    start = torch.rand(2, 3, 64, 64, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        a = start * 1
        seen.clear()
        for i in range(1, 64):
            row, before = a[..., i, :i].clone(), a[..., :i, :i].clone()
            a[..., i, :i] = row + (row.unsqueeze(-1) * before).sum(-2)
    m = Machine(Heap())
    kept = m.heap.live("activations")
    out = substituted(m, m.param("a", (2, 3, 64, 64), FLOAT32))
    saved = m.heap.live("activations") - kept
    assert out.shape == (2, 3, 64, 64)
    assert saved == sum(t.untyped_storage().nbytes() for t in seen.values())
