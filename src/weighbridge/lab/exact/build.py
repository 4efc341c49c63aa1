"""The class that the config names, from its config alone, on a fake GPU.

`from_pretrained` runs as it does on a machine with the files, without them: it decides the dtype of
every parameter and buffer, the attention and the order in which tensors are placed.
"""

import copy
import logging
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import transformers
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers.utils import logging as talk

from weighbridge.engines.interface import Subject
from weighbridge.errors import UnsupportedError
from weighbridge.lab.trace.gpu import FakeGPU
from weighbridge.settings import Infer

GPU, NO_END = "a100-80gb", "1024TiB"  # where no card is named; what it needs is asked, not its end
KERNELS = {
    "efficient": SDPBackend.EFFICIENT_ATTENTION,
    "cudnn": SDPBackend.CUDNN_ATTENTION,
    "math": SDPBackend.MATH,
}
ATTENTION = {"eager": "eager", **dict.fromkeys(KERNELS, "sdpa")}
CACHES = ("dynamic", "static")
OF_FILES = ("auto_map", "quantization_config", "transformers_version", "model_type")
FAILURES = "torch._subclasses.fake_tensor"  # a logger, that prints the stack of what is raised


def supported(subject: Subject, workload: Infer) -> None:
    """Check that a class can be traced. Raises UnsupportedError with what stands in the way."""
    reason = next(_obstacles(subject, workload), "")
    if reason:
        raise UnsupportedError(f"--exact: {reason}")


def _obstacles(subject: Subject, workload: Infer) -> Iterator[str]:
    cls = subject.part.blueprint.cls
    if (
        subject.part.library != "transformers"
        or subject.config is None
        or len(subject.model.parts) > 1
    ):
        yield f"{subject.model.reference} is no class of transformers with its config"
    elif not isinstance(getattr(transformers, cls, None), type):
        here = f"transformers {transformers.__version__}"
        yield f"{cls} is not in {here}, and the code of a repository is never run"
    if subject.choice.scheme is not None or subject.choice.as_stored:
        yield f"weights in {subject.choice.name} are not traced; --dtype bfloat16 is"
    yield from _settings(workload)


def _settings(workload: Infer) -> Iterator[str]:
    budget = workload.budget()
    if budget is not None and budget.choice.count > 1:
        yield "one card is traced; name one, or leave --exact out"
    if workload.attention == "flash":
        yield "flash_attention_2 is another package's; without --attention torch's own kernel runs"
    if workload.cache_implementation not in (None, *CACHES) or workload.kv_cache_dtype is not None:
        yield f"caches that are traced are {' and '.join(CACHES)}, in the dtype of the model"
    if (workload.num_beams or 1) > 1:
        yield "when a search with beams ends is decided by values, which a trace has not"
    if workload.draft_model is not None:
        yield "a draft model is not traced"


@contextmanager
def card(workload: Infer) -> Iterator[FakeGPU]:
    """Enter the card that was named, with memory for everything; what libraries say is left out."""
    budget = workload.budget()
    name = GPU if budget is None or workload.gpu is None else budget.choice.part.id
    with (
        _silence(),
        FakeGPU(name, gpu_memory=NO_END, torch_version=workload.torch_version) as gpu,
    ):
        yield gpu


@contextmanager
def _silence() -> Iterator[None]:
    bar, level = talk.is_progress_bar_enabled(), talk.get_verbosity()
    failures = logging.getLogger(FAILURES)
    before = failures.level
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        talk.disable_progress_bar()
        talk.set_verbosity_error()
        failures.setLevel(logging.CRITICAL)
        try:
            yield
        finally:
            failures.setLevel(before)
            talk.set_verbosity(level)
            if bar:
                talk.enable_progress_bar()


def built(subject: Subject, workload: Infer) -> nn.Module:
    """Build the class that the config names, on the device, in eval mode."""
    raw = {k: v for k, v in copy.deepcopy(dict(subject.raw)).items() if k not in OF_FILES}
    config = transformers.AutoConfig.for_model(subject.raw["model_type"], **raw)
    cls: Any = getattr(transformers, subject.part.blueprint.cls)
    with tempfile.TemporaryDirectory() as folder:
        config.save_pretrained(folder)
        model: nn.Module = cls.from_pretrained(
            folder,
            config=config,
            dtype=getattr(torch, subject.choice.dtype.name),
            attn_implementation=ATTENTION.get(workload.attention or ""),
            device_map="cuda" if workload.device_map else None,
        )
    return model.cuda()


@contextmanager
def kernel(workload: Infer) -> Iterator[None]:
    """Let scaled_dot_product_attention take the kernel that was named."""
    chosen = KERNELS.get(workload.attention or "")
    if chosen is None:
        yield
        return
    with sdpa_kernel(chosen):
        yield
