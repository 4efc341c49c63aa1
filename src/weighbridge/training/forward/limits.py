"""Sizes of a config that no step can have, refused before one is run: files come from strangers."""

from collections.abc import Iterator, Sequence

from weighbridge.base.errors import UsageError
from weighbridge.base.records import fields_of
from weighbridge.base.sentences import sentence
from weighbridge.models.arch.body import Body, LayerBlock
from weighbridge.models.arch.mixers import Attention
from weighbridge.models.arch.possible import wrong_attention

WIDEST = 1 << 20  # elements of a hidden state
LAYERS = 2048  # layers traced one by one; real models have up to 200
DEEPEST = 8192  # layers of a model in which they repeat each other
RUNS = 8192  # layer forwards, in all pipeline stages and micro-batches in flight
OPTIONAL = ("shared", "inputs", "rotary", "nope", "rank", "head_dim")  # 0 is none


def possible(body: Body, model: str) -> None:
    """Raise UsageError if a config has sizes that no step can run with."""
    said = next(_wrong(body), None)
    if said is not None:
        raise UsageError(sentence("no_step", model=model, why=said))


def depth(body: Body) -> int:
    """Return the number of layers of a model, including those of its encoder."""
    return len(body.blocks) + (len(body.encoder.blocks) if body.encoder is not None else 0)


def followed(body: Body, model: str, flights: Sequence[int]) -> None:
    """Raise UsageError if a step has more layers than can be traced in some seconds. `flights`:
    micro-batches in flight per pipeline stage."""
    count = depth(body)
    if count > DEEPEST:
        raise UsageError(sentence("deep", model=model, count=count, most=DEEPEST))
    runs = count * sum(flights) // len(flights)
    if len(flights) > 1 and runs > RUNS:
        raise UsageError(sentence("many_runs", stages=len(flights), runs=runs, most=RUNS))


def unrepeated(model: str, count: int) -> UsageError:
    """Return the error for a model with too many layers to trace one by one, whose layers do not
    repeat."""
    return UsageError(sentence("unrepeated", model=model, count=count, most=LAYERS))


def _wrong(body: Body) -> Iterator[str]:
    if body.blocks and not 0 < body.hidden <= WIDEST:
        yield sentence("hidden_of", hidden=body.hidden)
    blocks = (*body.blocks, *(body.encoder.blocks if body.encoder is not None else ()))
    for number, block in enumerate(blocks):
        for what in _wrong_layer(block):
            yield sentence("layer_has", number=number, what=what)


def _wrong_layer(block: LayerBlock) -> Iterator[str]:
    for part in (*block.mixers, *block.feeds):
        for name in fields_of(part):
            value = getattr(part, name)
            if name in OPTIONAL or isinstance(value, bool) or not isinstance(value, int):
                continue
            if not 0 < value <= WIDEST * WIDEST:
                kind = type(part).__name__.lower()
                yield sentence("layer_with", kind=kind, name=name, value=value)
        if isinstance(part, Attention):
            yield from wrong_attention(part)
