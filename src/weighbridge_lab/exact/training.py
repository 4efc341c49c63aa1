"""The steps of a run, by the class itself on a fake GPU: forward, loss, backward, optimizer.

    load      until the model, and its adapters, are on the device
    forward   until the hidden states that the head reads are there
    loss      the head, the loss, and backward until their gradient is there
    backward  the rest of it            step    the optimizer, until gradients are gone

As the closed form, it runs two steps, and two micro-batches of an accumulation.
"""

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils.hooks import RemovableHandle

from weighbridge.base.errors import UnsupportedError, WeighbridgeError
from weighbridge.base.sentences import sentence
from weighbridge.engines.interface import Subject
from weighbridge.training.plan import TrainingPlan
from weighbridge.training.run import STEPS
from weighbridge.workload import Infer, Train
from weighbridge_lab.exact.build import built, card, kernel, supported
from weighbridge_lab.exact.inference import TracedCourse
from weighbridge_lab.trace.tape import TracedStorage

Make = Callable[[list[nn.Parameter]], Any]
OPTIMIZERS: Mapping[str, Make] = {
    "adamw_torch": partial(torch.optim.AdamW, foreach=True),
    "adamw_torch_fused": partial(torch.optim.AdamW, fused=True),
    "adam": partial(torch.optim.Adam, foreach=True),
    "sgd": partial(torch.optim.SGD, lr=0.1, foreach=True),
    "sgd-momentum": partial(torch.optim.SGD, lr=0.1, momentum=0.9, foreach=True),
    "rmsprop": partial(torch.optim.RMSprop, foreach=True),
    "adagrad": partial(torch.optim.Adagrad, foreach=True),
}
COMPONENTS = {
    "weight": "weights",
    "buffer": "buffers",
    "gradient": "gradients",
    "optimizer state": "optimizer_states",
    "saved activation": "activations",
    "kv cache": "activations",
    "input": "activations",
    "workspace": "workspaces",
    "temporary": "temporaries",
}
PASSING = ("activations", "temporaries")
LONGEST = 200  # characters of a library's message


class Roles:
    """Names storages by their role on the tape; what the loss allocates counts as logits."""

    def __init__(self, adapters: set[int | None], course: TracedCourse) -> None:
        self.adapters = adapters
        self.course = course

    def component(self, number: int, storage: TracedStorage) -> str:
        if number in self.adapters:
            return "adapters"
        name = COMPONENTS[storage.role]
        if name in PASSING:
            spans = self.course.spans.get("loss", ())
            if any(start <= storage.born < end for start, end in spans):
                return "logits"
        return name


def traced(subject: Subject, workload: Train, plan: TrainingPlan) -> tuple[TracedCourse, Roles]:
    """Run a training run's steps on a fake GPU; return its course and roles. Raises
    UnsupportedError."""
    as_read = Infer(
        attention=workload.attention,
        gpu=workload.gpu,
        gpu_memory=workload.gpu_memory,
        torch_version=workload.torch_version,
    )
    supported(subject, as_read)
    _traceable(plan)
    try:
        return _traced(subject, as_read, plan)
    except (UnsupportedError, torch.OutOfMemoryError):
        raise
    except WeighbridgeError:
        raise
    except Exception as error:
        line = " ".join(str(error).split())[:LONGEST]
        what = sentence("exact.no_training", cls=subject.part.blueprint.cls, why=line)
        raise UnsupportedError(what, where="--exact") from error


def _traceable(plan: TrainingPlan) -> None:
    """Raise UnsupportedError for settings that cannot be traced here."""
    reason = ""
    if plan.sharding.cards > 1:
        reason = "one process is traced; `weighbridge trace --world-size` runs a script's ranks"
    elif plan.sharding.kind != "none" or plan.sharding.offload != "none":
        reason = "shards are not traced: leave --shard and --offload out"
    elif plan.framework.name not in ("trainer", "plain"):
        reason = f"{plan.framework.name}'s own loop is not traced; --framework trainer is"
    elif plan.optimizer.name not in OPTIMIZERS or plan.optim_args:
        reason = f"optimizers that are traced are {', '.join(OPTIMIZERS)}, without --optim-args"
    elif plan.loss != "standard":
        reason = "the class's own loss is traced; leave --loss out"
    elif plan.checkpointing not in ("none", "full"):
        reason = f"checkpointing {plan.checkpointing} is not traced"
    if reason:
        raise UnsupportedError(f"--exact: {reason}")


def _traced(subject: Subject, workload: Infer, plan: TrainingPlan) -> tuple[TracedCourse, Roles]:
    with card(workload) as gpu, kernel(workload):
        course = TracedCourse(gpu.tape)
        model = _adapted(built(subject, workload), plan).train()
        if plan.checkpointing == "full":
            model.gradient_checkpointing_enable({"use_reentrant": plan.reentrant})
        params = [parameter for parameter in model.parameters() if parameter.requires_grad]
        adapters = {
            gpu.recorder.number(parameter)
            for name, parameter in model.named_parameters()
            if ".lora_" in name
        }
        optimizer = OPTIMIZERS[plan.optimizer.name](params)
        phases_of(model, course.begin)
        outputs: list[Any] = []
        for _ in range(STEPS):
            for _ in range(min(2, plan.accumulation)):
                _micro_batch(model, course, plan, outputs)
            course.begin("step")
            optimizer.step()
            optimizer.zero_grad()
        course.begin("")
        outputs.clear()
    return course, Roles(adapters - {None}, course)


def _adapted(model: nn.Module, plan: TrainingPlan) -> nn.Module:
    """Return the model with PEFT's adapters."""
    if plan.adapters is None:
        return model
    if plan.adapters.tuner:
        raise UnsupportedError(sentence("exact.adapters", method=plan.method), where="--exact")
    try:
        from peft import LoraConfig, get_peft_model
    except ImportError:
        raise UnsupportedError(sentence("exact.peft")) from None
    adapters = plan.adapters
    targets: Any = adapters.targets[0] if len(adapters.targets) == 1 else list(adapters.targets)
    config = LoraConfig(
        r=adapters.r,
        lora_alpha=adapters.alpha,
        lora_dropout=adapters.dropout,
        target_modules=targets,
        use_dora=adapters.dora,
        use_rslora=adapters.rslora,
        modules_to_save=list(adapters.modules_to_save) or None,
    )
    return get_peft_model(model, config).cuda()


def phases_of(model: nn.Module, begin: Callable[[str], None]) -> RemovableHandle | None:
    """Mark the phases: the loss begins once the hidden states are there, backward once their
    gradient is. Return the hook's handle; None if the model has no base."""

    def over(_module: Any, _args: Any, out: Any) -> None:
        hidden = out[0] if isinstance(out, tuple) else out[next(iter(out))]
        begin("loss")
        if hidden.requires_grad:
            hidden.register_hook(lambda _: begin("backward"))

    inner = getattr(model, "get_base_model", lambda: model)()
    base = getattr(inner, inner.base_model_prefix, inner)
    return None if base is inner else base.register_forward_hook(over)


def _micro_batch(
    model: nn.Module, course: TracedCourse, plan: TrainingPlan, outputs: list[Any]
) -> None:
    """Run one micro-batch. `outputs` stands for the loop's variable: it holds the previous
    micro-batch's until the new ones exist."""
    course.begin("forward")
    cast = None if plan.autocast is None else getattr(torch, plan.autocast.name)
    ids = torch.randint(0, 100, (plan.batch, plan.length), device="cuda")
    inputs: dict[str, Any] = {"input_ids": ids, "labels": ids}
    if plan.subject.body.causal:
        inputs["use_cache"] = False
    if plan.padded:
        mask = torch.ones_like(ids, device="cpu")
        mask[0, plan.length // 2 :] = 0
        inputs["attention_mask"] = mask.to("cuda")
    with torch.autocast("cuda", cast) if cast is not None else nullcontext():
        out = model(**inputs)
    if plan.framework.float_outputs and cast is not None:
        from accelerate.utils import convert_to_fp32

        out = convert_to_fp32(out)
    loss = out["loss"]
    outputs[:] = [out] if plan.framework.outputs else []
    del out
    loss.backward()
    course.begin("")
