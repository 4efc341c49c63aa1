"""vLLM (V1): a budget of gpu_memory_utilization x total per card; the KV cache gets what is left.

rules.py          differences between releases        effective.py   flags and their defaults
formats.txt       weight formats that it reads        classes.txt    models that it supports
caches.py         cache per layer                     blocks.py      layers that share block tables
pool.py           blocks that a workload needs        weights.py     weights of a rank
forward.py        activations of one step             profile.py     the profile run's peak
graphs.py         CUDA graphs                         outside_torch.py  kernels, NCCL, sleep mode
hardware.py       GPU facts that matter               cases.py       what is prepared per model
reserve.py        memory by who counts it             serving.py     flags that make it serve
components.py     the answer's components             host.py        host memory
launching.py      the command line                    infer.py       the answer, and refusals
"""

from weighbridge.engines.engine import Engine

ENGINE = Engine(
    name="vllm",
    title="vLLM",
    package=__name__,
    oldest=(0, 9),
    newest=(0, 33),
    named=r".+-awq",
    programs={
        "vllm": ("serve",),
        "vllm.entrypoints.openai.api_server": (),
        "vllm.entrypoints.api_server": (),
        "vllm.entrypoints.launchers.api_server.entry": (),
        "vllm.entrypoints.cli.main": ("serve",),
    },
    images={r"vllm-openai.*": "vllm.entrypoints.openai.api_server", r"vllm.*": ""},
    online={
        "fp8": "fp8-tensor",
        "fp8_per_tensor": "fp8-tensor",
        "fp8_per_block": "fp8-block",
        "fp8_per_channel": "fp8-dynamic",
        "ptpc_fp8": "fp8-dynamic",
        "int8_per_channel_weight_only": "w8a16",
        "bitsandbytes": "nf4",
    },
    written={"fp8-tensor": "fp8", "nf4": "bitsandbytes"},
    longer="VLLM_ALLOW_LONG_MAX_MODEL_LEN",
    joins="joined.ray",
    stages="VLLM_PP_LAYER_PARTITION",
    offloads=True,
    formats=("fp8-tensor", "nf4", "awq-4bit-g128", "gptq-4bit-g128"),
    server=True,
    length="--max-model-len",
    graphs="enforce_eager",
    small_cache={"kv_cache_dtype": "fp8"},
    peers="servers",
    logged={
        "activation": ("activations", "logits", "workspaces"),
        "cuda_graphs": ("cuda_graphs",),
    },
)
