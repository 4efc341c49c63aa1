"""The estimator, as tests ask it: a usual question with changes, a request in JSON, or a command line.

An engine alone is asked by `tests/engines/answers.py`.
"""

import json

import weighbridge
from weighbridge.base.errors import WeighbridgeError
from weighbridge.faces.cli import menu


def usual(task, model, **settings):
    """Return a function that asks about a model with settings, each of which a caller may change.
    `task`: a word of ours, or what is called with a model and settings."""
    ask = getattr(weighbridge, task) if isinstance(task, str) else task

    def asked(named=model, **changes):
        return ask(named, **{**settings, **changes})

    return asked


def megatron(model, *arguments, **settings):
    """Return a function that asks about a training by Megatron, with more arguments of its own."""

    def asked(*more, **changes):
        words = (*arguments, *more) or None
        given = {"framework": "megatron", "megatron_args": words, **settings, **changes}
        return weighbridge.train(model, **given)

    return asked


def or_refusal(ask, *named, **settings):
    """Return the answer as JSON has it, or what an error says."""
    try:
        return ask(*named, **settings).to_dict()
    except WeighbridgeError as error:
        return str(error)


def requested(desk, *model, **told):
    """Return what a desk answers to a request in JSON, errors too."""
    return desk.answer(json.dumps({**({"model": model[0]} if model else {}), **told}))


def answered(desk, *model, **told):
    """Return the answer of a desk to a request in JSON, which is no error."""
    made = requested(desk, *model, **told)
    assert "error" not in made, made
    return made


def typed(capture, *words):
    """Return the exit code of a command line, what it prints, and what it says besides."""
    code = menu.run(list(words))
    return (code, *capture.readouterr())
