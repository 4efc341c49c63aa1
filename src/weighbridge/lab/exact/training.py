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

from weighbridge.engines.interface import Subject
from weighbridge.errors import UnsupportedError, WeighbridgeError
from weighbridge.lab.exact.build import built, card, kernel, supported
from weighbridge.lab.exact.inference import TracedCourse
from weighbridge.lab.trace.tape import TracedStorage
from weighbridge.settings import Infer, Train
from weighbridge.training.plan import TrainingPlan
from weighbridge.training.run import STEPS

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
LONGEST = 200  # signs of what a library says


class Roles:
    """Names storages by their role on the tape; what the loss makes is of the logits."""

    def __init__(self, adapters: set[int | None], course: TracedCourse) -> None:
        self.adapters = adapters
        self.course = course

    def component(self, number: int, storage: TracedStorage) -> str:
        if number in self.adapters:
            return "adapters"
        found = COMPONENTS[storage.role]
        if found in PASSING:
            spans = self.course.spans.get("loss", ())
            if any(start <= storage.born < end for start, end in spans):
                return "logits"
        return found


def traced(s: Subject, w: Train, p: TrainingPlan) -> tuple[TracedCourse, Roles]:
    """Raises UnsupportedError."""
    as_read = Infer(
        attention=w.attention,
        gpu=w.gpu,
        gpu_memory=w.gpu_memory,
        torch_version=w.torch_version,
    )
    supported(s, as_read)
    _traceable(p)
    try:
        return _traced(s, as_read, p)
    except (UnsupportedError, torch.OutOfMemoryError):
        raise
    except WeighbridgeError:
        raise
    except Exception as error:
        said = " ".join(str(error).split())[:LONGEST]
        cls = s.part.blueprint.cls
        raise UnsupportedError(f"--exact: {cls} does not train on a fake GPU: {said}") from error


def _traceable(p: TrainingPlan) -> None:
    """What of the settings has no program here."""
    reason = ""
    if p.sharding.ranks > 1:
        reason = "one process is traced; `weighbridge trace --world-size` runs a script's ranks"
    elif p.sharding.kind != "none" or p.sharding.offload != "none":
        reason = "shards are not traced: leave --shard and --offload out"
    elif p.framework.name not in ("trainer", "plain"):
        reason = f"{p.framework.name}'s own loop is not traced; --framework trainer is"
    elif p.optimizer.name not in OPTIMIZERS or p.optim_args:
        reason = f"optimizers that are traced are {', '.join(OPTIMIZERS)}, without --optim-args"
    elif p.loss != "standard":
        reason = "the class's own loss is traced; leave --loss out"
    elif p.checkpointing not in ("none", "full"):
        reason = f"checkpointing {p.checkpointing} is not traced"
    if reason:
        raise UnsupportedError(f"--exact: {reason}")


def _traced(s: Subject, w: Infer, p: TrainingPlan) -> tuple[TracedCourse, Roles]:
    with card(w) as gpu, kernel(w):
        course = TracedCourse(gpu.tape)
        model = _adapted(built(s, w), p).train()
        if p.checkpointing == "full":
            model.gradient_checkpointing_enable({"use_reentrant": p.reentrant})
        params = [x for x in model.parameters() if x.requires_grad]
        adapters = {gpu.recorder.number(x) for n, x in model.named_parameters() if ".lora_" in n}
        optimizer = OPTIMIZERS[p.optimizer.name](params)
        _phases_of(model, course)
        kept: list[Any] = []
        for _ in range(STEPS):
            for _ in range(min(2, p.accumulation)):
                _micro_batch(model, course, p, kept)
            course.begin("step")
            optimizer.step()
            optimizer.zero_grad()
        course.begin("")
        kept.clear()
    return course, Roles(adapters - {None}, course)


def _adapted(model: nn.Module, p: TrainingPlan) -> nn.Module:
    """Add PEFT's adapters to the model."""
    if p.adapters is None:
        return model
    try:
        from peft import LoraConfig, get_peft_model
    except ImportError:
        raise UnsupportedError("--exact with adapters needs peft: pip install peft") from None
    a = p.adapters
    targets: Any = a.targets[0] if len(a.targets) == 1 else list(a.targets)
    config = LoraConfig(
        r=a.r,
        lora_alpha=a.alpha,
        lora_dropout=a.dropout,
        target_modules=targets,
        use_dora=a.dora,
        use_rslora=a.rslora,
        modules_to_save=list(a.modules_to_save) or None,
    )
    return get_peft_model(model, config).cuda()


def _phases_of(model: nn.Module, course: TracedCourse) -> None:
    """Mark the phases: where the hidden states are there the loss begins; where their gradient is,
    backward."""

    def over(_module: Any, _args: Any, out: Any) -> None:
        hidden = out[0] if isinstance(out, tuple) else out[next(iter(out))]
        course.begin("loss")
        if hidden.requires_grad:
            hidden.register_hook(lambda _: course.begin("backward"))

    inner = getattr(model, "get_base_model", lambda: model)()
    base = getattr(inner, inner.base_model_prefix, inner)
    if base is not inner:
        base.register_forward_hook(over)


def _micro_batch(model: nn.Module, course: TracedCourse, p: TrainingPlan, kept: list[Any]) -> None:
    """`kept` is what the loop's variable holds: the micro-batch before, until there is another."""
    course.begin("forward")
    cast = None if p.autocast is None else getattr(torch, p.autocast.name)
    ids = torch.randint(0, 100, (p.batch, p.length), device="cuda")
    given: dict[str, Any] = {"input_ids": ids, "labels": ids}
    if p.subject.body.causal:
        given["use_cache"] = False
    if p.padded:
        mask = torch.ones_like(ids, device="cpu")
        mask[0, p.length // 2 :] = 0
        given["attention_mask"] = mask.to("cuda")
    with torch.autocast("cuda", cast) if cast is not None else nullcontext():
        out = model(**given)
    if p.framework.float_outputs and cast is not None:
        from accelerate.utils import convert_to_fp32

        out = convert_to_fp32(out)
    loss = out["loss"]
    kept[:] = [out] if p.framework.outputs else []
    del out
    loss.backward()
    course.begin("")
