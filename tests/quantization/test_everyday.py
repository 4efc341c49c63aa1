"""What people call a format is the usual one of that name, and it is said."""

from itertools import product

import pytest

import weighbridge
from tests.cases import all_of
from weighbridge.base.errors import UsageError
from weighbridge.engines.format_names import NAMES, meant, said
from weighbridge.models.quantization.schemes import scheme

LOADERS = ("transformers", "vllm", "llama.cpp")


@all_of(("name", "engine"), product(NAMES, LOADERS))
def test_every_name_stands_for_a_format_or_is_the_engines_own(name, engine):
    form = meant(name, engine)
    if form == name:
        assert (name, engine) in {("fp8", "vllm"), ("bnb", "vllm"), ("bitsandbytes", "vllm")}
    else:
        assert scheme(form).name == form


@all_of(
    ("name", "engine", "form"),
    [
        ("awq", "transformers", "awq-4bit-g128"),
        ("GPTQ", "vllm", "gptq-4bit-g128"),
        ("fp8", "transformers", "fp8-tensor"),
        ("4bit", "transformers", "nf4"),
        ("load_in_4bit", "transformers", "nf4"),
        ("4-bit", "vllm", "awq-4bit-g128"),
        ("4 bit", "llama.cpp", "Q4_K_M"),
        ("int8", "transformers", "bnb-int8"),
        ("int8", "vllm", "w8a8-int8"),
        ("8bit", "ik_llama.cpp", "Q8_0"),
        ("q4", "transformers", "Q4_K_M"),
        ("Q8", "llama.cpp", "Q8_0"),
    ],
)
def test_what_people_mean(name, engine, form):
    assert meant(name, engine) == form


@all_of("name", ["nf4", "Q4_K_M", "gptq-4bit-g64", "nothing", ""])
def test_other_names_are_left_as_they_are(name):
    assert meant(name) == name
    assert said(name, meant(name)) == ""


def test_it_is_said():
    found = weighbridge.load("qwen3-0.6b", quantization="gptq")
    assert found.workload["quantization"] == "gptq-4bit-g128"
    assert found.peak == weighbridge.load("qwen3-0.6b", quantization="gptq-4bit-g128").peak
    assert found.warnings[0] == (
        "--quantization gptq is taken as gptq-4bit-g128, the usual format of that name"
    )
    assert not any(
        "taken as" in w for w in weighbridge.load("qwen3-0.6b", quantization="q4_k_m").warnings
    )


def test_a_plain_dtype_stays_a_division():
    divided = weighbridge.load("qwen3-0.6b", dtype="int8")
    packed = weighbridge.load("qwen3-0.6b", quantization="int8")
    assert divided.workload["quantization"] is None
    assert packed.workload["quantization"] == "bnb-int8"
    assert "--dtype int8 is the plain division" in packed.warnings[0]


@pytest.mark.slow
def test_adapters_over_everyday_names():
    found = weighbridge.train("qwen3-0.6b", method="lora", quantization="4bit")
    assert found.workload["quantization"] == "nf4"
    with pytest.raises(UsageError, match="--quantization 4bit"):
        weighbridge.train("qwen3-0.6b", quantization="4bit")


def test_a_packed_checkpoint_is_not_packed_again():
    raw = weighbridge.models.catalogue.find("qwen3-0.6b").config
    stored = {**raw, "quantization_config": {"quant_method": "awq", "bits": 4, "group_size": 64}}
    assert weighbridge.load(stored, quantization="awq").peak == weighbridge.load(stored).peak


def test_a_server_is_asked_by_its_own_name_where_it_has_one():
    found = weighbridge.infer("qwen3-0.6b", engine="vllm", quantization="awq", context=512)
    assert found.workload["quantization"] == "awq-4bit-g128"
    assert "--quantization awq is taken as awq-4bit-g128" in found.warnings[0]
    own = weighbridge.infer("qwen3-0.6b", engine="vllm", quantization="fp8", context=512)
    assert "--quantization fp8" in own.derived["launch"]
    assert not any("taken as" in w for w in own.warnings)


def test_dynamic_files_are_sized_as_the_type_that_they_mix():
    assert [meant(f"Q{bits}_K_XL", "llama.cpp") for bits in "23456"] == [
        "Q2_K",
        "Q3_K_M",
        "Q4_K_M",
        "Q5_K_M",
        "Q6_K",
    ]
    assert meant("UD-Q4_K_XL", "llama.cpp") == "Q4_K_M"
    assert meant("Q8_K_XL", "llama.cpp") == "Q8_K_XL"  # larger than Q8_0: not known
