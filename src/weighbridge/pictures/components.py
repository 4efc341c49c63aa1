"""Components: from a config to the program of its class, its tree, and the memory of its step."""

from collections.abc import Mapping
from importlib import import_module
from typing import Any

from weighbridge.base.dtypes import TORCH
from weighbridge.base.errors import UnsupportedError, WeighbridgeError
from weighbridge.base.sentences import sentence
from weighbridge.memory.components.activations import Heap
from weighbridge.models.arch.blueprint import Blueprint
from weighbridge.pictures.config import class_of, config_of
from weighbridge.pictures.places import Place
from weighbridge.pictures.values import Run, Sizes, Value
from weighbridge.training.forward.machine import Machine

Raw = Mapping[str, Any]
ROOMS = (
    "joint",
    "cross",
    "wan",
    "ltx",
    "cogvideo",
    "cosmos",
    "stream",
    "unet",
    "vae_image",
    "vae_wan",
    "vae_cog",
    "vae_hunyuan",
    "vae_dc",
    "vae_mochi",
    "vae_ltx",
    "encoders",
)
SMALLEST = Sizes(batch=1, frames=1, height=8, width=8, text=8)  # a run that only declares
WRONG = (TypeError, ValueError, ZeroDivisionError, IndexError, KeyError, AttributeError)


def _programs() -> dict[str, Any]:
    table: dict[str, Any] = {}
    for room in ROOMS:
        table.update(import_module(f"weighbridge.pictures.nets.{room}").PROGRAMS)
    return table


def known(config: Raw) -> bool:
    """Tell whether there is a program for the class that a config names."""
    return class_of(config) in _programs()


def forward(run: Run, config: Raw, sizes: Sizes) -> Value | None:
    """Run the program of a class. Raises UnsupportedError for a config that is none of its."""
    program = _programs().get(run.cls)
    if program is None:
        raise UnsupportedError(sentence("no_program", cls=run.cls))
    try:
        value: Value | None = program(Place(run), config_of(config), sizes)
    except WeighbridgeError:
        raise
    except WRONG as error:
        raise UnsupportedError(sentence("no_config_of", cls=run.cls, why=str(error))) from error
    return value


def declared(config: Raw) -> Run:
    """Return a run at the smallest sizes, which has declared the whole tree."""
    run = Run(m=Machine(Heap()), cls=class_of(config), dtype=TORCH["bfloat16"])
    run.m.grad = False
    forward(run, config, SMALLEST)
    run.m.heap.close()
    return run


def blueprint(config: Raw) -> Blueprint | None:
    """Return the tree of the class that a config names; None where no program is of it."""
    if not known(config):
        return None
    run = declared(config)
    return Blueprint(cls=run.cls, params=tuple(run.declared.values()))
