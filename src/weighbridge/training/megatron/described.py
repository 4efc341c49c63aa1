"""Description of a model as Megatron-core's GPTModel builds it, or its HybridModel.

Its parameters are counted as Megatron has them, and are those of the class. What the class has
`beside` is separate: encoders, and decoder parameters so few that they hardly change a rank's
memory (sinks and biases of experts). A decoder with more other parameters is refused.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from weighbridge.base.errors import UnsupportedError
from weighbridge.base.records import replace
from weighbridge.base.sentences import sentence
from weighbridge.engines.interface import Subject
from weighbridge.models.arch.blueprint import Param
from weighbridge.models.arch.body import LayerBlock
from weighbridge.models.arch.mixers import Attention, GatedDelta, Latent, Mamba2
from weighbridge.models.arch.parts import Dense, Experts
from weighbridge.models.arch.roles import role_of
from weighbridge.training.megatron.model import (
    ATTENDS,
    EXPERTS,
    FEEDS,
    MAMBA,
    MegatronModel,
    RoutedFeed,
)
from weighbridge.training.megatron.run import MegatronRun
from weighbridge.training.megatron.states import StageNumbers
from weighbridge.training.parameters import LANGUAGE

LETTERS: Mapping[type, str] = dict(  # type of a hybrid layer's only part -> its letter
    zip((Mamba2, Attention, Dense, Experts), (MAMBA, ATTENDS, FEEDS, EXPERTS), strict=True)
)
ATTENDING = ("q", "k", "v", "qkv")
GROUPS = ("n_group", "num_expert_groups")  # config keys for the number of expert groups
GATE = "shared_expert_gate"  # SharedExpertMLP.gate_weight
CORRECTIONS = "correction_bias"  # added to scores: a buffer of Megatron's router
FEW = 0.001  # share of a decoder's parameters (assumed): 6.6 M of gpt-oss' 20.9 B


def described(subject: Subject, *, values: bool = False) -> MegatronModel:
    """Return the model as GPTModel builds it; with `values` it is a critic with one output. Raises
    UnsupportedError if GPTModel cannot build it."""
    model = _described(subject)
    return replace(model, values=True) if values else model


def _described(subject: Subject) -> MegatronModel:
    body, name = subject.body, subject.model.reference
    if not body.blocks or body.encoder is not None or not body.vocab:
        raise UnsupportedError(sentence("megatron.text_alone", name=name))
    params = _decoder(subject)
    if any(isinstance(mixer, Mamba2) for block in body.blocks for mixer in block.mixers):
        return _hybrid(subject)
    mixers = [_mixer(block, name) for block in body.blocks]
    deltas = {i: x for i, x in enumerate(mixers) if isinstance(x, GatedDelta)}
    attending = [x for x in mixers if not isinstance(x, GatedDelta)]
    if len({*map(_shape, attending)}) != 1 or len({*deltas.values()}) > 1:
        raise UnsupportedError(sentence("megatron.attend_alike", name=name))
    first = attending[0]
    feeds = [_feed(block, name) for block in body.blocks]
    dense = [f for f in feeds if isinstance(f, Dense)]
    routed = [f for f in feeds if isinstance(f, Experts)]
    if feeds != [*dense, *routed] or len(set(dense)) > 1 or len(set(routed)) > 1:
        raise UnsupportedError(sentence("megatron.dense_first", name=name))
    latent = first if isinstance(first, Latent) else None
    model = MegatronModel(
        layers=len(body.blocks),
        hidden=body.hidden,
        width=dense[0].width if dense else 0,
        heads=first.heads,
        kv_heads=first.heads if isinstance(first, Latent) else first.kv_heads,
        head_dim=first.value_dim if isinstance(first, Latent) else first.key_dim,
        words=body.vocab,
        gated=(dense or routed)[0].gated,
        **_traits(params),
        positions=_positions(params),
        rotary=_positions(params) == 0,
        qk_norm=latent is None and any(role_of(p) == "q_norm" for p in params),
        latent=latent,
        query_rank=max(block.query_rank for block in body.blocks),
        experts=_routed(routed[0], subject) if routed else None,
        dense=len(dense),
        delta=next(iter(deltas.values()), None),
        deltas=frozenset(deltas),
        gated_attention=_has_gate(first, params),
    )
    return _with_the_rest(model, subject)


def _has_gate(mixer: Attention | Latent, params: Iterable[Param]) -> bool:
    """Return whether queries come with a gate: their linear is twice as wide as they are."""
    queries = (p.shape[0] for p in params if p.kind == "linear" and role_of(p) == "q")
    return isinstance(mixer, Attention) and next(queries, 0) == 2 * mixer.heads * mixer.key_dim


def _hybrid(subject: Subject) -> MegatronModel:
    """Return the model as HybridModel builds it: each layer is Mamba, attention, an MLP or experts
    alone. Raises UnsupportedError for other layers."""
    body, name = subject.body, subject.model.reference
    params = _decoder(subject)
    parts = [(*block.mixers, *block.feeds) for block in body.blocks]
    if any(len(each) != 1 or not isinstance(each[0], tuple(LETTERS)) for each in parts):
        raise UnsupportedError(sentence("megatron.hybrid", name=name))
    found = {kind: {each[0] for each in parts if isinstance(each[0], kind)} for kind in LETTERS}
    if any(len(alike) > 1 for alike in found.values()):
        raise UnsupportedError(sentence("megatron.hybrid_alike", name=name))
    one: dict[type, Any] = {kind: next(iter(alike), None) for kind, alike in found.items()}
    attention, dense, routed = one[Attention], one[Dense], one[Experts]
    if routed is not None and routed.inputs:
        raise UnsupportedError(sentence("megatron.expert_width", name=name))
    model = MegatronModel(
        layers=len(parts),
        hidden=body.hidden,
        width=dense.width if dense else 0,
        heads=attention.heads if attention else 1,
        kv_heads=attention.kv_heads if attention else 1,
        head_dim=attention.key_dim if attention else 0,
        words=body.vocab or 0,
        gated=any(feed.gated for feed in (dense, routed) if feed),
        **_traits(params),
        rotary=False,
        experts=_routed(routed, subject) if routed else None,
        pattern="".join(LETTERS[type(each[0])] for each in parts),
        mamba=one[Mamba2],
    )
    return _with_the_rest(model, subject)


def _decoder(subject: Subject) -> list[Param]:
    """Return the parameters of a model without its encoders."""
    plan = subject.part.blueprint
    return [p for p in plan.counted if plan.part(p.name) == LANGUAGE]


def _traits(params: Sequence[Param]) -> dict[str, Any]:
    """Return which linears have biases, the kind of norms, and whether the head is tied, by field
    of MegatronModel."""
    biases = [p for p in params if p.kind == "bias"]
    return {
        "biased": any(role_of(p) == "o" for p in biases),
        "qkv_biased": any(role_of(p) in ATTENDING for p in biases),
        "centered": any(p.kind == "norm" and p.name.endswith(".bias") for p in params),
        "tied": any(p.tied for p in params),
    }


def _mixer(block: LayerBlock, name: str) -> Attention | Latent | GatedDelta:
    mixer = block.mixers[0] if len(block.mixers) == 1 else None
    if isinstance(mixer, GatedDelta):
        return mixer
    if isinstance(mixer, Attention | Latent) and mixer.indexer is None:
        return mixer
    raise UnsupportedError(sentence("megatron.not_attention", name=name))


def _shape(mixer: Attention | Latent) -> tuple[object, ...]:
    """Return the sizes of an attention that decide training memory; its window does not."""
    if isinstance(mixer, Latent):
        return mixer.heads, mixer.rank, mixer.rotary, mixer.nope, mixer.value_dim
    return mixer.heads, mixer.kv_heads, mixer.key_dim, mixer.value_dim


def _feed(block: LayerBlock, name: str) -> Dense | Experts:
    feed = block.feeds[0] if len(block.feeds) == 1 else None
    if isinstance(feed, Dense | Experts) and not feed.inputs:
        return feed
    raise UnsupportedError(sentence("megatron.one_feed", name=name))


def _routed(feed: Experts, subject: Subject) -> RoutedFeed:
    groups = (subject.text or subject.raw).get
    return RoutedFeed(
        count=feed.count,
        top=feed.top_k,
        width=feed.width,
        shared=feed.shared,
        scored=any(GATE in p.name for p in subject.part.blueprint.counted),
        groups=next((n for name in GROUPS if isinstance(n := groups(name), int)), 1),
    )


def _positions(params: Iterable[Param]) -> int:
    """Return the rows of learned positions: of embeddings that are not of tokens."""
    tables = [p for p in params if p.kind == "embedding" and not p.tied]
    return sum(p.shape[0] for p in tables if role_of(p) != "embedding")


def _with_the_rest(model: MegatronModel, subject: Subject) -> MegatronModel:
    """Return the model with the number of parameters that its class has besides GPTModel's. Raises
    UnsupportedError if the decoder differs from GPTModel's."""
    one = StageNumbers(model, MegatronRun(multiple=1), 0).all
    blueprint, decoder = subject.part.blueprint, _decoder(subject)
    towers = blueprint.parameters - sum(p.numel * p.copies for p in decoder if not p.tied)
    corrections = sum(p.numel for p in decoder if p.name.endswith(CORRECTIONS))
    count = blueprint.parameters - corrections - towers
    if not one <= count <= one * (1 + FEW):
        named = {"reference": subject.model.reference, "count": count, "theirs": one}
        raise UnsupportedError(sentence("megatron.other_numbers", **named))
    return replace(model, beside=count - one + towers)
