"""Facts about the model and the device that every report has, whatever the task."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from weighbridge.answers import bounds
from weighbridge.base.memory import Bytes
from weighbridge.base.sentences import about, key_of, sentence
from weighbridge.base.units import human
from weighbridge.engines.ignorance import SIZED
from weighbridge.memory.report import ModelFacts
from weighbridge.models.checkpoint.model import Model

if TYPE_CHECKING:
    from weighbridge.engines.interface import Subject
    from weighbridge.machines.accelerators.parts import Part
    from weighbridge.memory.report.keys import DerivedFacts
    from weighbridge.settings.shared import Weighed


def facts(model: Model) -> ModelFacts:
    return ModelFacts(
        reference=model.reference,
        revision=model.revision,
        name=model.name,
        architecture=model.architecture,
        parameters=model.parameters,
        active_parameters=model.active_parameters,
        stored_bytes=model.stored_bytes,
        download_bytes=model.download_bytes,
        read_from=model.read_from,
        parts=model.part_sizes(),
        rough=model.rough or any(key_of(note) == SIZED for note in model.notes),
    )


def derived(subject: "Subject", missing: tuple[str, ...]) -> "DerivedFacts":
    """Return facts that follow from the subject; `missing` names what an answer does not count."""
    return {
        "dtype_from": subject.why,
        "as_stored": subject.choice.as_stored,
        "context_from": subject.context_from,
        "longest_context": subject.longest,
        "not_counted": list(missing),
    }


def layers(subject: "Subject") -> str:
    """Return the layer kind under which published runs of such models are looked up: of the kinds
    the model has, the one with the largest errors."""
    if subject.model.active_parameters < subject.model.parameters:
        return bounds.EXPERTS
    from weighbridge.models.arch.mixers import Recurrent  # a question about weights alone has none

    if any(isinstance(mixer, Recurrent) for layer in subject.layers for mixer in layer.mixers):
        return bounds.RECURRENT
    return bounds.TOWERS if subject.body.towers else bounds.DENSE


def cautions(workload: "Weighed", *, metal: bool = False) -> Iterator[str]:
    """Yield warnings about what a verdict cannot know: the part a short name means, an APU's share
    of memory, other allocators; and a memory size that contradicts the part."""
    budget, machine = workload.budget(), workload.host_memory()
    if budget is None:
        return
    if budget.choice.note:
        yield about("--gpu", budget.choice.note)
    if machine is not None and machine.note:
        yield machine.note
    yield from _of_part(budget.choice.part, budget.choice.room, metal=metal)


def _of_part(part: "Part", room: Bytes, *, metal: bool) -> Iterator[str]:
    if part.kind == "apu" and not room.exact:
        low, _, high = room
        yield sentence("carved", card=part.name, low=human(low), high=human(high))
    if part.stack == "own" and not (metal and part.vendor == "Apple"):
        yield sentence("own_stack", card=part.name, vendor=part.vendor)
