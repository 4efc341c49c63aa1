"""Components under everyday names."""

from collections.abc import Mapping

NAMES: Mapping[str, str] = {  # component -> key of its part's name
    "weights": "part.weights",
    "kv_cache": "part.kv_cache",
    "recurrent_state": "part.recurrent_state",
    "activations": "part.activations",
    "logits": "part.logits",
    "gradients": "part.gradients",
    "optimizer_states": "part.optimizer_states",
    "master_weights": "part.master_weights",
    "adapters": "part.adapters",
    "temporaries": "part.workspace",
    "workspaces": "part.workspace",
    "buffers": "part.allocator",
    "rounding": "part.allocator",
    "fragmentation": "part.allocator",
    "context": "part.context",
    "communication": "part.communication",
    "cuda_graphs": "part.cuda_graphs",
    "other": "part.other",
}
