"""The law of readers: each setting that an engine declares is read by it.

A setting is changed in a question that it belongs to, and the answer must change: bytes of a phase,
what is reserved, room, numbers of the engine's log. A question that is refused was read. What is
only printed in the launch line, or echoed among the settings, was not.
"""

import sys
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from typing import Any

import pytest

from tests.cases import all_of, each, some
from tests.engines.answers import named
from weighbridge.base.errors import WeighbridgeError
from weighbridge.engines.subject import subject
from weighbridge.engines.table import ENGINES, engine, version
from weighbridge.settings.setting import fields
from weighbridge.workload import foreign, read

Question = tuple[str, dict[str, Any], tuple[Any, ...]]  # a model, what is asked, values

USUAL = {"context": 8192, "batch_size": 4, "gpu": "a100-80gb"}
DENSE, SMALL = "llama-3.1-8b", "llama-3.2-1b"
SEES, MIXTURE, SLIDES = "qwen2.5-vl-7b", "qwen3-30b-a3b", "gemma-3-4b"
HYBRID, LATENT = "qwen3-next-80b-a3b", "deepseek-v2-lite"
FOUR = {"gpu": "a100-80gb:4"}
SHARED_OUT = {**FOUR, "tensor_parallel_size": 4}
DRAFTS = {"speculative_method": "draft", "draft_model": SMALL}
# A setting that matters to some models, or beside others
QUESTIONS: Mapping[str, Question] = {
    "context": (DENSE, {}, (4096, 16_384)),
    "prompt_len": (DENSE, {"context": None, "max_new_tokens": 100}, (1000, 8000)),
    "max_new_tokens": (DENSE, {"context": None, "prompt_len": 1000}, (100, 8000)),
    "batch_size": (DENSE, {}, (1, 16)),
    "shared_prefix": (DENSE, {}, (0, 4096)),
    "image_size": (SEES, {"images": 40}, ("448x448", "1792x1792")),
    "images": ("gemma-3-4b", {"context": 16_384}, (0, 40)),
    "dtype": (DENSE, {}, ("float32", "bfloat16")),
    "quantization": (DENSE, {}, (None, "awq-4bit-g128")),
    "kv_cache_dtype": (DENSE, {}, ("auto", "fp8")),
    "tensor_parallel_size": (DENSE, FOUR, (1, 4)),
    "pipeline_parallel_size": (DENSE, FOUR, (1, 4)),
    "pp_layer_partition": (
        DENSE,
        FOUR | {"pipeline_parallel_size": 2},
        ("16,16", "8,24"),
    ),
    "data_parallel_size": (DENSE, FOUR, (1, 4)),
    "enable_expert_parallel": ("dbrx", SHARED_OUT | {"data_parallel_size": 2}, (False, True)),
    "language_model_only": (SEES, {}, (False, True)),
    "skip_mm_profiling": (
        SEES,
        {"max_num_batched_tokens": 65_536, "max_num_seqs": 8},
        (False, True),
    ),
    "max_loras": (DENSE, {"max_lora_rank": 16}, (None, 4)),
    "max_lora_rank": (DENSE, {"max_loras": 4}, (8, 64)),
    "speculative_method": (DENSE, {"draft_model": SMALL}, ("draft", "ngram")),
    "num_speculative_tokens": (DENSE, DRAFTS, (1, 16)),
    "draft_model": (DENSE, {}, (SMALL, "llama-3.2-3b")),
    "mamba_ssm_cache_dtype": ("falcon-mamba-7b", {}, ("float32", "bfloat16")),
    "cpu_offload_gb": (DENSE, {}, (0, 4)),
    "attention_backend": (DENSE, {}, ("FLASH_ATTN", "FLASHINFER")),
    # vLLM
    "gpu_memory_utilization": (DENSE, {}, (0.5, 0.9)),
    "kv_cache_memory_bytes": (DENSE, {}, ("4GiB", "8GiB")),
    "max_num_batched_tokens": (DENSE, {}, (2048, 16_384)),
    "max_num_seqs": (DENSE, {}, (4, 512)),
    "block_size": (DENSE, {"context": 8200}, (16, 64)),
    "enforce_eager": (DENSE, {}, (False, True)),
    "enable_prefix_caching": (DENSE, {"shared_prefix": 4096}, (False, True)),
    "async_scheduling": (SLIDES, {}, (False, True)),
    "max_cudagraph_capture_size": (DENSE, {}, (8, 256)),
    "num_gpu_blocks_override": (DENSE, {}, (4096, 8192)),
    "decode_context_parallel_size": (LATENT, SHARED_OUT, (1, 4)),
    "disable_hybrid_kv_cache_manager": (SLIDES, {}, (False, True)),
    "enable_sleep_mode": (SMALL, {"engine_version": "0.26"}, (False, True)),
    "distributed_executor_backend": (DENSE, {"ram": "64GiB"}, ("mp", "ray")),
    "sleep_level": (SMALL, {"enable_sleep_mode": True}, (1, 2)),
    "swap_space": (DENSE, {"engine_version": "0.7.3"}, (0, 8)),
    "kv_offloading_size": (DENSE, {}, (8, 16)),
    # SGLang
    "mem_fraction_static": (DENSE, {}, (0.5, 0.8)),
    "enable_dp_attention": (LATENT, SHARED_OUT | {"data_parallel_size": 4}, (False, True)),
    "chunked_prefill_size": (DENSE, {}, (2048, 8192)),
    "max_running_requests": (DENSE, {}, (4, 64)),
    "max_total_tokens": (DENSE, {}, (40_000, 80_000)),
    "page_size": (DENSE, {}, (1, 64)),
    "swa_full_tokens_ratio": ("gpt-oss-20b", {}, (0.1, 1.0)),
    "mamba_full_memory_ratio": (HYBRID, {"gpu": "h200:4", "tensor_parallel_size": 4}, (0.1, 0.9)),
    "max_mamba_cache_size": (HYBRID, {"gpu": "h200:4", "tensor_parallel_size": 4}, (40, 80)),
    "cuda_graph_max_bs": (DENSE, {}, (4, 64)),
    "disable_cuda_graph": (DENSE, {}, (False, True)),
    "disable_radix_cache": (DENSE, {"shared_prefix": 4096}, (False, True)),
    "enable_hierarchical_cache": (DENSE, {}, (False, True)),
    "hicache_ratio": (DENSE, {"enable_hierarchical_cache": True}, (1, 3)),
    "hicache_size": (DENSE, {"enable_hierarchical_cache": True}, (10, 30)),
    # transformers
    "torch_version": (DENSE, {"gpu": "b200"}, ("2.1", "2.12")),
    "device_map": (DENSE, {"engine_version": "4.40"}, (None, "cuda")),
    "attention": (DENSE, {}, ("flash", "math")),
    "kernels": ("gpt-oss-20b", {}, ("installed", "missing")),
    "dequantize": ("gpt-oss-20b", {}, (False, True)),
    "cache_implementation": (DENSE, {}, ("dynamic", "static")),
    "num_beams": (DENSE, {}, (1, 4)),
    "logits_to_keep": (DENSE, {}, (1, 0)),
    # llama.cpp
    "program": (DENSE, {}, ("server", "cli")),
    "n_gpu_layers": (DENSE, {}, (10, 33)),
    "n_cpu_moe": (MIXTURE, {}, (0, 24)),
    "override_tensor": (MIXTURE, {}, (None, r"blk\.1[0-9]\.ffn_.*_exps\.=CPU")),
    "n_batch": (DENSE, {}, (256, 4096)),
    "ubatch_size": (DENSE, {}, (256, 2048)),
    "parallel": (DENSE, {}, (1, 4)),
    "cache_type_k": (DENSE, {}, ("f16", "q8_0")),
    "cache_type_v": (DENSE, {}, ("f16", "q8_0")),
    "flash_attn": (DENSE, {}, ("on", "off")),
    "kv_unified": (DENSE, {}, (False, True)),
    "swa_full": (SLIDES, {}, (False, True)),
    "split_mode": (DENSE, FOUR, ("layer", "none")),
    "tensor_split": (DENSE, FOUR, ("1,1,1,1", "4,1,1,1")),
    "main_gpu": (DENSE, FOUR | {"split_mode": "none"}, (0, 3)),
    "no_kv_offload": (DENSE, {}, (False, True)),
    "no_mmap": (DENSE, {}, (False, True)),
    "cache_ram": (DENSE, {}, (0, 4096)),
    "sched_max_copies": (DENSE, FOUR, (1, 4)),
    # ik_llama.cpp
    "mla_attn": (LATENT, {}, (1, 3)),
    "attn_max_b": (LATENT, {"context": 32_768}, (64, 1024)),
    "fused_moe": (LATENT, {}, (False, True)),
    "run_time_repack": (MIXTURE, {"n_gpu_layers": 24}, (False, True)),
    # MLX
    "max_kv_size": ("qwen2.5-7b", {"batch_size": 1, "context": 1024}, (128, 512)),
    "prefill_step_size": (DENSE, {}, (512, 4096)),
}
APPLE = {"gpu": "m3-max-128gb"}
GGUF: Mapping[str, Question] = {
    "quantization": (DENSE, {}, ("Q8_0", "Q4_K_M")),
    "kv_cache_dtype": (DENSE, {}, ("f16", "q8_0")),
}
OWN: Mapping[str, Mapping[str, Question]] = {
    "llama.cpp": GGUF,
    "ik_llama.cpp": GGUF,
    "ollama": GGUF,
    "sglang": {
        "kv_cache_dtype": (DENSE, {}, ("auto", "fp8_e5m2")),
        "attention_backend": (DENSE, {}, ("triton", "flashinfer")),
        "draft_model": (DENSE, {"speculative_method": "draft"}, (SMALL, "llama-3.2-3b")),
        "image_size": (SEES, {"images": 4, "context": 32_768}, ("448x448", "1792x1792")),
    },
    "vllm": {
        "draft_model": (DENSE, {"speculative_method": "draft"}, (SMALL, "llama-3.2-3b")),
        "images": (SEES, {"engine_version": "0.26"}, (0, 4)),
        "image_size": (
            SEES,
            {"engine_version": "0.26", "images": 4, "context": 32_768},
            ("448x448", "1792x1792"),
        ),
    },
    "mlx": {
        "quantization": (DENSE, {}, (None, "mlx-4bit-g64")),
        "kv_cache_dtype": ("qwen2.5-7b", {"batch_size": 1}, ("auto", "4bit")),
    },
}
OF_A_CARD = "the card and the host, of which estimate/ and accelerators/ judge"
NO_PROJECTOR = "--mmproj names the tower's file, and nothing else here does"
OF_LLAMA_CPP = {
    "mmproj_auto": "of a model that has a tower: tests/engines/test_llama_cpp_gguf.py",
    "no_mmproj_offload": "of a model that has a tower: tests/engines/test_llama_cpp_launch.py",
    "image_size": NO_PROJECTOR,
    "images": NO_PROJECTOR,
}
# engine, "" of all -> setting -> why the questions above do not move it. What no question could
# move says so in its record (`idle`)
UNREAD: Mapping[str, Mapping[str, str]] = {
    "": {
        "engine": "it names who answers",
        "engine_version": "chooses rules, which tests/engines asks release by release",
        "gpu": OF_A_CARD,
        "gpu_memory": OF_A_CARD,
        "headroom": OF_A_CARD,
        "ram": OF_A_CARD,
        "platform": OF_A_CARD,
        "not_understood": "opens the verdict, and moves no byte: tests/runfiles/test_asked.py",
        "audio_seconds": "of the catalogue Whisper alone hears, and it takes 30 seconds always: "
        "tests/arch has the others",
        "base_model": "decides which class is read, before an engine is asked: tests/checkpoint",
        "mmproj": "a file: tests/engines/test_llama_cpp_gguf.py",
        "exact": "runs the class itself: tests/torch",
    },
    "mlx": {"program": "names the program of the line: tests/engines/test_mlx.py"},
    "llama.cpp": OF_LLAMA_CPP,
    "ik_llama.cpp": OF_LLAMA_CPP,
}


@cache
def answered(engine_name: str, model: str, asked: tuple[tuple[str, Any], ...]) -> str:
    """What is said of memory: numbers alone; or that it is refused."""
    kind = engine(engine_name)
    try:
        w = read("infer", dict(asked)).but(engine=engine_name)
        foreign(w, engine_name)
        known, _ = version(kind, w.engine_version)
        draft = w.draft_model
        found = subject(named(model), w, kind, known)
        if draft is not None:
            own = w.but(dtype=None, quantization=None, draft_model=None)
            found = replace(found, draft=subject(named(draft), own, kind, known))
        answer = kind.infer(found, w, w.budget())
    except WeighbridgeError as error:
        return f"refused: {error}"
    bytes_ = [
        (
            d.kind,
            d.index,
            d.taken,
            [(p.name, [(c.name, c.detail, c.bytes) for c in p.components]) for p in d.phases],
        )
        for d in answer.devices
    ]
    told = {n: v for n, v in answer.derived.items() if not n.startswith("launch")}
    return f"{bytes_} {sorted(told.items())}"


def declared() -> list[tuple[str, str]]:
    """(engine, setting) of each that an engine offers."""
    return [
        (engine_name, setting)
        for engine_name, kind in ENGINES.items()
        for setting in fields(kind.settings)
    ]


def question(engine_name: str, setting: str) -> Question:
    found = OWN.get(engine_name, {}).get(setting) or QUESTIONS[setting]
    return (found[0], found[1] | APPLE, found[2]) if engine_name == "mlx" else found


def answers(engine_name: str, setting: str, asked: Question) -> list[str]:
    model, beside, values = asked
    each = ({**USUAL, **beside, setting: v} for v in values)
    return [answered(engine_name, model, tuple(sorted(w.items()))) for w in each]


def reason(engine_name: str, setting: str) -> str:
    idle = fields(ENGINES[engine_name].settings)[setting].idle
    return idle or UNREAD.get(engine_name, {}).get(setting) or UNREAD[""].get(setting, "")


@pytest.mark.slow
@pytest.mark.parametrize(("engine_name", "setting"), some(4, declared()))
def test_a_setting_is_read(engine_name: str, setting: str) -> None:
    """Two values, two answers; or a reason above, and then the answers are the same."""
    why = reason(engine_name, setting)
    if setting not in QUESTIONS:
        assert why, f"{setting}: say in QUESTIONS what it changes"
        return
    found = answers(engine_name, setting, question(engine_name, setting))
    assert not any(one.startswith("refused") for one in found), found
    assert (len(set(found)) == len(found)) is not bool(why), why or f"{setting} is not read"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("engine_name", "setting"), each(6, [o for o in declared() if not reason(*o)])
)
def test_the_law_fails_where_a_setting_is_forgotten(
    engine_name: str, setting: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somewhere between the question and the engine it is lost: the two answers are one."""

    real = read

    def forgetful(task: str, asked: Mapping[str, Any]) -> Any:
        return real(task, {name: v for name, v in asked.items() if name != setting})

    monkeypatch.setattr(sys.modules[__name__], "read", forgetful)
    monkeypatch.setattr(sys.modules[__name__], "answered", answered.__wrapped__)
    assert len(set(answers(engine_name, setting, question(engine_name, setting)))) == 1


@all_of(
    ("engine_name", "setting", "value"),
    [
        *((name, "shared_prefix", 64) for name in ("transformers", "llama.cpp", "mlx", "ollama")),
        *(("mlx", name, value) for name, value in (("images", 1), ("image_size", "448x448"))),
    ],
)
def test_a_setting_that_an_engine_cannot_read_is_refused(
    engine_name: str, setting: str, value: object
) -> None:
    """Each request has a cache of its own there, whatever it has in common with others; mlx-lm has
    no towers."""
    model = SMALL if engine_name != "ollama" else "llama-3.2-1b"
    (found,) = answers(engine_name, setting, (model, {}, (value,)))
    flag = f"--{setting.replace('_', '-')}"
    assert found.startswith(f"refused: {flag} is a setting of ")
    assert found.endswith(f"not of {engine_name}")


@pytest.mark.parametrize("engine_name", ["vllm", "sglang"])
def test_a_setting_of_torch_is_refused_where_the_release_brings_it(engine_name: str) -> None:
    """Both pin the release of torch that they run on."""
    (found,) = answers(engine_name, "torch_version", (DENSE, {}, ("2.9",)))
    assert found.startswith("refused: --torch-version is a setting of transformers")


@pytest.mark.parametrize(
    ("engine_name", "close"), [("vllm", "FLASH_ATTN"), ("sglang", "flashinfer")]
)
def test_a_backend_that_no_release_has_is_refused(engine_name: str, close: str) -> None:
    wrong, near = answers(engine_name, "attention_backend", (DENSE, {}, ("NONSENSE", close[:-1])))
    assert wrong.startswith("refused: --attention-backend 'NONSENSE'")
    assert "no such backend; known: " in wrong
    assert f"did you mean {close}?" in near
