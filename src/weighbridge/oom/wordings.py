"""The wordings of an out-of-memory message: how each is recognised, and what it prints.

A wording is named after the program that prints it and the versions that print it so. Patterns are
written with spaces, to be read; they are searched in text that has none (text.py), each within a
window of the message, and each repetition is bounded: no input makes them slow.

Sources of the texts: pytorch c10/cuda/CUDACachingAllocator.cpp (malloc), CUDAMallocAsyncAllocator
.cpp, c10/xpu/XPUCachingAllocator.cpp, c10/core/impl/alloc_cpu.cpp, aten/src/ATen/mps/
MPSAllocator.mm; vllm worker/worker.py, v1/core/kv_cache_utils.py, v1/worker/gpu_worker.py and
gpu_model_runner.py; sglang srt/model_executor; ggml/src of llama.cpp; ollama llm/server.go; the
kernel's mm/oom_kill.c; and the messages of tests/oom/messages.jsonl, each with its thread.
"""

import re
from dataclasses import dataclass
from functools import cache

from weighbridge.oom.sizes import SIZE


@dataclass(frozen=True, slots=True)
class Wording:
    """`says`: any of these patterns tells the wording. `reads`: groups of fields (FIELDS)."""

    name: str
    tool: str
    says: tuple[str, ...]
    reads: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class WordingField:
    """`before`: it may stand before the message, in the log that leads to it."""

    name: str
    pattern: str
    kind: str = "size"  # or count, number, text
    before: bool = False


# The order decides where several are in one log: what says most comes first.
WORDINGS = (
    Wording(
        "vllm-sampler", "vllm", (r"when warming up sampler with \d{1,9} dummy requests",), ("vllm",)
    ),
    Wording(
        "vllm-kv-bytes",
        "vllm",
        (r"max seq len \(\d{1,12}\), \(?[\d.]{1,20} [KMGT]iB KV cache",),
        ("vllm",),
    ),
    Wording(
        "vllm-kv-tokens", "vllm", (r"number of tokens that can be stored in KV cache",), ("vllm",)
    ),
    Wording("vllm-startup", "vllm", (r"on startup is less than desired GPU memory",), ("vllm",)),
    Wording("vllm-no-blocks", "vllm", (r"No available memory for the cache blocks",), ("vllm",)),
    Wording(
        "sglang",
        "sglang",
        (
            r"Capture cuda graph failed:.{0,200}? out of memory",
            r"Not enough memory. Please try to increase --mem-fraction-static",
            r"(?:Prefill|Decode) out of memory. Try to lower",
            r"alloc_req_slots runs out of memory",
        ),
        ("sglang", "torch"),
    ),
    Wording("tgi", "tgi", (r"Not enough memory to handle \d{1,9} prefill tokens",), ("tgi",)),
    Wording("exllama", "exllama", (r"Insufficient VRAM (?:in split )?for model and cache",)),
    Wording(
        "tensorrt-llm",
        "tensorrt-llm",
        (
            r"CUDA runtime error in ::cudaMalloc(?:Async)?\(.{0,80}?out of memory",
            r"maxTokensInPagedKvCache must be large enough",
        ),
    ),
    Wording(
        "onnxruntime",
        "onnxruntime",
        (r"Failed to allocate memory for requested buffer of size",),
        ("bare",),
    ),
    Wording("ggml-pinned", "llama.cpp", (r"[\d.,]{1,20} [KMGT]iB of pinned memory",), ("ggml",)),
    Wording(
        "ggml-cpu", "llama.cpp", (r"ggml_backend_cpu_buffer_type_alloc_buffer: failed",), ("ggml",)
    ),
    Wording(
        "ggml-vulkan",
        "llama.cpp",
        (
            r"Device memory allocation of size \d{1,20} failed",
            r"Requested buffer size exceeds device",
        ),
        ("ggml",),
    ),
    Wording(
        "ggml-cuda",
        "llama.cpp",
        (
            r"allocating [\d.,]{1,20} [KMGT]iB on device \d{1,4}: cudaMalloc failed",
            r"(?:alloc_tensor_range|ggml_gallocr_reserve_n\w{0,8}): failed to allocate",
        ),
        ("ggml",),
    ),
    Wording(
        "ggml-cuda-pool",
        "llama.cpp",
        (r"out of memory.{0,200}? cuMem(?:SetAccess|Create|Map)\(",),
        ("ggml",),
    ),
    Wording(
        "ggml-metal",
        "llama.cpp",
        (
            r"kIOGPUCommandBufferCallbackErrorOutOfMemory",
            r"ggml_metal\w{0,24}: (?:error: )?command buffer \d{1,6} failed with status 5",
        ),
        ("ggml",),
    ),
    Wording(
        "ollama",
        "ollama",
        (r"model requires more system memory", r"llama runner process.{0,200}? cudaMalloc failed"),
        ("ollama",),
    ),
    Wording(
        "torch-cuda-malloc-async",
        "torch",
        (r"Allocation on device \d{0,4} would exceed allowed",),
        ("async",),
    ),
    Wording("torch-mps", "torch-mps", (r"MPS backend out of memory",), ("mps",)),
    Wording(
        "torch-mps-buffer", "torch-mps", (r"Invalid buffer size: [\d.]{1,20} [KMGT]i?B",), ("mps",)
    ),
    Wording(
        "ipex-block-limit",
        "torch-xpu",
        (r"can NOT allocate memory block with size larger",),
        ("torch",),
    ),
    Wording(
        "torch-xpu", "torch-xpu", (r"XPU out of memory.{0,40}? Tried to allocate",), ("torch",)
    ),
    Wording(
        "torch-npu", "torch-npu", (r"NPU out of memory.{0,40}? Tried to allocate",), ("torch",)
    ),
    Wording(
        "torch", "torch", (r"Tried to allocate [\d.]{1,20} (?:[KMGT]iB|bytes)[.(\s]",), ("torch",)
    ),
    Wording(
        "torch-cpu",
        "host",
        (r"DefaultCPUAllocator: (?:not enough|can't allocate) memory",),
        ("bare",),
    ),
    Wording(
        "dataloader",
        "host",
        (
            r"might be caused by insufficient shared memory",
            r"DataLoader worker \(pid.{0,20}?\) is killed by signal: (?:Bus error|Killed)",
        ),
    ),
    Wording(
        "nccl",
        "nccl",
        (r"NCCL WARN Cuda failure.{0,4}? 'out of memory'", r"Failed to CUDA calloc"),
        ("bare",),
    ),
    Wording(
        "jax",
        "jax",
        (
            r"RESOURCE_EXHAUSTED: ?(?:Out of memory|Failed to allocate)",
            r"Resource exhausted: Out of memory",
            r"failed to alloc \d{1,20} bytes on host",
        ),
        ("jax",),
    ),
    Wording(
        "tensorflow", "tensorflow", (r"OOM when allocating tensor with shape",), ("tensorflow",)
    ),
    Wording(
        "mlx", "mlx", (r"Attempting to allocate \d{1,20} bytes which is greater than",), ("mlx",)
    ),
    Wording(
        "numpy", "host", (r"Unable to allocate [\d.]{1,20} [KMGT]iB for an array",), ("numpy",)
    ),
    Wording(
        "cublas-status", "torch", (r"CUBLAS_STATUS_ALLOC_FAILED", r"HIPBLAS_STATUS_ALLOC_FAILED")
    ),
    Wording(
        "cuda-error",
        "torch",
        (
            r"CUDA (?:driver )?error: out of memory",
            r"HIP error: out of memory",
            r"cudaErrorMemoryAllocation",
            r"hipErrorOutOfMemory",
            r"CUDA_ERROR_OUT_OF_MEMORY",
        ),
    ),
    Wording("kernel-oom", "host", (r"Killed process \d{1,9}",), ("kernel",)),
    Wording("windows-commit", "host", (r"os error 1455", r"WinError 1455")),
    Wording("bad-alloc", "host", (r"std::bad_alloc", r"Cannot allocate memory")),
    Wording(
        "exit-137",
        "host",
        (
            r"OOMKilled",
            r"(?:exit(?:ed)?|return)[ a-z]{0,16}?(?:code|status)[ :=]{0,3}137",
            r"^Killed$",
        ),
        ("exit",),
    ),
    Wording(
        "other",
        "",
        (
            r"(?:[Ee]rror|ERROR|[Ff]ailed|FATAL|[Ee]xception).{0,40}? [Oo]ut of memory",
            r"OUT_OF_MEMORY|OutOfMemory(?:Error|Exception)",
        ),
    ),
)

_MIB = r"(\d{1,12}(?:[.,]\d{1,6})?)"  # a figure without its unit, which is MiB
_GIB = r"([\d.]{1,20})"

FIELDS: dict[str, tuple[WordingField, ...]] = {
    "torch": (
        WordingField("requested_bytes", rf"Tried to allocate {SIZE}"),
        WordingField("device", r"[GN]PU (\d{1,4})(?:;| has a total)", "count"),
        WordingField("capacity_bytes", rf"{SIZE} total capacity"),
        WordingField("capacity_bytes", rf"total capaci?ty of {SIZE}"),
        WordingField("free_bytes", rf"{SIZE} free"),
        WordingField("free_bytes", rf"of which {SIZE} is free"),
        WordingField("allocated_bytes", rf"{SIZE} already allocated"),
        WordingField("allocated_bytes", rf"allocated memory {SIZE} is allocated"),
        WordingField("active_bytes", rf"{SIZE} current active"),
        WordingField("reserved_bytes", rf"{SIZE} reserved in total"),
        WordingField("unallocated_bytes", rf"{SIZE} cached"),
        WordingField("unallocated_bytes", rf"{SIZE} is reserved by PyTorch but unallocated"),
        WordingField("process_bytes", rf"this process has {SIZE} memory in use"),
        WordingField("private_pool_bytes", rf"with {SIZE} allocated in private pools"),
        WordingField("allowed_bytes", rf"{SIZE} allowed"),
    ),
    "async": (
        WordingField("device", r"on device (\d{1,4}) would", "count"),
        WordingField("allocated_bytes", rf"Currently allocated : {SIZE}"),
        WordingField("requested_bytes", rf"Requested : {SIZE}"),
        WordingField("capacity_bytes", rf"Device limit : {SIZE}"),
        WordingField("free_bytes", rf"Free \(according to CUDA\): {SIZE}"),
        WordingField("allowed_bytes", rf"memory fraction\) : {SIZE}"),
    ),
    "mps": (
        WordingField("allocated_bytes", rf"MPS allocated: {SIZE}"),
        WordingField("other_bytes", rf"other allocations: {SIZE}"),
        WordingField("allowed_bytes", rf"max allowed: {SIZE}"),
        WordingField("requested_bytes", rf"Tried to allocate {SIZE}"),
        WordingField("requested_bytes", rf"Invalid buffer size: {SIZE}"),
    ),
    "vllm": (
        WordingField("max_model_len", r"max seq len \((\d{1,12})\)", "count", before=True),
        WordingField("max_tokens", r"stored in KV cache \((\d{1,12})\)", "count"),
        WordingField("needed_kv_bytes", rf"\), \(? {SIZE} KV cache is needed"),
        WordingField("available_kv_bytes", rf"available KV cache memory \( {SIZE}\)"),
        WordingField(
            "estimated_max_model_len", r"estimated maximum model length is (\d{1,12})", "count"
        ),
        WordingField("device", r"on device (?:cuda|xpu|hip|npu):(\d{1,4})", "count", before=True),
        WordingField(
            "free_bytes", rf"on device (?:\w{{2,5}}:\d{{1,4}})? \({_GIB}/", "GiB", before=True
        ),
        WordingField(
            "capacity_bytes",
            rf"on device [\w:]{{0,10}}\([\d.]{{1,20}}/{_GIB} GiB\)",
            "GiB",
            before=True,
        ),
        WordingField("utilization", r"GPU memory utilization \(([\d.]{1,20}),", "number"),
        WordingField("desired_bytes", rf"GPU memory utilization \([\d.]{{1,20}}, {SIZE}\)"),
        WordingField("dummy_requests", r"sampler with (\d{1,9}) dummy", "count"),
        WordingField("gpu_blocks", r"# GPU blocks: (\d{1,12})", "count", before=True),
        WordingField("cpu_blocks", r"# CPU blocks: (\d{1,12})", "count", before=True),
    ),
    "sglang": (
        WordingField("requested_tokens", r"Try to allocate (\d{1,12}) tokens", "count"),
        WordingField("available_tokens", r"Available tokens: (\d{1,12})", "count"),
        WordingField("available_slots", r"available_size\(\)=(\d{1,12})", "count"),
        WordingField("requested_slots", r"num_reqs=(\d{1,12})", "count"),
        WordingField("utilization", r"Current value: mem_fraction_static=([\d.]{1,20})", "number"),
    ),
    "tgi": (WordingField("prefill_tokens", r"handle (\d{1,9}) prefill tokens", "count"),),
    "ggml": (
        WordingField("requested_bytes", r"buffer of size (\d{1,20})"),
        WordingField("requested_bytes", r"memory allocation of size (\d{1,20})"),
        WordingField("requested_bytes", rf"allocating {SIZE} on device"),
        WordingField("requested_bytes", rf"{SIZE} of pinned memory"),
        WordingField("device", r"on device (\d{1,4}):", "count"),
        WordingField("device", r"current device: (\d{1,4}),", "count"),
        WordingField(
            "buffer", r"failed to allocate ([A-Za-z]{1,16}\d{0,4}) buffer of size", "text"
        ),
        WordingField("kv_bytes", rf"KV self size = {SIZE}", before=True),
        WordingField(
            "allocated_bytes", rf"allocated buffer, size = {SIZE}, \({_MIB}/", "MiB", before=True
        ),
        WordingField(
            "capacity_bytes",
            rf"allocated buffer, size = {SIZE}, \([\d.]{{1,20}}/{_MIB}\)",
            "MiB",
            before=True,
        ),
    ),
    "ollama": (
        WordingField("needed_host_bytes", rf"more system memory \({SIZE}\)"),
        WordingField("available_host_bytes", rf"than is available \({SIZE}\)"),
    ),
    "bare": (
        WordingField("requested_bytes", r"tried to allocate (\d{1,20}) bytes"),
        WordingField("requested_bytes", r"requested buffer of size (\d{1,20})"),
        WordingField("requested_bytes", r"CUDA calloc (\d{1,20}) bytes"),
    ),
    "jax": (
        WordingField("requested_bytes", r"trying to allocate (\d{1,20}) ?bytes"),
        WordingField("requested_bytes", rf"trying to allocate {SIZE}"),
        WordingField(
            "requested_bytes", r"allocate request for [\d.]{1,20}[KMGT]?i?B \((\d{1,20})B\)"
        ),
        WordingField("requested_bytes", r"failed to alloc (\d{1,20}) bytes"),
        WordingField("parameter_bytes", rf"parameter allocation: {SIZE}"),
        WordingField("constant_bytes", rf"constant allocation: {SIZE}"),
        WordingField("live_out_bytes", rf"maybe_live_out allocation: {SIZE}"),
        WordingField("temp_bytes", rf"preallocated temp allocation: {SIZE}"),
        WordingField("total_bytes", rf"total allocation: {SIZE}"),
        WordingField("fragmentation_bytes", rf"total fragmentation: {SIZE}"),
    ),
    "tensorflow": (WordingField("shape", r"with shape ?\[([\d,]{1,80})\]", "text"),),
    "mlx": (
        WordingField("requested_bytes", r"Attempting to allocate (\d{1,20}) bytes"),
        WordingField("allowed_bytes", r"allowed buffer size of (\d{1,20}) bytes"),
    ),
    "numpy": (WordingField("requested_bytes", rf"Unable to allocate {SIZE}"),),
    "kernel": (
        WordingField("total_vm_bytes", rf"total-vm:{SIZE}"),
        WordingField("anon_rss_bytes", rf"anon-rss:{SIZE}"),
        WordingField("file_rss_bytes", rf"file-rss:{SIZE}"),
        WordingField("shmem_rss_bytes", rf"shmem-rss:{SIZE}"),
    ),
    "exit": (WordingField("exit_code", r"(137)", "count"),),
}

LISTED = rf"Process (\d{{1,12}}) has {SIZE} memory in use"
N_CTX = (
    r"\bn_ctx[ \t]{0,20}=[ \t]{0,20}(\d{1,9})\b"  # in lines: the next line may begin with a figure
)

# What tells the versions of PyTorch's text apart; the first that is found.
TORCH = (
    ("torch-npu", r"\(NPU \d"),
    ("torch-1.0..1.3", rf"{SIZE} cached\)?"),
    (
        "torch-1.10..2.0",
        r"reserved in total.{0,90}?max_split|cuda.OutOfMemoryError.{0,160}?reserved in total",
    ),
    ("torch-1.4..1.9", r"reserved in total"),
    ("torch-2.1", r"total capacty of"),
    ("torch-2.4..", r"torch.OutOfMemoryError|private pools|PYTORCH_ALLOC_CONF"),
    ("torch-2.2..", r""),
)


@cache
def packed(pattern: str) -> re.Pattern[str]:
    """`pattern` as it is searched: without the spaces that it is written with."""
    return re.compile(pattern.replace(" ", ""))
