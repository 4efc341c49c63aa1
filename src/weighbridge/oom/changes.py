"""What to change, by cause and by program: rows of a table, with figures of the message in them.

A row is taken where the program has all of its tags; a row with a figure that the message does not
give is left out. Every line is what that program takes, in its own flags and for its own version:
a PyTorch before 2.1 has no expandable segments, and a share that leaves no room for a cache is to
rise where one that leaves no room beside the cache is to fall.
"""

from collections.abc import Mapping
from string import Formatter
from typing import Any, NamedTuple

from weighbridge.oom.figures import listed
from weighbridge.oom.record import Change, Found, Judged
from weighbridge.units import GIB

MOST = 4  # changes that are told: more are not read
BLOCK = 16  # tokens of a block of vLLM's cache, which a length is a whole number of
RANKS = 3  # processes of equal size on one card: ranks that all began on the first


class Row(NamedTuple):
    """`tags`: all that the program must have. Texts have figures in braces (`figures`)."""

    cause: str
    tags: tuple[str, ...]
    change: Mapping[str, str]
    paste: str
    cost: str


SHORTER = "shorter requests"
FEWER = "fewer requests at once"
HALF_CACHE = "half of the cache per token; a small loss of quality"
SLOWER = "slower"
MORE_CARDS = "another card"
QUALITY = "a small loss of quality"
FREE = "nothing"
STOPS = "stops the other program"
LESS_CACHE = "a smaller cache: fewer or shorter requests"
LESS_SPARE = "less room beside the cache: it may run out while it serves"
SMALLER_STEPS = "more, smaller steps; the same result"
RECOMPUTES = "about a third slower; the same result"

ROWS = (
    # the cache
    Row("kv_cache_too_big", ("vllm",), {"context": "{length}"}, "--max-model-len {length}", SHORTER),
    Row("kv_cache_too_big", ("vllm", "half_fits"), {"kv_cache_dtype": "fp8"}, "--kv-cache-dtype fp8", HALF_CACHE),
    Row("kv_cache_too_big", ("vllm",), {"gpu_memory_utilization": "{up}"}, "--gpu-memory-utilization {up}", LESS_SPARE),
    Row("kv_cache_too_big", ("vllm",), {"tensor_parallel_size": "2"}, "--tensor-parallel-size 2", MORE_CARDS),
    Row("kv_cache_too_big", ("sglang",), {"max_running_requests": "16"}, "--max-running-requests 16", FEWER),
    Row("kv_cache_too_big", ("sglang",), {"kv_cache_dtype": "fp8_e5m2"}, "--kv-cache-dtype fp8_e5m2", HALF_CACHE),
    Row("kv_cache_too_big", ("llama.cpp",), {"context": "{half_context}"}, "-c {half_context}", SHORTER),
    Row("kv_cache_too_big", ("llama.cpp", "no_context"), {"context": "8192"}, "-c 8192", SHORTER),
    Row("kv_cache_too_big", ("llama.cpp",), {"cache_type_k": "q8_0", "cache_type_v": "q8_0"}, "-fa on --cache-type-k q8_0 --cache-type-v q8_0", HALF_CACHE),
    Row("kv_cache_too_big", ("llama.cpp",), {"no_kv_offload": "true"}, "--no-kv-offload", SLOWER),
    Row("kv_cache_too_big", ("exllama",), {"context": "8192"}, "--max-seq-len 8192", SHORTER),
    Row("kv_cache_too_big", ("exllama",), {"cache": "Q4"}, "--cache-mode Q4", "a quarter of the cache per token; a small loss of quality"),
    Row("kv_cache_too_big", ("tensorrt-llm",), {"kv_cache_free_gpu_memory_fraction": "0.95"}, "--kv_cache_free_gpu_memory_fraction 0.95", LESS_SPARE),
    Row("kv_cache_too_big", ("tensorrt-llm",), {"max_seq_len": "shorter"}, "trtllm-build --max_seq_len 8192", SHORTER),
    Row("kv_cache_too_big", ("torch",), {"batch_size": "smaller"}, "", FEWER),
    # the weights
    Row("weights_too_big", ("vllm", "no_blocks"), {"gpu_memory_utilization": "{up}"}, "--gpu-memory-utilization {up}", LESS_SPARE),
    Row("weights_too_big", ("vllm",), {"quantization": "fp8"}, "--quantization fp8", QUALITY),
    Row("weights_too_big", ("vllm",), {"tensor_parallel_size": "2"}, "--tensor-parallel-size 2", MORE_CARDS),
    Row("weights_too_big", ("vllm",), {"cpu_offload_gb": "8"}, "--cpu-offload-gb 8", SLOWER),
    Row("weights_too_big", ("sglang",), {"mem_fraction_static": "{up}"}, "--mem-fraction-static {up}", LESS_SPARE),
    Row("weights_too_big", ("sglang",), {"quantization": "fp8"}, "--quantization fp8", QUALITY),
    Row("weights_too_big", ("sglang",), {"tensor_parallel_size": "2"}, "--tp 2", MORE_CARDS),
    Row("weights_too_big", ("llama.cpp",), {"n_gpu_layers": "20"}, "-ngl 20", "slower: the other layers stay in host memory; raise it until it fails"),
    Row("weights_too_big", ("llama.cpp",), {"n_cpu_moe": "20"}, "--n-cpu-moe 20", "slower, for a model with experts: those of 20 layers stay in host memory"),
    Row("weights_too_big", ("llama.cpp",), {"quantization": "Q4_K_M"}, "", "a smaller file of the same model: a small loss of quality"),
    Row("weights_too_big", ("comfyui",), {"lowvram": "true"}, "python main.py --lowvram", SLOWER),
    Row("weights_too_big", ("webui",), {"medvram": "true"}, "--medvram", SLOWER),
    Row("weights_too_big", ("torch", "python"), {"quantization": "nf4"}, 'quantization_config=BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype="bfloat16")', QUALITY),
    Row("weights_too_big", ("torch", "python"), {"device_map": "auto"}, 'device_map="auto"', "slower: what does not fit stays in host memory"),
    Row("weights_too_big", ("torch", "python"), {"offload": "sequential"}, "pipe.enable_sequential_cpu_offload()", "much slower, for a pipeline of diffusers"),
    Row("weights_too_big", ("mps",), {"quantization": "mlx-4bit-g64"}, "", "the model in 4 bits, with MLX or llama.cpp: a small loss of quality"),
    Row("weights_too_big", ("jax",), {"dtype": "bfloat16"}, "", "weights in bfloat16, or fewer on each device"),
    # what a step makes
    Row("activations", ("tgi",), {"max_batch_prefill_tokens": "{half_prefill}"}, "--max-batch-prefill-tokens {half_prefill}", "longer prompts are taken in more parts"),
    Row("activations", ("tgi",), {"quantize": "bitsandbytes-nf4"}, "--quantize bitsandbytes-nf4", QUALITY),
    Row("activations", ("vllm",), {"max_num_batched_tokens": "2048"}, "--max-num-batched-tokens 2048", "long prompts are taken in more parts"),
    Row("activations", ("vllm",), {"gpu_memory_utilization": "{down}"}, "--gpu-memory-utilization {down}", LESS_CACHE),
    Row("activations", ("train",), {"batch_size": "1", "gradient_accumulation": "8"}, "TrainingArguments(per_device_train_batch_size=1, gradient_accumulation_steps=8)", SMALLER_STEPS),
    Row("activations", ("train",), {"checkpointing": "full"}, "model.gradient_checkpointing_enable()", RECOMPUTES),
    Row("activations", ("comfyui",), {"image_size": "smaller"}, "", "smaller images, or fewer at once"),
    Row("activations", ("webui",), {"medvram": "true"}, "--medvram", SLOWER),
    Row("activations", ("mps",), {"batch_size": "half"}, "", "half of the batch, or a smaller image or shorter text"),
    Row("activations", ("mps",), {"PYTORCH_MPS_HIGH_WATERMARK_RATIO": "0.0"}, "export PYTORCH_MPS_HIGH_WATERMARK_RATIO=0.0", "takes away the limit: the machine may swap or hang"),
    Row("activations", ("jax",), {"XLA_PYTHON_CLIENT_MEM_FRACTION": "0.95"}, "export XLA_PYTHON_CLIENT_MEM_FRACTION=.95", "less room for other programs"),
    Row("activations", ("onnxruntime",), {"enable_cuda_graph": "0"}, 'providers=[("CUDAExecutionProvider", {{"enable_cuda_graph": "0"}})]', SLOWER),
    Row("activations", ("torch",), {"batch_size": "half"}, "", "half of the batch, or shorter inputs: the step takes half"),
    Row("activations", ("torch", "python"), {"grad": "off"}, "with torch.inference_mode():", "nothing, where nothing is trained"),
    Row("attention_matrix", ("mps",), {"batch_size": "half"}, "", "half of the length takes a quarter of this matrix"),
    Row("attention_matrix", ("torch",), {"attention": "flash"}, 'attn_implementation="flash_attention_2"', "nothing; it needs the package flash-attn"),
    Row("attention_matrix", ("torch",), {"attention": "efficient"}, 'attn_implementation="sdpa"', FREE),
    Row("logits", ("vllm",), {"max_num_seqs": "{half_seqs}"}, "--max-num-seqs {half_seqs}", FEWER),
    Row("logits", ("vllm",), {"gpu_memory_utilization": "{down}"}, "--gpu-memory-utilization {down}", LESS_CACHE),
    Row("logits", ("train",), {"loss": "liger"}, "TrainingArguments(use_liger_kernel=True)", "nothing; it needs the package liger-kernel"),
    Row("logits", ("torch", "not_train"), {"logits_to_keep": "1"}, "model(**inputs, logits_to_keep=1)", "nothing, where only the next token is needed"),
    Row("logits", ("torch",), {"batch_size": "half"}, "", SMALLER_STEPS),
    Row("logits", ("mps",), {"batch_size": "half"}, "", SMALLER_STEPS),
    Row("optimizer_states", ("foreach",), {"foreach": "false"}, "torch.optim.AdamW(model.parameters(), foreach=False)", "a slower step; its temporary copies go away"),
    Row("optimizer_states", ("torch",), {"optimizer": "paged_adamw_8bit"}, 'TrainingArguments(optim="paged_adamw_8bit")', "a quarter of the states; nearly the same result"),
    Row("optimizer_states", ("deepspeed",), {"offload": "optimizer"}, '"zero_optimization": {{"stage": 3, "offload_optimizer": {{"device": "cpu"}}}}', SLOWER),
    Row("optimizer_states", ("torch",), {"method": "lora"}, "", "train adapters (LoRA) instead of all weights"),
    Row("checkpoint_saving", ("torch",), {"state_dict": "sharded"}, 'fsdp_config={{"state_dict_type": "SHARDED_STATE_DICT"}}', "the checkpoint is in parts, one a rank"),
    Row("checkpoint_saving", ("torch",), {"state_dict": "on the host"}, "FullStateDictConfig(offload_to_cpu=True, rank0_only=True)", "the first rank's host memory holds the whole model"),
    Row("vae_decode", ("comfyui",), {"vae": "tiled"}, "", "use the node VAE Decode (Tiled): nearly the same picture"),
    Row("vae_decode", ("torch",), {"vae": "tiled"}, "pipe.vae.enable_tiling()", "nearly the same picture"),
    # the allocator and the driver
    Row("fragmentation", ("expandable",), {"allocator": "expandable_segments"}, "export {variable}=expandable_segments:True", FREE),
    Row("fragmentation", ("split",), {"allocator": "max_split_size_mb"}, "export PYTORCH_CUDA_ALLOC_CONF=max_split_size_mb:128", "allocation is a little slower"),
    Row("fragmentation", ("split",), {"torch": "2.1 or newer"}, "", "a newer PyTorch has expandable segments, which end this"),
    Row("fragmentation", ("first",), {"torch": "2.1 or newer"}, "", "this PyTorch has no setting against it; a newer one has"),
    Row("fragmentation", ("torch",), {"empty_cache": "between steps"}, "torch.cuda.empty_cache()", "a short stop each time"),
    Row("memory_fraction_cap", ("torch",), {"memory_fraction": "1.0"}, "torch.cuda.set_per_process_memory_fraction(1.0)", "this process may fill the card"),
    Row("device_limit", ("xpu",), {"limit": "relaxed"}, "export UR_L0_ENABLE_RELAXED_ALLOCATION_LIMITS=1", FREE),
    Row("device_limit", ("vulkan",), {"ubatch_size": "{half_ubatch}"}, "-ub {half_ubatch}", "slower prompts"),
    Row("device_limit", ("rocm",), {"gtt": "larger"}, "", "let the driver give the GPU more of the memory: its share is set in the BIOS or by the kernel's ttm.pages_limit"),
    Row("device_limit", ("expandable", "not_windows"), {"allocator": "expandable_segments"}, "export {variable}=expandable_segments:True", FREE),
    Row("device_limit", ("torch",), {"batch_size": "half"}, "", "ask for it in parts: a smaller batch or shorter inputs"),
    # a server's share
    Row("utilization_set_too_high", ("vllm", "fitting"), {"gpu_memory_utilization": "{fitting}"}, "--gpu-memory-utilization {fitting}", LESS_CACHE),
    Row("utilization_set_too_high", ("vllm", "not_fitting"), {"gpu_memory_utilization": "{down}"}, "--gpu-memory-utilization {down}", LESS_CACHE),
    Row("utilization_set_too_high", ("vllm", "not_fitting"), {"enforce_eager": "true"}, "--enforce-eager", "slower answers: no CUDA graphs"),
    Row("utilization_set_too_high", ("sglang",), {"mem_fraction_static": "{down}"}, "--mem-fraction-static {down}", LESS_CACHE),
    Row("utilization_set_too_low", ("vllm",), {"gpu_memory_utilization": "{up}"}, "--gpu-memory-utilization {up}", LESS_SPARE),
    Row("utilization_set_too_low", ("sglang",), {"mem_fraction_static": "{up}"}, "--mem-fraction-static {up}", LESS_SPARE),
    Row("cuda_graphs", ("sglang",), {"cuda_graph_max_bs": "16"}, "--cuda-graph-max-bs 16", "large batches are slower"),
    Row("cuda_graphs", ("sglang",), {"mem_fraction_static": "{down}"}, "--mem-fraction-static {down}", LESS_CACHE),
    Row("cuda_graphs", ("sglang",), {"disable_cuda_graph": "true"}, "--disable-cuda-graph", "slower answers"),
    Row("cuda_graphs", ("torch", "not_sglang"), {"gpu_memory_utilization": "{down}"}, "--gpu-memory-utilization {down}", LESS_CACHE),
    Row("cuda_graphs", ("torch", "not_sglang"), {"enforce_eager": "true"}, "--enforce-eager", "slower answers: no CUDA graphs"),
    Row("request_slots", ("sglang",), {"max_running_requests": "{slots}"}, "--max-running-requests {slots}", FEWER),
    # buffers
    Row("compute_buffer", ("llama.cpp",), {"ubatch_size": "{half_ubatch}"}, "-ub {half_ubatch}", "slower prompts"),
    Row("compute_buffer", ("llama.cpp",), {"flash_attn": "on"}, "-fa on", FREE),
    Row("compute_buffer", ("llama.cpp", "copies"), {"sched_max_copies": "1"}, "cmake -B build -DGGML_CUDA=ON -DGGML_SCHED_MAX_COPIES=1", "a build without pipeline parallelism: slower prompts on several cards"),
    Row("compute_buffer", ("llama.cpp",), {"n_gpu_layers": "20"}, "-ngl 20", "slower: the other layers stay in host memory; raise it until it fails"),
    Row("communication_buffers", ("deepspeed",), {"zero_prefetch_bucket_size": "1e7"}, '"zero_optimization": {{"stage": 3, "stage3_prefetch_bucket_size": 1e7, "stage3_max_live_parameters": 1e8}}', SLOWER),
    Row("communication_buffers", (), {"NCCL_BUFFSIZE": "1048576"}, "export NCCL_BUFFSIZE=1048576", "slower exchange; the default is 4 MiB a channel"),
    Row("communication_buffers", (), {"batch_size": "half"}, "", "leave a GiB free for the libraries: half of the batch"),
    # others on the card
    Row("other_process", ("vllm", "fitting"), {"gpu_memory_utilization": "{fitting}"}, "--gpu-memory-utilization {fitting}", LESS_CACHE),
    Row("other_process", ("ranks",), {"device": "LOCAL_RANK"}, 'torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))', "nothing: each rank stays on its own card"),
    Row("other_process", ("rocm",), {"other_processes": "end"}, "rocm-smi --showpids", STOPS),
    Row("other_process", ("npu",), {"other_processes": "end"}, "npu-smi info", STOPS),
    Row("other_process", ("nvidia",), {"other_processes": "end"}, "nvidia-smi --query-compute-apps=pid,process_name,used_memory --format=csv", STOPS),
    Row("other_process", ("nvidia",), {"device": "another"}, "export CUDA_VISIBLE_DEVICES=1", MORE_CARDS),
    # the host
    Row("shared_memory", (), {"shm_size": "16g"}, "docker run --shm-size=16g ...", FREE),
    Row("shared_memory", (), {"num_workers": "0"}, "DataLoader(dataset, num_workers=0)", "slower reading of data"),
    Row("host_memory", ("ollama",), {"model": "a smaller quantization"}, "ollama ps", "stop what is loaded (ollama stop NAME), or take a smaller tag of the model"),
    Row("host_memory", ("wsl",), {".wslconfig memory": "larger"}, "[wsl2]\nmemory=48GB\nswap=32GB", "in %UserProfile%\\.wslconfig, then: wsl --shutdown"),
    Row("host_memory", ("pinned",), {"pinned": "off"}, "export GGML_CUDA_NO_PINNED=1", "copies to the card are slower"),
    Row("host_memory", ("windows",), {"page_file": "larger"}, "", "a larger page file (System, Advanced, Performance): loading is slower"),
    Row("host_memory", ("container",), {"memory": "larger"}, "docker run --memory=64g --shm-size=16g ...", "more of the machine's memory"),
    Row("host_memory", ("loads",), {"low_cpu_mem_usage": "true"}, "from_pretrained(..., low_cpu_mem_usage=True)", "nothing: weights are read one by one"),
    Row("host_memory", ("not_windows",), {"swap": "32 GiB"}, "sudo fallocate -l 32G /swapfile && sudo chmod 600 /swapfile && sudo mkswap /swapfile && sudo swapon /swapfile", "slow where it is used"),
)  # fmt: skip

HINTS = ("torch-2.1", "torch-2.2..", "torch-2.4..")  # wordings of versions with expandable segments


def changes(found: Found, judged: Judged, settings: Mapping[str, Any]) -> tuple[Change, ...]:
    """The rows for this cause and program, filled; at most MOST. Where the message does not tell
    the cause, the first row for each that is possible."""
    tags = tags_of(found, judged, settings)
    values = figures(found, settings)
    rows = [row for row in ROWS if set(row.tags) <= tags and _known(row, values)]
    if judged.cause is not None:
        return tuple(filled(row, values) for row in rows if row.cause == judged.cause)[:MOST]
    first = (next((r for r in rows if r.cause == cause), None) for cause in judged.others)
    return tuple(filled(row, values) for row in first if row is not None)[:MOST]


def filled(row: Row, values: Mapping[str, Any]) -> Change:
    """A row with its figures."""
    change = {name: _typed(value.format_map(values)) for name, value in row.change.items()}
    return Change(change, row.cost, row.paste.format_map(values))


def _typed(text: str) -> Any:
    if text in ("true", "false"):
        return text == "true"
    return int(text) if text.isdecimal() else text


def _known(row: Row, values: Mapping[str, Any]) -> bool:
    texts = (row.paste, *row.change.values())
    return all(
        name in values for text in texts for _, name, _, _ in Formatter().parse(text) if name
    )


TOOLS: Mapping[str, tuple[str, ...]] = {
    "torch": ("torch", "nvidia"),
    "torch-rocm": ("torch", "rocm"),
    "torch-xpu": ("torch", "xpu"),
    "torch-npu": ("torch", "npu"),
    "torch-mps": ("mps",),
    "vllm": ("vllm", "nvidia"),
    "sglang": ("sglang", "nvidia"),
    "llama.cpp": ("llama.cpp",),
    "tensorrt-llm": ("tensorrt-llm", "nvidia"),
}
TRAINS = ("optimizer", "backward", "saving", "gather")
TRAINERS = ("trainer", "deepspeed")
NO_PYTHON = ("comfyui", "webui", "vllm", "sglang")


def tags_of(found: Found, judged: Judged, settings: Mapping[str, Any]) -> set[str]:
    """What is known of the program: the rows' vocabulary."""
    engine = str(settings.get("engine") or found.engine)
    tags = {*TOOLS.get(found.tool, (found.tool,)), engine, *_allocator(found), *_machine(found)}
    trains = (
        found.place in TRAINS or engine in TRAINERS or bool({"method", "optimizer"} & set(settings))
    )
    facts = {
        "train": trains,
        "not_train": not trains,
        "python": engine not in NO_PYTHON,
        "not_sglang": engine != "sglang" and found.tool != "sglang",
        "foreach": "_foreach_" in found.message,
        "copies": "pipelineparallelismenabled" in found.message,
        "no_blocks": judged.why == "no_blocks",
        "half_fits": (found.size("needed_kv") or 0) <= 2 * (found.size("available_kv") or 0),
        "no_context": "n_ctx" not in found.parsed and "context" not in settings,
        "vulkan": found.wording == "ggml-vulkan",
        "ranks": _ranks(found),
        "fitting": _fitting(found) is not None,
        "not_fitting": _fitting(found) is None,
        "pinned": judged.why == "pinned" and found.tool == "llama.cpp",
        "wsl": judged.why == "wsl",
        "container": found.wording in ("exit-137", "kernel-oom"),
        "loads": found.wording == "torch-cpu",
    }
    return tags | {name for name, holds in facts.items() if holds}


def _allocator(found: Found) -> set[str]:
    """What the version of PyTorch can be told about fragmentation."""
    if found.wording in HINTS and not found.windows:
        return {"expandable"}
    if found.wording in (*HINTS, "torch-1.10..2.0"):
        return {"split"}
    return {"first"} if found.wording.startswith("torch-1.") else set()


def _machine(found: Found) -> set[str]:
    return {"windows"} if found.windows or found.wording == "windows-commit" else {"not_windows"}


def _ranks(found: Found) -> bool:
    sizes = [row["bytes"] for row in listed(found)]
    return len(sizes) >= RANKS and len(set(sizes)) * 2 <= len(sizes)


def figures(found: Found, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Values for the rows, as far as the message or the settings give them."""
    known = {**found.stated, **settings, **{k: v for k, v in found.parsed.items() if v is not None}}
    share = known.get(
        "utilization", known.get("gpu_memory_utilization", known.get("mem_fraction_static"))
    )
    ubatch = int(known.get("ubatch_size", 512))  # llama.cpp's own default
    values: dict[str, Any] = {
        "variable": found.hint or "PYTORCH_CUDA_ALLOC_CONF",
        "half_ubatch": max(ubatch // 2, 32),
        "slots": max(int(known.get("available_slots", 1)), 1),
        "up": "0.95" if not isinstance(share, float) or share < 0.95 else None,
        "down": f"{max(share - 0.05, 0.05):.2f}" if isinstance(share, float) else "0.85",
        "length": _length(found),
        "fitting": _fitting(found),
        "half_prefill": _half(known.get("prefill_tokens")),
        "half_seqs": _half(known.get("dummy_requests") or known.get("max_num_seqs")),
        "half_context": _half(known.get("n_ctx") or known.get("context")),
    }
    return {name: value for name, value in values.items() if value is not None}


def _half(value: Any) -> int | None:
    return max(int(value) // 2, 1) if isinstance(value, int) else None


def _length(found: Found) -> int | None:
    """The longest request that the cache can hold, in whole blocks."""
    said = found.parsed.get("estimated_max_model_len") or found.parsed.get("max_tokens")
    if said:
        return int(said)
    asked, needed, there = (
        found.parsed.get("max_model_len"),
        found.size("needed_kv"),
        found.size("available_kv"),
    )
    if not asked or not needed or there is None:
        return None
    return asked * there // needed // BLOCK * BLOCK or None


def _fitting(found: Found) -> str | None:
    """The largest share, in percent, that is free on the card now."""
    capacity, free = found.size("capacity"), found.size("free")
    if found.wording != "vllm-startup" or not capacity or free is None or capacity < GIB:
        return None
    share = free * 100 // capacity
    return f"{share / 100:.2f}" if share >= 10 else None
