"""LoRA with frozen weights in Megatron, as ms-swift and Megatron-Bridge put it on linears.

    parameters   r (inputs + outputs) of each linear as a rank has it: an adapter is split over
                 tensor ranks as its linear is; each expert has its own
    frozen       only weights: no main gradients, no states, and no gradient that nobody writes
    kept         of each linear r elements per token, and a copy of the input if it is dropped

The bytes that adapters keep have bounds. ms-swift prints 14 GiB per card for Qwen2.5-7B on two
(examples/megatron/lora/dense.sh), with rows of unknown length: of 256 tokens it is 13.1. Of experts
it prints 48 and 70 GiB for packed rows (train/cached_dataset/mcore.sh, lora/mtp.sh), a fifth more
than is counted, and nobody has explained it: BESIDE of answer.py has it as the most. Source:
modelscope/ms-swift 3602360a swift/megatron/tuners/lora.py; NVIDIA-NeMo/Megatron-Bridge 067f987
src/megatron/bridge/peft/lora.py (dim 32, all four linears).
"""

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any

from weighbridge.base.errors import UnsupportedError
from weighbridge.base.memory import Bytes, Component
from weighbridge.base.sentences import sentence
from weighbridge.training.megatron.model import MegatronModel, RankWeight, linears
from weighbridge.training.megatron.run import WEIGHT, MegatronRun

if TYPE_CHECKING:
    from weighbridge.workload import Train

RANK = 8  # of ms-swift (LoraArguments)
ALL = "all-linear"
OF_SWIFT = "modelscope/ms-swift 3602360a swift/megatron/tuners/lora.py"
# Names of targets -> Megatron's linears that they are part of, by the beginning of our names
TARGETS = {
    **dict.fromkeys(("q_proj", "k_proj", "v_proj", "linear_qkv"), ("qkv", "q", "kv")),
    **dict.fromkeys(("o_proj", "linear_proj"), ("proj",)),
    **dict.fromkeys(("gate_proj", "up_proj", "linear_fc1"), ("fc1",)),
    **dict.fromkeys(("down_proj", "linear_fc2"), ("fc2",)),
    "in_proj": ("in_proj",),
    "out_proj": ("out_proj",),
}


def settings(w: "Train") -> dict[str, Any]:
    """Return the settings of LoRA, {} without it. Raises UnsupportedError for targets that are no
    linears of Megatron's, and for settings not supported with adapters."""
    if w.method != "lora":
        return {}
    parts = _targets(w.lora_targets)
    if w.optimizer == "muon":
        raise UnsupportedError(sentence("muon_lora"))
    return {"lora": w.lora_r or RANK, "targets": parts, "adapter_dropout": bool(w.lora_dropout)}


def _targets(names: Sequence[str] | None) -> tuple[str, ...]:
    """Return Megatron's linears that the targets name; an empty tuple for all."""
    named = [t for t in names or () if t != ALL]
    unknown = next((t for t in named if t not in TARGETS), None)
    if unknown is not None:
        raise UnsupportedError(
            sentence("megatron_targets", name=unknown, known=", ".join(TARGETS), all=ALL)
        )
    return tuple(dict.fromkeys(part for t in named for part in TARGETS[t]))


def adapted(run: MegatronRun, weight: RankWeight) -> int:
    """Return the elements of a rank's adapter on linear `weight`; 0 if it is no target."""
    name = weight.name.removeprefix("expert_").removeprefix("shared_")
    chosen = not run.targets or any(name.startswith(t) for t in run.targets)
    return run.lora * (weight.rows + weight.columns) if chosen else 0


def kept(model: MegatronModel, run: MegatronRun, layers: list[int]) -> Component:
    """Return what adapters save per micro-batch for backward, of one layer if layers are
    recomputed; the upper bound has copies of dropped inputs, and one output."""
    each = [list(_linears(model, run, layer)) for layer in layers]
    kept_of = max if run.recompute != "none" else sum
    low = kept_of(WEIGHT * run.lora * sum(n for n, _ in layer) for layer in each)
    copies = kept_of(WEIGHT * sum(n * x.columns for n, x in layer) for layer in each)
    output = max(WEIGHT * n * x.rows for n, x in chain.from_iterable(each))
    return Component(
        name="activations",
        detail="adapters",
        bytes=Bytes(low, low, low + output + (copies if run.adapter_dropout else 0)),
        basis="assumed",
        formula=f"{run.lora} numbers a token of each linear, to an output and dropped inputs",
        source=OF_SWIFT,
    )


def _linears(
    model: MegatronModel, run: MegatronRun, layer: int
) -> Iterator[tuple[int, RankWeight]]:
    """Yield (rows that it reads, linear) for each linear of a layer with an adapter."""
    copies = model.experts.top if model.experts is not None else 1
    for x in linears(model, run.tensor, run.expert_tensor, layer):
        if adapted(run, x):
            yield run.tokens * (copies if x.share == "expert" else 1), x
