"""Words that come with an answer, and that the screens have in both languages."""

from collections.abc import Mapping

from weighbridge.view.messages import Say
from weighbridge.wording import printable

KNOWN: Mapping[str, str] = {  # why a setting is what it is: as a report says it -> key
    "as the config declares": "why.config",
    "as the config's quantization declares": "why.quantization",
    "as the checkpoint is stored": "why.stored",
    "as you asked": "why.asked",
    "the usual default": "why.usual",
    "the model's maximum": "why.maximum",
    "prompt and new tokens": "why.sum",
    "the prompt alone": "why.prompt",
    "assumed: 16 bits, as models of today are released": "why.assumed",
}


def why(say: Say, text: str) -> str:
    """The sentence in the language of the screen, where that is known."""
    return say(KNOWN[text]) if text in KNOWN else printable(text)
