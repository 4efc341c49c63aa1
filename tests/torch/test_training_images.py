"""Images in a training step: towers that are read by their parameters, against LLaVA; and the text
layers of Qwen's models with towers, tensor by tensor."""

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

import torch

from tests.torch.training_oracle import differences, ours, real

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


THREE = {
    **TEXT,
    "head_dim": 32,
    "rope_parameters": {
        "rope_type": "default",
        "rope_theta": 10000.0,
        "mrope_section": [4, 6, 6],
    },
}
QWEN = [
    ("qwen2_vl", "Qwen2VLForConditionalGeneration", {"embed_dim": 64, "hidden_size": 128}),
    (
        "qwen2_5_vl",
        "Qwen2_5_VLForConditionalGeneration",
        {"hidden_size": 64, "intermediate_size": 128, "out_hidden_size": 128},
    ),
    (
        "qwen3_vl",
        "Qwen3VLForConditionalGeneration",
        {"hidden_size": 64, "intermediate_size": 128, "out_hidden_size": 128},
    ),
]


@pytest.mark.parametrize(
    "settings",
    [
        {"precision": "bf16"},
        {"precision": "fp32", "checkpointing": True},
        {"precision": "bf16-mixed"},
    ],
    ids=str,
)
@pytest.mark.parametrize(("kind", "cls", "vision"), QWEN, ids=[kind for kind, *_ in QWEN])
def test_text_alone_through_classes_that_see(kind, cls, vision, settings):
    text = {k: v for k, v in THREE.items() if k != "model_type"}
    config = {
        "text_config": text,
        "vision_config": {"depth": 2, "num_heads": 4, **vision},
        "tie_word_embeddings": False,
    }
    more = {"cls": cls, "seq_len": 200, **settings}
    seen = real(kind, config, head_reads="model", **more)
    assert differences(seen, ours(kind, config, **more), small=4096, close=0.006) == []
