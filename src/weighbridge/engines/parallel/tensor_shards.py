"""All tensors of a model and how each is split (`holding`), and those of one rank (`hold`)."""

from collections.abc import Hashable, Iterator, Sequence
from fractions import Fraction
from functools import cache
from typing import Literal

from weighbridge.base.errors import UnsupportedError
from weighbridge.base.records import NamedTuple
from weighbridge.base.sentences import sentence
from weighbridge.engines.interface import Subject
from weighbridge.engines.parallel import experts
from weighbridge.engines.parallel.cuts import (
    Cut,
    CutUnit,
    Site,
    cut,
    even,
    filled,
    fits,
    in_blocks,
    share,
)
from weighbridge.engines.parallel.experts import ExpertWeight, What
from weighbridge.engines.parallel.pieces import (
    TensorPiece,
    merged,
    pieces,
    side_by_side,
    sides,
    tables,
)
from weighbridge.engines.parallel.rules import ExpertGroup, SplitRules
from weighbridge.memory.components.weights import FormatChoice, PlacedTensor, alive, buffer_size
from weighbridge.models.arch.blueprint import Blueprint, Param
from weighbridge.models.arch.body import Body
from weighbridge.models.arch.mixers import Mixer, Shared
from weighbridge.models.arch.model_types import differs
from weighbridge.models.arch.roles import VOCAB, layer_of, mixes, role_of, unnumbered
from weighbridge.models.checkpoint.model import ModelPart
from weighbridge.models.quantization.floats import block_of
from weighbridge.models.quantization.integers import group_of
from weighbridge.models.quantization.scheme import width

# Engines have a Linear per expert, as transformers had up to version 4.
LOADER = 4
LANGUAGE = "language model"  # a blueprint's name of the part that is no encoder
TOWERS = {"vision tower": "image", "audio tower": "audio"}
# MLA's up-projection: decoding multiplies by its two halves separately, dequantized.
UP = "kv_b_proj.weight"
NO_CUT = Fraction(1)
KEYS, VALUES = ".k_proj.", ".v_proj."
SCALES = ("weight_scale", "scales")  # of blocks, with and without _inv, and of groups
# GPTQ's and AWQ's expert kernels halve groups that do not divide, down to this; those of
# compressed-tensors take any size (vllm 0.33 moe_wna16.py, sglang 0.5.23 the same)
HALVED = 32
MATRICES = ("linear", "conv1d", "expert", "experts", "router", "embedding")


class Where(NamedTuple):
    """Where a tensor is: in a `layer`, before or behind all layers, on every pipeline stage, or as
    a copy that only the last of several stages needs."""

    layer: int | None = None
    behind: bool = False
    everywhere: bool = False
    copy: bool = False


class Shard(NamedTuple):
    """`copies` equal tensors that go to a device, into the tensor that `module` and `end` name."""

    module: str
    end: str
    nbytes: int
    copies: int
    where: Where
    component: str = "weights"
    cut: Cut | None = None
    expert: ExpertWeight | None = None
    sides: tuple[bool, bool] = (True, True)
    tower: bool = False
    attends: bool = False  # of attention or the embedding, which each group of ranks has
    shared: bool = False  # an expert of every token, replicated if ranks divide tokens
    what: What = ""  # of MXFP4
    matrix: tuple[int, int] | None = None  # (outputs, inputs) of a weight that multiplies
    block: tuple[int, int] | None = None  # (rows, columns) of a matrix per scale in this tensor
    common: bool = False  # an expert that every token uses


class RankPlace(NamedTuple):
    """One device: its layers, whether it is on the first or the last stage, and the ranks it shares
    tensors with."""

    first: bool
    last: bool
    layers: range
    tensor: int
    group: ExpertGroup
    more: bool = False  # one expert more than others have
    whole_shared: bool = False  # ranks divide tokens for the experts
    groups: int = 1  # groups of ranks, each with all of attention

    def ranks(self, shard: Shard) -> int:
        """Return the number of ranks among which `shard` is split."""
        return self.tensor // self.groups if shard.attends else self.tensor


def holding(subject: Subject, rules: SplitRules, spread: bool) -> tuple[Shard, ...]:
    """Return all shards. `spread`: over tensor-parallel ranks, which need known names."""
    return tuple(
        h for part in subject.model.parts for h in _part(subject, part, rules, spread=spread)
    )


def units(
    shards: Sequence[Shard], *, whole_shared: bool = False
) -> tuple[set[CutUnit], set[CutUnit], set[CutUnit]]:
    """Return the units that must divide: by the ranks of attention, by the tensor ranks, and by
    those that split experts. An encoder whose heads do not divide is replicated."""
    split = [h for h in shards if h.cut and not (h.tower or (h.common and whole_shared))]
    cuts = [(h.attends, h.cut) for h in split if h.cut]
    attention = {p.unit for attends, c in cuts if attends for p in c.parts}
    dense = {p.unit for attends, c in cuts if not attends for p in c.parts}
    for h in split:
        if h.block and h.cut:
            (attention if h.attends else dense).update(in_blocks(h.cut, h.block))
    return attention, dense, {u for h in shards if h.expert for u in _columns(h.expert, h.block)}


def _columns(expert: ExpertWeight, block: tuple[int, int] | None) -> Iterator[CutUnit]:
    """Yield the units of an expert's split: rows of its first matrices, columns of its last one."""
    if expert.width:
        cut_of_width = even(
            "in" if expert.down else "out", expert.width, expert.width, "columns of each expert"
        )
        yield from (p.unit for p in cut_of_width.parts)
        yield from in_blocks(cut_of_width, block) if block else ()


def hold(shards: Sequence[Shard], place: RankPlace) -> tuple[PlacedTensor, ...]:
    """Return the tensors of one rank in the order of the checkpoint; a fused tensor has the place
    of its first part."""
    sums: dict[tuple[str, str, str], int] = {}
    for h in shards:
        if present(h.where, place):
            part = _part_of(h, place)
            nbytes = -(-h.nbytes * h.copies * part.numerator // part.denominator)
            key = (h.module, h.end, h.component)
            sums[key] = sums.get(key, 0) + nbytes
    return tuple(PlacedTensor(module, n, component) for (module, _, component), n in sums.items())


def present(where: Where, place: RankPlace) -> bool:
    if where.everywhere:
        return True
    if where.copy:
        return place.last and not place.first
    if where.layer is not None:
        return where.layer in place.layers
    return place.last if where.behind else place.first


def side(shard: Shard, place: RankPlace, which: Literal["out", "in"]) -> Fraction:
    """Return the share of one side of a matrix that a device has, for matrices outside experts."""
    if shard.cut is None or shard.cut.side != which or (shard.shared and place.whole_shared):
        return NO_CUT
    return _share(shard.cut, place.ranks(shard))


def _part_of(shard: Shard, place: RankPlace) -> Fraction:
    if shard.expert is not None:
        return experts.part(
            shard.expert, shard.sides, place.group, what=shard.what, more=place.more
        )
    if shard.cut is None or not shard.sides[shard.cut.side == "in"]:
        return NO_CUT
    ranks = place.ranks(shard)
    if (shard.tower and not _divides(shard.cut, ranks)) or (shard.shared and place.whole_shared):
        return NO_CUT
    return _share(shard.cut, ranks)


_share = cache(share)


@cache
def _divides(cut: Cut, ranks: int) -> bool:
    return all(fits(p.unit, ranks, grows=False) for p in cut.parts)


def _part(subject: Subject, part: ModelPart, rules: SplitRules, *, spread: bool) -> Iterator[Shard]:
    choice = subject.choices.get(part.name, subject.choice)
    reader = _ShardReader(subject, part.blueprint, rules, choice, spread=spread)
    for piece in pieces(part, choice, LOADER):
        if not rules.towers and part.blueprint.part(piece.param.name) != LANGUAGE:
            continue
        yield reader.held(piece)
        yield from _absorbed(reader, piece, choice)
        yield from reader.doubled(piece)
    yield from _of_sharing(reader)
    yield from _copies(reader, choice)
    dtype = rules.rotary or choice.dtype
    latent = rules.rotary_latent or dtype
    for path, nbytes in tables(part.blueprint, part.config, dtype, latent):
        yield Shard(path, "cos_sin_cache", nbytes, 1, Where(everywhere=True), "buffers")
    for b in alive(part.blueprint, 5):
        if b.persistent:
            where = Where(layer=layer_of(b.name))
            yield Shard(b.name, "buffer", buffer_size(b, choice.dtype), 1, where, "buffers")


class _ShardReader:
    """Reads each parameter of one part: where it is placed and how it is split."""

    def __init__(
        self,
        subject: Subject,
        plan: Blueprint,
        rules: SplitRules,
        choice: FormatChoice,
        *,
        spread: bool,
    ) -> None:
        self.subject, self.plan, self.rules, self.spread = subject, plan, rules, spread
        self.hidden = width(plan) or subject.body.hidden
        self.behind = False
        form = choice.scheme.name if choice.scheme else ""
        self.mxfp4, self.mixed = form == "mxfp4", form.endswith("experts mxfp4")
        self.block, self.group, self.form = block_of(form), group_of(form), form
        self.heads: dict[str, int] = {t.kind: t.heads for t in subject.body.towers}
        outer = subject.config.model_type if subject.config else ""
        self.split = rules.of_class(subject.model_type)
        self.keys: dict[int | None, list[Shard]] = {}  # of layers without values
        self.values = {p.name for p in plan.counted if VALUES in p.name}
        self.library_tower = rules.of_class(outer).library_towers
        self.equal_values = differs(subject.model_type, "keys_as_values")
        self.alike: dict[Hashable, Shard] = {}  # the first of those that differ only in layers

    def held(self, piece: TensorPiece) -> Shard:
        """Return the shard of one tensor. Layers of one kind are read once, from the first."""
        p = piece.param
        layer = layer_of(p.name)
        if layer is None:
            return self._held(piece)
        mixing = id(mixers(self.subject, p.name, layer))  # the subject keeps the tuple alive
        part = self.plan.part(p.name)
        key = (unnumbered(p.name), part, mixing, p.shape, p.kind, p.routed, *piece[1:])
        first = self.alike.get(key)
        if first is None:
            first = self.alike[key] = self._held(piece)
        where = first.where if first.where.layer is None else Where(layer=layer)
        return first._replace(module=merged(p), where=where)

    def _held(self, piece: TensorPiece) -> Shard:
        p = piece.param
        tower = self.plan.part(p.name) != LANGUAGE
        where = self._where(p, tower=tower)
        expert = None if tower else experts.routed(p, self.hidden)
        return Shard(
            module=merged(p),
            end=piece.end,
            nbytes=self._nbytes(piece, expert),
            copies=piece.copies,
            where=where,
            cut=None if expert else self._cut(p, where, tower=tower),
            expert=expert,
            sides=sides(piece),
            tower=tower,
            attends=not tower and expert is None and (mixes(p.name) or self._embeds(p, where)),
            shared=_common(p) and self.split.whole_shared,
            common=_common(p),
            what=_what(piece) if expert and self.mxfp4 else "",
            matrix=_matrix(p, expert),
            block=self._block(piece, expert),
        )

    @property
    def _parts_blocks(self) -> bool:
        return self.rules.partial_blocks or self.split.partial_blocks

    def _block(self, piece: TensorPiece, expert: ExpertWeight | None) -> tuple[int, int] | None:
        scales = piece.end.startswith(SCALES) and len(piece.shape) > 1
        if scales and self.group is not None:
            return self._in_groups(piece, expert, self.group)
        if expert is None and self._parts_blocks and side_by_side(piece.param):
            return None
        return self.block if scales and not (expert and self.mixed) else None

    def _in_groups(
        self, piece: TensorPiece, expert: ExpertWeight | None, size: int
    ) -> tuple[int, int] | None:
        """Return the block (1, size). Raises UnsupportedError for partial groups of inputs."""
        if expert is not None and self.form.startswith("w"):
            return None
        size = min(size, HALVED) if expert else size
        matrix = _matrix(piece.param, expert)
        if matrix is None or matrix[1] % size == 0:
            return matrix and (1, size)
        raise UnsupportedError(
            sentence(
                "whole_groups",
                name=piece.param.name,
                inputs=matrix[1],
                engine=self.rules.name,
                form=self.form,
                size=size,
            ),
            where=self.subject.model.reference,
        )

    def _nbytes(self, piece: TensorPiece, expert: ExpertWeight | None) -> int:
        scale = expert is not None and self.mixed and _what(piece) == "scales"
        return piece.nbytes * (self.rules.mixed_scale if scale else 1)

    def _where(self, param: Param, *, tower: bool) -> Where:
        if tower:
            return Where(everywhere=self.rules.towers_everywhere)
        layer = layer_of(param.name)
        if layer is not None and _encoder(self.subject, param.name) is not None:
            return Where(everywhere=True)  # its layers are not split over stages
        if layer is not None:
            self.behind = True
            return Where(layer=layer)
        everywhere = False
        if role_of(param) in VOCAB:
            everywhere = self.split.head if self.behind else self.split.embedding
        return Where(behind=self.behind, everywhere=everywhere)

    def _embeds(self, param: Param, where: Where) -> bool:
        return role_of(param) in VOCAB and not self.behind and where.layer is None

    def doubled(self, piece: TensorPiece) -> Iterator[Shard]:
        """Yield the values equal to stored keys: engines have room for both."""
        p = piece.param
        if not self.equal_values or KEYS not in p.name:
            return
        shard = self.held(piece)
        if shard.tower:
            return
        self.keys.setdefault(shard.where.layer, []).append(shard)
        if p.name.replace(KEYS, VALUES) not in self.values:
            yield shard._replace(end=f"{shard.end} of values")

    def _cut(self, param: Param, where: Where, *, tower: bool) -> Cut | None:
        alone = not self.spread and role_of(param) not in VOCAB
        if alone or (tower and self.library_tower) or self._whole(param, where):
            return None
        site = Site(
            param=param,
            mixers=() if tower else mixers(self.subject, param.name, where.layer),
            tower=tower,
            tower_heads=self.heads.get(TOWERS.get(self.plan.part(param.name), ""), 0),
        )
        way = cut(site)
        fills = _common(param) and self.split.fills_shared <= self.rules.version
        return filled(way, self.block) if way and fills and self.block else way

    def _whole(self, param: Param, where: Where) -> bool:
        return self.split.whole_embedding and self._embeds(param, where)


def _common(param: Param) -> bool:
    return "shared_expert" in param.name


def _matrix(param: Param, expert: ExpertWeight | None) -> tuple[int, int] | None:
    if param.kind not in MATRICES or len(param.shape) < 2 or param.name.endswith("bias"):
        return None
    if expert is None or param.kind == "expert":
        site = Site(param=param)
        return site.outputs, site.inputs
    inner = param.numel // expert.number // max(1, expert.hidden)
    return (expert.hidden, inner) if expert.down else (inner, expert.hidden)


def _what(piece: TensorPiece) -> What:
    if piece.param.name.endswith("bias"):
        return "bias"
    return "scales" if piece.end.endswith(("scales", "scale")) else "values"


def _encoder(subject: Subject, name: str) -> Body | None:
    """Return the encoder that a decoder attends to, if the parameter is in it."""
    return subject.body.encoder if "encoder." in name else None


def mixers(subject: Subject, name: str, layer: int | None) -> Sequence[Mixer]:
    """Return the mixers of a parameter's layer, () outside of layers."""
    body = _encoder(subject, name) or subject.body
    if layer is None:
        return ()
    if layer < len(body.blocks):
        return body.blocks[layer].mixers
    return subject.layers[layer].mixers if layer < len(subject.layers) else ()


def _absorbed(reader: _ShardReader, piece: TensorPiece, choice: FormatChoice) -> Iterator[Shard]:
    """Yield the halves of MLA's up-projection in the model's dtype: views of it in vLLM if it is
    not quantized, copies in SGLang."""
    p = piece.param
    if not p.name.endswith(UP) or piece.end not in ("weight", "qweight", "weight_packed"):
        return
    whole = choice.dtype.size(p.numel)
    if reader.rules.absorbs or piece.nbytes != whole:
        shard = reader.held(piece)
        yield shard._replace(end="absorbed", nbytes=whole, sides=(True, True))


def _of_sharing(reader: _ShardReader) -> Iterator[Shard]:
    """Yield the keys and values of layers that use another's cache, which no checkpoint fills."""
    if not reader.rules.shared_hold or not reader.keys:
        return
    for i, layer in enumerate(reader.subject.layers):
        owner = next((m.owner for m in layer.mixers if isinstance(m, Shared)), None)
        for shard in reader.keys.get(owner, ()) if owner is not None else ():
            module = shard.module.replace(f".{owner}.", f".{i}.")
            one = shard._replace(module=module, where=Where(layer=i))
            yield one
            yield one._replace(end=f"{shard.end} of values")


def _copies(reader: _ShardReader, choice: FormatChoice) -> Iterator[Shard]:
    """Yield the heads tied to the embedding, which the last of several stages has again."""
    if reader.split.embedding:
        return
    for p in reader.plan.counted:
        if p.tied and role_of(p) in VOCAB and p.kind in ("linear", "embedding"):
            nbytes = choice.dtype.size(p.numel)
            shard = reader.held(TensorPiece(p, "weight", p.shape, nbytes, 1))
            yield shard._replace(where=Where(copy=True))
