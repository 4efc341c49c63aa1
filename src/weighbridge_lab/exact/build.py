"""The class that the config names, from its config alone, on a fake GPU.

`from_pretrained` runs as it does on a machine with the files, without them: it decides the dtype of
every parameter and buffer, the attention and the order in which tensors are placed.

A request of the class holds

    text        ids and a mask of ones, as a tokenizer gives them
    images      of the tower's own size, in float32; of Qwen's, patches and their grid. Ids of an
                image are those of its placeholder
    sounds      a spectrogram (Whisper), or samples

Only shapes matter, so everything else is 0.
"""

import logging
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from math import isqrt
from typing import Any

import torch
import transformers
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers.utils import logging as talk

from weighbridge.base.errors import UnsupportedError
from weighbridge.base.sentences import sentence
from weighbridge.engines.interface import Subject
from weighbridge.engines.transformers.plan import GenerationPlan
from weighbridge.models.arch.body import Tower
from weighbridge.workload import Infer
from weighbridge_lab.exact.here import CardHere, here
from weighbridge_lab.exact.zeros import config_of, fill, write_zeros
from weighbridge_lab.golden import phase
from weighbridge_lab.trace.gpu import FakeGPU

GPU, NO_END = "a100-80gb", "1024TiB"  # if no card is named; memory that no run fills
KERNELS = {
    "efficient": SDPBackend.EFFICIENT_ATTENTION,
    "cudnn": SDPBackend.CUDNN_ATTENTION,
    "math": SDPBackend.MATH,
}
ATTENTION = {"eager": "eager", **dict.fromkeys(KERNELS, "sdpa")}
CACHES = ("dynamic", "static")
FAILURES = "torch._subclasses.fake_tensor"  # a logger that prints the stack of errors


# Inputs of a request

RATE, SECONDS = 16_000, 30.0  # samples per second; seconds of a sound by default
SMALLEST = 100  # ids that every vocabulary has (assumed)
TOKENS = ("image_token_id", "image_token_index")


def supported(subject: Subject, workload: Infer) -> None:
    """Raise UnsupportedError, with the obstacle, if a class cannot be traced."""
    reason = next(_obstacles(subject, workload), "")
    if reason:
        raise UnsupportedError(reason, where="--exact")


def _obstacles(subject: Subject, workload: Infer) -> Iterator[str]:
    cls = subject.part.blueprint.cls
    if (
        subject.part.library != "transformers"
        or subject.config is None
        or len(subject.model.parts) > 1
    ):
        yield sentence("exact.no_class", name=subject.model.reference)
    elif not isinstance(getattr(transformers, cls, None), type):
        here = f"transformers {transformers.__version__}"
        yield sentence("exact.not_in", cls=cls, library=here)
    if subject.choice.scheme is not None or subject.choice.as_stored:
        yield sentence("exact.weights", name=subject.choice.name)
    yield from _settings(workload)


def _settings(workload: Infer) -> Iterator[str]:
    budget = workload.budget()
    if budget is not None and budget.choice.count > 1:
        yield sentence("exact.one_card")
    if workload.attention == "flash":
        yield sentence("exact.flash")
    if workload.cache_implementation not in (None, *CACHES) or workload.kv_cache_dtype is not None:
        yield sentence("exact.caches", known=" and ".join(CACHES))
    if (workload.num_beams or 1) > 1:
        yield sentence("exact.beams")
    if workload.draft_model is not None:
        yield sentence("exact.draft")


@contextmanager
def card(workload: Infer) -> Iterator[FakeGPU | CardHere]:
    """Enter the user's card, with memory for everything, or this machine's card; libraries'
    messages are silenced."""
    if here():
        with _silence():
            phase("load")
            yield CardHere()
        return
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
    """Return the class in the config as a module on the device, in eval mode."""
    config = config_of(subject.raw)
    cls: Any = getattr(transformers, subject.part.blueprint.cls)
    dtype = getattr(torch, subject.choice.dtype.name)
    with tempfile.TemporaryDirectory() as folder:
        if here():
            write_zeros(cls, config, dtype, folder)
        else:
            config.save_pretrained(folder)
        model: nn.Module = cls.from_pretrained(
            folder,
            config=config,
            dtype=dtype,
            attn_implementation=ATTENTION.get(workload.attention or ""),
            device_map="cuda" if workload.device_map else None,
        )
    model = model.cuda()
    if here():
        fill(model)
    return model


@contextmanager
def kernel(workload: Infer) -> Iterator[None]:
    """Make scaled_dot_product_attention use the kernel that the user set."""
    chosen = KERNELS.get(workload.attention or "")
    if chosen is None:
        yield
        return
    with sdpa_kernel(chosen):
        yield


def inputs(
    model: Any, subject: Subject, generation: GenerationPlan, seconds: float | None
) -> dict[str, Any]:
    """Return the inputs of `generate`, on the device. Raises UnsupportedError if a tower's inputs
    are unknown."""
    rows = generation.prompt.batch
    match str(model.main_input_name):
        case "input_ids":
            return _text(model.config, subject, generation, rows)
        case "pixel_values":
            return _pixels(model.config, rows)
        case "input_features" if hasattr(model.config, "max_source_positions"):
            return _spectrogram(model.config, subject, rows)
        case "input_values":
            return _samples(subject, rows, seconds or SECONDS)
    raise UnsupportedError(sentence("exact.reads", cls=type(model).__name__), where="--exact")


def _text(config: Any, subject: Subject, generation: GenerationPlan, rows: int) -> dict[str, Any]:
    length = generation.prompt.encoder or generation.prompt.tokens
    pictures = generation.items["image"]
    tower = next((tower_ for tower_ in subject.body.towers if tower_.kind == "image"), None)
    if generation.items["audio"]:
        raise UnsupportedError(sentence("exact.sounds"), where="--exact")
    if not pictures or tower is None:
        ids = torch.zeros(rows, length, dtype=torch.int64, device="cuda")
        if here():
            ids.random_(0, SMALLEST)
        return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    marks = pictures * tower.tokens
    if marks > length:
        raise UnsupportedError(sentence("exact.marks", count=marks, most=length), where="--exact")
    line = [_placeholder(config)] * marks + [0] * (length - marks)
    ids = torch.tensor([line] * rows, device="cuda")
    return {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        **_images(config, tower, rows * pictures),
    }


def _placeholder(config: Any) -> int:
    token = next((getattr(config, name) for name in TOKENS if hasattr(config, name)), None)
    if token is None:
        what = sentence("exact.no_token", cls=type(config).__name__)
        raise UnsupportedError(what, where="--exact")
    return int(token)


def _images(config: Any, tower: Tower, count: int) -> dict[str, Any]:
    """Return the pixel inputs of images. Raises UnsupportedError if an image is not exactly one of
    the tower's size."""
    vision = config.vision_config
    merge = getattr(vision, "spatial_merge_size", None)
    if merge is not None and tower.patch:
        height, width = _grid(tower.positions, merge)
        pixels = torch.zeros(count * tower.positions, tower.patch, device="cuda")
        grid = torch.tensor([[1, height, width]] * count, device="cuda")
        return {"pixel_values": pixels, "image_grid_thw": grid}
    side = vision.image_size
    whole = (side // vision.patch_size) ** 2
    if not whole <= tower.positions <= whole + 2:
        raise UnsupportedError(sentence("exact.tiles"), where="--exact")
    return {"pixel_values": torch.zeros(count, 3, side, side, device="cuda")}


def _grid(positions: int, merge: int) -> tuple[int, int]:
    """Return (height, width) in patches, as square as possible, for `positions` patches."""
    blocks = positions // merge**2
    rows = next(n for n in range(isqrt(blocks), 0, -1) if blocks % n == 0)
    return rows * merge, blocks // rows * merge


def _pixels(config: Any, rows: int) -> dict[str, Any]:
    side = config.image_size
    height, width = (side, side) if isinstance(side, int) else side
    channels = getattr(config, "num_channels", 3)
    return {"pixel_values": torch.zeros(rows, channels, height, width, device="cuda")}


def _spectrogram(config: Any, subject: Subject, rows: int) -> dict[str, Any]:
    length = 2 * config.max_source_positions
    dtype = getattr(torch, subject.choice.dtype.name)
    shape = rows, config.num_mel_bins, length
    return {"input_features": torch.zeros(shape, dtype=dtype, device="cuda")}


def _samples(subject: Subject, rows: int, seconds: float) -> dict[str, Any]:
    dtype = getattr(torch, subject.choice.dtype.name)
    return {"input_values": torch.zeros(rows, int(RATE * seconds), dtype=dtype, device="cuda")}
