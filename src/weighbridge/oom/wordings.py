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
class Field:
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

FIELDS: dict[str, tuple[Field, ...]] = {
    "torch": (
        Field("requested_bytes", rf"Tried to allocate {SIZE}"),
        Field("device", r"[GN]PU (\d{1,4})(?:;| has a total)", "count"),
        Field("capacity_bytes", rf"{SIZE} total capacity"),
        Field("capacity_bytes", rf"total capaci?ty of {SIZE}"),
        Field("free_bytes", rf"{SIZE} free"),
        Field("free_bytes", rf"of which {SIZE} is free"),
        Field("allocated_bytes", rf"{SIZE} already allocated"),
        Field("allocated_bytes", rf"allocated memory {SIZE} is allocated"),
        Field("active_bytes", rf"{SIZE} current active"),
        Field("reserved_bytes", rf"{SIZE} reserved in total"),
        Field("unallocated_bytes", rf"{SIZE} cached"),
        Field("unallocated_bytes", rf"{SIZE} is reserved by PyTorch but unallocated"),
        Field("process_bytes", rf"this process has {SIZE} memory in use"),
        Field("private_pool_bytes", rf"with {SIZE} allocated in private pools"),
        Field("allowed_bytes", rf"{SIZE} allowed"),
    ),
    "async": (
        Field("device", r"on device (\d{1,4}) would", "count"),
        Field("allocated_bytes", rf"Currently allocated : {SIZE}"),
        Field("requested_bytes", rf"Requested : {SIZE}"),
        Field("capacity_bytes", rf"Device limit : {SIZE}"),
        Field("free_bytes", rf"Free \(according to CUDA\): {SIZE}"),
        Field("allowed_bytes", rf"memory fraction\) : {SIZE}"),
    ),
    "mps": (
        Field("allocated_bytes", rf"MPS allocated: {SIZE}"),
        Field("other_bytes", rf"other allocations: {SIZE}"),
        Field("allowed_bytes", rf"max allowed: {SIZE}"),
        Field("requested_bytes", rf"Tried to allocate {SIZE}"),
        Field("requested_bytes", rf"Invalid buffer size: {SIZE}"),
    ),
    "vllm": (
        Field("max_model_len", r"max seq len \((\d{1,12})\)", "count", before=True),
        Field("max_tokens", r"stored in KV cache \((\d{1,12})\)", "count"),
        Field("needed_kv_bytes", rf"\), \(? {SIZE} KV cache is needed"),
        Field("available_kv_bytes", rf"available KV cache memory \( {SIZE}\)"),
        Field("estimated_max_model_len", r"estimated maximum model length is (\d{1,12})", "count"),
        Field("device", r"on device (?:cuda|xpu|hip|npu):(\d{1,4})", "count", before=True),
        Field("free_bytes", rf"on device (?:\w{{2,5}}:\d{{1,4}})? \({_GIB}/", "GiB", before=True),
        Field(
            "capacity_bytes",
            rf"on device [\w:]{{0,10}}\([\d.]{{1,20}}/{_GIB} GiB\)",
            "GiB",
            before=True,
        ),
        Field("utilization", r"GPU memory utilization \(([\d.]{1,20}),", "number"),
        Field("desired_bytes", rf"GPU memory utilization \([\d.]{{1,20}}, {SIZE}\)"),
        Field("dummy_requests", r"sampler with (\d{1,9}) dummy", "count"),
        Field("gpu_blocks", r"# GPU blocks: (\d{1,12})", "count", before=True),
        Field("cpu_blocks", r"# CPU blocks: (\d{1,12})", "count", before=True),
    ),
    "sglang": (
        Field("requested_tokens", r"Try to allocate (\d{1,12}) tokens", "count"),
        Field("available_tokens", r"Available tokens: (\d{1,12})", "count"),
        Field("available_slots", r"available_size\(\)=(\d{1,12})", "count"),
        Field("requested_slots", r"num_reqs=(\d{1,12})", "count"),
        Field("utilization", r"Current value: mem_fraction_static=([\d.]{1,20})", "number"),
    ),
    "tgi": (Field("prefill_tokens", r"handle (\d{1,9}) prefill tokens", "count"),),
    "ggml": (
        Field("requested_bytes", r"buffer of size (\d{1,20})"),
        Field("requested_bytes", r"memory allocation of size (\d{1,20})"),
        Field("requested_bytes", rf"allocating {SIZE} on device"),
        Field("requested_bytes", rf"{SIZE} of pinned memory"),
        Field("device", r"on device (\d{1,4}):", "count"),
        Field("device", r"current device: (\d{1,4}),", "count"),
        Field("buffer", r"failed to allocate ([A-Za-z]{1,16}\d{0,4}) buffer of size", "text"),
        Field("kv_bytes", rf"KV self size = {SIZE}", before=True),
        Field(
            "allocated_bytes", rf"allocated buffer, size = {SIZE}, \({_MIB}/", "MiB", before=True
        ),
        Field(
            "capacity_bytes",
            rf"allocated buffer, size = {SIZE}, \([\d.]{{1,20}}/{_MIB}\)",
            "MiB",
            before=True,
        ),
    ),
    "ollama": (
        Field("needed_host_bytes", rf"more system memory \({SIZE}\)"),
        Field("available_host_bytes", rf"than is available \({SIZE}\)"),
    ),
    "bare": (
        Field("requested_bytes", r"tried to allocate (\d{1,20}) bytes"),
        Field("requested_bytes", r"requested buffer of size (\d{1,20})"),
        Field("requested_bytes", r"CUDA calloc (\d{1,20}) bytes"),
    ),
    "jax": (
        Field("requested_bytes", r"trying to allocate (\d{1,20}) ?bytes"),
        Field("requested_bytes", rf"trying to allocate {SIZE}"),
        Field("requested_bytes", r"allocate request for [\d.]{1,20}[KMGT]?i?B \((\d{1,20})B\)"),
        Field("requested_bytes", r"failed to alloc (\d{1,20}) bytes"),
        Field("parameter_bytes", rf"parameter allocation: {SIZE}"),
        Field("constant_bytes", rf"constant allocation: {SIZE}"),
        Field("live_out_bytes", rf"maybe_live_out allocation: {SIZE}"),
        Field("temp_bytes", rf"preallocated temp allocation: {SIZE}"),
        Field("total_bytes", rf"total allocation: {SIZE}"),
        Field("fragmentation_bytes", rf"total fragmentation: {SIZE}"),
    ),
    "tensorflow": (Field("shape", r"with shape ?\[([\d,]{1,80})\]", "text"),),
    "mlx": (
        Field("requested_bytes", r"Attempting to allocate (\d{1,20}) bytes"),
        Field("allowed_bytes", r"allowed buffer size of (\d{1,20}) bytes"),
    ),
    "numpy": (Field("requested_bytes", rf"Unable to allocate {SIZE}"),),
    "kernel": (
        Field("total_vm_bytes", rf"total-vm:{SIZE}"),
        Field("anon_rss_bytes", rf"anon-rss:{SIZE}"),
        Field("file_rss_bytes", rf"file-rss:{SIZE}"),
        Field("shmem_rss_bytes", rf"shmem-rss:{SIZE}"),
    ),
    "exit": (Field("exit_code", r"(137)", "count"),),
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
