"""The first row of accelerate's table as a sentence: the answer before the table."""

from weighbridge.units import human
from weighbridge.wording import printable
from weighbridge.words import words_in


def answer(model: str, dtype: str, size: str, training: int | None, *, lang: str) -> str:
    """What a model takes in one dtype, and to train with Adam where that is known."""
    words, name = words_in(lang), printable(model)
    if training is None:
        return words("estimate.answer.load", model=name, dtype=dtype, size=size)
    needed = human(training)
    return words("estimate.answer", model=name, dtype=dtype, size=size, training=needed)
