"""Networks that see one picture: from the shapes of their tensors to the memory of a forward."""

from collections.abc import Callable
from importlib import import_module
from math import prod

from weighbridge.base.dtypes import DType
from weighbridge.base.errors import UnsupportedError
from weighbridge.base.records import dataclass
from weighbridge.base.sentences import sentence
from weighbridge.machines.accelerators.chips import ASSUMED, Chip
from weighbridge.machines.kernels.workspaces import lasting
from weighbridge.memory.components.activations import Heap, LivePeak, TensorWatch
from weighbridge.pictures.components import WRONG
from weighbridge.pictures.places import Place
from weighbridge.pictures.trees import Shapes, Tree, complete
from weighbridge.pictures.values import TORCH, Run, Value
from weighbridge.training.forward.machine import Machine

Program = Callable[[Tree, Value], Value]
ROOMS = "convnets", "vits"


def program(shapes: Shapes) -> Program | None:
    """Return the program of the networks that have such a tree; None where there is none."""
    tree = Tree(Place(Run.__new__(Run)), shapes)
    for room in ROOMS:
        programs = import_module(f"weighbridge.pictures.nets.{room}").PROGRAMS
        for module, program in programs.items():
            if tree.has(module):
                return program  # type: ignore[no-any-return]
    return None


def forward(run: Run, shapes: Shapes, pixels: Value) -> Value:
    """Run a network on pictures. Raises UnsupportedError where a tensor has no operator here."""
    call = program(shapes)
    if call is None:
        raise UnsupportedError(sentence("images.no_program"))
    try:
        value = call(Tree(Place(run), shapes), pixels)
    except WRONG as error:
        raise UnsupportedError(sentence("no_config_of", cls=run.cls, why=str(error))) from error
    complete(run, shapes)
    return value


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """A network on a card, and pictures that lie there."""

    shapes: Shapes
    buffers: tuple[int, ...]  # bytes of each
    dtype: DType
    batch: int
    height: int
    width: int
    chip: Chip = ASSUMED


def peak(seen: Seen, watch: TensorWatch | None = None) -> LivePeak:
    """Return the fullest moment of a forward without gradients, beside weights, buffers and
    pictures."""
    heap = Heap()
    m = Machine(heap)
    m.grad = m.training = False
    m.chip = seen.chip
    [m.workspace] = m.sizes(lasting, TORCH)
    weights = heap.row([seen.dtype.size(prod(one)) for one in seen.shapes.values()], "weights")
    buffers = heap.row(seen.buffers, "buffers")
    run = Run(m=m, cls="", dtype=seen.dtype)
    with m.making("inputs"):
        pixels = run.new(seen.batch, 3, seen.height, seen.width)
    heap.phase()
    heap.watch = watch
    out = forward(run, seen.shapes, pixels)
    fullest = heap.phase()
    heap.watch = None
    del out, pixels
    heap.drop(*weights, *buffers)
    heap.close()
    return fullest
