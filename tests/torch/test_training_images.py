"""Images in a training step: towers that are read by their parameters, against LLaVA."""

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

import torch

from tests.torch.training_oracle import ours, real

TEXT = {
    "model_type": "llama",
    "hidden_size": 128,
    "intermediate_size": 352,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 1000,
}
VISION = {
    "model_type": "clip_vision_model",
    "hidden_size": 192,
    "intermediate_size": 576,
    "num_hidden_layers": 5,
    "num_attention_heads": 6,
    "image_size": 224,
    "patch_size": 14,
    "projection_dim": 64,
}
LLAVA = {
    "text_config": TEXT,
    "vision_config": VISION,
    "image_token_index": 999,
    "vision_feature_layer": -1,
}
PATCHES = 256


def with_image(batch, length, device):
    ids = torch.randint(0, 100, (batch, length), device=device)
    ids[:, 1 : 1 + PATCHES] = 999
    pixels = torch.zeros(batch, 3, 224, 224, device=device)
    return {"input_ids": ids, "labels": ids.clone(), "pixel_values": pixels, "use_cache": False}


@pytest.mark.parametrize("checkpointing", [None, True])
@pytest.mark.parametrize("precision", ["bf16", "bf16-mixed", "fp32"])
def test_a_step_with_an_image_takes_what_the_class_takes(precision, checkpointing):
    more = {"precision": precision, "seq_len": 320, "checkpointing": checkpointing}
    cls = "LlavaForConditionalGeneration"
    seen = real("llava", LLAVA, cls=cls, inputs=with_image, head_reads="model", **more)
    mine = ours("llava", LLAVA, cls=cls, images=1, **more)
    without = ours("llava", LLAVA, cls=cls, **more)
    for phase, there in seen.peaks().items():
        assert mine.peaks()[phase] == pytest.approx(there, rel=0.07), phase
    assert without.peaks()["forward"] < mine.peaks()["forward"]
