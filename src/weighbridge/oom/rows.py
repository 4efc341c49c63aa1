"""What to change, by cause and by program: the table of `changes`.

A row is taken where the program has all of its tags (changes.py); figures in
braces are of the message. Every line is what that program takes, in its own flags and for its own
version: a PyTorch before 2.1 has no expandable segments, and a share that leaves no room for a
cache is to rise where one that leaves no room beside the cache is to fall.
"""

from collections.abc import Mapping
from typing import NamedTuple


class CauseRow(NamedTuple):
    """`tags`: all that the program must have. Texts have figures in braces (`figures`)."""

    cause: str
    tags: tuple[str, ...]
    change: Mapping[str, str]
    paste: str
    cost: str


SHORTER = "longer requests are refused"
FEWER = "the others wait"
HALF_CACHE = "half of the cache per token; a small loss of quality"
SLOWER = "slower"
MORE_CARDS = "the price of a card"
QUALITY = "a small loss of quality"
FREE = "nothing"
STOPS = "what the other program does"
LESS_CACHE = "a smaller cache: fewer or shorter requests"
LESS_SPARE = "less room beside the cache: it may run out while it serves"
SMALLER_STEPS = "more, smaller steps; the same result"
RECOMPUTES = "about a third slower; the same result"

ROWS = (
    # the cache
    CauseRow(
        "kv_cache_too_big", ("vllm",), {"context": "{length}"}, "--max-model-len {length}", SHORTER
    ),
    CauseRow(
        "kv_cache_too_big",
        ("vllm", "half_fits"),
        {"kv_cache_dtype": "fp8"},
        "--kv-cache-dtype fp8",
        HALF_CACHE,
    ),
    CauseRow(
        "kv_cache_too_big",
        ("vllm", "near"),
        {"gpu_memory_utilization": "{up}"},
        "--gpu-memory-utilization {up}",
        LESS_SPARE,
    ),
    CauseRow(
        "kv_cache_too_big",
        ("vllm",),
        {"tensor_parallel_size": "2"},
        "--tensor-parallel-size 2",
        MORE_CARDS,
    ),
    CauseRow(
        "kv_cache_too_big",
        ("sglang",),
        {"max_running_requests": "16"},
        "--max-running-requests 16",
        FEWER,
    ),
    CauseRow(
        "kv_cache_too_big",
        ("sglang",),
        {"kv_cache_dtype": "fp8_e5m2"},
        "--kv-cache-dtype fp8_e5m2",
        HALF_CACHE,
    ),
    CauseRow(
        "kv_cache_too_big",
        ("llama.cpp",),
        {"context": "{half_context}"},
        "-c {half_context}",
        SHORTER,
    ),
    CauseRow(
        "kv_cache_too_big", ("llama.cpp", "no_context"), {"context": "8192"}, "-c 8192", SHORTER
    ),
    CauseRow(
        "kv_cache_too_big",
        ("llama.cpp",),
        {"cache_type_k": "q8_0", "cache_type_v": "q8_0"},
        "-fa on --cache-type-k q8_0 --cache-type-v q8_0",
        HALF_CACHE,
    ),
    CauseRow(
        "kv_cache_too_big", ("llama.cpp",), {"no_kv_offload": "true"}, "--no-kv-offload", SLOWER
    ),
    CauseRow("kv_cache_too_big", ("exllama",), {"context": "8192"}, "--max-seq-len 8192", SHORTER),
    CauseRow(
        "kv_cache_too_big",
        ("exllama",),
        {"cache": "Q4"},
        "--cache-mode Q4",
        "a quarter of the cache per token; a small loss of quality",
    ),
    CauseRow(
        "kv_cache_too_big",
        ("tensorrt-llm",),
        {"kv_cache_free_gpu_memory_fraction": "0.95"},
        "--kv_cache_free_gpu_memory_fraction 0.95",
        LESS_SPARE,
    ),
    CauseRow(
        "kv_cache_too_big",
        ("tensorrt-llm",),
        {"max_seq_len": "shorter"},
        "trtllm-build --max_seq_len 8192",
        SHORTER,
    ),
    CauseRow("kv_cache_too_big", ("torch",), {"batch_size": "smaller"}, "", FEWER),
    # the weights
    CauseRow(
        "weights_too_big",
        ("vllm", "no_blocks"),
        {"gpu_memory_utilization": "{up}"},
        "--gpu-memory-utilization {up}",
        LESS_SPARE,
    ),
    CauseRow("weights_too_big", ("vllm",), {"quantization": "fp8"}, "--quantization fp8", QUALITY),
    CauseRow(
        "weights_too_big",
        ("vllm",),
        {"tensor_parallel_size": "2"},
        "--tensor-parallel-size 2",
        MORE_CARDS,
    ),
    CauseRow("weights_too_big", ("vllm",), {"cpu_offload_gb": "8"}, "--cpu-offload-gb 8", SLOWER),
    CauseRow(
        "weights_too_big",
        ("sglang",),
        {"mem_fraction_static": "{up}"},
        "--mem-fraction-static {up}",
        LESS_SPARE,
    ),
    CauseRow(
        "weights_too_big", ("sglang",), {"quantization": "fp8"}, "--quantization fp8", QUALITY
    ),
    CauseRow("weights_too_big", ("sglang",), {"tensor_parallel_size": "2"}, "--tp 2", MORE_CARDS),
    CauseRow(
        "weights_too_big",
        ("llama.cpp",),
        {"n_gpu_layers": "20"},
        "-ngl 20",
        "slower: the other layers stay in host memory; raise it until it fails",
    ),
    CauseRow(
        "weights_too_big",
        ("llama.cpp",),
        {"n_cpu_moe": "20"},
        "--n-cpu-moe 20",
        "slower, for a model with experts: those of 20 layers stay in host memory",
    ),
    CauseRow(
        "weights_too_big",
        ("llama.cpp",),
        {"quantization": "Q4_K_M"},
        "",
        "a smaller file of the same model: a small loss of quality",
    ),
    CauseRow(
        "weights_too_big", ("comfyui",), {"lowvram": "true"}, "python main.py --lowvram", SLOWER
    ),
    CauseRow("weights_too_big", ("webui",), {"medvram": "true"}, "--medvram", SLOWER),
    CauseRow(
        "weights_too_big",
        ("torch", "python"),
        {"quantization": "nf4"},
        "quantization_config=BitsAndBytesConfig(load_in_4bit=True, "
        'bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype="bfloat16")',
        QUALITY,
    ),
    CauseRow(
        "weights_too_big",
        ("torch", "python"),
        {"device_map": "auto"},
        'device_map="auto"',
        "slower: what does not fit stays in host memory",
    ),
    CauseRow(
        "weights_too_big",
        ("torch", "python"),
        {"offload": "sequential"},
        "pipe.enable_sequential_cpu_offload()",
        "much slower, for a pipeline of diffusers",
    ),
    CauseRow(
        "weights_too_big",
        ("mps",),
        {"quantization": "mlx-4bit-g64"},
        "",
        "the model in 4 bits, with MLX or llama.cpp: a small loss of quality",
    ),
    CauseRow(
        "weights_too_big",
        ("jax",),
        {"dtype": "bfloat16"},
        "",
        "weights in bfloat16, or fewer on each device",
    ),
    CauseRow(
        "weights_too_big",
        ("ollama",),
        {"n_gpu_layers": "20"},
        "/set parameter num_gpu 20",
        "slower: the other layers stay in host memory; raise it until it fails",
    ),
    CauseRow(
        "kv_cache_too_big",
        ("ollama",),
        {"context": "4096"},
        "/set parameter num_ctx 4096",
        SHORTER,
    ),
    CauseRow(
        "kv_cache_too_big",
        ("ollama",),
        {"kv_cache_dtype": "q8_0"},
        "OLLAMA_FLASH_ATTENTION=1 OLLAMA_KV_CACHE_TYPE=q8_0 ollama serve",
        HALF_CACHE,
    ),
    # what a step makes
    CauseRow(
        "activations",
        ("tgi",),
        {"max_batch_prefill_tokens": "{half_prefill}"},
        "--max-batch-prefill-tokens {half_prefill}",
        "longer prompts are taken in more parts",
    ),
    CauseRow(
        "activations",
        ("tgi",),
        {"quantize": "bitsandbytes-nf4"},
        "--quantize bitsandbytes-nf4",
        QUALITY,
    ),
    CauseRow(
        "activations",
        ("vllm",),
        {"max_num_batched_tokens": "2048"},
        "--max-num-batched-tokens 2048",
        "long prompts are taken in more parts",
    ),
    CauseRow(
        "activations",
        ("vllm",),
        {"gpu_memory_utilization": "{down}"},
        "--gpu-memory-utilization {down}",
        LESS_CACHE,
    ),
    CauseRow(
        "activations",
        ("train",),
        {"batch_size": "1", "gradient_accumulation": "8"},
        "TrainingArguments(per_device_train_batch_size=1, gradient_accumulation_steps=8)",
        SMALLER_STEPS,
    ),
    CauseRow(
        "activations",
        ("train",),
        {"checkpointing": "full"},
        "model.gradient_checkpointing_enable()",
        RECOMPUTES,
    ),
    CauseRow(
        "activations",
        ("comfyui",),
        {"image_size": "smaller"},
        "",
        "smaller images, or fewer at once",
    ),
    CauseRow("activations", ("webui",), {"medvram": "true"}, "--medvram", SLOWER),
    CauseRow(
        "activations",
        ("mps",),
        {"batch_size": "half"},
        "",
        "half of the batch, or a smaller image or shorter text",
    ),
    CauseRow(
        "activations",
        ("mps",),
        {"PYTORCH_MPS_HIGH_WATERMARK_RATIO": "0.0"},
        "export PYTORCH_MPS_HIGH_WATERMARK_RATIO=0.0",
        "takes away the limit: the machine may swap or hang",
    ),
    CauseRow("activations", ("jax",), {"batch_size": "half"}, "", SMALLER_STEPS),
    CauseRow(
        "activations",
        ("jax",),
        {"XLA_PYTHON_CLIENT_MEM_FRACTION": "0.95"},
        "export XLA_PYTHON_CLIENT_MEM_FRACTION=.95",
        "less room for other programs",
    ),
    CauseRow(
        "activations",
        ("onnxruntime",),
        {"enable_cuda_graph": "0"},
        'providers=[("CUDAExecutionProvider", {{"enable_cuda_graph": "0"}})]',
        SLOWER,
    ),
    CauseRow(
        "activations",
        ("torch",),
        {"batch_size": "half"},
        "",
        "half of the batch, or shorter inputs: the step takes half",
    ),
    CauseRow(
        "activations",
        ("torch", "python"),
        {"grad": "off"},
        "torch.set_grad_enabled(False)",
        "nothing, where nothing is trained",
    ),
    CauseRow(
        "attention_matrix",
        ("mps",),
        {"batch_size": "half"},
        "",
        "half of the length takes a quarter of this matrix",
    ),
    CauseRow(
        "attention_matrix",
        ("torch",),
        {"attention": "flash"},
        'attn_implementation="flash_attention_2"',
        "nothing; it needs the package flash-attn",
    ),
    CauseRow(
        "attention_matrix",
        ("torch",),
        {"attention": "efficient"},
        'attn_implementation="sdpa"',
        FREE,
    ),
    CauseRow(
        "logits", ("vllm",), {"max_num_seqs": "{half_seqs}"}, "--max-num-seqs {half_seqs}", FEWER
    ),
    CauseRow(
        "logits",
        ("vllm",),
        {"gpu_memory_utilization": "{down}"},
        "--gpu-memory-utilization {down}",
        LESS_CACHE,
    ),
    CauseRow(
        "logits",
        ("train",),
        {"loss": "liger"},
        "TrainingArguments(use_liger_kernel=True)",
        "nothing; it needs the package liger-kernel",
    ),
    CauseRow(
        "logits",
        ("torch", "not_train"),
        {"logits_to_keep": "1"},
        "model(**inputs, logits_to_keep=1)",
        "nothing, where only the next token is needed",
    ),
    CauseRow("logits", ("torch",), {"batch_size": "half"}, "", SMALLER_STEPS),
    CauseRow("logits", ("mps",), {"batch_size": "half"}, "", SMALLER_STEPS),
    CauseRow(
        "optimizer_states",
        ("foreach",),
        {"foreach": "false"},
        "torch.optim.AdamW(model.parameters(), foreach=False)",
        "a slower step; its temporary copies go away",
    ),
    CauseRow(
        "optimizer_states",
        ("torch",),
        {"optimizer": "paged_adamw_8bit"},
        'TrainingArguments(optim="paged_adamw_8bit")',
        "a quarter of the states; nearly the same result",
    ),
    CauseRow(
        "optimizer_states",
        ("deepspeed",),
        {"offload": "optimizer"},
        '"zero_optimization": {{"stage": 3, "offload_optimizer": {{"device": "cpu"}}}}',
        SLOWER,
    ),
    CauseRow(
        "optimizer_states",
        ("torch",),
        {"method": "lora"},
        "",
        "train adapters (LoRA) instead of all weights",
    ),
    CauseRow(
        "checkpoint_saving",
        ("torch",),
        {"state_dict": "sharded"},
        'fsdp_config={{"state_dict_type": "SHARDED_STATE_DICT"}}',
        "the checkpoint is in parts, one a rank",
    ),
    CauseRow(
        "checkpoint_saving",
        ("torch",),
        {"state_dict": "on the host"},
        "FullStateDictConfig(offload_to_cpu=True, rank0_only=True)",
        "the first rank's host memory holds the whole model",
    ),
    CauseRow(
        "vae_decode",
        ("comfyui",),
        {"vae": "tiled"},
        "",
        "use the node VAE Decode (Tiled): nearly the same picture",
    ),
    CauseRow(
        "vae_decode",
        ("torch",),
        {"vae": "tiled"},
        "pipe.vae.enable_tiling()",
        "nearly the same picture",
    ),
    # the allocator and the driver
    CauseRow(
        "fragmentation",
        ("expandable",),
        {"allocator": "expandable_segments"},
        "export {variable}=expandable_segments:True",
        FREE,
    ),
    CauseRow(
        "fragmentation",
        ("split",),
        {"allocator": "max_split_size_mb"},
        "export PYTORCH_CUDA_ALLOC_CONF=max_split_size_mb:128",
        "allocation is a little slower",
    ),
    CauseRow(
        "fragmentation",
        ("split",),
        {"torch": "2.1 or newer"},
        "",
        "a newer PyTorch has expandable segments, which end this",
    ),
    CauseRow(
        "fragmentation",
        ("first",),
        {"torch": "2.1 or newer"},
        "",
        "this PyTorch has no setting against it; a newer one has",
    ),
    CauseRow(
        "fragmentation",
        ("torch",),
        {"empty_cache": "between steps"},
        "torch.cuda.empty_cache()",
        "a short stop each time",
    ),
    CauseRow(
        "memory_fraction_cap",
        ("torch",),
        {"memory_fraction": "1.0"},
        "torch.cuda.set_per_process_memory_fraction(1.0)",
        "this process may fill the card",
    ),
    CauseRow(
        "device_limit",
        ("xpu",),
        {"limit": "relaxed"},
        "export UR_L0_ENABLE_RELAXED_ALLOCATION_LIMITS=1",
        FREE,
    ),
    CauseRow(
        "device_limit",
        ("vulkan",),
        {"ubatch_size": "{half_ubatch}"},
        "-ub {half_ubatch}",
        "slower prompts",
    ),
    CauseRow(
        "device_limit",
        ("rocm",),
        {"gtt": "larger"},
        "",
        "its share is set in the BIOS, or by the kernel's ttm.pages_limit",
    ),
    CauseRow(
        "device_limit",
        ("expandable", "not_windows"),
        {"allocator": "expandable_segments"},
        "export {variable}=expandable_segments:True",
        FREE,
    ),
    CauseRow(
        "device_limit",
        ("torch",),
        {"batch_size": "half"},
        "",
        "ask for it in parts: a smaller batch or shorter inputs",
    ),
    # a server's share
    CauseRow(
        "utilization_set_too_high",
        ("vllm", "fitting"),
        {"gpu_memory_utilization": "{fitting}"},
        "--gpu-memory-utilization {fitting}",
        LESS_CACHE,
    ),
    CauseRow(
        "utilization_set_too_high",
        ("vllm", "not_fitting"),
        {"gpu_memory_utilization": "{down}"},
        "--gpu-memory-utilization {down}",
        LESS_CACHE,
    ),
    CauseRow(
        "utilization_set_too_high",
        ("vllm", "not_fitting"),
        {"enforce_eager": "true"},
        "--enforce-eager",
        "slower answers: no CUDA graphs",
    ),
    CauseRow(
        "utilization_set_too_high",
        ("sglang",),
        {"mem_fraction_static": "{down}"},
        "--mem-fraction-static {down}",
        LESS_CACHE,
    ),
    CauseRow(
        "utilization_set_too_low",
        ("vllm",),
        {"gpu_memory_utilization": "{up}"},
        "--gpu-memory-utilization {up}",
        LESS_SPARE,
    ),
    CauseRow(
        "utilization_set_too_low",
        ("sglang",),
        {"mem_fraction_static": "{up}"},
        "--mem-fraction-static {up}",
        LESS_SPARE,
    ),
    CauseRow(
        "cuda_graphs",
        ("sglang",),
        {"cuda_graph_max_bs": "16"},
        "--cuda-graph-max-bs 16",
        "large batches are slower",
    ),
    CauseRow(
        "cuda_graphs",
        ("sglang",),
        {"mem_fraction_static": "{down}"},
        "--mem-fraction-static {down}",
        LESS_CACHE,
    ),
    CauseRow(
        "cuda_graphs",
        ("sglang",),
        {"disable_cuda_graph": "true"},
        "--disable-cuda-graph",
        "slower answers",
    ),
    CauseRow(
        "cuda_graphs",
        ("torch", "not_sglang"),
        {"gpu_memory_utilization": "{down}"},
        "--gpu-memory-utilization {down}",
        LESS_CACHE,
    ),
    CauseRow(
        "cuda_graphs",
        ("torch", "not_sglang"),
        {"enforce_eager": "true"},
        "--enforce-eager",
        "slower answers: no CUDA graphs",
    ),
    CauseRow(
        "request_slots",
        ("sglang",),
        {"max_running_requests": "{slots}"},
        "--max-running-requests {slots}",
        FEWER,
    ),
    # buffers
    CauseRow(
        "compute_buffer",
        ("llama.cpp",),
        {"ubatch_size": "{half_ubatch}"},
        "-ub {half_ubatch}",
        "slower prompts",
    ),
    CauseRow("compute_buffer", ("llama.cpp",), {"flash_attn": "on"}, "-fa on", FREE),
    CauseRow(
        "compute_buffer",
        ("llama.cpp", "copies"),
        {"sched_max_copies": "1"},
        "cmake -B build -DGGML_CUDA=ON -DGGML_SCHED_MAX_COPIES=1",
        "a build without pipeline parallelism: slower prompts on several cards",
    ),
    CauseRow(
        "compute_buffer",
        ("llama.cpp",),
        {"n_gpu_layers": "20"},
        "-ngl 20",
        "slower: the other layers stay in host memory; raise it until it fails",
    ),
    CauseRow(
        "communication_buffers",
        ("deepspeed",),
        {"zero_prefetch_bucket_size": "1e7"},
        '"zero_optimization": {{"stage": 3, "stage3_prefetch_bucket_size": 1e7, '
        '"stage3_max_live_parameters": 1e8}}',
        SLOWER,
    ),
    CauseRow(
        "communication_buffers",
        (),
        {"NCCL_BUFFSIZE": "1048576"},
        "export NCCL_BUFFSIZE=1048576",
        "slower exchange; the default is 4 MiB a channel",
    ),
    CauseRow(
        "communication_buffers",
        (),
        {"batch_size": "half"},
        "",
        "leave a GiB free for the libraries: half of the batch",
    ),
    # others on the card
    CauseRow(
        "other_process",
        ("vllm", "fitting"),
        {"gpu_memory_utilization": "{fitting}"},
        "--gpu-memory-utilization {fitting}",
        LESS_CACHE,
    ),
    CauseRow(
        "other_process",
        ("ranks",),
        {"rank_device": "LOCAL_RANK"},
        'torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))',
        FREE,
    ),
    CauseRow("other_process", ("rocm",), {"other_processes": "end"}, "rocm-smi --showpids", STOPS),
    CauseRow("other_process", ("npu",), {"other_processes": "end"}, "npu-smi info", STOPS),
    CauseRow(
        "other_process",
        ("nvidia",),
        {"other_processes": "end"},
        "nvidia-smi --query-compute-apps=pid,process_name,used_memory --format=csv",
        STOPS,
    ),
    CauseRow(
        "other_process",
        ("nvidia",),
        {"device": "another"},
        "export CUDA_VISIBLE_DEVICES=1",
        "nothing, where another card is free",
    ),
    # the host
    CauseRow("shared_memory", (), {"shm_size": "16g"}, "--shm-size=16g", FREE),
    CauseRow(
        "shared_memory",
        (),
        {"num_workers": "0"},
        "DataLoader(dataset, num_workers=0)",
        "slower reading of data",
    ),
    CauseRow(
        "host_memory",
        ("ollama",),
        {"loaded_models": "stop"},
        "ollama ps",
        "it is loaded again when it is asked",
    ),
    CauseRow("host_memory", ("ollama",), {"model": "a smaller tag"}, "", QUALITY),
    CauseRow(
        "host_memory",
        ("wsl",),
        {".wslconfig memory": "larger"},
        "[wsl2]\nmemory=48GB\nswap=32GB",
        "in %UserProfile%\\.wslconfig, then: wsl --shutdown",
    ),
    CauseRow(
        "host_memory",
        ("pinned",),
        {"pinned": "off"},
        "export GGML_CUDA_NO_PINNED=1",
        "copies to the card are slower",
    ),
    CauseRow(
        "host_memory",
        ("windows",),
        {"page_file": "larger"},
        "",
        "a larger page file (System, Advanced, Performance): loading is slower",
    ),
    CauseRow(
        "host_memory",
        ("container",),
        {"memory": "larger"},
        "--memory=64g --shm-size=16g",
        "more of the machine's memory",
    ),
    CauseRow(
        "host_memory",
        ("loads",),
        {"low_cpu_mem_usage": "true"},
        "low_cpu_mem_usage=True",
        FREE,
    ),
    CauseRow(
        "host_memory",
        ("not_windows",),
        {"swap": "32 GiB"},
        "sudo fallocate -l 32G /swapfile && sudo chmod 600 /swapfile && sudo mkswap /swapfile && "
        "sudo swapon /swapfile",
        "slow where it is used",
    ),
)
