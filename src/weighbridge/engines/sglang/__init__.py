"""SGLang, 0.4 to 0.5.23: its pools get a fraction of the memory that is free on the card.

rules.py               differences between releases
formats.txt            weight formats that it reads
classes.txt            models that it supports
card_defaults.py       defaults by the card: chunk, batches, memory fraction, attention
effective.py           every setting with its default
weights.py             how ranks split the model, and what stays in host memory
caches.py              pools of tokens, slots of recurrent states
cases.py               what is prepared once per model
replica.py             pools of the ranks of one replica, and a device's phases
step.py                peak activations of a step
outside_pools.py       memory outside the fraction: workspaces, graphs, activations, logits
host.py                host memory
serving.py             flags that make it serve
infer.py               the answer
launching.py           the command line
"""

from weighbridge.engines.engine import Engine

ENGINE = Engine(
    name="sglang",
    title="SGLang",
    package=__name__,
    oldest=(0, 4),
    newest=(0, 5, 23),
    programs={
        "sglang": ("serve",),
        "sglang.launch_server": (),
        "sglang.cli.main": ("serve",),
    },
    images={r"sglang.*": ""},
    online={
        "fp8": "fp8-tensor",
        "bitsandbytes": "nf4",
        "quark_mxfp4": "mxfp4",
        "nvfp4_online": "nvfp4",
    },
    written={"fp8-tensor": "fp8", "nf4": "bitsandbytes"},
    longer="SGLANG_ALLOW_OVERWRITE_LONGER_CONTEXT_LEN",
    joins="joined",
    stages="SGLANG_PP_LAYER_PARTITION",
    formats=("fp8-tensor", "nf4", "awq-4bit-g128", "gptq-4bit-g128"),
    server=True,
    length="--context-length",
    graphs="disable_cuda_graph",
    small_cache={"kv_cache_dtype": "fp8_e4m3"},
    peers="servers",
    logged={"activation": ("activations", "logits", "workspaces")},
)
