"""Engines' own command lines, as people post them."""

import shlex
import subprocess
import sys
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.cases import all_of
from weighbridge.base.errors import UnsupportedError, UsageError
from weighbridge.base.words import entries, words_in
from weighbridge.engines.launch import parse
from weighbridge.engines.launch.programs import dialect
from weighbridge.engines.table import ENGINES
from weighbridge.settings.setting import fields
from weighbridge.workload import INFER, Infer, engines_of, foreign, read

pytestmark = pytest.mark.slow

DIALECTS = {e.name: dialect(e) for e in ENGINES.values() if e.programs}

SERVER = {"program": "server"}
# command, engine, model, settings, devices
POSTED = [
    ("vllm serve meta-llama/Llama-3.1-8B-Instruct", "vllm", "meta-llama/Llama-3.1-8B-Instruct", {}, 1),
    (
        "vllm serve Qwen/Qwen3-32B -tp 2 --max-model-len 32k --gpu-memory-utilization 0.95 --port 8000",
        "vllm", "Qwen/Qwen3-32B",
        {"tensor_parallel_size": 2, "context": 32_000, "gpu_memory_utilization": 0.95}, 2,
    ),
    ("vllm serve Qwen/Qwen3-32B --max-model-len 32K", "vllm", "Qwen/Qwen3-32B", {"context": 32_768}, 1),
    ("vllm serve Qwen/Qwen3-32B --max-model-len 25.6k", "vllm", "Qwen/Qwen3-32B", {"context": 25_600}, 1),
    ("vllm serve Qwen/Qwen3-32B --max-model-len -1", "vllm", "Qwen/Qwen3-32B", {}, 1),
    ("vllm serve Qwen/Qwen3-32B --max-model-len auto", "vllm", "Qwen/Qwen3-32B", {}, 1),
    (
        "vllm serve Qwen/Qwen3-8B -q fp8 --kv-cache-dtype fp8_e5m2 --dtype half",
        "vllm", "Qwen/Qwen3-8B",
        {"quantization": "fp8-tensor", "kv_cache_dtype": "fp8_e5m2", "dtype": "float16"}, 1,
    ),
    (
        "vllm serve Qwen/Qwen2.5-72B-Instruct-AWQ --quantization awq_marlin --dtype auto --kv-cache-dtype auto",
        "vllm", "Qwen/Qwen2.5-72B-Instruct-AWQ", {}, 1,
    ),
    (
        "CUDA_VISIBLE_DEVICES=0,1 VLLM_USE_V1=1 vllm serve mistralai/Mistral-7B-v0.1 --tensor_parallel_size=2 2>&1 | tee v.log",
        "vllm", "mistralai/Mistral-7B-v0.1", {"tensor_parallel_size": 2}, 2,
    ),
    (
        ("VLLM_USE_V1=1 vllm serve enochlev/gemma-3-1b-pt-human --max-model-len 2048 --max-num-seqs 1 "
        "--gpu-memory-utilization .2 --port 9300 --served-model-name gemma --no-enable-prefix-caching "
        "--max-num-batched-tokens 2048 --max-seq-len-to-capture 2048 --disable-log-requests"),
        "vllm", "enochlev/gemma-3-1b-pt-human",
        {
            "context": 2048, "max_num_seqs": 1, "gpu_memory_utilization": 0.2,
            "enable_prefix_caching": False, "max_num_batched_tokens": 2048,
        }, 1,
    ),
    (
        ("VLLM_ROCM_USE_AITER=1 vllm serve /apps/data/models/DSR1 -tp 8 -dp 1 --port 30000 --block-size 1 "
        "--max-num-batched-tokens 32768 --no-enable-prefix-caching "
        """--speculative-config '{"method":"deepseek_mtp","num_speculative_tokens":1}' 2>&1 | tee mtp2.log"""),
        "vllm", "/apps/data/models/DSR1",
        {
            "tensor_parallel_size": 8, "data_parallel_size": 1, "block_size": 1,
            "max_num_batched_tokens": 32_768, "enable_prefix_caching": False,
            "speculative_method": "mtp", "num_speculative_tokens": 1,
        }, 8,
    ),
    (
        ("docker run --gpus all vllm/vllm-openai:v0.9.2 --model meta-llama/Llama-3.1-8B-Instruct "
        "--max-model-len 10000 --swap-space 4 --dtype auto --enable-chunked-prefill "
        "--disable-log-requests --enable-prefix-caching --port 8081 --max-num-seqs 72 "
        "--quantization fp8 --max-num-batched-tokens 2048"),
        "vllm", "meta-llama/Llama-3.1-8B-Instruct",
        {
            "context": 10_000, "enable_prefix_caching": True, "max_num_seqs": 72,
            "quantization": "fp8-tensor", "max_num_batched_tokens": 2048, "engine_version": "0.9.2",
            "swap_space": 4.0,
        }, 1,
    ),
    (
        """docker run --runtime nvidia --gpus '"device=2,3"' -v ~/.cache/huggingface:/root/.cache/huggingface \\
    --env "HUGGING_FACE_HUB_TOKEN=hf_x" \\
    -p 8000:8000 --ipc=host --name vllm-server -it --rm \\
    vllm/vllm-openai:v0.19.0 \\
    --model mistralai/Mistral-7B-v0.1 --tensor-parallel-size 2""",
        "vllm", "mistralai/Mistral-7B-v0.1",
        {"tensor_parallel_size": 2, "engine_version": "0.19.0"}, 2,
    ),
    (
        "sudo docker run -d --gpus=all vllm/vllm-openai:latest vllm serve google/gemma-3-27b-it --limit-mm-per-prompt.image 4",
        "vllm", "google/gemma-3-27b-it", {"images": 4}, 1,
    ),
    (
        "docker run --gpus all --entrypoint vllm vllm/vllm-openai:v0.11.0 serve google/gemma-3-27b-it",
        "vllm", "google/gemma-3-27b-it", {"engine_version": "0.11.0"}, 1,
    ),
    (
        "podman run --device nvidia.com/gpu=all rocm/vllm:rocm6.4.1_vllm_0.10.0 bash -c 'vllm serve Qwen/Qwen3-8B -tp 4'",
        "vllm", "Qwen/Qwen3-8B", {"tensor_parallel_size": 4}, 4,
    ),
    (
        ("python -m vllm.entrypoints.openai.api_server --model Qwen/Qwen2-VL-7B-Instruct "
        "--limit-mm-per-prompt image=5,video=0 --enforce-eager --trust-remote-code"),
        "vllm", "Qwen/Qwen2-VL-7B-Instruct", {"images": 5, "enforce_eager": True}, 1,
    ),
    (
        ("python3.11 -u -m vllm.entrypoints.openai.api_server --model=a/b --pipeline-parallel-size=2 "
        "--tensor-parallel-size=4 --distributed-executor-backend=ray --kv-cache-memory-bytes=20G"),
        "vllm", "a/b",
        {
            "pipeline_parallel_size": 2, "tensor_parallel_size": 4, "kv_cache_memory_bytes": 20 << 30,
            "distributed_executor_backend": "ray",
        }, 8,
    ),
    (
        """vllm serve Qwen/Qwen2.5-VL-7B-Instruct --limit-mm-per-prompt '{"image": {"count": 2, "width": 1280, "height": 720}, "video": 0}' --mm-processor-cache-gb 0""",
        "vllm", "Qwen/Qwen2.5-VL-7B-Instruct", {"images": 2, "image_size": "1280x720"}, 1,
    ),
    (
        ("vllm serve meta-llama/Llama-3.3-70B-Instruct -tp 4 --speculative-config.method eagle3 "
        "--speculative-config.model yuhuili/EAGLE3-LLaMA3.3-Instruct-70B --speculative-config.num_speculative_tokens 3"),
        "vllm", "meta-llama/Llama-3.3-70B-Instruct",
        {
            "tensor_parallel_size": 4, "speculative_method": "eagle3",
            "draft_model": "yuhuili/EAGLE3-LLaMA3.3-Instruct-70B", "num_speculative_tokens": 3,
        }, 4,
    ),
    (
        ("vllm serve Mistral-Small-24B-Instruct-2501-AWQ --tensor-parallel-size 2 --gpu-memory-utilization 0.7 "
        "--guided-decoding-backend auto --speculative-model [ngram] --num-speculative-tokens 3"),
        "vllm", "Mistral-Small-24B-Instruct-2501-AWQ",
        {
            "tensor_parallel_size": 2, "gpu_memory_utilization": 0.7, "speculative_method": "ngram",
            "num_speculative_tokens": 3,
        }, 2,
    ),
    (
        "vllm serve meta-llama/Llama-2-7b-hf --enable-lora --lora-modules sql=org/sql a=./b --max-loras 4 --max-lora-rank 64",
        "vllm", "meta-llama/Llama-2-7b-hf", {"max_loras": 4, "max_lora_rank": 64}, 1,
    ),
    ("vllm serve a/b --enable-lora", "vllm", "a/b", {"max_loras": 1, "max_lora_rank": 16}, 1),
    ("vllm serve a/b -O3", "vllm", "a/b", {}, 1),
    ("vllm serve a/b -O 0", "vllm", "a/b", {"enforce_eager": True}, 1),
    (
        """vllm serve a/b --compilation-config '{"cudagraph_capture_sizes": [1, 2, 4, 8]}'""",
        "vllm", "a/b", {"max_cudagraph_capture_size": 8}, 1,
    ),
    ("vllm serve a/b --cudagraph-capture-sizes 1 2 4 16", "vllm", "a/b", {"max_cudagraph_capture_size": 16}, 1),
    ("vllm serve a/b -cc.cudagraph_mode=NONE", "vllm", "a/b", {"enforce_eager": True}, 1),
    ("uv run --with vllm vllm serve a/b --no-async-scheduling", "vllm", "a/b", {"async_scheduling": False}, 1),
    ("vllm serve --model a/b --enable-expert-parallel -dcp 2 -tp 8", "vllm", "a/b",
     {"enable_expert_parallel": True, "decode_context_parallel_size": 2, "tensor_parallel_size": 8}, 8),
    (
        ("export MODEL_PATH=/home/admin/model\nexport CUDA_VISIBLE_DEVICES=0\n# afd\nexec env VLLM_USE_V1=1 vllm serve \"$MODEL_PATH\" \\\n"
        "  --host 0.0.0.0 \\\n  --port \"$FFN_PORT\" \\\n  --data-parallel-size 16 \\\n  --enforce-eager &\n"),
        "vllm", "/home/admin/model", {"data_parallel_size": 16, "enforce_eager": True}, 16,
    ),
    (
        "python3 -m sglang.launch_server --model-path XiaomiMiMo/MiMo-7B-SFT --host 0.0.0.0 --port 30000 --trust-remote-code --dp-size 4",
        "sglang", "XiaomiMiMo/MiMo-7B-SFT", {"data_parallel_size": 4}, 4,
    ),
    (
        "python -m sglang.launch_server --model-path deepseek-ai/DeepSeek-V3 --tp 8 --trust-remote-code --enable-dp-attention --dp 8 --mem-fraction-static 0.85",
        "sglang", "deepseek-ai/DeepSeek-V3", {"tensor_parallel_size": 8, "data_parallel_size": 8, "enable_dp_attention": True, "mem_fraction_static": 0.85}, 8,
    ),
    (
        ("python3 -m sglang.launch_server --model meta-llama/Llama-3.1-8B-Instruct --context-length 32768 "
        "--chunked-prefill-size 4096 --kv-cache-dtype fp8_e5m2 --max-running-requests 128 --disable-cuda-graph --disable-radix-cache"),
        "sglang", "meta-llama/Llama-3.1-8B-Instruct",
        {
            "context": 32_768, "chunked_prefill_size": 4096, "kv_cache_dtype": "fp8_e5m2",
            "max_running_requests": 128, "disable_cuda_graph": True, "disable_radix_cache": True,
        }, 1,
    ),
    (
        ("docker run --gpus all --shm-size 32g -p 30000:30000 --ipc=host lmsysorg/sglang:v0.5.3-cu126 "
        "python3 -m sglang.launch_server --model-path Qwen/Qwen3-235B-A22B --tp 8 --ep-size 8 --cuda-graph-max-bs 64"),
        "sglang", "Qwen/Qwen3-235B-A22B",
        {"tensor_parallel_size": 8, "enable_expert_parallel": True, "cuda_graph_max_bs": 64, "engine_version": "0.5.3"}, 8,
    ),
    (
        ("python3 -m sglang.launch_server --model meta-llama/Llama-3.1-8B-Instruct --speculative-algorithm EAGLE3 "
        "--speculative-draft-model-path org/draft --speculative-num-steps 3 --speculative-eagle-topk 1 --speculative-num-draft-tokens 4"),
        "sglang", "meta-llama/Llama-3.1-8B-Instruct",
        {"speculative_method": "eagle3", "draft_model": "org/draft", "num_speculative_tokens": 4}, 1,
    ),
    ("sglang serve Qwen/Qwen3-8B --tensor-parallel-size 2 --page-size 64", "sglang", "Qwen/Qwen3-8B",
     {"tensor_parallel_size": 2, "page_size": 64}, 2),
    ("python -m sglang.launch_server --model-path a/b --torchao-config int4wo-128 --cuda-graph-bs 1 2 4 8", "sglang", "a/b",
     {"quantization": "torchao-int4-g128", "cuda_graph_max_bs": 8}, 1),
    ("./build/bin/llama-server -m model.gguf -c 32768 -ngl 99 -fa on", "llama.cpp", "model.gguf",
     {**SERVER, "context": 32_768, "n_gpu_layers": 99, "flash_attn": "on"}, None),
    ("llama-server -hf unsloth/GLM-4.7-Flash-GGUF:UD-Q4_K_XL --port 8129 -c 131072 -b 2048 -ub 1024 --parallel 1 -fa on --jinja --chat-template-file ~/t.jinja",
     "llama.cpp", "unsloth/GLM-4.7-Flash-GGUF:UD-Q4_K_XL",
     {**SERVER, "mmproj_auto": True, "context": 131_072, "n_batch": 2048, "ubatch_size": 1024, "parallel": 1, "flash_attn": "on"}, None),
    ("llama-server -hf ggml-org/Qwen2.5-Coder-3B-Q8_0-GGUF --port 8012 -ngl 99 -fa -ub 1024 -b 1024 -dt 0.1 --ctx-size 0 --cache-reuse 256 &",
     "llama.cpp", "ggml-org/Qwen2.5-Coder-3B-Q8_0-GGUF",
     {**SERVER, "mmproj_auto": True, "n_gpu_layers": 99, "flash_attn": "on", "ubatch_size": 1024, "n_batch": 1024}, None),
    ("llama-server -hf org/name -hff name-Q5_K_M.gguf --no-mmproj", "llama.cpp", "org/name/name-Q5_K_M.gguf", SERVER, None),
    ("llama-cli -m ~/models/gemma-3-27b-it-Q4_K_M.gguf -p 'I believe the meaning of life is' -n 128 -no-cnv", "llama.cpp",
     "~/models/gemma-3-27b-it-Q4_K_M.gguf", {"program": "cli"}, None),
    ("llama-server --model gpt-oss-120b.gguf --ctx-size 65536 -np 4 --cpu-moe -ctk q8_0 -ctv q8_0 --no-mmap --mlock -t $(nproc)",
     "llama.cpp", "gpt-oss-120b.gguf",
     {**SERVER, "context": 16_384, "parallel": 4, "n_cpu_moe": 999, "cache_type_k": "q8_0", "cache_type_v": "q8_0", "no_mmap": True}, None),
    ("llama-server -m m.gguf -c 65536 -np 4 -kvu -ncmoe 20 --swa-full -nkvo", "llama.cpp", "m.gguf",
     {**SERVER, "context": 65_536, "parallel": 4, "kv_unified": True, "n_cpu_moe": 20, "swa_full": True, "no_kv_offload": True}, None),
    (r"llama-server -m m.gguf -ot '.ffn_.*_exps.=CPU' -ngl all -sm row -ts 3,1 -mg 1", "llama.cpp", "m.gguf",
     {**SERVER, "override_tensor": ".ffn_.*_exps.=CPU", "n_gpu_layers": -1, "split_mode": "row", "tensor_split": "3.0,1.0", "main_gpu": 1}, 2),
    ("CUDA_VISIBLE_DEVICES=0,1,2 ./llama-server -m m.gguf --mmproj mmproj-F16.gguf -md draft.gguf -cram 0 --flash-attn off --no-kv-unified",
     "llama.cpp", "m.gguf",
     {**SERVER, "mmproj": "mmproj-F16.gguf", "draft_model": "draft.gguf", "cache_ram": 0, "flash_attn": "off", "kv_unified": False}, 3),
    ("llama-server -mu https://host/m.gguf -dev CUDA0,CUDA1 -sm none", "llama.cpp", "https://host/m.gguf",
     {**SERVER, "split_mode": "none"}, 1),
    (r"C:\llama\llama-server.exe -m C:\models\qwen.gguf -ngl 40", "llama.cpp", r"C:\models\qwen.gguf", {**SERVER, "n_gpu_layers": 40}, None),
    ("docker run --gpus 2 -v /m:/models ghcr.io/ggml-org/llama.cpp:server-cuda-b6500 -m /models/x.gguf -c 4096 --host 0.0.0.0",
     "llama.cpp", "/models/x.gguf", {**SERVER, "context": 4096, "engine_version": "6500"}, 2),
    ("docker run ghcr.io/ggml-org/llama.cpp:light -m x.gguf -p hi", "llama.cpp", "x.gguf", {"program": "cli"}, None),
    ("./llama-server -m DeepSeek-R1-IQ4_K.gguf -mla 3 -fa -fmoe -amb 512 -rtr -ot exps=CPU -ctk q8_0 -ngl 63 -c 32768 --parallel 1 -b 4096 -ub 4096",
     "ik_llama.cpp", "DeepSeek-R1-IQ4_K.gguf",
     {**SERVER, "mla_attn": 3, "flash_attn": "on", "fused_moe": True, "attn_max_b": 512, "run_time_repack": True, "override_tensor": "exps=CPU",
      "cache_type_k": "q8_0", "n_gpu_layers": 63, "context": 32_768, "parallel": 1, "n_batch": 4096, "ubatch_size": 4096}, None),
    ("numactl -N 0 -m 0 ./build/bin/llama-server --model x.gguf -ser 7,1 --no-fused-moe", "ik_llama.cpp", "x.gguf", {**SERVER, "fused_moe": False}, None),
]  # fmt: skip


@all_of(("command", "engine", "model", "settings", "devices"), POSTED)
def test_as_posted(command, engine, model, settings, devices):
    found = parse(command)
    assert (found.engine, found.model, found.devices) == (engine, model, devices)
    assert found.settings == settings
    assert found.unknown == ()


@all_of("command", [row[0] for row in POSTED])
def test_settings_are_ours_and_the_engines(command):
    """Every one has a row in our table, a value that it takes, and belongs to the engine."""
    found = parse(command)
    foreign(read("infer", {"engine": found.engine, **found.settings}), found.engine)


def test_there_are_enough_of_them():
    assert len(POSTED) >= 40


# Values that flags take, by what reads them.
KINDS = {
    "whole": "2", "count": "2k", "bytes": "2G", "number": "0.5", "word": "x", "dtype": "half", "many": "2",
}  # fmt: skip
SPECIAL = {
    "context": "4096", "quantization": "fp8", "limits": '{"image": 1}', "loras": "2", "lora_rank": "8",
    "captures": "8", "compilation": '{"mode": 3}', "optimization": "2", "prefill_context": "1",
    "speculative": '{"method": "ngram", "num_speculative_tokens": 2}', "spec_method": "mtp",
    "spec_num_speculative_tokens": "2", "torchao": "int8wo", "copies": "2", "attention_copies": "2",
    "steps": "2", "draft_tokens": "2", "topk": "1", "algorithm": "NGRAM", "flash": "on",
    "layers": "9", "slots": "2", "split": "row", "shares": "1,1", "devices": "CUDA0",
    "load_mode": "none", "placed": "exps=CPU",
}  # fmt: skip
BASE = {
    "vllm": "vllm serve m",
    "sglang": "python -m sglang.launch_server --model-path m",
    "llama.cpp": "llama-server -m m",
    "ik_llama.cpp": "llama-server -m m -no-gr",
}


def sample(flag):
    if flag.takes == "switch":
        return []
    if flag.takes == "pair":
        return ["1", "2"]
    if "--n-cpu-moe" in flag.names:
        return ["2"]
    if flag.effect == "@":
        return [SPECIAL.get(flag.detail, "x")]
    return [KINDS.get(flag.kind, "x")]


@pytest.mark.parametrize("engine", BASE)
def test_every_flag_is_taken_and_accounted_for(engine):
    """Each is a setting, ignored, or a warning; none disappears and none is unknown."""
    base = parse(BASE[engine])
    lost = []
    for name, flag in DIALECTS[engine].flags.items():
        found = parse(shlex.join([*shlex.split(BASE[engine]), name, *sample(flag)]))
        assert found.unknown == (), name
        assert found.engine == engine, name
        if found == base:
            lost.append(name)
    assert [n for n in lost if n not in ("-m", "--model", "--model-path", "-no-gr")] == []


def test_what_a_flag_or_a_variable_changes_that_is_not_modelled_is_told_in_two_languages():
    """And each such sentence is of some flag or variable."""
    spoken = (*DIALECTS.values(), dialect(ENGINES["ollama"]))
    told = {f"flag.{why}" for d in spoken for why in d.env.values() if why}
    flags = [flag for d in spoken for flag in d.flags.values()]
    told |= {f"flag.{flag.detail}" for flag in flags if flag.effect in "!~"}
    assert told == {key for key in entries("warnings") if key.startswith("flag.")}
    (line,) = parse("vllm serve a/b --enable-dbo").warnings
    assert line == "--enable-dbo is not modelled: a step in two halves"
    assert words_in("zh").told(line) == "未计入 --enable-dbo：一步分成两半"


@pytest.mark.parametrize("engine", BASE)
def test_every_field_that_a_flag_sets_is_one_of_ours(engine):
    ours = fields(Infer).keys()
    for name, flag in DIALECTS[engine].flags.items():
        if flag.effect == "=":
            assert flag.detail in ours, name
            of = engines_of(INFER[flag.detail])
            assert not of or engine in of, name


@pytest.mark.parametrize(
    ("engine", "least"), [("vllm", 300), ("sglang", 530), ("llama.cpp", 280), ("ik_llama.cpp", 350)]
)
def test_tables_are_whole(engine, least):
    """0.33.0 has 254 options in its engine arguments and 60 in its server's; sglang 0.5.23 has 546
    fields; llama.cpp has 355 options over all its programs."""
    assert len({f.names for f in DIALECTS[engine].flags.values()}) >= least


def test_vllm_q_is_quantization():
    assert parse("vllm serve a/b -q bitsandbytes").settings == {"quantization": "nf4"}
    assert parse("vllm serve a/b -q awq").settings == {"quantization": "awq"}
    assert parse("vllm serve a/b -q gptq").ignored == ("-q",)
    assert "mystery" in parse("vllm serve a/b -q mystery").warnings[0]


def test_switches_have_opposites_in_vllm_alone():
    assert parse("vllm serve m --no-enforce-eager").settings == {"enforce_eager": False}
    assert parse("vllm serve m --disable-expert-parallel").settings == {
        "enable_expert_parallel": False
    }
    assert parse("vllm serve m --enforce-eager=false").settings == {"enforce_eager": False}
    assert parse("sglang serve m --no-disable-radix-cache").unknown == ("--no-disable-radix-cache",)


def test_only_chunked_prefill_switched_off_matters():
    assert parse("vllm serve m --enable-chunked-prefill").ignored == ("--enable-chunked-prefill",)
    for off in ("--no-enable-chunked-prefill", "--disable-chunked-prefill"):
        assert off in parse(f"vllm serve m {off}").warnings[0]


def test_what_is_not_modelled_is_said():
    found = parse("vllm serve m --enable-eplb --config c.yaml --hf-overrides '{}'")
    assert [w.split(" is not modelled")[0] for w in found.warnings] == [
        "--enable-eplb", "--config", "--hf-overrides",
    ]  # fmt: skip


def test_an_unknown_flag_is_a_warning_with_the_nearest():
    found = parse("vllm serve m --max-model-length 8192 --port 80")
    assert found.unknown == ("--max-model-length",)
    assert "--max-model-len" in found.warnings[0]
    assert found.ignored == ("--port",)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("--mamba-scheduler-strategy extra_buffer", "--mamba-radix-cache-strategy extra_buffer"),
        ("--nsa-prefill-backend tilelang", "--dsa-prefill-backend tilelang"),
        ("--nsa-decode-backend trtllm", "--dsa-decode-backend trtllm"),
        ("--enable-nsa-prefill-context-parallel", "--enable-prefill-cp"),
        ("--piecewise-cuda-graph-tokens 4 8", "--cuda-graph-bs-prefill 4 8"),
    ],
)
def test_an_old_name_of_a_flag_is_read_as_the_new_one(old, new):
    """sglang 0.5.19 srt/server_args.py has both; argparse of 0.5.20 has the new ones alone."""
    flag, name = old.split()[0], new.split()[0]
    renamed = f"{flag} is {name} since sglang 0.5.20, which does not take the old name"
    before, after = parse(f"sglang serve m {old}"), parse(f"sglang serve m {new}")
    assert before.unknown == before.stops == ()
    assert before.settings == after.settings
    assert before.warnings[-1] == renamed
    assert len(before.warnings) == len(after.warnings) + 1
    for release, stops in (("0.5.19", ()), ("0.5.20", (("no", renamed),))):
        image = f"docker run --gpus all lmsysorg/sglang:v{release} sglang serve m"
        assert tuple(each[:2] for each in parse(f"{image} {old}").stops) == stops
        assert parse(f"{image} {new}").stops == ()


def test_unique_beginnings_are_completed_as_argparse_does():
    assert parse("sglang serve m --mem-frac 0.8 --context-len 4096").settings == {
        "mem_fraction_static": 0.8, "context": 4096,
    }  # fmt: skip
    assert parse("sglang serve m --sp x").unknown == ("--sp",)
    assert parse("llama-server -m x --ctx 5").unknown == ("--ctx",)


def test_code_of_the_repository_is_never_run_and_the_revision_is_handed_on():
    found = parse(
        "vllm serve a/b --trust-remote-code --revision abc --served-model-name x y --tokenizer c/d"
    )
    assert "not obeyed" in found.warnings[0]
    assert (found.revision, found.served) == ("abc", {"name": "x y"})
    assert found.ignored == ("--tokenizer", "--served-model-name")


def test_ranks_that_the_environment_does_not_leave():
    found = parse("CUDA_VISIBLE_DEVICES=0 vllm serve a/b -tp 2")
    assert found.devices == 2
    assert found.warnings == ("the command needs 2 devices, and its environment leaves 1",)


def test_variables_that_matter_are_named_and_secrets_are_not_shown():
    found = parse(
        "HF_TOKEN=hf_secret PYTORCH_CUDA_ALLOC_CONF=x VLLM_ATTENTION_BACKEND=FLASHINFER vllm serve a/b --api-key sk-secret"
    )
    assert "PYTORCH_CUDA_ALLOC_CONF" in found.warnings[0]
    assert found.settings == {"attention_backend": "FLASHINFER"}
    assert "secret" not in repr(found)
    assert set(found.ignored) == {"--api-key", "HF_TOKEN"}
    assert "LLAMA_ARG_CTX_SIZE" in parse("LLAMA_ARG_CTX_SIZE=8192 llama-server -m x").warnings[0]


def test_defaults_follow_the_version_and_what_is_said():
    new = {name: value for name, value, _ in parse("vllm serve a/b").defaults}
    old = {
        name: value
        for name, value, _ in parse("docker run vllm/vllm-openai:v0.19.0 --model a/b").defaults
    }
    assert (old["gpu_memory_utilization"], new["gpu_memory_utilization"]) == (0.9, 0.92)
    assert "context" in new
    assert "context" not in {d[0]: 1 for d in parse("vllm serve a/b --max-model-len 9").defaults}


def test_a_share_of_the_context_per_slot():
    """-c is of all slots; a unified cache is one for all of them."""
    assert parse("llama-server -m x -c 32768 -np 4").settings["context"] == 8192
    assert parse("llama-server -m x -c 32768 -np 4 -kvu").settings["context"] == 32_768
    assert parse("llama-server -m x -c 32768").settings["context"] == 32_768
    assert "--ctx-size" in parse("llama-server -m x -np 4").warnings[0]


PLACED = [
    ("-ot exps=CPU -ot attn=CUDA1", "exps=CPU,attn=CUDA1", None, 2),
    (r"-ot 'blk\.[0-6]\.ffn=CUDA3,exps=CPU' -ncmoe 4", r"blk\.[0-6]\.ffn=CUDA3,exps=CPU", 4, 4),
    ("-ncmoe 4", None, 4, None),
    ("-ncmoe 4 -ncmoe 0 -ot x=CUDA0", r"blk\.([0-3])\.ffn_(up|down|gate|gate_up)_(ch|)exps=CPU,x=CUDA0", None, None),
    ("-cmoe -ot x=CPU", r"\.ffn_(up|down|gate|gate_up)_(ch|)exps=CPU,x=CPU", None, None),
    ("-ot x=CPU -cmoe", "x=CPU", 999, None),
    ("-cmoe -ncmoe 3", None, 999, None),  # both are there
    ("-ncmoe 3 -ncmoe 9 -ncmoe 5", None, 9, None),
    ("-fmoe -ncmoe 4 -ot x=CPU", "x=CPU", 4, None),  # ik_llama.cpp: behind them wherever it stands
    ("-ot x=CUDA2 -ts 1,1", "x=CUDA2", None, 2),
]  # fmt: skip


@all_of(("flags", "patterns", "lent", "devices"), PLACED)
def test_patterns_are_kept_in_their_order(flags, patterns, lent, devices):
    """The first pattern that is found decides: to llama.cpp --n-cpu-moe is one of them."""
    found = parse(f"llama-server -m x {flags}")
    said = found.settings
    assert (said.get("override_tensor"), said.get("n_cpu_moe") or None) == (patterns, lent)
    assert (found.devices, found.warnings) == (devices, ())


@pytest.mark.parametrize(
    ("command", "says"),
    [
        ("", "launches no engine"),
        ("echo hello", "launches no engine"),
        ("vllm bench serve --model a/b", "vllm bench"),
        ("vllm", "does not launch"),
        ("vllm serve", "names no model"),
        ("vllm serve $MODEL", "the shell"),
        ("vllm serve a/b --max-model-len", "without its value"),
        ("vllm serve a/b --max-model-len --port 80", "without its value"),
        ("vllm serve a/b --max-model-len lots", "32768"),
        ("vllm serve a/b --max-model-len 25.6K", "32768"),
        ("vllm serve a/b --max-model-len ${LEN}", "write the value"),
        ("vllm serve a/b --dtype int8", "bfloat16"),
        ("vllm serve a/b -tp two", "a whole number"),
        ("vllm serve a/b --gpu-memory-utilization 90%", "a number"),
        ("vllm serve a/b --speculative-config '{method: mtp}'", "a JSON object"),
        ("vllm serve a/b --speculative-config [1]", "a JSON object"),
        ("""vllm serve a/b --speculative-config '{"method": "eagle"}'""", "with the draft"),
        ("vllm serve a/b --compilation-config '" + "[" * 20_000 + "'", "a JSON object"),
        ("vllm serve 'a/b", "does not close"),
        ("vllm serve a/b \u2014max-model-len 5", "typographic dash"),
        ("vllm serve a/b && vllm serve c/d", "2 servers"),
        ("vllm serve " + "x" * 70_000, "64 KiB"),
        ("llama-server -c 4096", "names no model"),
        ("llama-server -m x -sm diagonal", "none, layer or row"),
        ("llama-server -m x -ngl some", "a whole number"),
        ("docker run --gpus all", "names no image"),
        ("docker run nginx", "not an image"),
        ("docker run vllm:nightly", "without a program"),
    ],
)
def test_what_cannot_be_read_is_one_line(command, says):
    with pytest.raises(UsageError, match=says) as caught:
        parse(command)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    "program", ["lmdeploy serve x", "text-generation-launcher --model-id a/b", "llama-bench -m x"]
)
def test_other_programs_are_not_yet(program):
    with pytest.raises(UnsupportedError, match="nearest is"):
        parse(program)


# Laws.

VLLM = [
    ["-tp", "2"], ["--max-model-len", "32k"], ["--enforce-eager"], ["--kv-cache-dtype", "fp8"],
    ["--limit-mm-per-prompt", '{"image": 2}'], ["--port", "80"], ["--no-enable-prefix-caching"],
    ["--speculative-config", '{"method": "mtp", "num_speculative_tokens": 1}'], ["--made-up", "5"],
    ["--enable-lora"], ["--max-loras", "3"], ["--hf-overrides", '{"a": "b c"}'], ["-q", "fp8"],
]  # fmt: skip
LLAMA = [
    ["-c", "32768"], ["-np", "4"], ["-fa", "on"], ["-ngl", "all"], ["-ot", "exps=CPU"], ["-ub", "1024"],
    ["-ctk", "q8_0"], ["--no-mmap"], ["--made-up"], ["-ts", "3,1"], ["--port", "80"], ["-kvu"],
]  # fmt: skip
SGLANG = [
    ["--tp", "4"], ["--context-length", "8192"], ["--disable-radix-cache"], ["--dp", "2"],
    ["--speculative-algorithm", "NEXTN"], ["--speculative-num-steps", "2"], ["--page-size", "64"],
    ["--enable-dp-attention"], ["--port", "80"], ["--made-up"],
]  # fmt: skip


def as_sets(found):
    return (
        found.engine, found.model, found.settings, found.devices, found.defaults,
        set(found.ignored), set(found.unknown), set(found.warnings),
    )  # fmt: skip


CASES = st.sampled_from(
    [("vllm serve m", VLLM), ("llama-server -m m", LLAMA), ("sglang serve m", SGLANG)]
)


@given(CASES.flatmap(lambda case: st.tuples(st.just(case), st.permutations(case[1]))))
def test_the_order_of_flags_does_not_matter(drawn):
    (start, flags), mixed = drawn

    def of(flags):
        return parse(f"{start} {shlex.join([w for flag in flags for w in flag])}")

    assert as_sets(of(mixed)) == as_sets(of(flags))


@given(CASES, st.data())
def test_glued_values_and_quotes_do_not_matter(case, data):
    start, flags = case
    chosen = data.draw(st.lists(st.sampled_from(flags), unique_by=tuple))
    apart = parse(f"{start} {shlex.join([w for flag in chosen for w in flag])}")
    glued = parse(f"{start} {shlex.join(['='.join(flag) for flag in chosen])}")
    quoted = " ".join(f'"{w}"' if '"' not in w else f"'{w}'" for flag in chosen for w in flag)
    assert as_sets(glued) == as_sets(apart)
    assert as_sets(parse(f"{start} \\\n  {quoted}")) == as_sets(apart)


@given(st.text(max_size=200))
def test_no_text_breaks_it(text):
    for command in (text, f"vllm serve {text}", f"llama-server -m x {text}", f"docker run {text}"):
        with suppress(UsageError):
            parse(command)


@given(
    st.lists(st.sampled_from(sorted(DIALECTS["vllm"].flags)), max_size=12),
    st.text("0ak{}[]:\"',.-$ ", max_size=20),
)
def test_no_value_breaks_it(flags, value):
    with suppress(UsageError):
        parse(f"vllm serve m {' '.join(f'{f} {shlex.quote(value)}' for f in flags)}")


def test_a_word_that_flash_attention_does_not_take():
    """-fa was a switch: what follows it is its value only where it can be."""
    found = parse("llama-server -fa -m x")
    assert (found.model, found.settings["flash_attn"]) == ("x", "on")
    assert "'maybe' belongs to no flag" in parse("llama-server -m x -fa maybe").warnings[0]


def test_many_unknown_flags_do_not_take_long():
    found = parse("vllm serve m " + " ".join(f"--x{n}" for n in range(8000)))
    assert len(found.unknown) == 8000


def test_nothing_heavy_is_imported():
    code = "import weighbridge.engines.launch, sys; print(*sorted({'torch', 'numpy', 'click'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_flags_of_one_name_and_two_meanings():
    """--color was a switch; ik_llama.cpp's -dr is a dry run, llama.cpp's a repository."""
    assert parse("llama-cli --color -m x").model == "x"
    assert parse("llama-cli --color on -m x").warnings == ()
    assert parse("llama-server -dr -m x -mla 3").model == "x"
    with pytest.raises(UnsupportedError):
        parse("llama-server -dr ai/smollm2")


@pytest.mark.parametrize(
    "line",
    [
        "vllm serve Qwen/Qwen2.5-7B-Instruct --port 8111--gpu-memory-utilization 0.5",
        "vllm serve Qwen/Qwen2.5-7B-Instruct --port=8111--gpu_memory_utilization=0.5",
        "vllm serve Qwen/Qwen2.5-7B-Instruct--gpu-memory-utilization 0.5",
    ],
)
def test_a_flag_that_hangs_on_a_value_is_an_error(line):
    """What it sets was dropped in silence."""
    with pytest.raises(UsageError, match=r"a blank is missing in .* before --gpu-memory-utiliza"):
        parse(line)


def test_two_dashes_in_a_value_are_no_flag():
    found = parse("vllm serve models--org--name --served-model-name a--b --max-model-len 8192")
    assert (found.model, found.settings["context"]) == ("models--org--name", 8192)


def test_awq_of_a_line_chooses_its_kernels():
    """vllm quantization/awq_marlin.py: awq forces them, awq_marlin and no word do not."""
    line = "vllm serve Qwen/Qwen2.5-72B-Instruct-AWQ --quantization"
    assert parse(f"{line} AWQ").settings["quantization"] == "awq"
    assert "--quantization" not in parse(f"{line} awq").ignored
    other = parse(f"{line} awq_marlin")
    assert "quantization" not in other.settings
    assert "--quantization" in other.ignored
    assert other.stored_as == "--quantization awq_marlin"


@pytest.mark.parametrize(
    "command",
    [
        "vllm serve a/b {}",
        "python -m sglang.launch_server --model-path a/b {}",
        "llama-server -hf a/b {}",
        "ollama run a:b {}",
        "mlx_lm.generate --model a/b {}",
    ],
)
def test_a_flag_that_is_not_known_is_told_alike(command):
    found = parse(command.format("--qqqqqqqqq"))
    said = f"--qqqqqqqqq is no flag of {found.engine} that we know"
    assert said in found.warnings
    assert ("unknown", said) in [each[:2] for each in found.stops]


def test_a_flag_that_is_nearly_known_is_asked_about():
    found = parse("vllm serve a/b --max-modl-len 3")
    assert found.warnings == (
        "--max-modl-len is no flag of vllm that we know; did you mean --max-model-len?",
    )


@pytest.mark.parametrize("program", ["vllm serve", "python -m sglang.launch_server --model-path"])
def test_a_method_that_is_not_modelled_is_told_in_two_languages(program):
    (line,) = parse(f"{program} m --quantization strange").warnings
    assert (
        line == "--quantization 'strange' is not modelled: weights are counted as they are stored"
    )
    assert words_in("zh").told(line).startswith("未计入 --quantization 'strange'")
