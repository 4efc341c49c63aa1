"""Command lines of engines that were not read, in the flags of the one whose rules answer."""

import pytest

import weighbridge
from weighbridge.base.errors import UsageError
from weighbridge.engines.launch import parse
from weighbridge.engines.launch.programs import IMAGES, PROGRAMS, dialect
from weighbridge.engines.stand_ins import STAND_INS
from weighbridge.engines.table import ENGINES
from weighbridge.faces.view import screen

TGI = "text-generation-launcher --model-id org/name"


@pytest.mark.parametrize(
    ("command", "engine", "settings"),
    [
        (f"{TGI} --num-shard 2 --max-total-tokens 8192", "tgi", {"tensor_parallel_size": 2, "context": 8192}),
        (f"{TGI} --quantize bitsandbytes-nf4", "tgi", {"quantization": "nf4"}),
        (f"{TGI} --quantize eetq", "tgi", {"quantization": "fp8-tensor"}),
        (f"{TGI} --kv-cache-dtype fp8_e4m3fn", "tgi", {"kv_cache_dtype": "fp8_e4m3"}),
        (f"{TGI} --cuda-memory-fraction 0.8", "tgi", {"gpu_memory_utilization": 0.8}),
        ("trtllm-serve org/name --tp_size 4 --max_seq_len 4096", "tensorrt-llm", {"tensor_parallel_size": 4, "context": 4096}),
        ("trtllm-serve serve org/name --pp_size 2", "tensorrt-llm", {"pipeline_parallel_size": 2}),
        ("lmdeploy serve api_server org/name --tp 2 --quant-policy 8", "lmdeploy", {"tensor_parallel_size": 2, "kv_cache_dtype": "int8_per_token_head"}),
        ("lmdeploy serve api_server org/name --quant-policy 4", "lmdeploy", {"kv_cache_dtype": "int4_per_token_head"}),
        ("lmdeploy serve api_server org/name --session-len 8192 --eager-mode", "lmdeploy", {"context": 8192, "enforce_eager": True}),
        ("aphrodite run org/name -tp 2 --enforce-eager", "aphrodite", {"tensor_parallel_size": 2, "enforce_eager": True}),
        ("docker run --gpus all ghcr.io/huggingface/text-generation-inference:3.3.4 --model-id org/name --num-shard 2", "tgi", {"tensor_parallel_size": 2}),
        ("docker run --gpus all alpindale/aphrodite-openai:latest --model org/name -tp 2", "aphrodite", {"tensor_parallel_size": 2}),
        ("koboldcpp x.gguf --contextsize 2048 --gpulayers 20", "koboldcpp", {"context": 2048, "n_gpu_layers": 20}),
        ("python koboldcpp.py --model x.gguf --gpulayers 20", "koboldcpp", {"n_gpu_layers": 20}),
        ("koboldcpp_cu12.exe x.gguf --contextsize 2048", "koboldcpp", {"context": 2048}),
        ("koboldcpp --model x.gguf --contextsize 4096 --quantkv 1 --usecublas normal 0", "koboldcpp", {"context": 4096, "cache_type_k": "q8_0", "cache_type_v": "q8_0"}),
    ],
)  # fmt: skip
def test_flags_of_an_engine_that_was_not_read(command, engine, settings):
    launch = parse(command)
    assert launch.engine == engine
    assert launch.model in ("org/name", "x.gguf")
    assert not launch.unknown
    assert settings.items() <= launch.settings.items(), launch.settings


def test_a_value_without_memory_sets_nothing():
    launch = parse("lmdeploy serve api_server org/name --model-format hf --quant-policy 0")
    assert not {"quantization", "kv_cache_dtype"} & launch.settings.keys()
    assert {"--model-format", "--quant-policy"} <= set(launch.ignored)


def test_a_flag_without_a_counterpart_is_said():
    launch = parse("trtllm-serve org/name --kv_cache_free_gpu_memory_fraction 0.5 --made-up 3")
    assert any("free-gpu-memory-fraction" in line for line in launch.warnings)
    assert launch.unknown == ("--made-up",)


def test_a_program_that_starts_no_server():
    with pytest.raises(UsageError, match="serve api_server"):
        parse("lmdeploy chat org/name")


def test_a_command_and_the_engine_by_name_have_one_answer():
    """Apart from what the command's engine decides itself, which a question by name spreads."""
    by_command = weighbridge.infer(
        command="text-generation-launcher --model-id qwen3-8b", gpu="h100"
    )
    by_name = weighbridge.infer("qwen3-8b", engine="tgi", gpu="h100", context=40960)
    assert by_command.peak == by_name.peak
    assert by_command.verdict.fits == by_name.verdict.fits
    assert {screen(each).title.partition(" · ")[0] for each in (by_command, by_name)} == {
        "qwen3-8b on tgi (by vLLM 0.33's rules)"
    }


def test_a_program_that_runs_the_code_of_another_is_as_sure():
    own = weighbridge.infer("qwen3-8b", engine="llama.cpp", quantization="Q4_K_M", gpu="3060")
    other = weighbridge.infer("qwen3-8b", engine="lm-studio", quantization="Q4_K_M", gpu="3060")
    assert other.peak == own.peak
    assert other.warnings == own.warnings


@pytest.mark.parametrize("program", sorted({program for _, program in IMAGES} - {""}))
def test_an_image_runs_a_program_that_there_is(program):
    assert program in PROGRAMS


@pytest.mark.parametrize("name", [*STAND_INS])
def test_flags_lead_to_flags_that_there_are(name):
    own = STAND_INS[name]
    near = dialect(ENGINES[own.near]).flags if own.flags or own.fork else {}
    assert {
        flag for meant in own.flags.values() for flag in meant.strip("*").split()
    } <= near.keys()
    assert own.values.keys() <= own.flags.keys()
