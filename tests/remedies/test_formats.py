"""Formats that are offered, by hand: bits of a weight, before and after."""

import pytest

from tests.cases import all_of
from tests.remedies.made import case, of_kind
from weighbridge.answers.remedies.formats import (
    BITS,
    MADE,
    has_bfloat16,
    least,
    moves,
    quantized,
    stores_float8,
    width,
)
from weighbridge.base.records import replace

# Bytes of a block x 8 / its elements: llama.cpp's ggml-common.h; mlx has a scale and a bias of 16
# bits for 64; mixtures are not below their smallest type
BY_HAND = {
    "Q8_0": 34 * 8 / 32,
    "Q6_K": 6.5,  # of 210 * 8 / 256
    "Q5_K_M": 176 * 8 / 256,
    "Q4_K_M": 144 * 8 / 256,
    "Q3_K_M": 110 * 8 / 256,
    "Q2_K": 82 * 8 / 256,
    "mlx-8bit-g64": 8 + 32 / 64,
    "mlx-6bit-g64": 6.5,
    "mlx-5bit-g64": 5.5,
    "mlx-4bit-g64": 4.5,
    "nf4": 4,
    "bnb-int8": 8,
    "awq-4bit-g128": 4,
    "gptq-4bit-g128": 4,
    "fp8-tensor": 8,
}


def test_bits_of_a_weight_at_least():
    assert BITS == BY_HAND


@all_of(
    ("form", "dtype", "bits"),
    [
        (None, "float32", 32),
        (None, "bfloat16", 16),
        (None, "float16", 16),
        (None, None, 32),
        ("F32", "bfloat16", 32),
        ("BF16", "float32", 16),
        ("F16", "float32", 16),
        ("fp8-block", "bfloat16", 8),
        ("nf4", "bfloat16", 16),
    ],
)
def test_bits_of_a_weight_as_it_is(form, dtype, bits):
    assert width(case("infer", quantization=form, dtype=dtype)) == bits


def test_what_surely_remains():
    asked = case("infer")
    assert least("Q8_0", asked) == {"weights": 8.5 / 16}
    assert least("Q4_K_M", asked) == {}
    assert least("Q8_0", case("infer", quantization="fp8-block")) == {"weights": 1.0}


@all_of(
    ("settings", "change"),
    [
        ({"dtype": "float32"}, "bfloat16"),
        ({"dtype": "float32", "gpu": "t4"}, "float16"),
        ({"dtype": "float16 and float32"}, "float16"),
        ({"dtype": "bfloat16"}, None),
        ({"dtype": "float32", "engine": "vllm"}, None),
        ({"dtype": "float32", "engine": "llama.cpp"}, None),
        ({"dtype": "float32", "quantization": "nf4"}, None),
        ({"dtype": "float32", "pinned": ("dtype",)}, None),
    ],
)
def test_float32_is_halved(settings, change):
    found = of_kind(moves(case("infer", **settings)), "dtype")
    assert [m.change["dtype"] for m in found] == ([change] if change else [])
    assert all(m.leaves == {"weights": 0.5, "kv_cache": 0.5} for m in found)


def test_weights_in_fewer_bits():
    found = {m.change["quantization"]: m for m in of_kind(moves(case("infer")), "quantization")}
    assert found["nf4"].leaves == {"weights": 4 / 16}
    assert found["nf4"].keeps == {"weights": 5 / 16}
    assert found["nf4"].note == ""
    assert of_kind(moves(case("infer", quantization="nf4")), "quantization") == []
    assert of_kind(moves(case("infer", pinned=("dtype",))), "quantization") == []
    assert "nf4" not in str([m.change for m in moves(case("infer", gpu="m4-24gb"))])


@all_of(
    ("gpu", "narrow", "half"),
    [
        ("4090", True, True),  # 8.9
        ("h100", True, True),
        ("a100-80gb", True, True),  # 8.0 and later store it
        ("3090", True, True),
        ("t4", False, False),  # 7.5
    ],
)
def test_what_a_card_reads(gpu, narrow, half):
    asked = case("infer", gpu=gpu)
    assert (stores_float8(asked), has_bfloat16(asked)) == (narrow, half)


@pytest.mark.parametrize(
    ("loads", "note", "effort", "words"),
    [
        ("Qwen/Qwen3-32B", "Qwen/Qwen3-32B-AWQ is Qwen/Qwen3-32B in this format", 0, False),
        ("nobody/knows-it", MADE, 5, True),
    ],
)
def test_a_published_repository_is_not_made(loads, note, effort, words):
    move = quantized("awq-4bit-g128", replace(case("infer", engine="vllm"), loads=loads))
    assert move.note == note
    assert move.cost.price.effort == effort
    assert ("a checkpoint in AWQ is needed" in move.cost.words) == words


def test_what_is_said_of_speed_stays():
    move = quantized("bnb-int8", case("infer"))
    assert move.cost.words.endswith("15 to 23 % slower")
    assert not move.note
