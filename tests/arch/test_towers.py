"""Towers: what an image or a sound takes, by hand and by what is published of each family."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.arch.test_bodies import of, plan_of
from tests.cases import all_of
from tests.torch import cases_multimodal
from weighbridge.models.arch.body import Dense
from weighbridge.models.arch.config import Config
from weighbridge.models.arch.inputs import images, sounds
from weighbridge.models.arch.inputs.sizes import ImageSize
from weighbridge.models.arch.model_types import all_types
from weighbridge.models.arch.towers import IMAGE, SECONDS, looks, towers
from weighbridge.models.catalogue import find

SIGLIP = {"model_type": "siglip_vision_model", "patch_size": 14}
CLIP = {"model_type": "clip_vision_model", "patch_size": 14, "image_size": 336}


def seen(raw, **kind):
    plan, config = plan_of(raw)
    return towers(plan, config, **kind)


def ruled(rule, size, tower, whole=()):
    return tuple(rule(Config(dict(whole)), Config(tower), ImageSize(*size)))


def heard(rule, seconds, tower=(), whole=()):
    return tuple(rule(Config(dict(whole)), Config(dict(tower)), seconds))


# Which tower there is


@pytest.mark.slow
def test_the_tower_of_llava():
    (one,) = seen(find("llava-1.5-7b").config)
    assert (one.kind, one.hidden, one.heads, one.head_dim) == ("image", 1024, 16, 64)
    assert (one.layers, one.feed) == (24, Dense(width=4096, gated=False))
    assert (one.positions, one.tokens, one.patch) == (577, 576, 3 * 14 * 14)


def test_a_tower_in_two_halves():
    """Mllama: 32 layers and 8 more; four tiles of 1,601 positions, padded to eights."""
    (one,) = seen(find("llama-3.2-11b-vision").config)
    assert (one.layers, one.positions, one.tokens) == (40, 4 * 1608, 4 * 1601)


def test_a_tower_that_merges():
    (one,) = seen(find("qwen2.5-vl-7b").config, image_size=(1036, 1036))
    assert (one.layers, one.hidden, one.positions, one.tokens) == (32, 1280, 74**2, 37**2)
    assert (one.feed, one.patch) == (Dense(width=3420), 2 * 3 * 14 * 14)


def test_ears_beside_eyes():
    raw = {"model_type": "gemma3n"}
    eyes, ears = seen(raw)
    assert (eyes.kind, eyes.tokens, eyes.layers) == ("image", 256, 0)
    assert (ears.kind, ears.tokens, ears.layers, ears.heads) == ("audio", 188, 12, 8)


@pytest.mark.parametrize("model_type", ["whisper", "speech_to_text", "seamless_m4t_v2", "speecht5"])
def test_the_encoder_alone_is_the_tower(model_type):
    raw = {"model_type": model_type}
    found = of(raw)
    (ears,) = found.towers
    assert ears.layers == len(found.encoder.blocks) or model_type == "seamless_m4t_v2"
    assert ears.heads == found.encoder.blocks[0].mixers[0].heads


def test_the_language_model_of_one_that_sees():
    assert seen(find("gemma-3-1b").config) == ()
    text = {**find("gemma-3-4b").config["text_config"], "model_type": "gemma3_text"}
    assert seen(text) == ()


@pytest.mark.parametrize("model_type", ["llama", "bert", "mamba"])
def test_text_alone_has_no_tower(model_type):
    assert seen({"model_type": model_type}) == ()


def test_headers_alone_have_none():
    plan, _ = plan_of({"model_type": "llava"})
    assert towers(plan, None) == ()


def test_every_rule_is_there_and_for_a_model_that_we_know():
    for model_type, known in all_types().items():
        if looks(model_type) or known.seen_by:
            assert known.family is not None, model_type
            assert all(callable(look.rule) for look in looks(model_type))


@all_of("case", cases_multimodal.CASES, ids=lambda case: f"{case[0]}-{case[1]}")
def test_towers_of_small_models(case):
    """A class whose parts name a tower has one, but for those listed."""
    model_type, cls, raw = case
    plan, config = plan_of({**raw, "model_type": model_type}, cls)
    labels = {label for _, label in plan.parts}
    found = towers(plan, config)
    if "vision tower" in labels and model_type not in UNKNOWN:
        prefixes = tuple(path for path, label in plan.parts if label == "vision tower")
        held = any(p.name.startswith(prefixes) for p in plan.params)
        assert [t.kind for t in found].count("image") == held


# How many positions these take is not in our tables: codes of a picture, other authors' crops.
UNKNOWN = {"emu3", "molmo", "deepseek_vl_v2"}


# The usual sizes


def test_the_default_image_and_sound():
    assert (IMAGE, SECONDS) == ((1024, 1024), 30.0)
    raw = find("qwen2.5-vl-7b").config
    assert seen(raw) == seen(raw, image_size=(1024, 1024))


def test_a_huge_image_tells_the_most():
    """12,845,056 pixels: 16,384 tokens."""
    (one,) = seen(find("qwen2-vl-7b").config, image_size=(100_000, 100_000))
    assert one.tokens == 16_384


# One image of each family


@all_of(
    ("rule", "size", "tower", "whole", "expected"),
    [
        (images.patches_alone, (9, 9), CLIP, {}, (577, 576, None)),
        (
            images.patches_alone,
            (9, 9),
            CLIP,
            {"vision_feature_select_strategy": "full"},
            (577, 577, None),
        ),
        # 672 x 672: four tiles and the whole; 48 x 48 patches, 48 row ends, 576 of the whole
        (images.llava_next, (672, 672), CLIP, {}, (5 * 577, 2304 + 48 + 576, 577)),
        # twice as wide: one row of two tiles, nothing of it padding
        (images.llava_next, (336, 672), CLIP, {}, (3 * 577, 1152 + 24 + 576, 577)),
        (images.native, (9, 9), {**SIGLIP, "image_size": 224}, {}, (256, 256, None)),
        (
            images.queries("mm_tokens_per_image", 256),
            (9, 9),
            {**SIGLIP, "image_size": 896},
            {},
            (4096, 256, None),
        ),
        # a pyramid of four stages: 2560 x 1920 in patches of 4, halved thrice
        (
            images.native,
            (9, 9),
            {"image_size": [2560, 1920], "patch_size": 4, "depths": [2, 2, 14, 2]},
            {},
            (80 * 60, 80 * 60, None),
        ),
        # Pixtral: 64 x 64 patches, a mark behind each row
        (
            images.pixtral,
            (2048, 2048),
            {"image_size": 1024, "patch_size": 16},
            {},
            (4096, 4160, None),
        ),
        # Mistral Small 3.1: 1540 pixels at most, 2 x 2 patches of 14 together
        (
            images.pixtral,
            (1540, 770),
            {"image_size": 1540, "patch_size": 14},
            {"spatial_merge_size": 2},
            (110 * 56, 55 * 29, None),
        ),
        # Gemma 4: 280 tokens of 48 x 48 pixels at most, a square has 16 x 16
        (images.gemma4, (512, 512), {"patch_size": 16}, {}, (2520, 256, None)),
        (images.kimi(4096), (896, 896), {"patch_size": 14}, {}, (4096, 1024, None)),
        (images.kimi(4096), (4000, 4000), {"patch_size": 14}, {}, (66**2, 33**2, None)),
        # InternVL: 2 x 3 tiles and a thumbnail, 256 tokens each, two marks around
        (
            images.internvl,
            (896, 1344),
            {"model_type": "internvl_vision", "image_size": [448, 448], "patch_size": [14, 14]},
            {},
            (7 * 1025, 7 * 256 + 2, 1025),
        ),
        (images.llama4, (336, 336), {**CLIP, "pixel_shuffle_ratio": 0.5}, {}, (577, 147, 577)),
        # 2 x 1 tiles and the whole: 3 x 144, a mark behind each row, three around
        (
            images.llama4,
            (672, 336),
            {**CLIP, "pixel_shuffle_ratio": 0.5},
            {},
            (3 * 577, 3 * 144 + 2 + 3, 577),
        ),
        # SmolVLM: 1536 pixels in 4 x 4 tiles of 384, each 9 x 9 tokens with two marks
        (
            images.idefics3,
            (800, 800),
            {**SIGLIP, "image_size": 384},
            {"scale_factor": 3},
            (17 * 729, 81 + 3 + 4 * (4 * 83 + 1), 729),
        ),
        # Idefics 2: the image within 980 pixels and its quarters, 64 latents and a mark each
        (
            images.idefics2,
            (980, 490),
            {"image_size": 980, "patch_size": 14},
            {},
            (5 * 2450, 326, 2450),
        ),
        (images.aya, (364, 364), {**SIGLIP, "image_size": 364}, {}, (676, 172, 676)),
        # two tiles side by side and a thumbnail
        (images.aya, (364, 728), {**SIGLIP, "image_size": 364}, {}, (3 * 676, 172 + 2 * 170, 676)),
        (
            images.cohere2,
            (512, 1024),
            {**SIGLIP, "image_size": 512, "patch_size": 16},
            {},
            (3 * 1024, 2 + 3 * 257, 1024),
        ),
        # Phi 3.5 vision: 757 tokens of a square image, as published for four crops
        (images.phi3_v, (500, 500), CLIP, {}, (5 * 577, 757, 577)),
        (images.phi3_v, (300, 1200), CLIP, {}, (5 * 577, 5 * 144 + 1 + 24, 577)),
        # Phi 4: 2 x 2 crops, all of them image
        (images.phi4, (896, 896), CLIP, {}, (5 * 1024, 256 + 1 + 1024 + 32 + 16, 1024)),
        # a quarter of the one crop is image: 16 columns of patches in 8 tokens
        (images.phi4, (448, 224), CLIP, {}, (2 * 1024, 256 + 1 + 16 * 8 + 16 + 16, 1024)),
        # MiniCPM-V 2.6: 1344 x 1344 pixels are nine slices and the whole, 640 tokens and marks
        (images.minicpmv, (1344, 1344), SIGLIP, {}, (10 * 1024, 640 + 20, 1024)),
        (images.minicpmv, (400, 400), SIGLIP, {}, (1024, 66, 1024)),
        # LFM 2: 256 tokens of 32 pixels, two marks; as it is up to twice that
        (images.lfm2, (512, 512), {"patch_size": 16}, {}, (1024, 258, 1024)),
        # 1024 x 1024: four tiles with a mark each, the thumbnail of 256, three marks
        (images.lfm2, (1024, 1024), {"patch_size": 16}, {}, (5 * 1024, 4 * 257 + 256 + 3, 1024)),
        # Fuyu: patches of 30 pixels, never enlarged
        (images.fuyu, (300, 600), {}, {}, (10 * 20, 10 * 21, None)),
        (images.fuyu, (2160, 3840), {}, {}, (36 * 64, 36 * 65, None)),
        (images.aria, (9, 9), {**SIGLIP, "image_size": 980}, {}, (4900, 256, None)),
        (
            images.aria,
            (9, 9),
            {**SIGLIP, "image_size": 490},
            {"projector_patch_to_query_dict": {"1225": 128, "4900": 256}},
            (1225, 128, None),
        ),
        (
            images.ovis2,
            (9, 9),
            {**SIGLIP, "image_size": 448, "hidden_stride": 2},
            {},
            (1024, 259, None),
        ),
        (images.siglip2, (9, 9), {"num_patches": 256}, {}, (256, 256, None)),
    ],
)
def test_an_image(rule, size, tower, whole, expected):
    assert ruled(rule, size, tower, whole) == expected


def test_queries_of_a_nested_config():
    rule = images.inner_queries("perceiver_config", "resampler_n_latents", 64)
    nested = {"perceiver_config": {"resampler_n_latents": 32}}
    assert ruled(rule, (9, 9), CLIP, nested) == (577, 32, None)
    assert ruled(rule, (9, 9), CLIP) == (577, 64, None)


def test_what_stands_beside_patches():
    """A class token; DeiT's two; DINOv3's four registers."""
    for model_type, positions in (("vit", 197), ("deit", 198), ("dinov3_vit", 197)):
        (one,) = seen({"model_type": model_type})
        assert one.positions == positions
    registers = {"model_type": "dinov2_with_registers", "image_size": 224, "patch_size": 14}
    assert seen(registers)[0].positions == 16**2 + 1 + 4


# One sound of each family


@all_of(
    ("rule", "seconds", "expected"),
    [
        (sounds.whisper, 3, (1500, 1500, None)),
        (sounds.qwen2_audio, 30, (1500, 750, None)),
        (sounds.qwen2_audio, 10, (1500, 250, None)),
        (sounds.qwen2_audio, 100, (1500, 750, None)),
        (sounds.voxtral, 30, (1500, 375, 1500)),
        (sounds.voxtral, 31, (3000, 750, 1500)),
        (sounds.ultravox, 30, (1500, 188, 1500)),
        (sounds.gemma3n, 30, (750, 188, None)),
        (sounds.gemma3n, 5, (125, 188, None)),
        (sounds.gemma4, 30, (750, 750, None)),
        (sounds.granite_speech, 30, (1500, 300, 200)),
        (sounds.qwen2_5_omni, 30, (1500, 750, 100)),
        (sounds.qwen3_omni, 30, (390, 390, 104)),
        (sounds.qwen3_omni, 0.5, (7, 7, 104)),
        (sounds.phi4, 30, (375, 375, None)),
        (sounds.speech_to_text, 30, (750, 750, None)),
        (sounds.seamless, 30, (1500, 188, None)),
    ],
)
def test_a_sound(rule, seconds, expected):
    ear = {"max_source_positions": 1500, "intermediate_size": 5120, "hidden_size": 1280}
    assert heard(rule, seconds, ear) == expected


# Laws

sides = st.integers(28, 3000)


@pytest.mark.slow
@settings(deadline=None)
@given(sides, sides)
def test_merged_patches_are_counted_once(high, wide):
    found = ruled(images.merged(3136, 12_845_056), (high, wide), {"patch_size": 14})
    assert found[0] == 4 * found[1]
    assert found[0] * 14**2 <= 12_845_056


TILED = (images.internvl, images.llama4, images.idefics3, images.aya, images.cohere2)


@pytest.mark.slow
@settings(deadline=None)
@given(st.sampled_from(TILED), sides, sides)
def test_tiles_are_whole(rule, high, wide):
    tower = {**SIGLIP, "image_size": 336, "pixel_shuffle_ratio": 0.5}
    positions, tokens, window = ruled(rule, (high, wide), tower)
    assert positions % window == 0
    assert 0 < tokens <= positions <= 17 * window


@pytest.mark.slow
@settings(deadline=None)
@given(st.sampled_from((sounds.voxtral, sounds.gemma4, sounds.qwen3_omni, sounds.phi4)))
def test_longer_sounds_take_no_less(rule):
    ear = {"max_source_positions": 1500, "intermediate_size": 5120, "hidden_size": 1280}
    counts = [heard(rule, seconds / 4, ear)[1] for seconds in range(1, 240)]
    assert counts == sorted(counts)
