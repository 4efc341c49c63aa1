"""What a format costs, in a few words: the published figure, and whose it is."""

from typing import TYPE_CHECKING

from weighbridge.view.messages import Say
from weighbridge.wording import printable

if TYPE_CHECKING:
    from weighbridge.quantization.quality import Finding


def short(say: Say, found: "Finding | None") -> str:
    """Shorten a finding for a cell of a table. If it is about another model, it names that."""
    if found is None:
        return say("quality.none")
    told = say("quality.nothing")
    if found.change:
        told = say(f"quality.{found.metric}", amount=found.amount, task=printable(found.task))
    if found.least < found.change:
        told = say("quality.up_to", quality=told)
    if found.near == "model":
        return told
    return say("quality.of", quality=told, model=printable(found.measured_on))
