"""Host memory while transformers loads weights.

    5.x   safetensors are mapped. A tensor that keeps its dtype is a view of the file: its pages are
          resident while read, and the kernel may drop them. A change of dtype copies (the target's
          bytes, anonymous); experts that are stored apart are stacked into one parameter, a copy.
          With a device_map tensors go straight to the device: pages of the file and nothing else.
    4.x   `low_cpu_mem_usage` is off by default: the model is built in memory first, then one shard
          after another is read and copied in.

Source: transformers 5.23 modeling_utils.py and core_model_loading.py (WeightConverter); RssAnon of
a 938 MiB bfloat16 model was 2 MiB when loaded in its own dtype, its full float32 size when cast,
and 1.87 x the parameters with pages when its experts were stacked. 4.x: modeling_utils.py of
4.40, `_load_pretrained_model`.
"""

from collections import defaultdict

from weighbridge.components.weights import FLOATING
from weighbridge.dtypes import DType
from weighbridge.memory import Bytes, Component
from weighbridge.model import ModelPart

SOURCE = "transformers modeling_utils.py, core_model_loading.py"


def while_loading(
    part: ModelPart, dtype: DType, weights: int, *, major: int, straight_to_device: bool
) -> Component:
    """What the host holds at the worst moment of loading one part.

    `weights` are the bytes that its weights take once loaded.
    """
    file_bytes = sum(t.nbytes for t in part.stored) or weights
    if major < 5:
        return _built_first(part, weights, file_bytes)
    anonymous = 0 if straight_to_device else _copied(part, dtype, weights)
    formula = f"{file_bytes:,} bytes of file pages, which the kernel may drop"
    if anonymous:
        formula += f", and {anonymous:,} bytes of copies (another dtype, or stacked experts)"
    return Component(
        name="weights",
        detail=part.name or "mapped files",
        bytes=Bytes(anonymous, anonymous + file_bytes, anonymous + file_bytes),
        basis="computed",
        formula=formula,
        source=SOURCE,
    )


def _copied(part: ModelPart, dtype: DType, weights: int) -> int:
    """Bytes that cannot stay views of the file: all of another dtype, else the stacked experts."""
    floating = (t for t in part.stored if t.dtype.name.startswith(FLOATING))
    if not part.packed and any(t.dtype != dtype for t in floating):
        return weights
    plan = part.blueprint
    experts = sum(p.numel * p.copies for p in plan.counted if p.kind == "expert")
    return weights * experts // max(1, plan.parameters)


def _built_first(part: ModelPart, weights: int, file_bytes: int) -> Component:
    shards: dict[str, int] = defaultdict(int)
    for t in part.stored:
        shards[t.file] += t.nbytes
    shard = max(shards.values(), default=file_bytes)
    return Component(
        name="weights",
        detail=part.name or "model and one shard",
        bytes=Bytes(weights, weights + shard, weights + file_bytes),
        basis="computed",
        formula=f"{weights:,} bytes of model, and a shard of {shard:,} bytes",
        source="transformers 4.40 modeling_utils.py, _load_pretrained_model",
    )
