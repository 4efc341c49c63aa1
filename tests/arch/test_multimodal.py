"""Models that see or hear, without torch: published counts, edges worked by hand, laws over every
made-up config of `tests/torch/cases_multimodal.py`, and the names of published indexes."""

import json
import re
from collections import Counter
from fnmatch import fnmatchcase

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.arch.published_multimodal import PUBLISHED
from tests.cases import all_of
from tests.corpus import MODELS
from tests.torch.cases_multimodal import CASES
from tests.torch.cases_towers import VIT
from tests.torch.cases_vision import CLIP_IN, LLAMA, LLAVA, QWEN_TEXT, QWEN_TOWER
from weighbridge.base.errors import BadFileError, UnsupportedError
from weighbridge.models.arch.builder import blueprint
from weighbridge.models.arch.config import Config

LABELS = {"language model", "vision tower", "audio tower", "projector", "mask decoder"}


def weigh(model_type, cls, config):
    return blueprint(Config({"model_type": model_type, "architectures": [cls], **config}))


def by_part(plan):
    counts = Counter()
    for p in plan.params:
        if not p.tied:
            counts[plan.part(p.name)] += p.numel
    return counts


def names(plan):
    return {p.name for p in plan.params}


# Published numbers


@all_of("model", PUBLISHED)
def test_published_counts(model):
    model_type, cls, config, parameters = PUBLISHED[model]
    assert weigh(model_type, cls, config).parameters == parameters


def test_the_tower_of_llava_is_clip_l_336():
    plan = weigh(*PUBLISHED["llava-hf/llava-1.5-13b-hf"][:3])
    assert by_part(plan)["vision tower"] == 303_507_456  # openai/clip-vit-large-patch14-336
    assert by_part(plan)["projector"] == 1024 * 5120 + 5120 + 5120 * 5120 + 5120


# Edges, by hand


def test_clip_counts_one_position_more_than_patches():
    config = {**CLIP_IN, "image_size": 32, "patch_size": 8, "hidden_size": 24}
    shapes = {p.name: p.shape for p in weigh("clip_vision_model", "CLIPVisionModel", config).params}
    assert shapes["vision_model.embeddings.position_embedding.weight"] == (4 * 4 + 1, 24)


def test_an_image_that_no_patch_divides_loses_its_rest():
    plan = weigh("vit", "ViTModel", {**VIT, "image_size": 33, "patch_size": 8})
    shapes = {p.name: p.shape for p in plan.params}
    assert shapes["embeddings.position_embeddings"] == (1, 4 * 4 + 1, 24)


def test_pooler_only_without_a_head():
    assert "pooler.dense.weight" in names(weigh("vit", "ViTModel", VIT))
    assert not [n for n in names(weigh("vit", "ViTForImageClassification", VIT)) if "pooler" in n]


def test_checkpoint_names_of_llava():
    plan = weigh("llava", "LlavaForConditionalGeneration", LLAVA)
    assert {
        "language_model.model.embed_tokens.weight",
        "language_model.lm_head.weight",
        "vision_tower.vision_model.pre_layrnorm.weight",
        "multi_modal_projector.linear_1.weight",
    } <= names(plan)
    bare = weigh("llava", "LlavaModel", LLAVA)
    assert "language_model.embed_tokens.weight" in names(bare)
    assert "language_model.layers.*" in bare.blocks


def test_two_feature_layers_widen_the_projector():
    one = weigh("llava", "LlavaForConditionalGeneration", LLAVA)
    two = weigh(
        "llava", "LlavaForConditionalGeneration", {**LLAVA, "vision_feature_layer": [-1, 1]}
    )
    assert two.parameters - one.parameters == 24 * 32  # tower's width x language model's


def test_ties_of_the_language_model_count():
    config = {**LLAVA, "text_config": {**LLAMA, "tie_word_embeddings": True}}
    plan = weigh("llava", "LlavaForConditionalGeneration", config)
    heads = [p for p in plan.params if p.name == "language_model.lm_head.weight"]
    assert [p.tied for p in heads] == ["language_model.model.embed_tokens.weight"]


def test_early_qwen2_vl_has_the_text_keys_outside():
    nested = {"text_config": QWEN_TEXT, "vision_config": {**QWEN_TOWER, "embed_dim": 24}}
    flat = {**QWEN_TEXT, "vision_config": {**QWEN_TOWER, "embed_dim": 24}}
    cls = "Qwen2VLForConditionalGeneration"
    assert weigh("qwen2_vl", cls, flat).params == weigh("qwen2_vl", cls, nested).params


def test_an_absent_tower_of_gemma4_holds_nothing():
    case = next(c for c in CASES if c[0] == "gemma4" and "vision_config" not in c[2])
    assert set(by_part(weigh(*case))) == {"language model"}


def test_an_unknown_release_of_minicpmv_is_refused():
    model_type, cls, config, _ = PUBLISHED["openbmb/MiniCPM-V-2_6"]
    with pytest.raises(BadFileError, match=r"version is '9\.9'.*4\.5"):
        weigh(model_type, cls, {**config, "version": "9.9"})


def test_a_language_model_that_is_only_named_is_not_guessed():
    config = {"audio_config": {}, "hidden_size": 64, "text_model_id": "meta-llama/Llama-3.1-8B"}
    with pytest.raises(BadFileError, match=r"text_config is missing.*meta-llama"):
        weigh("ultravox", "UltravoxModel", config)


def test_an_unknown_language_model_is_named():
    with pytest.raises(UnsupportedError, match="'made_up'"):
        weigh("llava", "LlavaModel", {**LLAVA, "text_config": {"model_type": "made_up"}})


@all_of(
    ("model_type", "cls", "config"),
    [
        ("resnet", "ResNetModel", {"hidden_sizes": [8, 16], "depths": [1]}),
        ("swin", "SwinModel", {"depths": []}),
        ("vit", "ViTModel", {"patch_size": [1, 2, 3]}),
        ("internvl", "InternVLModel", {"downsample_ratio": 0}),
        ("segformer", "SegformerModel", {"mlp_ratios": ["a"] * 4}),
        ("florence2", "Florence2Model", {"vision_config": {"depths": [1]}}),
        ("gemma3n", "Gemma3nModel", {"audio_config": {"sscp_conv_kernel_size": [3, 3]}}),
        ("vit", "ViTModel", {"num_hidden_layers": 10**6}),
    ],
)
def test_contradictory_configs_are_refused(model_type, cls, config):
    with pytest.raises(BadFileError):
        weigh(model_type, cls, config)


def test_a_nested_config_is_remembered_as_read():
    c = Config({"model_type": "llava", **LLAVA})
    assert c.sub("vision_config") is c.sub("vision_config")
    blueprint(c)
    assert not [key for key in c.unread() if "hidden_size" in key or "num_hidden_layers" in key]


# Laws, over every made-up config


def label(case):
    return case[1]


@all_of("case", CASES, ids=label)
def test_a_whole_is_its_parts(case):
    plan = weigh(*case)
    counts = by_part(plan)
    assert sum(counts.values()) == plan.parameters
    assert set(counts) <= LABELS
    used = {plan.part(name) for name in names(plan)}
    assert {what for _, what in plan.parts if what == "projector"} <= used | {"projector"}


@all_of("case", CASES, ids=label)
def test_names_are_unique_and_views_point_at_owners(case):
    plan = weigh(*case)
    counted = Counter(p.name for p in plan.params)
    assert [n for n, k in counted.items() if k > 1] == []
    owners = {p.name: p for p in plan.params if not p.tied}
    for p in plan.params:
        if p.tied:
            assert owners[p.tied].shape == p.shape


@all_of("case", CASES, ids=label)
def test_blocks_are_modules_that_hold_something(case):
    plan = weigh(*case)
    held = {n.rsplit(".", i)[0] for n in names(plan) for i in range(1, n.count(".") + 1)}
    for pattern in plan.blocks:
        if "projector" not in pattern:
            assert any(fnmatchcase(module, pattern) for module in held), pattern


@all_of("case", [c for c in CASES if {"text_config", "vision_config"} <= set(c[2])], ids=label)
def test_a_layer_of_the_language_model_changes_no_tower(case):
    model_type, cls, config = case
    if "num_hidden_layers" not in config["text_config"] or "layer_types" in config["text_config"]:
        pytest.skip("its layers are listed one by one")
    count = config["text_config"]["num_hidden_layers"]
    more = {**config, "text_config": {**config["text_config"], "num_hidden_layers": count + 1}}
    before, after = by_part(weigh(*case)), by_part(weigh(model_type, cls, more))
    assert before["vision tower"] == after["vision tower"]


@pytest.mark.slow
@given(st.integers(1, 40), st.integers(1, 8), st.integers(1, 64))
def test_positions_grow_with_the_area_of_an_image(side, patch, heads):
    width = 4 * heads
    config = {**VIT, "hidden_size": width, "image_size": side * patch, "patch_size": patch}
    config["num_attention_heads"] = 1
    one = weigh("siglip_vision_model", "SiglipVisionModel", config)
    config["image_size"] = 2 * side * patch
    two = weigh("siglip_vision_model", "SiglipVisionModel", config)
    assert two.parameters - one.parameters == 3 * side**2 * width


# The names of published indexes

INDEXES = {
    "Qwen__Qwen2.5-VL-7B-Instruct": (),
    "allenai__olmOCR-7B-0225-preview": (),
    "google__medgemma-27b-it": ("language_model.lm_head.weight",),  # tied
    "google__gemma-4-31B-it": ("lm_head.weight",),  # tied
    "Qwen__Qwen3-VL-Embedding-8B": ("lm_head.weight",),  # an embedding model stores no head
    "liuhaotian__llava-v1.5-7b": (),
    "adept__fuyu-8b": (),
    "openbmb__MiniCPM-V": (),
    "openbmb__MiniCPM-V-2": (),
    "openbmb__MiniCPM-Llama3-V-2_5": (),
    "reubzdubz__Molmo-7B-D-0924-NF4": (),
}
STORED = re.compile(r"rotary_emb\.inv_freq$|\.(absmax|quant_map|quant_state\..*)$")


@all_of("model", INDEXES)
def test_names_are_those_of_the_published_index(model):
    files = list((MODELS / model).glob("*.index.json"))
    if not files:
        pytest.skip(f"the corpus of real configs is not at {MODELS}")
    plan = blueprint(Config(json.loads((MODELS / model / "config.json").read_text())))
    held = names(plan) | {b.name for b in plan.buffers if b.persistent}
    stored = {n for n in json.loads(files[0].read_text())["weight_map"] if not STORED.search(n)}
    assert held - stored == set(INDEXES[model])
    assert stored - held == set()
