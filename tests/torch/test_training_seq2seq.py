"""Encoder-decoders: programs over shapes against the real classes."""

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

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
CLASSES = {
    "mt5": ("mt5", MT5, {"cls": "MT5ForConditionalGeneration", "head_reads": "decoder"}),
}
CASES = [
    ("mt5", {"precision": "bf16", "seq_len": 200}),
    ("mt5", {"precision": "fp32", "checkpointing": True}),
    ("mt5", {"precision": "bf16-mixed"}),
]


@pytest.mark.parametrize(
    ("name", "settings"), CASES, ids=[f"{n}-{'-'.join(map(str, s.values()))}" for n, s in CASES]
)
def test_saved_tensors_and_peaks_are_those_of_the_class(name, settings):
    model_type, config, own = CLASSES[name]
    seen = real(model_type, config, **(own | settings))
    mine = ours(model_type, config, **(own | settings))
    assert differences(seen, mine, small=SMALL) == []
