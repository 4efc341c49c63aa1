"""Phases by their everyday names, and each beside the others."""

from collections.abc import Mapping

from weighbridge.view.records import Cell, Column, Grid
from weighbridge.view.shown import ShownAnswer

PHASES: Mapping[str, str] = {
    "load": "phase.load",
    "prefill": "phase.prefill",
    "decode": "phase.decode",
    "forward": "phase.forward",
    "loss": "phase.loss",
    "backward": "phase.backward",
    "step": "phase.step",
    "evaluation": "phase.evaluation",
    "save": "phase.save",
}
ASIDE = {"save": 2, "evaluation": 1}  # left out first where a terminal is narrow


def phase_name(s: ShownAnswer, name: str) -> str:
    return s.say(PHASES[name]) if name in PHASES else name


def phases(s: ShownAnswer) -> Grid:
    """Each phase of the fullest device; the one of the bar is marked."""
    heads, told = [Column()], [Cell(s.sizes.unit, None, "dim")]
    for phase in s.device.phases:
        here = phase is s.phase
        rank = 0 if here else ASIDE.get(phase.name, 0)
        heads.append(Column(phase_name(s, phase.name), right=True, rank=rank))
        size = s.sizes.bare(phase.at("driver").expected)
        told.append(Cell(f"{size} ◀" if here else size, None, "strong" if here else ""))
    return Grid(tuple(heads), (tuple(told),))
