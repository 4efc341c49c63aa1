"""Names of tabs, sections and settings as the page shows them, and what each setting means.

English names follow from the names of the settings, and their sentences are those of the tables;
here stands what does not follow. Chinese has both in chinese.py.
"""

from collections.abc import Mapping

from weighbridge.settings import Setting
from weighbridge.web import chinese

MAIN = "Main"
TABS: Mapping[str, str] = {
    "fit": "Fit",
    "load": "Load",
    "infer": "Serve",
    "train": "Train",
    "compare": "Compare",
    "gpus": "GPUs",
    "models": "Models",
    "accuracy": "Accuracy",
}
LABELS: Mapping[str, str] = {  # tab.setting, or setting
    "gpu": "GPU",
    "gpu_memory": "GPU memory",
    "ram": "Host memory",
    "context": "Context (tokens)",
    "prompt_len": "Prompt (tokens)",
    "max_new_tokens": "Answer (tokens)",
    "batch_size": "Requests at once (users)",
    "train.batch_size": "Batch size per GPU",
    "fit.batch_size": "Users at once, batch size",
    "eval_batch_size": "Batch size of evaluation",
    "seq_len": "Sequence length (tokens)",
    "lora_r": "LoRA rank",
    "lora_alpha": "LoRA alpha",
    "lora_targets": "LoRA targets",
    "lora_dropout": "LoRA dropout",
    "use_rslora": "rsLoRA",
    "dtype": "Dtype",
    "kv_cache_dtype": "KV cache dtype",
    "kv_cache_memory_bytes": "KV cache size",
    "gpu_memory_utilization": "GPU memory utilization",
    "tensor_parallel_size": "Tensor parallel",
    "pipeline_parallel_size": "Pipeline parallel",
    "data_parallel_size": "Data parallel",
    "context_parallel_size": "Context parallel",
    "expert_parallel_size": "Expert parallel",
    "enable_expert_parallel": "Experts dealt out whole",
    "max_loras": "Slots for LoRA",
    "max_lora_rank": "Largest LoRA rank",
    "max_num_seqs": "Requests at once, at most (max-num-seqs)",
    "max_running_requests": "Requests at once, at most",
    "max_num_batched_tokens": "Tokens of a step",
    "max_cudagraph_capture_size": "Largest CUDA graph",
    "cuda_graph_max_bs": "Largest CUDA graph",
    "disable_cuda_graph": "No CUDA graphs",
    "num_gpu_blocks_override": "GPU blocks",
    "cpu_offload_gb": "CPU offload (GiB)",
    "parallel": "Slots (users)",
    "n_gpu_layers": "Layers on the GPU",
    "n_cpu_moe": "Layers with experts on the CPU",
    "n_batch": "Logical batch",
    "ubatch_size": "Physical batch",
    "cache_type_k": "Cache type of keys",
    "cache_type_v": "Cache type of values",
    "swa_full": "Full sliding windows",
    "no_kv_offload": "No KV offload",
    "no_mmap": "No mmap",
    "cache_ram": "Prompt cache (MiB)",
    "mmproj": "Projector (mmproj)",
    "mla_attn": "MLA attention",
    "attn_max_b": "Most attention (MiB)",
    "fused_moe": "Fused MoE",
    "max_kv_size": "Largest cache",
    "prefill_step_size": "Prompt tokens at once",
    "optim_args": "Optimizer arguments",
    "loss": "Loss kernel",
    "use_reentrant": "Reentrant checkpoints",
    "kbit_upcast": "Upcast of k-bit weights",
    "gptq_kernel": "GPTQ kernel",
    "bnb_4bit_quant_storage": "4-bit storage",
    "bitsandbytes_version": "bitsandbytes version",
    "deepspeed_version": "DeepSpeed version",
    "torch_version": "torch version",
    "shard": "Sharding",
    "exact": "Trace the real class",
    "command": "Launch command",
    "for": "The question",
    "max": "Solve for the largest",
    "smallest": "Solve for the smallest",
    "fp4": "FP4",
    "fp8": "FP8",
    "bf16": "BF16",
    "int8": "INT8",
    "nvlink": "NVLink",
    "min_memory": "Memory, at least",
    "min_context": "Context, at least",
    "by_source": "By source",
}
WORDS: Mapping[str, str] = {  # within names that follow
    "cuda": "CUDA",
    "gpu": "GPU",
    "cpu": "CPU",
    "lora": "LoRA",
    "zero": "ZeRO",
    "kv": "KV",
    "moe": "MoE",
    "mamba": "Mamba",
    "dp": "DP",
    "ssm": "SSM",
}
CARD = "A card as people write it: 4090, a100-80gb:8, '2x RTX 4090', p5.48xlarge."
HELP: Mapping[str, str] = {  # of settings that stand in no table, or are said otherwise here
    **dict.fromkeys((f"{tab}.gpu" for tab in ("fit", "load", "infer", "train")), CARD),
    "revision": "Branch, tag or commit on the Hub.",
    "command": "The engine's own command: 'vllm serve ...'. Then its own defaults rule.",
    "for": "The question that the verdict is about. Default: infer.",
    "max": "Find the largest that still fits.",
    "smallest": "Find the smallest card, number of cards or cloud machine that does.",
    "pattern": "Part of a name.",
    "bf16": "Only those with units for bfloat16.",
    "fp8": "Only those with units for fp8.",
    "fp4": "Only those with units for fp4.",
    "int8": "Only those with units for int8.",
    "nvlink": "Only those with NVLink between cards.",
    "min_memory": "Only those sold with so much: 24GiB.",
    "vendor": "Only those of one maker.",
    "sort": "Default: as in the catalogue.",
    "min_context": "With a context of at least so many tokens: 8K.",
    "source": "Only figures of this source.",
    "by_source": "A row for each source.",
    "accuracy.engine": "Only figures of this engine.",
    "models.gpu": "Rank the models for a card: 4090. At most 60 models: narrow the pattern.",
    "models.for": "What it is to fit for. Default: infer.",
    "models.engine": "Engine that serves. Default: transformers.",
    "models.quantization": "In this format alone. Default: the best.",
}


def tab(name: str, lang: str) -> str:
    return chinese.TABS[name] if lang == "zh" else TABS[name]


def section(title: str, lang: str) -> str:
    return chinese.SECTIONS[title] if lang == "zh" else title


def setting(name: str, where: str, lang: str) -> str:
    """The name of a setting on that tab."""
    table = chinese.LABELS if lang == "zh" else LABELS
    return table.get(f"{where}.{name}") or table.get(name) or _spelled(name)


def _spelled(name: str) -> str:
    """kv_unified -> KV unified."""
    words = [WORDS.get(word, word) for word in name.split("_")]
    return " ".join([words[0][:1].upper() + words[0][1:], *words[1:]])


def help_of(s: Setting, where: str, lang: str) -> str:
    """What it means, in one sentence."""
    if lang == "zh":
        return chinese.HELP.get(f"{where}.{s.name}") or chinese.HELP[s.name]
    return HELP.get(f"{where}.{s.name}") or s.help or HELP[s.name]
