"""SGLang, 0.4 to 0.5.23: a share of what is free on the card.

rules.py               what changed between releases
formats.txt            weights that it reads
classes.txt            models that it knows
card_defaults.py       what it decides by the card: chunk, batches, share of memory, attention
effective.py           every setting with its default
weights.py             how ranks split the model, and what stays in host memory
caches.py              pools of tokens, slots of states
cases.py               what is prepared once for a model
replica.py             pools of the ranks of one replica, and a device's phases
step.py                the widest moment of a step
outside_pools.py       what lies outside the share: workspaces, graphs, activations, logits
host.py                what is in host memory
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
