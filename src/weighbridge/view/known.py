"""Words that come with an answer, and that the screens have in both languages."""

import re
from collections.abc import Mapping
from functools import cache

from weighbridge.view.messages import Say, say
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


SENTENCES = (  # reasons and warnings that are frequent: keys of their English sentence
    "known.trainless",
    "known.size_trainless",
    "known.rough",
    "known.not_followed",
    "known.peft_casts",
    "known.no_bfloat16",
    "known.ollama_longer",
    "known.ollama_tune",
    "known.ollama_shapes",
    "known.longer",
    "known.tune",
    "known.ollama_context",
    "known.mlx_near",
    "known.shapes",
    "known.apple",
    "known.made_then",
    "known.made_from",
    "known.made",
    "known.torchrun",
    "known.no_line",
)


def told(words: Say, text: str) -> str:
    """A reason or a warning in the language of the screen, where that is known."""
    if words.lang == "en":
        return text
    for key in SENTENCES:
        found = _pattern(key).fullmatch(text)
        if found:
            return words(key, **found.groupdict())
    return text


def note(words: Say, text: str | None) -> str:
    """What has to be done before a line runs, in the language of the screen."""
    return told(words, printable(text or ""))


@cache
def _pattern(key: str) -> re.Pattern[str]:
    """What reads the English sentence of a key."""
    literal = re.split(r"\{(\w+)\}", say("en").table[key])
    parts = (f"(?P<{p}>.*?)" if i % 2 else re.escape(p) for i, p in enumerate(literal))
    return re.compile("".join(parts))
