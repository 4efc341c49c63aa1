"""Sizes, tiles and lengths as transformers' own processors compute them.

Image processors need torchvision; their arithmetic does not. So the functions are taken from the
files by name and run alone.
"""

import ast
import math
from functools import cache, lru_cache
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("torch", reason="some of the processors' arithmetic is in tensors")
pytest.importorskip("transformers", reason="the oracle is transformers' own code")

import numpy as np
import torch
import transformers

from weighbridge.models.arch.config import Config
from weighbridge.models.arch.inputs import images, sounds
from weighbridge.models.arch.inputs.sizes import (
    ImageSize,
    best_resolution,
    closest,
    filling,
    fitted,
    grids,
    least_enlarged,
    longest_side,
    padded,
    rounded,
    smallest_canvas,
    unpadded,
)

ROOT = Path(transformers.__file__).parent
MODELS = ROOT / "models"


@cache
def theirs(path, *names):
    """The functions of a file, methods included, without what the file imports."""
    tree = ast.parse(path.read_text())
    found = [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef) and n.name in names]
    for node in found:
        node.decorator_list, node.returns = [], None
        for argument in (*node.args.args, *node.args.kwonlyargs):
            argument.annotation = None
    sizes = {"get_image_size": lambda image, _: image.shape[:2], "MAX_IMAGE_SIZE": 4096}
    space = {"math": math, "np": np, "torch": torch, "lru_cache": lru_cache, **sizes}
    exec(compile(ast.Module(body=found, type_ignores=[]), str(path), "exec"), space)
    return SimpleNamespace(**{name: space[name] for name in names})


def model(name):
    return MODELS / name / f"image_processing_{name}.py"


sides = st.integers(30, 4000)
sizes = st.builds(ImageSize, sides, sides)


@settings(deadline=None, max_examples=50)
@given(sizes, st.sampled_from([28, 32]))
def test_rounded(size, factor):
    resize = theirs(model("qwen2_vl"), "smart_resize").smart_resize
    want = resize(size.height, size.width, factor, 3136, 1_003_520)
    assert rounded(size, factor, 3136, 1_003_520) == want


@settings(deadline=None, max_examples=50)
@given(sizes)
def test_an_image_is_two_frames(size):
    """GLM-4.1V counts frames, and an image as two: its limits are halved."""
    resize = theirs(model("glm4v"), "smart_resize").smart_resize
    want = resize(2, size.height, size.width, 2, 28, 112 * 112, 28 * 28 * 2 * 6144)
    got = images.merged(112 * 112 // 2, 28 * 28 * 6144)(
        Config({}), Config({"patch_size": 14}), size
    )
    assert got.positions == want[0] * want[1] // 14**2


@settings(deadline=None, max_examples=50)
@given(sizes, st.sampled_from([4096, 16384]))
def test_padded(size, most):
    resize = theirs(model("kimi_k25"), "navit_resize").navit_resize
    want = resize(size.height, size.width, 14, 2, most, 512)[1]
    assert padded(size, patch=14, merge=2, most=most, side=512) == want


@settings(deadline=None, max_examples=50)
@given(st.builds(ImageSize, st.integers(30, 2000), st.integers(30, 2000)))
def test_fitted(size):
    taken = theirs(model("pixtral"), "_num_image_tokens", "get_resize_output_image_size")
    taken.get_resize_output_image_size.__globals__["_num_image_tokens"] = taken._num_image_tokens
    image = np.zeros((*size, 1), dtype=bool)
    high, wide = taken.get_resize_output_image_size(image, (1540, 1540), (28, 28), None)
    assert fitted(size, 1540, 28) == (high // 28, wide // 28)


@settings(deadline=None, max_examples=50)
@given(sizes)
def test_filling(size):
    resize = theirs(model("gemma4"), "get_aspect_ratio_preserving_size")
    high, wide = resize.get_aspect_ratio_preserving_size(*size, 16, 2520, 3)
    assert filling(size, patch=16, kernel=3, most=2520) == (high // 48, wide // 48)


@settings(deadline=None, max_examples=50)
@given(sizes, st.sampled_from([224, 448]))
def test_closest(size, tile):
    taken = theirs(model("got_ocr2"), "get_optimal_tiled_canvas", "get_all_supported_aspect_ratios")
    wide, high = taken.get_optimal_tiled_canvas(size, (tile, tile), 1, 12)
    assert closest(size, ImageSize(tile, tile), grids(1, 12)) == (high, wide)


@settings(deadline=None, max_examples=50)
@given(sizes)
def test_least_enlarged(size):
    taken = theirs(
        model("cohere2_vision"), "get_optimal_tiled_canvas", "get_all_supported_aspect_ratios"
    )
    wide, high = taken.get_optimal_tiled_canvas(size, (512, 512), 1, 12)
    assert least_enlarged(size, 512, grids(1, 12)).area == wide * high


@settings(deadline=None, max_examples=50)
@given(sizes)
def test_smallest_canvas_of_mllama(size):
    taken = theirs(model("mllama"), "get_optimal_tiled_canvas", "get_all_supported_aspect_ratios")
    high, wide = taken.get_optimal_tiled_canvas(*size, 4, 560)
    assert smallest_canvas(size, 560, grids(1, 4)).area == high * wide // 560**2


@pytest.mark.parametrize(
    "size", [(336, 336), (300, 200), (1024, 1024), (480, 640), (1080, 1920), (3000, 700)]
)
def test_smallest_canvas_of_llama4(size):
    best = theirs(model("llama4"), "get_best_fit").get_best_fit
    options = torch.tensor([[336 * g.height, 336 * g.width] for g in grids(1, 16)])
    high, wide = best(size, options)
    assert smallest_canvas(ImageSize(*size), 336, grids(1, 16)) == (high // 336, wide // 336)


PINPOINTS = [
    ImageSize(h, w) for h, w in ((336, 672), (672, 336), (672, 672), (1008, 336), (336, 1008))
]


@settings(deadline=None, max_examples=50)
@given(sizes)
def test_best_resolution(size):
    select = theirs(ROOT / "image_processing_utils.py", "select_best_resolution")
    assert best_resolution(size, PINPOINTS) == select.select_best_resolution(size, PINPOINTS)


@settings(deadline=None, max_examples=50)
@given(sizes, st.integers(1, 4), st.integers(1, 4))
def test_unpadded(size, rows, columns):
    path = MODELS / "llava_next" / "processing_llava_next.py"
    features = theirs(path, "_get_unpadded_features")._get_unpadded_features
    got = unpadded(size, ImageSize(24 * rows, 24 * columns))
    assert (got.area, got.height) == features(None, *size, 24, 24, rows, columns)


@settings(deadline=None, max_examples=50)
@given(sizes)
def test_bounded_tiles_of_onevision(size):
    """The whole count of features, tiles beyond nine shrunk."""
    path = MODELS / "llava_onevision" / "processing_llava_onevision.py"
    taken = theirs(path, "_get_number_of_features", "_get_unpadded_features")
    select = theirs(ROOT / "image_processing_utils.py", "select_best_resolution")
    taken._get_number_of_features.__globals__["select_best_resolution"] = (
        select.select_best_resolution
    )
    pinpoints = [[384 * h, 384 * w] for h in range(1, 7) for w in range(1, 7)]
    processor = SimpleNamespace(
        image_processor=SimpleNamespace(image_grid_pinpoints=pinpoints),
        num_image_tokens=729,
        vision_aspect_ratio="anyres_max_9",
    )
    processor._get_unpadded_features = lambda *a: taken._get_unpadded_features(processor, *a)
    want = taken._get_number_of_features(processor, *size, 384, 384)
    whole = Config({"image_grid_pinpoints": pinpoints, "vision_aspect_ratio": "anyres_max_9"})
    tower = Config({"model_type": "siglip_vision_model", "image_size": 384, "patch_size": 14})
    assert images.llava_next(whole, tower, size).tokens == want


@settings(deadline=None, max_examples=50)
@given(sizes)
def test_tiles_of_idefics3(size):
    taken = theirs(
        model("idefics3"),
        "get_number_of_image_patches",
        "_resize_output_size_rescale_to_max_len",
        "_resize_output_size_scale_below_upper_bound",
    )
    edges = {"size": {"longest_edge": 1456}, "max_image_size": {"longest_edge": 364}}
    processor = SimpleNamespace(do_image_splitting=True, **edges)
    count, rows, columns = taken.get_number_of_image_patches(processor, *size)
    tower = Config({"image_size": 364, "patch_size": 14})
    got = images.idefics3(Config({"scale_factor": 2}), tower, size)
    assert got.positions == max(1, count) * 26**2
    tokens = 169 + 3 + rows * (columns * (169 + 2) + 1)
    assert got.tokens == tokens
    assert longest_side(size, 1456).area > 0


lengths = st.floats(0.1, 60)


@settings(deadline=None, max_examples=50)
@given(lengths)
def test_length_of_gemma4_sounds(seconds):
    path = MODELS / "gemma4" / "processing_gemma4.py"
    count = theirs(path, "_compute_audio_num_tokens")._compute_audio_num_tokens
    extractor = SimpleNamespace(frame_length=320, hop_length=160)
    processor = SimpleNamespace(feature_extractor=extractor, audio_seq_length=750)
    want = count(processor, np.zeros(int(seconds * 16_000)), 16_000)
    assert sounds.gemma4(Config({}), Config({}), seconds).tokens == want


def extract_lengths(name):
    path = MODELS / name / f"modeling_{name}.py"
    return theirs(path, "_get_feat_extract_output_lengths")._get_feat_extract_output_lengths


@settings(deadline=None, max_examples=50)
@given(lengths)
def test_length_of_qwen_sounds(seconds):
    frames = sounds.frames(seconds)
    third = sounds.qwen3_omni(Config({}), Config({}), seconds)
    assert third.positions == extract_lengths("qwen3_omni_moe")(frames, 50)
    inside, tokens = extract_lengths("qwen2_5_omni")(None, frames)
    assert sounds.qwen2_5_omni(Config({}), Config({}), seconds)[:2] == (inside, tokens)


@settings(deadline=None, max_examples=50)
@given(lengths)
def test_length_of_granite_sounds(seconds):
    """A mel frame starts every 160 samples, the first before the first sample."""
    path = MODELS / "granite_speech" / "feature_extraction_granite_speech.py"
    count = theirs(path, "_get_num_audio_features")._get_num_audio_features
    melspec = {"hop_length": 160}
    extractor = SimpleNamespace(
        melspec_kwargs=melspec, projector_window_size=15, projector_downsample_rate=5
    )
    (want,) = count(extractor, [int(seconds * 16_000)])
    assert sounds.granite_speech(Config({}), Config({}), seconds).tokens == want


@pytest.mark.parametrize("seconds", [1, 5.5, 30])
def test_length_of_waveforms(seconds):
    from transformers import Wav2Vec2Config, Wav2Vec2Model

    config = Wav2Vec2Config(num_hidden_layers=1)
    with torch.device("meta"):
        built = Wav2Vec2Model(config)
    want = int(built._get_feat_extract_output_lengths(int(seconds * 16_000)))
    own = Config({"model_type": "wav2vec2"})
    assert sounds.waveform(own, own, seconds).positions == want
