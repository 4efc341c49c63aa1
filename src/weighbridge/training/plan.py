"""The effective settings of one run: what the user said, and the defaults of the framework."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from weighbridge.dtypes import DType
from weighbridge.engines.serving import Subject
from weighbridge.engines.transformers.rules import rules
from weighbridge.training.adapters import Adapters
from weighbridge.training.adapters.targets import ALL, usual
from weighbridge.training.frameworks import Framework, Precision, held
from weighbridge.training.optimizers import Optimizer, optimizer
from weighbridge.training.sharding.numbers import Sharding, sharding
from weighbridge.workload import Train

if TYPE_CHECKING:
    from weighbridge.accelerators.budget import Budget
    from weighbridge.accelerators.parts import Part

USUAL_LENGTH = 2048  # tokens, where the user names none: contract of the command line
USUAL_OPTIMIZER = "adamw_torch"
CAPABILITY = (8, 0)  # of an A100, where no device was named
TORCH = (2, 13)  # whose sources our rules were read from


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """`dtype` is that of the weights which are not packed."""

    subject: Subject
    framework: Framework
    precision: Precision
    dtype: DType
    autocast: DType | None
    method: str
    batch: int
    length: int
    accumulation: int
    optimizer: Optimizer
    checkpointing: str
    loss: str
    attention: str | None
    padded: bool
    reentrant: bool  # checkpoints: the default of transformers 4
    adapters: Adapters | None
    sharding: Sharding
    part: "Part | None"
    capability: tuple[int, int]
    torch: tuple[int, int]
    major: int = 5
    settings: dict[str, Any]

    @property
    def computing(self) -> DType:
        """Of products."""
        return self.autocast or self.dtype

    @property
    def activations(self) -> DType:
        """Of what layers hand on: sharded parameters are gathered in the dtype of products."""
        sharded = self.sharding.kind in ("fsdp1", "fsdp2", "hsdp")
        return self.computing if sharded else self.dtype


def plan(subject: Subject, w: Train, budget: "Budget | None", version: tuple[int, int]) -> Plan:
    """`version` of transformers."""
    made, chosen = held(w)
    part = budget.choice.part if budget else None
    capability = part.capability if part and part.capability else CAPABILITY
    return Plan(
        subject=subject,
        framework=made,
        precision=chosen,
        dtype=subject.choice.dtype,
        autocast=chosen.autocast,
        method=w.method or "full",
        batch=w.batch_size or 1,
        length=subject.context,
        accumulation=w.gradient_accumulation or 1,
        optimizer=optimizer(w.optimizer or USUAL_OPTIMIZER),
        checkpointing=w.checkpointing or "none",
        loss=w.loss or "standard",
        attention=w.attention or _usual_attention(subject, version),
        padded=w.padded,
        reentrant=version[0] < 5,
        major=version[0],
        adapters=_adapters(subject, w),
        sharding=sharding(w, budget.choice.count if budget else None),
        part=part,
        capability=capability,
        torch=TORCH,
        settings={},
    )


def _usual_attention(subject: Subject, version: tuple[int, int]) -> str | None:
    """eager where the class had nothing else in that version."""
    return "eager" if rules(version, subject.model_type).attention == "eager" else None


def _adapters(subject: Subject, w: Train) -> Adapters | None:
    """PEFT's own defaults; all linears where it has none for the model type."""
    if (w.method or "full") == "full":
        return None
    return Adapters(
        r=w.lora_r or 8,
        alpha=w.lora_alpha or 8,
        targets=w.lora_targets or usual(subject.model_type) or (ALL,),
        dropout=w.lora_dropout or 0.0,
        dora=w.method == "dora",
        rslora=w.use_rslora,
        modules_to_save=w.modules_to_save or (),
    )
