"""What a framework does where the user says nothing, and in which dtypes it holds what.

    precision       weights   autocast    of full fine-tuning with the Trainer or a plain loop
    bf16-mixed      float32   bfloat16
    bf16            bfloat16  none
    fp32            float32   none

A frozen base stays in 16 bits whatever the precision (transformers 5 loads in the model's dtype).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from weighbridge.dtypes import BFLOAT16, FLOAT16, FLOAT32, DType
from weighbridge.errors import UsageError
from weighbridge.workload import Train


@dataclass(frozen=True, slots=True, kw_only=True)
class Precision:
    """`weights` of what is trained, `frozen` of what is not; `autocast` of products."""

    weights: DType
    frozen: DType
    autocast: DType | None = None


PRECISIONS: Mapping[str, Precision] = {
    "bf16-mixed": Precision(weights=FLOAT32, frozen=BFLOAT16, autocast=BFLOAT16),
    "fp16-mixed": Precision(weights=FLOAT32, frozen=FLOAT16, autocast=FLOAT16),
    "bf16": Precision(weights=BFLOAT16, frozen=BFLOAT16),
    "fp16": Precision(weights=FLOAT16, frozen=FLOAT16),
    "fp32": Precision(weights=FLOAT32, frozen=FLOAT32),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Framework:
    """One framework. Names of settings are what it has where the user says nothing."""

    name: str
    source: str
    precisions: Mapping[str, Precision] = field(default_factory=lambda: PRECISIONS)
    precision: str = "bf16-mixed"
    optimizer: str | None = None
    checkpointing: str = "none"
    loss: str = "standard"
    losses: Mapping[str, str] = field(default_factory=dict)  # its own, by what users call them
    attention: str | None = None
    outputs: bool = True  # the model's outputs, logits among them, live until backward is over
    unsure: int = 0  # percent of what a step holds besides weights and states, that kernels may add
    wide_adapters: bool = True  # LoRA in float32 (PEFT); else in the dtype of what is frozen
    shares_vocab: bool = False  # embeddings are among what tensor ranks share
    float_outputs: bool = False  # accelerate: under mixed precision logits are cast to float32


FRAMEWORKS: Mapping[str, Framework] = {
    "trainer": Framework(
        name="trainer",
        source="transformers 5.23 trainer.py, accelerate 1.15 accelerator.py (prepare_model)",
        outputs=False,
        float_outputs=True,
    ),
    "plain": Framework(name="plain", source="a loop over model(...).loss.backward()"),
    "torchtune": Framework(
        name="torchtune",
        source="torchtune 0.4 recipes/{full,lora}_finetune_single_device.py",
        precision="bf16",
        optimizer="adamw_torch_fused",
        loss="chunked",
        losses={"standard": "torchtune"},
        unsure=4,
        outputs=False,
        wide_adapters=False,
    ),
    "litgpt": Framework(
        name="litgpt",
        source="litgpt finetune/lora.py, finetune/full.py, utils.py; lightning fabric plugins",
        precision="bf16",
        loss="litgpt",
        losses={"standard": "litgpt-pretrain"},
        unsure=4,
        wide_adapters=False,
    ),
}


def framework(name: str | None) -> Framework:
    found = FRAMEWORKS.get(name or "trainer")
    if found is None:
        raise UsageError(f"--framework {name!r} is not known; known: {', '.join(FRAMEWORKS)}")
    return found


def held(w: Train) -> tuple[Framework, Precision]:
    """The framework, and what weights are held in under it. DeepSpeed converts a model to 16 bits
    whatever the Trainer was told, and keeps the float32 copy itself."""
    made = framework(w.framework)
    chosen = precision(made, w.precision)
    if (w.shard or "").startswith("zero") and chosen.autocast is not None:
        chosen = Precision(weights=chosen.autocast, frozen=chosen.frozen)
    return made, chosen


def precision(f: Framework, name: str | None) -> Precision:
    found = f.precisions.get(name or f.precision)
    if found is None:
        raise UsageError(f"--precision {name!r} is not one of {f.name}: {', '.join(f.precisions)}")
    return found
