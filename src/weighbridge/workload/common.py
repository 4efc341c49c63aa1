"""Settings that most questions need, task by task: help and schemas have these first."""

from collections.abc import Mapping

COMMON: Mapping[str, tuple[str, ...]] = {
    "fit": (
        *("gpu", "gpu_memory", "engine", "quantization", "context", "batch_size", "seq_len"),
        *("checkpointing", "shard", "tensor_parallel_size", "kv_cache_dtype", "ram"),
    ),
    "infer": (
        *("gpu", "gpu_memory", "engine", "quantization", "dtype", "context", "batch_size"),
        *("kv_cache_dtype", "tensor_parallel_size", "gpu_memory_utilization", "max_num_seqs"),
        *("n_gpu_layers", "cache_type_k", "cache_type_v", "parallel", "ram"),
    ),
    "train": (
        *("gpu", "gpu_memory", "method", "framework", "seq_len", "batch_size", "optimizer"),
        *("checkpointing", "precision", "quantization", "lora_r", "lora_targets", "shard"),
        *("gradient_accumulation", "loss", "attention", "ram"),
    ),
    "load": ("gpu", "gpu_memory", "quantization", "dtype", "device_map", "ram"),
}
