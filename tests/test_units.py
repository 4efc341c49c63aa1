import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.cases import all_of
from weighbridge.base.dtypes import GGML_BY_NAME, SAFETENSORS, TORCH
from weighbridge.base.errors import BadFileError, UsageError
from weighbridge.base.units import (
    align_up,
    ceil_div,
    human,
    human_count,
    parse_count,
    parse_size,
    typed_size,
)
from weighbridge.models.tensors import torch_dtype


def test_gib_is_not_gb():
    assert (human(2**30), human(10**9, "GB"), human(10**9)) == ("1.00 GiB", "1.00 GB", "953.67 MiB")
    assert human(1023) == "1,023 B"


@all_of(
    ("text", "nbytes"),
    [
        ("24GiB", 24 << 30),
        ("24 GB", 24 * 10**9),
        ("512M", 512 << 20),
        ("1.5GiB", 3 << 29),
        ("7 B", 7),
    ],
)
def test_sizes_as_people_type_them(text, nbytes):
    assert parse_size(text) == nbytes


@all_of(
    ("nbytes", "text"),
    [
        (500 << 30, "500GiB"),
        (2 << 40, "2048GiB"),
        (3 << 29, "1536MiB"),
        (5 << 10, "5120B"),
        (500 * 10**9, "500GB"),
        (1_500 * 10**6, "1500MB"),
        (1025, "1025B"),
        (0, "0B"),
    ],
)
def test_sizes_are_typed_as_exactly_as_they_are(nbytes, text):
    assert typed_size(nbytes) == text
    assert parse_size(text) == nbytes


@all_of("text", ["", "GiB", "24 apples", "-1GB", "1e9", "24"])
def test_what_is_no_size(text):
    with pytest.raises(UsageError, match="24GiB"):
        parse_size(text)


def test_k_and_big_k_as_vllm_reads_them():
    assert (parse_count("8k"), parse_count("8K"), parse_count("8192")) == (8000, 8192, 8192)
    with pytest.raises(UsageError):
        parse_count("8q")


@pytest.mark.parametrize("text", ["1.5", "100.4", "1e-3", "2.5e0"])
def test_half_a_token_is_no_count(text):
    with pytest.raises(UsageError):
        parse_count(text)
    assert (parse_count("1.3K"), parse_count("2.5e3"), parse_count("4.0")) == (1331, 2500, 4)


def test_counts_as_model_cards_write_them():
    assert [human_count(n) for n in (8_030_261_248, 124_439_808, 999)] == [
        "8.03 B",
        "124.44 M",
        "999",
    ]


@pytest.mark.slow
@given(st.integers(0, 1 << 50), st.integers(1, 1 << 30))
def test_rounding_up_is_the_least_multiple(nbytes, quantum):
    up = align_up(nbytes, quantum)
    assert up % quantum == 0 and 0 <= up - nbytes < quantum
    assert ceil_div(nbytes, quantum) * quantum == up


def test_quantized_values_come_in_whole_blocks():
    assert [GGML_BY_NAME["Q8_0"].size(n) for n in (0, 1, 32, 33)] == [0, 34, 34, 68]
    assert [TORCH["float4_e2m1fn"].size(n) for n in (1, 2, 3)] == [1, 1, 2]
    assert SAFETENSORS["F6_E2M3"].size(4) == 3


@given(st.sampled_from(sorted(TORCH)), st.integers(0, 1 << 20))
def test_sizes_never_shrink(name, count):
    assert TORCH[name].size(count) <= TORCH[name].size(count + 1)


def test_dtypes_as_configs_spell_them():
    assert torch_dtype("torch.bfloat16", "x").name == torch_dtype("bf16", "x").name == "bfloat16"
    with pytest.raises(BadFileError, match=r"config\.json: unknown dtype 'int3'; known: bfloat16"):
        torch_dtype("int3", "config.json")
