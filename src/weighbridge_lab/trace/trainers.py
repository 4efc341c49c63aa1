"""A run of transformers' Trainer as a question of `train`, and what would make it fit.

A trace tells what one script takes. The estimator knows what to change, if it knows the run: a
model of transformers, whole or with LoRA, that a Trainer trains. Each change is answered by
`train`, not by the trace.

Source: transformers 5.23 trainer.py (training_step), training_args.py; PEFT 0.21
tuners/lora/config.py; transformers quantizers/quantizer_bnb_4bit.py.
"""

from collections.abc import Iterator, Mapping
from functools import wraps
from types import ModuleType
from typing import Any

from weighbridge.base.memory import Bytes
from weighbridge.base.records import frozen_record
from weighbridge.engines.transformers.derived import IMPLEMENTATIONS
from weighbridge.memory.report.verdict import Answer
from weighbridge.models.quantization.declared import declared
from weighbridge_lab.trace.patches import Patch

MODULE = "transformers.trainer"
KERNELS = {name: kernel for kernel, name in IMPLEMENTATIONS.items()}  # any other: what sdpa chooses
LORA = {"r": "lora_r", "lora_alpha": "lora_alpha", "lora_dropout": "lora_dropout"}  # PEFT's names
# What a script trains, and on what: with other values it is another training
KEPT = (
    *("framework", "seq_len", "attention", "dtype", "quantization", "torch_version"),
    *(*LORA.values(), "use_rslora", "lora_targets", "modules_to_save"),
)


@frozen_record
class SeenTraining:
    """A Trainer's training: a model's config, and the settings of `train`."""

    config: Mapping[str, Any]
    settings: Mapping[str, Any]

    @property
    def tokens(self) -> int:
        """Return the tokens of one batch."""
        return int(self.settings["batch_size"] * self.settings["seq_len"])


@frozen_record
class TrainingChange:
    """Flags of `train`, the bytes that the card would hold with them, and their cost."""

    flags: str
    peak_bytes: int
    fits: Answer
    cost: str


@frozen_record
class TrainingAdvice:
    """The answer of `train` for the same run, and the changes that it finds."""

    flags: str
    needs: Bytes
    changes: tuple[TrainingChange, ...]


class Trained:
    """The largest batch that any Trainer has trained on so far."""

    def __init__(self) -> None:
        self.run: SeenTraining | None = None

    def patches(self, module: ModuleType) -> Iterator[Patch]:
        trainer: Any = module.Trainer
        step = trainer.training_step

        @wraps(step)
        def training_step(of: Any, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
            run = _run(of, inputs)
            if run and (self.run is None or run.tokens > self.run.tokens):
                self.run = run
            return step(of, model, inputs, *args, **kwargs)

        yield Patch(trainer, "training_step", training_step)


def _run(trainer: Any, inputs: Any) -> SeenTraining | None:
    ids = inputs.get("input_ids") if isinstance(inputs, Mapping) else None
    config: Any = getattr(trainer.model, "config", None)
    adapted = _adapted(trainer.model)
    if ids is None or ids.dim() != 2 or not hasattr(config, "to_dict") or adapted is None:
        return None
    values = dict(config.to_dict())
    packed = values.get("quantization_config") or {}
    if packed.get("quant_method") == "bitsandbytes":  # quantized while loading, in no file
        del values["quantization_config"]
    else:
        packed = {}
    values["architectures"] = [type(_base(trainer.model)).__name__]
    settings = {
        "framework": "trl" if type(trainer).__module__.startswith("trl.") else "trainer",
        **_method(adapted, packed),
        **_arguments(trainer.args, trainer.model, packed=bool(packed)),
        "batch_size": int(ids.shape[0]),
        "seq_len": int(ids.shape[1]),
    }
    kernel = KERNELS.get(str(getattr(config, "_attn_implementation", "")))
    return SeenTraining(
        config=values, settings=settings | ({"attention": kernel} if kernel else {})
    )


def _base(model: Any) -> Any:
    return model.get_base_model() if hasattr(model, "peft_config") else model


def _adapted(model: Any) -> Mapping[str, Any] | None:
    """Return the settings of adapters, {} for a model without; None for adapters other than
    LoRA."""
    table = getattr(model, "peft_config", None)
    if not table:
        return {}
    (config, *others) = table.values()
    if others or getattr(config.peft_type, "value", config.peft_type) != "LORA":
        return None
    settings = {ours: getattr(config, name) for name, ours in LORA.items() if getattr(config, name)}
    settings |= {"use_rslora": True} if getattr(config, "use_rslora", False) else {}
    targets = config.target_modules
    settings["lora_targets"] = targets if isinstance(targets, str) else ",".join(sorted(targets))
    if config.modules_to_save:
        settings["modules_to_save"] = ",".join(sorted(config.modules_to_save))
    return {"method": "dora" if getattr(config, "use_dora", False) else "lora", **settings}


def _method(adapted: Mapping[str, Any], packed: Mapping[str, Any]) -> dict[str, Any]:
    settings = {"method": "full", **adapted}
    return settings | {"quantization": declared(packed).name} if packed else settings


def _arguments(args: Any, model: Any, *, packed: bool) -> dict[str, Any]:
    weights = next((p.dtype for p in model.parameters() if p.is_floating_point()), None)
    dtype = str(weights).removeprefix("torch.")
    short = {"bfloat16": "bf16", "float16": "fp16"}.get(dtype, "fp32")
    mixed = "bf16-mixed" if args.bf16 else "fp16-mixed" if args.fp16 else short
    settings = {
        "precision": mixed,
        "optimizer": getattr(args.optim, "value", args.optim),
        "checkpointing": "full" if args.gradient_checkpointing else "none",
        "gradient_accumulation": args.gradient_accumulation_steps,
    }
    if not packed:
        settings["dtype"] = dtype
    if getattr(args, "use_liger_kernel", False):
        settings["loss"] = "liger"
    options = getattr(args, "gradient_checkpointing_kwargs", None) or {}
    if args.gradient_checkpointing and "use_reentrant" in options:
        settings["use_reentrant"] = bool(options["use_reentrant"])
    return settings
