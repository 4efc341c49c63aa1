"""Networks that see one picture: from the shapes of their tensors to the memory of a forward."""

import re
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from math import isqrt, prod
from typing import Any

from weighbridge.base.dtypes import FLOAT32, INT64, DType
from weighbridge.base.errors import UnsupportedError, UsageError
from weighbridge.base.records import dataclass, field, frozen_record
from weighbridge.base.sentences import sentence
from weighbridge.machines.accelerators.chips import ASSUMED, Chip
from weighbridge.memory.components.activations import Heap, LivePeak, TensorWatch, keep_fullest
from weighbridge.pictures import components
from weighbridge.pictures.adapting import AdaptedLayers, PictureAdapters, put_on
from weighbridge.pictures.components import WRONG
from weighbridge.pictures.config import class_of
from weighbridge.pictures.places import NetPlace
from weighbridge.pictures.seeing import NEVER, seeing
from weighbridge.pictures.trees import Shapes, Tree, complete, grown
from weighbridge.pictures.values import ProgramRun, Sizes, Value, machine
from weighbridge.training.forward.backward import backward
from weighbridge.training.forward.machine import Machine, remade
from weighbridge.training.forward.ops.pointwise import cast, softmax
from weighbridge.training.forward.tensors import Tensor
from weighbridge.training.optimizers.row import Optimization, Optimizer

Program = Callable[[Tree, Value], Value]
ROOMS = "convnets", "vits", "pyramids"
PATCHES = "patch_embed.proj.weight"


def program(shapes: Shapes) -> Program | None:
    """Return the program for networks with this module tree; None if there is none."""
    tree = Tree(NetPlace(ProgramRun.__new__(ProgramRun)), shapes)
    for room in ROOMS:
        programs = import_module(f"weighbridge.pictures.nets.{room}").PROGRAMS
        for module, program in programs.items():
            if tree.has(module):
                return program  # type: ignore[no-any-return]
    return None


def forward(run: ProgramRun, seen: "SeenImages", pixels: Value) -> Value:
    """Run a network on pictures and return its output. Raises UnsupportedError for a tensor without
    an operator here, UsageError for pictures of another size than a fixed-size class takes."""
    known = seeing(seen.config)
    if known is not None:
        if known.fixed and (seen.height, seen.width) != (known.height, known.width):
            size = f"{known.width} x {known.height}"
            raise UsageError(sentence("images.one_size", cls=class_of(seen.config), size=size))
        run.pixels, run.detections = pixels, seen.detections
        sizes = Sizes(batch=seen.batch, height=seen.height, width=seen.width)
        out = components.forward(run, seen.config, sizes)
        run.pixels = None  # the caller holds the pixels
        assert out is not None
        return out
    call = program(seen.shapes)
    if call is None:
        raise UnsupportedError(sentence("images.no_program"))
    try:
        value = call(Tree(NetPlace(run), seen.shapes), pixels)
    except WRONG as error:
        raise UnsupportedError(sentence("no_config_of", cls=run.cls, why=str(error))) from error
    complete(run, seen.shapes)
    return value


@frozen_record
class SeenImages:
    """A vision network on a card, with its input pictures."""

    shapes: Shapes
    buffers: tuple[int, ...]  # bytes of each buffer
    dtype: DType
    batch: int
    height: int
    width: int
    chip: Chip = ASSUMED
    pads_copies: bool = False  # strided convolutions pad a copy first, as TensorFlow does
    averaged: bool = False  # a trainer keeps a moving average of the weights
    detections: int = 100  # per picture; they decide the number of masks
    config: Mapping[str, Any] = field(default_factory=dict)  # of a class that declares itself


def peak(seen: SeenImages, watch: TensorWatch | None = None) -> LivePeak:
    """Return the peak of a forward without gradients, including weights, buffers and pictures."""
    heap = Heap()
    m = machine(heap, seen.chip)
    m.grad = m.training = False
    weights = heap.row([seen.dtype.size(prod(one)) for one in seen.shapes.values()], "weights")
    buffers = heap.row(seen.buffers, "buffers")
    run = ProgramRun(m=m, cls=class_of(seen.config), dtype=seen.dtype, pads_copies=seen.pads_copies)
    with m.making("inputs"):
        pixels = run.new(seen.batch, 3, seen.height, seen.width)
    heap.phase()
    heap.watch = watch
    out = forward(run, seen, pixels)
    fullest = heap.phase()
    heap.watch = None
    del out, pixels
    heap.drop(*weights, *buffers)
    heap.close()
    return fullest


def usual(shapes: Shapes) -> tuple[int, int] | None:
    """Return the picture size that the position table fits; None without a table."""
    table = shapes.get("pos_embed")
    if table is None:
        return None
    side = isqrt(table[-2]) * shapes[PATCHES][-1]
    return side, side


def resized(shapes: Shapes, height: int, width: int) -> Shapes:
    """Return the shapes of the same network built for pictures of another size."""
    table = shapes.get("pos_embed")
    if table is None:
        return shapes
    patch, before = shapes[PATCHES][-1], table[-2] - isqrt(table[-2]) ** 2
    rows = (height // patch) * (width // patch) + before
    return {**shapes, "pos_embed": (*table[:-2], rows, table[-1])}


# ---- training


@dataclass(slots=True, kw_only=True)
class TrainedImages:
    """The peak of each phase of a vision network's training step."""

    moments: dict[str, LivePeak] = field(default_factory=dict)
    saved: int = 0  # bytes saved for backward when it begins
    trainable: int = 0  # parameters that are trained

    def note(self, name: str, peak: LivePeak) -> None:
        keep_fullest(self.moments, name, peak)


def segments(shapes: Shapes) -> bool:
    """Return whether a network segments: its loss is per pixel."""
    return any(name.startswith("decode_head.") for name in shapes)


def trainable(seen: SeenImages) -> dict[str, bool]:
    """Return, by parameter, whether its class trains it by default."""
    known = seeing(seen.config)
    frozen = re.compile(NEVER if known is None else known.frozen)
    return {name: frozen.match(name) is None for name in seen.shapes}


def trained(
    seen: SeenImages,
    optimizer: Optimizer,
    autocast: DType | None = None,
    adapters: tuple[PictureAdapters, Sequence[str]] | None = None,
) -> TrainedImages:
    """Return the peaks of two training steps of a whole network, or of `adapters` on some layers:
    optimizer states are created at the end of the first step. Gradients are freed before a forward
    (zero_grad)."""
    result, heap = TrainedImages(), Heap()
    m = machine(heap, seen.chip)
    learns = trainable(seen)
    leaves = {
        name: m.param(name, shape, seen.dtype, trainable=learns[name] and adapters is None)
        for name, shape in seen.shapes.items()
    }
    layers = AdaptedLayers({}, {}, [])
    if adapters is not None:
        layers = put_on(m, *adapters, leaves, {})
    learning = [*layers.trained, *(one for one in leaves.values() if one.trainable)]
    result.trainable = sum(one.numel for one in learning)
    copies = [leaf.nbytes for leaf in leaves.values()] if seen.averaged else []
    buffers = (*heap.row(seen.buffers, "buffers"), *heap.row(copies, "weights"))
    result.note("load", heap.phase())
    optimization = Optimization(optimizer, learning)
    for _ in range(2):
        run = ProgramRun(
            m=m,
            cls=class_of(seen.config),
            dtype=seen.dtype,
            params=dict(leaves),
            wraps=layers.linears,
            conv_wraps=layers.convs,
            pads_copies=seen.pads_copies,
        )
        with m.making("inputs"):
            pixels = run.new(seen.batch, 3, seen.height, seen.width)
            places = (seen.height, seen.width) if segments(seen.shapes) else ()
            labels = run.new(seen.batch, *places, dtype=INT64)
        with m.casting(autocast):
            out = forward(run, seen, pixels)
            result.note("forward", heap.phase())
            if places:
                out = grown(out, *out.shape[:2], *places)
            loss = _cross_entropy(m, out.tensor)
            del out
        result.saved = heap.live("activations")
        backward(m, loss)
        result.note("backward", heap.phase())
        del loss
        optimization.step(m)
        result.note("step", heap.phase())
        del pixels, labels
    heap.drop(*buffers)
    heap.close()
    return result


def _cross_entropy(m: Machine, logits: Tensor) -> Tensor:
    """Return cross_entropy(logits, labels), which autocast computes in float32."""
    wide = softmax(m, cast(m, logits, FLOAT32) if m.autocast else logits)
    return remade(m, wide, m.new((), wide.dtype))
