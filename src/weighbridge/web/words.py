"""The words that the page itself shows; those of answers are in view/messages."""

from collections.abc import Mapping

WORDS: Mapping[str, Mapping[str, str]] = {"en": {}, "zh": {}}
