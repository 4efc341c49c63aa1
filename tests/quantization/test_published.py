"""Whole models against published files: totals of weight indexes, tables, logs."""

import pytest

from tests.quantization.models import model, total
from weighbridge.base.dtypes import BFLOAT16, FLOAT16, FLOAT32

LLAMA = "llama-3.1-8b"


def test_gpt_oss_20b_is_its_index_to_the_byte():
    # openai/gpt-oss-20b model.safetensors.index.json: metadata.total_size
    assert total(model("gpt-oss-20b"), "mxfp4") == 13_761_264_768


def test_qwen3_14b_in_mlx_is_its_index_to_the_byte():
    # lmstudio-community/Qwen3-14B-MLX-4bit model.safetensors.index.json
    assert total(model("qwen3-14b"), "mlx-4bit-g64") == 8_307_783_680


@pytest.mark.parametrize(
    ("dtype", "size"),
    [
        (FLOAT16, 9_086_705_888),  # jeevanchaps/Meta-Llama3.1-8B-Instruct-assessment
        (FLOAT32, 11_188_584_672),  # Irfanuruchi/Llama-3.1-8B-Computer-Networks-LLM
    ],
)
def test_llama_8b_in_int8_is_its_index_less_a_byte_a_layer(dtype, size):
    """Files hold `weight_format`, a uint8 for each of 224 Linears, which is no tensor in memory."""
    assert total(model(LLAMA), "bnb-int8", dtype) == size - 224


def test_llama_13b_in_double_quantized_nf4_is_its_index_less_the_blobs():
    """IrfanUruchi/Llama-2-13B-Computer-Engineering: each of 280 Linears has a JSON blob of 170 to
    173 bytes in the file, and in memory a float32 offset instead."""
    blobs = 7_201_770_923 - (total(model("llama-2-13b"), "nf4-dq", FLOAT16) - 280 * 4)
    assert 280 * 170 <= blobs <= 280 * 173


def test_qwen_7b_in_gptq_is_its_index_less_the_biases_of_zeros():
    """Qwen/Qwen-7B-Chat-Int4: AutoGPTQ gave a float16 bias to the four Linears of each layer that
    have none."""
    zeros = 32 * (4096 + 4096 + 2 * 11008) * 2
    assert total(model("qwen-7b"), "gptq-4bit-g128", FLOAT16) == 5_860_564_992 - zeros


# llama.cpp tools/quantize/README.md @ 311c2c9f0: Llama-3.1-8B, bits a weight.
README = {
    "IQ1_S": 2.0042,
    "IQ1_M": 2.1460,
    "IQ2_XXS": 2.3824,
    "IQ2_XS": 2.5882,
    "IQ2_S": 2.7403,
    "IQ2_M": 2.9294,
    "IQ3_XXS": 3.2548,
    "IQ3_XS": 3.4977,
    "IQ3_S": 3.6606,
    "IQ3_M": 3.7628,
    "IQ4_XS": 4.4597,
    "IQ4_NL": 4.6818,
    "Q2_K_S": 2.9697,
    "Q2_K": 3.1593,
    "Q3_K_S": 3.6429,
    "Q3_K_L": 4.2979,
    "Q4_K_S": 4.6672,
    "Q4_K_M": 4.8944,
    "Q5_K_S": 5.5704,
    "Q5_K_M": 5.7036,
    "Q6_K": 6.5633,
    "Q8_0": 8.5008,
    "F16": 16.0005,
}


@pytest.mark.parametrize("name", README)
def test_gguf_mixtures_of_llama_8b_are_llama_cpps_own_table(name):
    plan = model(LLAMA)
    assert round(total(plan, name) * 8 / plan.parameters, 4) == README[name]


@pytest.mark.slow
def test_deepseek_v3_in_q8_0_is_what_llama_cpp_logs():
    # llama.cpp build 4905, DeepSeek-R1: "params 671.03 B, model size 664.29 GiB (8.50 BPW)";
    # ik_llama.cpp: 671.026 B, 664.295 GiB (8.504 BPW)
    plan = model("deepseek-v3")
    size = total(plan, "Q8_0")
    assert round(plan.parameters / 1e9, 3) == 671.026
    assert round(size / 2**30, 3) == 664.295
    assert round(size * 8 / plan.parameters, 3) == 8.504


@pytest.mark.slow
def test_experts_stay_in_16_bit_under_transformers_5():
    """Measured with transformers 5.23: only q, k, v and o of a Qwen3-MoE become Params4bit."""
    plan = model("qwen3-30b-a3b")
    assert 55e9 < total(plan, "nf4") < 60e9
    assert total(plan, "nf4", transformers=4) < 19e9


def test_small_model_in_nf4_is_mostly_its_embedding():
    plan = model("qwen2.5-0.5b")
    embedding = 151936 * 896 * 2
    assert total(plan, "nf4") > 1.6 * embedding
    assert total(plan, "bnb-int8", BFLOAT16) > total(plan, "nf4")


@pytest.mark.parametrize(
    ("name", "gigabytes"), [("F16", 13.8), ("Q8_0", 12.1), ("Q6_K", 12.0), ("Q4_K_M", 11.6)]
)
def test_gguf_of_gpt_oss_keeps_the_experts_four_bits(name, gigabytes):
    # unsloth/gpt-oss-20b-GGUF: sizes of the files, to 0.1 GB
    assert total(model("gpt-oss-20b"), name) / 1e9 == pytest.approx(gigabytes, abs=0.06)
