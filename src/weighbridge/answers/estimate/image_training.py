"""Training of an image classifier or detector on one card, fully or by LoRA: memory by phase.

load               weights and buffers
forward, backward  cross entropy of a batch
step               the optimizer
"""

from weighbridge.answers.estimate import detection
from weighbridge.answers.estimate.facts import cautions, facts
from weighbridge.answers.estimate.images import instant, seen, unmeasured, verdict
from weighbridge.base.dtypes import FLOAT32
from weighbridge.base.errors import UnsupportedError
from weighbridge.base.memory import Device, Instant
from weighbridge.base.sentences import sentence
from weighbridge.engines.table import usual
from weighbridge.memory.components import host
from weighbridge.memory.report import Report
from weighbridge.memory.report.keys import EffectiveSettings
from weighbridge.models.checkpoint.model import Model, ModelPart
from weighbridge.pictures import images
from weighbridge.pictures.adapting import PictureAdapters, targeted
from weighbridge.pictures.images import SeenImages
from weighbridge.training.adapters import ALL
from weighbridge.training.frameworks import OF_ARGUMENTS, Precision, framework, precision
from weighbridge.training.optimizers import optimizer
from weighbridge.workload import Train

# Margins, as shares of what a step computes. 14 networks of timm on an A100 (itu-rad/GPUMemNet,
# Related_works/FakeTensor): from the smallest batch to the largest our growth is 11 % less to 15 %
# more with batch norms, 2 to 5 % less in ViT, Swin and ConvNeXt
NORMED, OTHERS = 0.15, 0.05
PLAIN = {  # setting -> the only values that are supported; None is unset
    "method": ("full", "lora", None),
    "checkpointing": ("none", None),
    "shard": ("none", None),
    "offload": ("none", None),
    "gradient_accumulation": (1, None),
    "compile": (False, None),
    "optimizer_in_backward": (False, None),
    "expandable_segments": (False, None),
    "loss": ("standard", None),
    "tensor_parallel_size": (1, None),
    "pipeline_parallel_size": (1, None),
    "context_parallel_size": (1, None),
}


def train(model: Model, w: Train) -> Report:
    """Report a training step's memory by phase. Raises UnsupportedError for some settings."""
    _follow(w)
    chosen = precision(framework(w.framework, w.framework_version), w.precision)
    part, budget, name = model.parts[0], w.budget(), w.optimizer or OF_ARGUMENTS
    one = seen(part, w, chosen.weights, budget)
    adapters = _adapters(part, w)
    ran = images.trained(one, optimizer(name), chosen.autocast, adapters)
    normed = any(one.name.endswith("running_mean") for one in part.blueprint.buffers)
    share = NORMED if normed else OTHERS
    boxes = {"forward": detection.matched(part, one)}
    phases = tuple(
        instant(phase, peak, part, budget, share, boxes.get(phase, ()))
        for phase, peak in ran.moments.items()
    )
    memory = Instant("load", (host.processes(1),))
    devices = (
        Device(index=0, kind="gpu", phases=phases),
        Device(index=0, kind="host", phases=(memory,)),
    )
    return Report(
        task="train",
        model=facts(model),
        workload=_effective(w, one, chosen) | _of_adapters(adapters),
        devices=devices,
        derived=(
            {
                "dtype_from": "precision",
                "as_stored": False,
                "context_from": "",
                "longest_context": None,
                "not_counted": [],
                "trainable_parameters": ran.trainable,
                "saved_activation_bytes": ran.saved,
                "first_step_peak_bytes": max(peak.allocated for peak in ran.moments.values()),
            }
        ),
        verdict=verdict(devices, w, budget),
        warnings=(*model.notes, *cautions(w), *unmeasured(budget)),
    )


# Names of attention projections, if the user sets no LoRA targets: queries and values, as in PEFT's
# guide for image classification, or the fused QKV matrix
ATTENDING = ("query", "value"), ("q_proj", "v_proj"), ("qkv",)


def _adapters(part: ModelPart, w: Train) -> tuple[PictureAdapters, list[str]] | None:
    """Return the LoRA and its layers, None without. Raises UsageError if no layer matches."""
    if w.method != "lora":
        return None
    names = {p.name.removesuffix(".weight").rpartition(".")[2] for p in part.blueprint.params}
    usual_names = next((one for one in ATTENDING if set(one) <= names), (ALL,))
    how = PictureAdapters(
        method="lora",
        rank=w.lora_r or framework(w.framework, w.framework_version).rank,
        targets=tuple(w.lora_targets or usual_names),
        dtype=FLOAT32,
        dropout=w.lora_dropout or 0.0,
    )
    return how, targeted(part.blueprint.params, how)


def _of_adapters(adapters: tuple[PictureAdapters, list[str]] | None) -> EffectiveSettings:
    """Return the LoRA settings as they were used; empty without adapters."""
    if adapters is None:
        return {}
    how, _ = adapters
    return {
        "lora_r": how.rank,
        "lora_targets": list(how.targets),
        "lora_dropout": how.dropout,
    }


def _follow(w: Train) -> None:
    for name, values in PLAIN.items():
        value = getattr(w, name)
        if value not in values:
            flag = f"--{name.replace('_', '-')} {value}"
            raise UnsupportedError(sentence("images.setting", setting=flag))
    budget = w.budget()
    if budget is not None and budget.choice.count > 1:  # gradients would be reduced
        raise UnsupportedError(sentence("images.setting", setting=f"--gpu {w.gpu}"))


def _effective(w: Train, one: SeenImages, chosen: Precision) -> EffectiveSettings:
    """Return every setting as it was used, defaults included."""
    return {
        "engine": usual().name,
        "engine_version": None,
        "dtype": one.dtype.name,
        "quantization": None,
        "method": w.method or "full",
        "framework": w.framework or "trainer",
        "optimizer": w.optimizer or OF_ARGUMENTS,
        "precision": chosen.name,
        "batch_size": one.batch,
        "seq_len": None,
        "images": one.batch,
        "image_size": [one.height, one.width],
        "checkpointing": "none",
        "gradient_accumulation": 1,
        "shard": "none",
        "data_parallel_size": 1,
        "tensor_parallel_size": 1,
        "pipeline_parallel_size": 1,
        "context_parallel_size": 1,
        "gpu": w.gpu,
        "gpu_memory": w.gpu_memory,
        "headroom": w.headroom,
        "ram": w.ram,
        "platform": w.platform,
    }
