"""Networks that see one picture: from the shapes of their tensors to the memory of a forward."""

from collections.abc import Callable
from importlib import import_module

from weighbridge.base.errors import UnsupportedError
from weighbridge.base.sentences import sentence
from weighbridge.pictures.components import WRONG
from weighbridge.pictures.places import Place
from weighbridge.pictures.trees import Shapes, Tree, complete
from weighbridge.pictures.values import Run, Value

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
