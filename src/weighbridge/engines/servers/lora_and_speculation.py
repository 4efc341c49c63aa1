"""Extras of serving, in bytes per device: LoRA slots, speculative decoding, shared prefixes.

    LoRA        slots x r x (inputs + outputs), of every matrix of this rank; r is max_lora_rank
                inputs of a row-parallel matrix and outputs of a column-parallel one are its share
                of them; experts each have their own; some classes add embedding and head, whole
    MTP         a decoder layer of the model (arch/predicting.py says which), and a matrix 2 D x D
                before it; the embedding and the head are the model's own. What the config says of
                `mtp.layers.0`, or of a layer behind the model's last, decides its format
    EAGLE       a separate model, whose embedding is the other model's; so is EAGLE 1's head
    ngram       nothing
    prefix      its full blocks are stored once, not once per request

Source: vllm 0.33 lora/layers/*.py (create_lora_weights), config/lora.py, v1/spec_decode/
llm_base_proposer.py (_maybe_share_embeddings, _maybe_share_lm_head), model_executor/models/
deepseek_mtp.py; sglang 0.5.23 srt/lora/mem_pool.py, srt/speculative/*.py (set_embed_and_head).
"""

from collections.abc import Iterable
from typing import Unpack

from weighbridge.base.errors import TriedError, UsageError
from weighbridge.base.memory import Component, exactly
from weighbridge.base.records import replace
from weighbridge.base.sentences import sentence
from weighbridge.engines.interface import Subject
from weighbridge.engines.parallel import experts
from weighbridge.engines.parallel.rules import ExpertGroup, Spread, SpreadArgs
from weighbridge.engines.parallel.tensor_shards import RankPlace, Shard, hold, present, side
from weighbridge.engines.servers.shards import Rank, SplitRules, ranks, tensors_of
from weighbridge.memory.components.weights import FormatChoice, total
from weighbridge.models.arch import predicting as mtp
from weighbridge.models.arch.mixers import Layer
from weighbridge.models.arch.roles import VOCAB, role

NOTHING = ("ngram", "suffix")
HEADS = ("eagle", "eagle3")


def lora(
    subject: Subject,
    rank: Rank,
    *,
    slots: int,
    lora_rank: int,
    rules: SplitRules,
    **sizes: Unpack[SpreadArgs],
) -> tuple[Component, ...]:
    """Return the buffers of all LoRA slots on one device. Raises TriedError for some ranks."""
    if rules.lora_ranks and lora_rank not in rules.lora_ranks:
        known = ", ".join(map(str, rules.lora_ranks))
        raise TriedError(
            sentence("lora_rank", rank=lora_rank, known=known),
            seen="vllm 0.33 config/lora.py: max_lora_rank must be one of",
        )
    spread = Spread(**sizes)
    named = spread.tensor > 1
    place = RankPlace(
        rank.first,
        rank.last,
        rank.numbers,
        spread.tensor,
        spread.group(rules),
        whole_shared=spread.tokens_shared,
        groups=spread.groups,
    )
    plain = FormatChoice(dtype=subject.choice.dtype)
    unpacked = replace(subject, choice=plain, choices={})
    shards = tensors_of(unpacked, rules, spread=named)
    width = sum(_sides(h, place, subject, rules) for h in shards if present(h.where, place))
    nbytes = slots * plain.dtype.size(lora_rank * width)
    return (
        Component(
            name="adapters",
            detail="LoRA slots",
            bytes=exactly(nbytes),
            basis="computed",
            formula=f"{slots} slots x rank {lora_rank} x {width:,} inputs and outputs",
            source=rules.lora_source,
        ),
    )


def draft(
    subject: Subject, *, method: str, tokens: int, rules: SplitRules, **sizes: Unpack[SpreadArgs]
) -> tuple[Component, ...]:
    """Return the weights that propose `tokens` tokens, on each device: `subject.draft`, or layers
    of the subject's own checkpoint. Pipeline stages do not split them: they are on the last."""
    spread = replace(Spread(**sizes), pipeline=1, partition=())
    if method in NOTHING:
        return ()
    if subject.draft is not None:
        nbytes = _draft_model(subject.draft, method, spread, rules)
        what, how = "draft model", f"{subject.draft.model.name}, as spread as the model itself"
    else:
        count = predicting(subject, method)
        if not count:
            return ()
        nbytes = count * _predicting_layer(subject, spread, rules)
        what, how = "MTP layers", f"{count} x a layer of the model, with 2 D x D before it"
    return (
        Component(
            name="weights",
            detail=what,
            role="draft",
            bytes=exactly(nbytes),
            basis="computed",
            formula=f"{how}; proposes {tokens} tokens",
            source=f"{rules.name} {'.'.join(map(str, rules.version))}: speculative decoding",
        ),
    )


def draft_layers(subject: Subject, method: str) -> tuple[Layer, ...]:
    """Return the draft's layers that have a KV cache."""
    if method in NOTHING:
        return ()
    if subject.draft is not None:
        return subject.draft.layers
    count = predicting(subject, method)
    attends = mtp.attending(subject.model_type, subject.layers)
    return () if attends is None else (subject.layers[attends],) * count


def lookahead(method: str | None, tokens: int) -> int:
    """Return the KV cache slots per request for speculative tokens, beyond its own tokens."""
    return 0 if method is None or method in NOTHING else tokens


def shared_tokens(prefix: int, requests: int, block: int) -> int:
    """Return the KV cache tokens that sharing a prefix saves: full blocks only."""
    return max(0, requests - 1) * (prefix // block * block)


def predicting(subject: Subject, method: str) -> int:
    """Return the number of multi-token-prediction layers in the checkpoint: by its config, else its
    class's one. 0 if nothing tells, or no layer could be like it. Raises UsageError if the config
    says that there are none."""
    count = mtp.counted((subject.raw, subject.text or {}))
    if count == 0:
        raise UsageError(sentence("speculation.no_mtp", method=method, name=subject.model.name))
    if mtp.attending(subject.model_type, subject.layers) is None:
        return 0
    return mtp.of_class(subject.model_type) if count is None else count


def _sides(shard: Shard, place: RankPlace, subject: Subject, rules: SplitRules) -> int:
    """Return a matrix's adapter inputs plus outputs on this device, over its experts."""
    if shard.matrix is None or shard.tower:
        return 0
    outputs, inputs = shard.matrix
    if shard.expert is not None:
        return _of_experts(shard, place.group)
    if role(shard.module) in VOCAB:
        adapted = rules.of_class(subject.model_type).adapted
        return (outputs + inputs + rules.extra_vocabulary) * adapted
    mine = outputs * side(shard, place, "out") + inputs * side(shard, place, "in")
    return int(mine)


def _of_experts(shard: Shard, group: ExpertGroup) -> int:
    assert shard.expert is not None
    assert shard.matrix is not None
    e = shard.expert
    outputs, inputs = shard.matrix
    width = experts.part(e._replace(number=1), (not e.down, e.down), ExpertGroup(width=group.width))
    cut = inputs if e.down else outputs
    return e.number // group.number * int(cut * width + (outputs if e.down else inputs))


def _draft_model(model: Subject, method: str, spread: Spread, rules: SplitRules) -> int:
    tensors = ranks(
        model,
        rules=rules,
        tensor=spread.tensor,
        data=spread.data,
        expert_parallel=spread.expert_parallel,
        capability=spread.capability,
        groups=spread.groups,
    )[0].tensors
    if method not in HEADS:
        return total(tensors, "weights") + total(tensors, "buffers")
    names = _vocabulary(model) if method == "eagle3" else ()
    return sum(t.nbytes for t in tensors if role(t.module) not in VOCAB or t.module in names)


def _vocabulary(model: Subject) -> Iterable[str]:
    """Return the module of EAGLE 3's head, whose vocabulary is smaller than the model's."""
    names = (p.name for p in model.part.blueprint.counted if not p.tied)
    return {n.rpartition(".")[0] for n in names if n.endswith("lm_head.weight")}


def _predicting_layer(subject: Subject, spread: Spread, rules: SplitRules) -> int:
    attends = mtp.attending(subject.model_type, subject.layers)
    assert attends is not None  # or none is counted
    feeds = mtp.feeding(subject.model_type, subject.body.blocks, attends)
    shards = tensors_of(_as_stored(subject), rules, spread=spread.tensor > 1)
    inside = [h for h in shards if h.where.layer == (attends if h.attends else feeds)]
    everywhere = range(len(subject.layers))
    place = RankPlace(False, False, everywhere, spread.tensor, spread.group(rules))
    place = place._replace(whole_shared=spread.tokens_shared, groups=spread.groups)
    joined = subject.choice.dtype.size(2 * subject.body.hidden**2)
    return sum(t.nbytes for t in hold(inside, place)) + joined


def _as_stored(subject: Subject) -> Subject:
    """Return the model with every layer in the format that the config gives an MTP layer."""
    form, config = subject.choice.scheme, subject.part.quantization
    if form is None or config is None or not subject.part.packed:
        return subject
    from weighbridge.models.quantization.declared import called  # of packed weights

    behind = len(subject.layers)
    choice = replace(subject.choice, scheme=called(form, config, lambda p: mtp.names(p, behind)))
    return replace(subject, choice=choice, choices={**subject.choices, subject.part.name: choice})
