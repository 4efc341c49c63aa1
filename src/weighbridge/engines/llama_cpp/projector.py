"""The multimodal projector (mmproj): an image or audio tower, on the main GPU.

    weights    the file's tensors, or the class's towers in 16 bits
    compute    a picture's positions through one layer of the tower

Source: llama.cpp 0c1e57098 tools/mtmd/clip.cpp (clip_model_loader, warmup: the largest picture).
"""

from dataclasses import dataclass

from weighbridge.arch.body import Dense, Tower
from weighbridge.engines.interface import Subject
from weighbridge.memory import Bytes, Component, exactly
from weighbridge.quantization.schemes import counted, scheme
from weighbridge.settings import Infer
from weighbridge.units import MIB, align_up


@dataclass(frozen=True, slots=True)
class Projector:
    weights: Component
    compute: Component


def projector(s: Subject, w: Infer) -> Projector | None:
    """Describe the projector of images or sounds; None where none is loaded."""
    if s.projector is None and not w.mmproj:
        return None
    size = of_file(s) if s.projector is not None else of_class(s)
    if not size:
        return None
    return Projector(
        Component(
            name="weights",
            detail="mmproj",
            bytes=exactly(size),
            basis="read" if s.projector is not None else "computed",
            formula="towers and what joins them to the model, in 16 bits",
            source="llama.cpp tools/mtmd/clip.cpp",
        ),
        _compute(s),
    )


def of_file(s: Subject) -> int:
    assert s.projector is not None
    return sum(align_up(t.nbytes, 128) for part in s.projector.parts for t in part.stored)


def of_class(s: Subject) -> int:
    plan = s.part.blueprint
    tensors = counted(plan, scheme("F16"), dtype=s.choice.dtype)
    beside = ((t, n) for t, n in tensors if plan.part(t.source) != "language model")
    return sum(align_up(t.nbytes, 128) * n for t, n in beside)


def _compute(s: Subject) -> Component:
    expected = max((_layer(t) for t in s.body.towers), default=64 * MIB)
    return Component(
        name="activations",
        detail="mmproj",
        bytes=Bytes(expected // 2, expected, 3 * expected),
        basis="assumed",
        formula="positions x (6 D + 3 F) x 4 bytes of the widest tower",
        source="llama.cpp tools/mtmd/clip.cpp, whose graph is not replayed",
    )


def _layer(tower: Tower) -> int:
    """Return the bytes of activations that one layer of a tower keeps at once, in 32 bits."""
    feed = (
        tower.feed.width if isinstance(tower.feed, Dense) else tower.feed.width * tower.feed.top_k
    )
    return 4 * tower.positions * (6 * tower.hidden + 3 * feed)
