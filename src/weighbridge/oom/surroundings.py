"""What a log tells around its message: the program, what it was doing, and its settings."""

import re
from collections.abc import Callable, Mapping
from typing import Any

# Text of a log -> the program that wrote it; the first that is found.
PROGRAMS = (
    (
        "vllm",
        (
            "vllm/",
            "vllm.",
            "VllmWorker",
            "EngineCore",
            "gpu_memory_utilization",
            "[multiproc_executor",
        ),
    ),
    ("sglang", ("sglang/", "sglang.", "mem_fraction_static", "mem-fraction-static")),
    ("deepspeed", ("deepspeed/", "DeepSpeed")),
    ("trainer", ("transformers/trainer.py", "trl/trainer")),
    ("comfyui", ("ComfyUI", "SamplerCustom")),
    ("webui", ("stable-diffusion-webui",)),
    ("ollama", ("ollama",)),
)
BY_TOOL = {"vllm": "vllm", "sglang": "sglang", "llama.cpp": "llama.cpp", "ollama": "ollama"}

# Lines of a traceback -> what the program was doing. The first that is found decides, and what is
# called by others stands before them.
PLACES = (
    (
        "optimizer",
        r"exp_avg|_foreach_(?:sqrt|add|div|mul)|\boptimizer\.step\(|torch[/\\]optim[/\\]",
    ),
    (
        "cuda_graph",
        r"capture_end\(|graph_capture|capture_model\(|Capture cuda graph|CUDAGraphWrapper",
    ),
    (
        "kv_cache",
        r"_allocate_kv_cache|initialize_kv_caches?\(|allocate_gpu_cache|KVCache\(",
    ),
    ("sampler", r"_dummy_sampler_run|warming up sampler|logits\.sort\(|compute_logprobs"),
    (
        "logits",
        r"\blogits? ?=|logits\.(?:float|clone|to)\(|cross_entropy\b|log_softmax\(|lm_head\(",
    ),
    (
        "attention",
        (
            r"(?:matmul|bmm)\(\s?\w{0,12}(?:query|\bq)\w{0,8}[^,\n]{0,30}, ?\w{0,12}(?:key|k)|"
            r"baddbmm\(|\batt(?:entio)?n_(?:weights|probs|scores) ?=|\battn ?= ?attn\.softmax"
        ),
    ),
    ("saving", r"state_dict\(\)|save_pretrained\(|save_model\(|_save_checkpoint|torch\.save\("),
    ("vae", r"\bvae\.decode\(|decode_first_stage|autoencoder_kl|vae\.decoder|VAEDecode"),
    ("gather", r"all_gather|_allgather|AllGather|fetch_sub_module"),
    (
        "load",
        r"load_model\(|from_pretrained\(|load_checkpoint_and_dispatch|create_weights|module\.to\(|\.cuda\(\)|_load_state_dict",
    ),
    ("backward", r"\.backward\("),
)

# Settings as logs and commands state them, by our names: their words, and what follows these.
COUNT = r"[= ]{1,20}(\d{1,9})\b"
SHARE = r"[= ]{1,3}([01]?\.\d{1,6}|1)\b"
STATED: tuple[tuple[str, Callable[[str], Any], tuple[str, ...], str], ...] = (
    ("context", int, ("max_model_len", "max-model-len", "max_seq_len", "n_ctx"), COUNT),
    ("tensor_parallel_size", int, ("tensor_parallel_size", "tensor-parallel-size"), COUNT),
    ("gpu_memory_utilization", float, ("gpu_memory_utilization", "gpu-memory-utilization"), SHARE),
    ("mem_fraction_static", float, ("mem_fraction_static", "mem-fraction-static"), SHARE),
    ("max_num_seqs", int, ("max_num_seqs", "max-num-seqs"), COUNT),
    ("max_num_batched_tokens", int, ("max_num_batched_tokens", "max-num-batched-tokens"), COUNT),
    ("dtype", str, ("dtype",), r"[= ](?:torch\.)?(float16|bfloat16|float32)\b"),
    ("kv_cache_dtype", str, ("kv_cache_dtype", "kv-cache-dtype"), r"[= ](fp8(?:_e4m3|_e5m2)?)\b"),
    ("quantization", str, ("quantization",), r"[= ](awq|gptq|fp8|bitsandbytes)\b"),
    ("ubatch_size", int, ("n_ubatch",), COUNT),
    ("batch_size", int, ("per_device_train_batch_size", "micro_batch_size"), COUNT),
    ("seq_len", int, ("max_seq_length", "cutoff_len"), COUNT),
)
MOST_SEARCHED = 200_000  # characters of a log in which a model is looked for
MOST_PLACES = 50  # of one word that are looked at


def engine_of(tool: str, text: str) -> str:
    """Return the engine that printed the message: its tool's, or that which the log names; "" where
    nothing tells."""
    if tool in BY_TOOL:
        return BY_TOOL[tool]
    return next((name for name, signs in PROGRAMS if any(s in text for s in signs)), "")


def place_of(lines: str) -> str:
    """What the program was doing, as far as its traceback tells."""
    return next((name for name, pattern in PLACES if re.search(pattern, lines)), "")


def stated_in(lines: str) -> Mapping[str, Any]:
    """Settings that the log states, each by the first word of it that a value follows."""
    found: dict[str, Any] = {}
    for name, kind, words, follows in STATED:
        value = next((v for word in words if (v := _after(lines, word, follows))), None)
        if value is not None:
            found[name] = kind(value)
    return found


# What is loaded: words of commands, of engines' first lines and of Python, before a Hub id
LOADS = r"""(?x)
    (?: vllm\ serve\  | --model(?:-path|-name-or-path|_name_or_path)?[= ] | \bmodel(?:_path)?=
      | from_pretrained\( | \bollama\ run\  )
    ['"]? ([\w.-]{1,96}/[\w.-]{1,96}) (?![\w./-])
"""


def model_in(lines: str) -> str:
    """The Hub id of the model that the log says is loaded; "" where it names none, or several."""
    named = dict.fromkeys(re.findall(LOADS, lines[-MOST_SEARCHED:]))
    return next(iter(named)) if len(named) == 1 else ""


def _after(lines: str, word: str, pattern: str) -> str | None:
    """The value behind a word of its own."""
    value, at = re.compile(pattern), -1
    for _ in range(MOST_PLACES):
        at = lines.find(word, at + 1)
        if at < 0:
            return None
        match = value.match(lines, at + len(word))
        own = at == 0 or not (lines[at - 1].isalnum() or lines[at - 1] == "_")
        if match and own:
            return match[1]
    return None
