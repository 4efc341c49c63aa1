"""What a log tells around its message: the program, what it was doing, and its settings."""

import re
from collections.abc import Mapping
from typing import Any

from weighbridge.oom.wordings import Wording

# Text of a log -> the program that wrote it; the first that is found.
PROGRAMS = (
    ("vllm", ("vllm/", "vllm.", "VllmWorker", "EngineCore", "gpu_memory_utilization", "[multiproc_executor")),
    ("sglang", ("sglang/", "sglang.", "mem_fraction_static", "mem-fraction-static")),
    ("deepspeed", ("deepspeed/", "DeepSpeed")),
    ("trainer", ("transformers/trainer.py", "trl/trainer")),
    ("comfyui", ("ComfyUI", "SamplerCustom")),
    ("webui", ("stable-diffusion-webui",)),
    ("ollama", ("ollama",)),
)  # fmt: skip
BY_TOOL = {"vllm": "vllm", "sglang": "sglang", "llama.cpp": "llama.cpp", "ollama": "ollama"}

# Lines of a traceback -> what the program was doing; the first that is found, and it is the place
# that needs the memory: the innermost are first.
PLACES = (
    ("optimizer", r"exp_avg|_foreach_(?:sqrt|add|div|mul)|\boptimizer\.step\(|initialize_optimizer_states"),
    ("cuda_graph", r"capture_end\(|graph_capture|capture_model\(|Capture cuda graph|CUDAGraphWrapper"),
    ("kv_cache", r"_allocate_kv_cache|initialize_kv_cache\(|allocate_gpu_cache|_initialize_kv_caches|KVCache\("),
    ("sampler", r"_dummy_sampler_run|warming up sampler|logits\.sort\(|compute_logprobs"),
    (
        "logits",
        r"\blogits? ?=|logits\.(?:float|clone|to)\(|cross_entropy\(|log_softmax\(|lm_head\(|log_probs\(",
    ),
    (
        "attention",
        r"matmul\(\s?(?:query|q)\w{0,8}, ?(?:key|k)\w{0,8}|baddbmm\(|attn_weights ?=|torch\.bmm\(q|"
        r"einsum\([^)]{0,40}(?:query|q), ?(?:key|k)\b",
    ),
    ("saving", r"state_dict\(\)|save_pretrained\(|save_model\(|_save_checkpoint|torch\.save\("),
    ("vae", r"\bvae\.decode\(|decode_first_stage|autoencoder_kl|vae\.decoder|VAEDecode"),
    ("gather", r"all_gather|_allgather|AllGather|fetch_sub_module"),
    ("load", r"load_model\(|from_pretrained\(|load_checkpoint_and_dispatch|create_weights|module\.to\(|\.cuda\(\)|_load_state_dict"),
    ("backward", r"\.backward\("),
)  # fmt: skip

# Settings as logs and commands state them, by our names.
STATED = (
    ("context", int, r"\b(?:max[_-]model[_-]len|max_seq_len|n_ctx|context[_-]length)[= ]{1,4}(\d{1,9})\b"),
    ("tensor_parallel_size", int, r"\b(?:tensor[_-]parallel[_-]size|tp_size)[= ]{1,3}(\d{1,4})\b"),
    ("gpu_memory_utilization", float, r"\bgpu[_-]memory[_-]utilization[= ]{1,3}([01]?\.\d{1,6}|1)\b"),
    ("mem_fraction_static", float, r"\bmem[_-]fraction[_-]static[= ]{1,3}([01]?\.\d{1,6})\b"),
    ("max_num_seqs", int, r"\bmax[_-]num[_-]seqs[= ]{1,3}(\d{1,6})\b"),
    ("max_num_batched_tokens", int, r"\bmax[_-]num[_-]batched[_-]tokens[= ]{1,3}(\d{1,7})\b"),
    ("dtype", str, r"\bdtype[= ](?:torch\.)?(float16|bfloat16|float32)\b"),
    ("kv_cache_dtype", str, r"\bkv[_-]cache[_-]dtype[= ](fp8(?:_e4m3|_e5m2)?)\b"),
    ("quantization", str, r"\bquantization[= ](awq|gptq|fp8|bitsandbytes)\b"),
    ("ubatch_size", int, r"\bn_ubatch[= ]{1,20}(\d{1,6})\b"),
    ("batch_size", int, r"\b(?:per_device_train_batch_size|micro_batch_size)[= ]{1,3}(\d{1,5})\b"),
    ("seq_len", int, r"\b(?:max_seq_length|cutoff_len)[= ]{1,3}(\d{1,8})\b"),
)  # fmt: skip
READ = {"float16": "float16", "bfloat16": "bfloat16", "float32": "float32"}


def engine_of(wording: Wording, text: str) -> str:
    """The program that printed the message, "" where nothing tells."""
    if wording.tool in BY_TOOL:
        return BY_TOOL[wording.tool]
    return next((name for name, signs in PROGRAMS if any(s in text for s in signs)), "")


def place_of(lines: str) -> str:
    """What the program was doing, as far as its traceback tells."""
    return next((name for name, pattern in PLACES if re.search(pattern, lines)), "")


def stated_in(lines: str) -> Mapping[str, Any]:
    """Settings that the log states, each as it stands there last: the command is repeated."""
    found: dict[str, Any] = {}
    for name, kind, pattern in STATED:
        match = re.search(pattern, lines)
        if match:
            found[name] = kind(match[1])
    return found
