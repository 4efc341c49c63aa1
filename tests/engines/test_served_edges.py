"""vLLM and SGLang at their edges: other cards, broken configs, flags that they refuse."""

import json
from functools import cache

import pytest

import weighbridge
from tests.engines.answers import named
from tests.tiny import config
from weighbridge.base.errors import BadFileError, UnsupportedError, UsageError
from weighbridge.engines.launch import parse
from weighbridge.engines.parallel.pieces import rows
from weighbridge.engines.subject import subject
from weighbridge.engines.table import engine, version
from weighbridge.machines.accelerators.parts import parts
from weighbridge.models.checkpoint.gather import GatherOptions, gather
from weighbridge.models.checkpoint.model import resolve
from weighbridge.workload import Infer

pytestmark = pytest.mark.slow

BOTH = ("vllm", "sglang")
LLAMA = "llama-3.1-8b"
QWEN = "qwen2.5-vl-7b"


@cache
def answer(name, kind, **asked):
    w = Infer(engine=kind, **asked)
    found = engine(kind)
    model = named(name)
    number = version(found, w.engine_version)[0]
    return found.infer(subject(model, w, found, number), w, w.budget())


def warned(found, words):
    return [w for w in found.warnings if words in w]


# Cards


def test_capabilities_are_numbers_or_none():
    read = {p.compute_capability: p.capability for p in parts().values()}
    assert read["9.0"] == (9, 0)
    assert read["12.1"] == (12, 1)
    assert read["gfx942"] is None
    assert read[None] is None
    assert all(v is None for k, v in read.items() if k and k.startswith("gfx"))


@pytest.mark.parametrize("kind", ["vllm", "sglang", "transformers"])
@pytest.mark.parametrize("gpu", ["mi300x", "mi250x", "rx 7900 xtx"])
def test_amd_is_answered(kind, gpu):
    found = answer(LLAMA, kind, gpu=gpu)
    assert found.devices[0].peak("driver").expected > 15 * 2**30
    assert bool(warned(found, "ROCm")) == (kind in BOTH)


@pytest.mark.parametrize("kind", BOTH)
def test_apple_is_sent_to_what_runs_there(kind):
    with pytest.raises(UnsupportedError, match=r"nearest is --engine llama\.cpp"):
        answer(LLAMA, kind, gpu="m3 max 64gb")


@pytest.mark.parametrize("kind", BOTH)
def test_turing_takes_float16(kind):
    found = answer(LLAMA, kind, gpu="t4")
    assert found.settings["dtype"] == "float16"
    assert "7.5 has no bfloat16" in found.derived["dtype_from"]
    assert "--dtype half" in found.derived["launch"]
    assert parse(found.derived["launch"]).settings["dtype"] == "float16"
    assert answer(LLAMA, kind, gpu="a10").settings["dtype"] == "bfloat16"


def test_what_is_unstable_in_float16_doubles_on_turing():
    """8.60 GB of Gemma 3 4B in bfloat16, 17.2 in float32."""
    held = {
        gpu: next(
            c.bytes.expected
            for c in answer("gemma-3-4b", "vllm", gpu=gpu).devices[0].phases[0].components
            if c.name == "weights"
        )
        for gpu in ("t4", "a10")
    }
    assert held["t4"] == 2 * held["a10"]
    assert answer("gemma-3-4b", "sglang", gpu="t4").settings["dtype"] == "float16"


def test_bfloat16_that_was_asked_for():
    with pytest.raises(UsageError, match="refuses bfloat16"):
        answer(LLAMA, "vllm", gpu="v100", dtype="bfloat16")
    assert answer(LLAMA, "vllm", gpu="v100").settings["dtype"] == "float16"
    with pytest.raises(UnsupportedError, match=r"7\.5 and newer"):
        answer(LLAMA, "sglang", gpu="v100")


# Configs


@pytest.mark.parametrize(
    ("text", "rope", "expected"),
    [
        ({"max_position_embeddings": 4096}, {}, 4096),
        ({"max_position_embeddings": 4096.0}, {"rope_type": "linear", "factor": 2}, 8192),
        ({}, {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 100}, 400),
        ({"max_position_embeddings": 10_485_760}, {"mrope_section": [1]}, 41_943_040),
    ],
)
def test_rows_of_the_rotary_table(text, rope, expected):
    assert rows(text, rope) == expected


@pytest.mark.parametrize(
    ("text", "rope"),
    [
        ({"max_position_embeddings": "abc"}, {}),
        ({"max_position_embeddings": [1, 2]}, {}),
        ({"max_position_embeddings": True}, {}),
        ({"max_position_embeddings": float("nan")}, {}),
        ({"max_position_embeddings": 10**12}, {}),
        ({}, {"factor": "x"}),
        ({}, {"factor": float("nan"), "rope_type": "linear"}),
        ({}, {"factor": 1e300, "rope_type": "linear"}),
        ({}, {"original_max_position_embeddings": "y", "rope_type": "yarn"}),
    ],
)
def test_broken_positions_are_one_line(text, rope):
    with pytest.raises(BadFileError, match=r"^config\.json: .*[a-z]") as raised:
        rows(text, rope)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("kind", BOTH)
@pytest.mark.parametrize(
    "broken",
    [
        {"max_position_embeddings": "abc"},
        {"max_position_embeddings": [1, 2]},
        {"max_position_embeddings": 10**12},
        {"rope_scaling": {"factor": "x"}},
    ],
)
def test_broken_configs_end_to_end(kind, broken, tmp_path):
    raw = config("first", num_key_value_heads=4, vocab_size=256, max_position_embeddings=4096)
    (tmp_path / "config.json").write_text(json.dumps(raw | broken))
    w, found = Infer(engine=kind), engine(kind)

    def serve():
        model = resolve(gather(str(tmp_path), GatherOptions()))
        found.infer(subject(model, w, found, version(found, None)[0]), w, None)

    with pytest.raises(BadFileError) as raised:
        serve()
    assert "\n" not in str(raised.value)


# Launch lines


@pytest.mark.parametrize("kind", BOTH)
def test_formats_of_checkpoints_are_said(kind):
    found = answer("olmo-2-7b", kind, quantization="gptq-4bit-g128")  # which nobody publishes
    assert warned(found, "does not make gptq-4bit-g128 while it loads")
    assert "launch" not in found.derived, "a line for the unquantized model is another answer"
    assert "gptq-4bit-g128" in found.derived["launch_note"]
    known = {"vllm": "0.27", "sglang": None}[kind]  # vLLM reads bitsandbytes to 0.27
    for scheme, flag in (("fp8-tensor", "fp8"), ("nf4", "bitsandbytes")):
        made = answer(LLAMA, kind, quantization=scheme, engine_version=known)
        assert f"--quantization {flag}" in made.derived["launch"]
        assert not made.warnings


@pytest.mark.parametrize("kind", BOTH)
def test_dtypes_that_servers_have_not(kind):
    with pytest.raises(UsageError, match=r"takes float16, bfloat16 and float32.*--quantization"):
        answer(LLAMA, kind, dtype="fp8")


@pytest.mark.parametrize(
    ("kind", "variable"),
    [
        ("vllm", "VLLM_ALLOW_LONG_MAX_MODEL_LEN=1 vllm serve "),
        ("sglang", "SGLANG_ALLOW_OVERWRITE_LONGER_CONTEXT_LEN=1 python -m "),
    ],
)
def test_contexts_beyond_the_model(kind, variable):
    line = answer(LLAMA, kind, context=131_073).derived["launch"]
    assert line.startswith(variable)
    assert parse(line).settings["context"] == 131_073
    assert variable not in answer(LLAMA, kind, context=131_072).derived["launch"]


# What vLLM refuses


@pytest.mark.parametrize(
    ("name", "number", "has"),
    [
        ("t5-base", "0.9", False),
        ("t5-base", "0.33", False),
        ("bart-base", "0.10", True),
        ("bart-base", "0.11", False),
    ],
)
def test_encoder_decoders_by_version(name, number, has):
    if has:
        assert answer(name, "vllm", engine_version=number).devices
        return
    with pytest.raises(UnsupportedError, match=f"{name}: vllm .* does not have"):
        answer(name, "vllm", engine_version=number)


@pytest.mark.parametrize(
    ("name", "kind"), [("t5-base", "sglang"), ("rwkv-4-169m", "sglang"), ("rwkv-4-169m", "vllm")]
)
def test_layers_are_named_as_papers_do(name, kind):
    with pytest.raises(UnsupportedError, match=f"^{name}: .*nearest") as raised:
        answer(name, kind)
    assert "CrossAttention" not in str(raised.value)
    assert "Rwkv" not in str(raised.value)


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"block_size": 7}, "--block-size 7"),
        ({"block_size": 48, "engine_version": "0.12"}, "1, 8, 16, 32, 64, 128, 256"),
        ({"max_num_batched_tokens": 100, "max_num_seqs": 200}, "less than --max-num-seqs 200"),
    ],
)
def test_vllm_refuses(asked, words):
    with pytest.raises(UsageError, match=words):
        answer(LLAMA, "vllm", **asked)


def test_amds_kernels_of_latents_take_blocks_of_one_token():
    """v1/attention/backends/mla/rocm_aiter_mla.py: MultipleOf(1), and recipes of DeepSeek-V3.2."""
    asked = {"block_size": 1, "tensor_parallel_size": 8}
    assert answer("deepseek-v3", "vllm", gpu="mi300x:8", **asked).settings["block_size"] == 1
    for name, gpu in (("deepseek-v3", "h200:8"), ("llama-3.1-8b", "mi300x:8")):
        with pytest.raises(UsageError, match="no multiple of 16"):
            answer(name, "vllm", gpu=gpu, **asked)


def test_block_sizes_that_are_taken():
    assert answer(LLAMA, "vllm", block_size=48).settings["block_size"] == 48


def test_offloading_takes_layers_alone():
    """2 x 128,256 x 4,096 of embeddings and head, and a norm, stay."""
    found = answer(LLAMA, "vllm", cpu_offload_gb=1000)
    held = next(c for c in found.devices[0].phases[0].components if c.name == "weights")
    assert held.bytes.expected == 2 * (2 * 128_256 + 1) * 4096
    assert warned(found, "--cpu-offload-gb")
    assert not answer(LLAMA, "vllm", cpu_offload_gb=10).warnings


def test_sequences_that_run_at_once():
    found = answer(LLAMA, "vllm", max_num_seqs=4, batch_size=64)
    assert warned(found, "4 requests run at once")
    assert found.devices == answer(LLAMA, "vllm", max_num_seqs=4, batch_size=4).devices


def test_blocks_of_one_request():
    assert warned(answer(LLAMA, "vllm", num_gpu_blocks_override=256), "takes 256")
    assert not answer(LLAMA, "vllm", num_gpu_blocks_override=257).warnings


# What SGLang takes


def test_pools_below_a_request():
    assert warned(answer(LLAMA, "sglang", max_total_tokens=100), "--max-total-tokens 100")
    assert warned(answer(LLAMA, "sglang", max_total_tokens=100, gpu="h100"), "-total-tokens 100")
    assert not answer(LLAMA, "sglang", max_total_tokens=4096).warnings


def test_a_chunk_of_nothing_is_the_whole_prompt():
    none, whole = (answer(LLAMA, "sglang", chunked_prefill_size=n) for n in (0, -1))
    assert none.devices == whole.devices
    assert "--chunked-prefill-size 0" in none.derived["launch"]


def test_formats_of_the_cache_are_each_engines_own():
    """4.5 bits an element: 8 heads x (128 + 128) x 32 layers."""
    four = answer(LLAMA, "sglang", kv_cache_dtype="fp4_e2m1")
    assert four.derived["kv_cache_bytes_per_token"] == 8 * 256 * 32 * 9 // 16
    with pytest.raises(UsageError, match="fp4_e2m1") as raised:
        answer(LLAMA, "sglang", kv_cache_dtype="fp8_inc")
    assert "fp8_inc" not in str(raised.value).partition("known: ")[2]
    with pytest.raises(UsageError, match="fp8_inc"):
        answer(LLAMA, "vllm", kv_cache_dtype="fp4_e2m1")


# Images


@pytest.mark.parametrize("kind", BOTH)
def test_images_and_the_context(kind):
    with pytest.raises(UsageError, match="--images 50: they take"):
        weighbridge.infer(QWEN, engine=kind, images=50, context=4096)
    assert weighbridge.infer(QWEN, engine=kind, images=1, context=4096).devices
    assert "limit-mm" in answer(QWEN, kind, images=1).derived["launch"]
    assert "limit-mm" not in answer(LLAMA, kind, images=1).derived["launch"]


# Draft models


@pytest.mark.parametrize(
    ("kind", "word"),
    [
        ("vllm", '"model": "meta-llama/Llama-3.2-1B"'),
        ("sglang", "--speculative-draft-model-path meta-llama/Llama-3.2-1B"),
        ("transformers", 'from_pretrained("meta-llama/Llama-3.2-1B")'),
        ("llama.cpp", "-md llama-3.2-1b-BF16.gguf"),
    ],
)
def test_a_line_names_what_the_draft_is_loaded_from(kind, word):
    found = weighbridge.infer("llama-3.1-8b", engine=kind, draft_model="llama-3.2-1b")
    assert word in found.derived["launch"]
