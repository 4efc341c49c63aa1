"""Encoder-decoders: programs over shapes against the real classes."""

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

import torch

from tests.cases import each
from tests.torch.training_oracle import differences, ours, real

SMALL = 1024  # bytes below which tensors are scalars and tables
MT5 = {
    "d_model": 128,
    "d_ff": 320,
    "d_kv": 32,
    "num_layers": 2,
    "num_heads": 6,
    "vocab_size": 1000,
    "decoder_start_token_id": 0,
}
BART = {
    "d_model": 128,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 320,
    "decoder_ffn_dim": 448,
    "vocab_size": 1000,
    "max_position_embeddings": 300,
    "pad_token_id": 1,
    "encoder_layerdrop": 0.0,
    "decoder_layerdrop": 0.0,
}
MARIAN = {**BART, "pad_token_id": 999}
WHISPER = {
    **BART,
    "max_source_positions": 250,
    "max_target_positions": 300,
    "num_mel_bins": 20,
    "bos_token_id": 2,
    "eos_token_id": 2,
    "decoder_start_token_id": 2,
}
CLASSES = {
    "mt5": ("mt5", MT5, {"cls": "MT5ForConditionalGeneration", "head_reads": "decoder"}),
    "bart": ("bart", BART, {"cls": "BartForConditionalGeneration"}),
    "mbart": ("mbart", BART, {"cls": "MBartForConditionalGeneration"}),
    "m2m_100": ("m2m_100", BART, {"cls": "M2M100ForConditionalGeneration"}),
    "marian": ("marian", MARIAN, {"cls": "MarianMTModel"}),
    "pegasus": ("pegasus", BART, {"cls": "PegasusForConditionalGeneration"}),
    "whisper": ("whisper", WHISPER, {"cls": "WhisperForConditionalGeneration"}),
}
CASES = [
    ("mt5", {"precision": "bf16", "seq_len": 200}),
    ("mt5", {"precision": "fp32", "checkpointing": True}),
    ("mt5", {"precision": "bf16-mixed"}),
    ("bart", {"precision": "bf16", "seq_len": 200}),
    ("bart", {"precision": "fp32", "checkpointing": True}),
    ("bart", {"precision": "bf16-mixed", "padded": True}),
    ("bart", {"precision": "bf16-mixed", "attention": "eager"}),
    ("m2m_100", {"precision": "bf16", "checkpointing": True}),
    ("m2m_100", {"precision": "fp32", "seq_len": 200}),
    ("m2m_100", {"precision": "bf16-mixed"}),
    ("mbart", {"precision": "bf16-mixed", "checkpointing": True}),
    ("mbart", {"precision": "fp16"}),
    ("marian", {"precision": "bf16"}),
    ("marian", {"precision": "bf16-mixed"}),
    ("pegasus", {"precision": "fp32", "seq_len": 200}),
    ("pegasus", {"precision": "bf16-mixed"}),
    ("whisper", {"precision": "bf16", "seq_len": 200}),
    ("whisper", {"precision": "fp32", "checkpointing": True}),
    ("whisper", {"precision": "bf16-mixed", "attention": "eager"}),
    ("whisper", {"precision": "fp16", "kernel": "math"}),
]


def sounds(precision):
    """Features in the dtype of the weights."""
    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(precision, torch.float32)

    def inputs(batch, length, device):
        features = torch.rand(batch, 20, 500, device=device, dtype=dtype)
        labels = torch.randint(0, 100, (batch, length), device=device)
        return {"input_features": features, "labels": labels, "use_cache": False}

    return inputs


@pytest.mark.parametrize(
    ("name", "settings"),
    each(4, CASES),
    ids=[f"{n}-{'-'.join(map(str, s.values()))}" for n, s in CASES],
)
def test_saved_tensors_and_peaks_are_those_of_the_class(name, settings):
    model_type, config, own = CLASSES[name]
    inputs = sounds(settings["precision"]) if name == "whisper" else None
    seen = real(model_type, config, inputs=inputs, **(own | settings))
    mine = ours(model_type, config, **(own | settings))
    assert differences(seen, mine, small=SMALL) == []


@pytest.mark.parametrize("name", ["bart", "m2m_100", "whisper"])
def test_a_checkpointed_step_with_adapters_takes_what_ours_takes(name):
    peft = pytest.importorskip("peft")
    model_type, config, own = CLASSES[name]
    asked = {**own, "precision": "bf16-mixed", "checkpointing": True}
    lora = peft.LoraConfig(r=8, target_modules=["q_proj", "v_proj"])

    def prepare(model):
        return peft.get_peft_model(model.to(torch.bfloat16), lora)

    inputs = sounds("fp32") if name == "whisper" else None
    seen = real(model_type, config, prepare=prepare, inputs=inputs, **asked)
    more = {"method": "lora", "lora_r": 8, "lora_targets": ("q_proj", "v_proj")}
    mine = ours(model_type, config, **asked, **more)
    assert differences(seen, mine, small=SMALL) == []
