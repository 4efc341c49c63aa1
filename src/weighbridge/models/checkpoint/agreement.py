"""Agreement of a class, its config and its files: one comparison of all parameters, both ways.

    class and files     a parameter that is stored with fewer or more values, or not at all;
                        tensors that the class does not have; a file of whose names none is its own
    config and files    a format that no tensor is in; packed tensors of which it says nothing, or
                        which it leaves alone; words, scales and zero points of other sizes

What disagrees is said with both sides, and the answer is of what a loader would do. Refused are
files of another model alone: no name is the class's, and the values are not half or twice as many.

Source: transformers 5.23 quantizers/auto.py (a format is known by `quantization_config` alone),
core_model_loading.py (a tensor is cast to the dtype of its parameter).
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from math import prod
from typing import Any

from weighbridge.base.dtypes import BFLOAT16
from weighbridge.base.errors import BadFileError, WeighbridgeError
from weighbridge.base.records import NamedTuple
from weighbridge.base.sentences import sentence
from weighbridge.base.wording import shown
from weighbridge.models.arch.blueprint import Blueprint
from weighbridge.models.quantization.packed import ALL_INTEGERS, Logical, is_packed
from weighbridge.models.quantization.scheme import LoaderFacts, PackedPiece, Scheme
from weighbridge.models.tensors import CheckpointTensor

Key = Callable[[str], str]
Raw = Mapping[str, Any]

CONTAINERS = frozenset({"model", "language_model", "base_model"})
BASES = frozenset({"transformer", "module"})  # base_model_prefix of GPT-2 and its kin; DDP's
MOST_NAMED = 3
OTHERS = 2  # factor of elements beyond which files are another model's
PADDED = 64  # a padding format adds less than 1/64 (assumed)
PADS = frozenset({"bnb 4 bit", "hqq", "quanto"})  # layouts with the shape of padded groups
BY_NAME = ("dynamic", "quantized_layers")  # of GPTQModel and of modelopt: sizes by layers' names
ZEROS = ("qzeros", "zero_point", "zero")
SCALES = ("scales", "scale", "_scale_inv", "absmax", "SCB")
# Companions that AutoGPTQ and GPTQModel, compressed-tensors and bitsandbytes write with each
# weight, and that they need to read it
KEPT = frozenset(("g_idx", "weight_shape", "quant_map", "nested_absmax"))
FLOAT8 = "float8"
HEAD = "lm_head.weight"  # what GPTQ packs where its config says `lm_head`
NO_SCALES = ("nested", "input", "output", "global", "activation")


class StoredParam(NamedTuple):
    """A stored parameter with its tensors; `copies`: the experts it stands for."""

    param: Logical
    tensors: tuple[CheckpointTensor, ...]
    copies: int


class FilesSide(NamedTuple):
    """A model's files: their parameters, `key` to the class's names, and the format in the
    config."""

    where: str
    stored: Sequence[StoredParam]
    key: Key
    quantization: Raw | None


def differences(plan: Blueprint, files: FilesSide) -> Iterator[str]:
    """Yield one sentence per kind of disagreement between a class and its files."""
    yield from _unknown_prefix(plan, files)
    yield from _missing_parameters(plan, files)
    yield from _reshaped_parameters(plan, files)
    ours = set(map(files.key, (p.name for p in plan.counted)))
    weights = [each for each in files.stored if files.key(each.param.name) in ours]
    yield from _integers(weights)
    if files.quantization is None:
        yield from undeclared(each.param for each in files.stored)
    else:
        yield from _format_differences(plan, files, files.quantization)


# Names


def strange(plan: Blueprint, files: FilesSide, share: float) -> str:
    """Return a sentence on files with less than half of their names from the class. Raises
    BadFileError if they are another model's."""
    there = sum(each.param.numel * each.copies for each in files.stored)
    names = _some([each.param.name for each in files.stored], ", ")
    if not share and not plan.parameters / OTHERS <= there <= plan.parameters * OTHERS:
        raise BadFileError(
            sentence(
                "files_of_another", cls=plan.cls, values=plan.parameters, stored=there, names=names
            ),
            where=files.where,
        )
    values = {"names": names, "stored": there, "parameters": plan.parameters}
    return sentence("names_share", share=share, cls=plan.cls, **values)


def _unknown_prefix(plan: Blueprint, files: FilesSide) -> Iterator[str]:
    """Yield a note if all names share an unknown prefix."""
    first = {each.param.name.partition(".")[0] for each in files.stored}
    if len(first) != 1 or first & {p.name.partition(".")[0] for p in plan.counted}:
        return
    (head,) = first
    if head not in CONTAINERS | BASES and head.replace("_", "") not in plan.cls.lower():
        yield sentence("names_begin", head=shown(head), cls=plan.cls)


def unloaded(plan: Blueprint, tensors: Sequence[CheckpointTensor]) -> Iterator[str]:
    """Yield a note on tensors that the class does not load."""
    nbytes = sum(t.nbytes for t in tensors)
    yield sentence(
        "not_loaded",
        count=len(tensors),
        size=nbytes,
        cls=plan.cls,
        names=_some([t.name for t in tensors], ", "),
    )


def _some(names: Sequence[str], between: str) -> str:
    more = f" and {len(names) - MOST_NAMED:,} more" if len(names) > MOST_NAMED else ""
    return between.join(names[:MOST_NAMED]) + more


# Values


def _stored_values(files: FilesSide) -> tuple[Mapping[str, int], set[str]]:
    """Return (stored elements by name, names of padded parameters)."""
    there = defaultdict[str, int](int)
    for param, _, copies in files.stored:
        there[files.key(param.name)] += param.numel * copies
    return there, {files.key(each.param.name) for each in files.stored if each.param.format in PADS}


def _missing_parameters(plan: Blueprint, files: FilesSide) -> Iterator[str]:
    """Yield a note on the class's parameters that the files lack or hold in other sizes: the model
    loads with random weights there, or does not load."""
    key = files.key
    there, padded = _stored_values(files)
    wanted, named = defaultdict[str, int](int), dict[str, str]()
    for p, count in plan.distinct():
        spelling = key(p.name)
        wanted[spelling] += p.numel * count
        named.setdefault(spelling, p.name)
    others = {key(p.tied): key(p.name) for p in plan.counted if p.tied}
    other = []
    for spelling, count in wanted.items():
        have = there[spelling] or there[others.get(spelling, spelling)]
        most = count + count // PADDED + 1 if spelling in padded else count
        if not count <= have <= most:
            other.append(f"{named[spelling]} ({have:,} of {count:,} values)")
    if other:
        yield sentence("files_lack", cls=plan.cls, names=_some(other, ", "))


def _reshaped_parameters(plan: Blueprint, files: FilesSide) -> Iterator[str]:
    """Yield a note on vectors and matrices stored in another shape, transposed too, which no loader
    corrects; transformers corrects stacks of experts and kernels (Transpose and Conv3dToLinear of
    core_model_loading.py)."""
    own = {files.key(p.name): p for p, count in plan.distinct() if count == 1 and len(p.shape) < 3}
    other = [
        f"{param.name} ({' x '.join(map(str, param.shape))})"
        for param, _, copies in files.stored
        if copies == 1 and not is_packed(param) and (p := own.get(files.key(param.name)))
        if p.numel == param.numel > 1 and p.shape != param.shape and len(param.shape) < 4
    ]
    if other:
        yield sentence("files_turned", cls=plan.cls, names=_some(other, ", "))


def _integers(weights: Iterable[StoredParam]) -> Iterator[str]:
    """Yield a note on integer weights that belong to no known format."""
    unknown = [each.param for each in weights if each.param.format in ALL_INTEGERS]
    if unknown:
        kinds = ", ".join(sorted({param.format for param in unknown}))
        yield sentence("unknown_packing", count=len(unknown), kinds=kinds, name=unknown[0].name)


# Formats


def undeclared(params: Iterable[Logical]) -> Iterator[str]:
    """Yield a note on quantized weights whose config does not state a format."""
    packed = [param for param in params if is_packed(param)]
    if packed:
        kinds = ", ".join(sorted({param.format for param in packed}))
        yield sentence("packed_undeclared", count=len(packed), kinds=kinds, name=packed[0].name)


def unstored(quantization: Raw) -> str:
    """Return a note that no tensor has the format in the config."""
    method = quantization.get("quant_method")
    return sentence("unstored", method=shown(method)) if method else sentence("unstored.unnamed")


class PackedSizes(NamedTuple):
    """Bytes of quantized values and of scales; `zeros`: there are zero points. `words`: the shape
    of packed integers, if the format may pack along either side."""

    nbytes: int = 0
    scales: int = 0
    zeros: bool = False
    words: tuple[int, ...] = ()

    def plus(self, more: "PackedSizes", copies: int) -> "PackedSizes":
        return PackedSizes(
            self.nbytes + more.nbytes * copies,
            self.scales + more.scales * copies,
            self.zeros or more.zeros,
            self.words or more.words,
        )

    def differ(self, there: "PackedSizes") -> bool:
        """Return whether the weights `there` have other sizes; zero points that the config does not
        mention are allowed."""
        lacks = self.zeros and not there.zeros
        return lacks or self._replace(zeros=False) != there._replace(zeros=False)

    def sentence(self) -> str:
        key = f"packed_sizes.{'words' if self.words else 'plain'}"
        words = " x ".join(map(str, self.words))
        sizes = sentence(key, nbytes=self.nbytes, words=words, scales=self.scales)
        return sentence("packed_sizes.zeros", sizes=sizes) if self.zeros else sizes


def _scheme_with_and_without(raw: Raw) -> tuple[Scheme, Scheme] | None:
    """Return the format that a config declares, with and without its list of skipped modules; None
    for an unknown method."""
    from weighbridge.models.quantization.declared import SKIPS, declared  # rules of packed weights

    try:
        return declared(raw), declared({k: v for k, v in raw.items() if k not in SKIPS})
    except WeighbridgeError:  # an unknown method raises elsewhere
        return None


def _format_differences(plan: Blueprint, files: FilesSide, raw: Raw) -> Iterator[str]:
    """Yield sentences on differences between the config's format and the stored weights."""
    from weighbridge.models.quantization.declared import told_by_keys

    if method := told_by_keys(raw):
        yield sentence("packed_unnamed", method=method)
    schemes = _scheme_with_and_without(raw) if _is_uniform(raw) else None
    if schemes is None:
        return
    form, whole = schemes
    facts = LoaderFacts(plan=plan, dtype=BFLOAT16, major=4)  # version 4 packs experts, as files do
    there, wanted = _stored_sizes(files, raw), dict[str, PackedSizes]()
    pack, would_pack = form.loader(facts), whole.loader(facts)
    left, absent = list[str](), list[tuple[str, str]]()
    tensors = {files.key(each.param.name): each.tensors for each in files.stored}
    for p, count in plan.distinct():
        spelling = files.key(p.name)
        packed = pack(p) if spelling in there else None
        if packed is not None:
            pieces = [*packed]  # which are made one by one
            one = _sizes(((x.name, x.dtype.size(prod(x.shape)), x.shape) for x in pieces), raw)
            wanted[spelling] = wanted.get(spelling, PackedSizes()).plus(one, count)
            absent += ((what, p.name) for what in _missing_companions(pieces, tensors[spelling]))
        elif spelling in there and would_pack(p) is not None:
            left.append(p.name)
        elif raw.get("lm_head") and p.name.endswith(HEAD) and spelling in tensors:
            absent.append(("qweight", p.name))
    yield from _left_alone(left)
    if absent:
        tensor, name = min(absent)
        yield sentence("packed_lacks", form=form.name, tensor=tensor, name=name)
    yield from _otherwise(form.name, wanted, there)


def _missing_companions(
    pieces: Sequence[PackedPiece], tensors: Iterable[CheckpointTensor]
) -> Iterator[str]:
    """Yield what a weight's tensors lack of its format: the names of companion tensors without
    which it cannot be read, and the kind of float8."""
    there = {t.name.rpartition(".")[2]: t.dtype.name for t in tensors}
    yield from KEPT.intersection(x.name.rpartition(".")[2] for x in pieces).difference(there)
    kinds = {x.dtype.name for x in pieces if x.dtype.name.startswith(FLOAT8)}
    if kinds and any(kind.startswith(FLOAT8) for kind in {*there.values()} - kinds):
        yield min(kinds)


def _left_alone(names: Sequence[str]) -> Iterator[str]:
    if names:
        yield sentence("packed_all_the_same", names=_some(names, ", "))


def _otherwise(
    form: str, wanted: Mapping[str, PackedSizes], there: Mapping[str, PackedSizes]
) -> Iterator[str]:
    odd = [spelling for spelling, sizes in wanted.items() if sizes.differ(there[spelling])]
    if odd:
        yield (
            sentence(
                "packed_otherwise",
                form=form,
                name=odd[0],
                wanted=wanted[odd[0]].sentence(),
                stored=there[odd[0]].sentence(),
                count=len(odd),
            )
        )


def _is_uniform(raw: Raw) -> bool:
    """Return whether a config has one size for all weights, none by module name."""
    groups = raw.get("config_groups")
    apart = isinstance(groups, Mapping) and len(groups) != 1
    by_name = any(isinstance(value, Mapping) and "." in name for name, value in raw.items())
    return not (apart or by_name or any(raw.get(key) for key in BY_NAME))


def _stored_sizes(files: FilesSide, raw: Raw) -> dict[str, PackedSizes]:
    sizes = dict[str, PackedSizes]()
    for param, tensors, copies in files.stored:
        if is_packed(param):
            spelling = files.key(param.name)
            one = _sizes(((t.name, t.nbytes, t.shape) for t in tensors), raw)
            sizes[spelling] = sizes.get(spelling, PackedSizes()).plus(one, copies)
    return sizes


def _sizes(tensors: Iterable[tuple[str, int, tuple[int, ...]]], raw: Raw) -> PackedSizes:
    """Return the sizes of one weight; its largest tensor holds the values."""
    total = PackedSizes()
    for name, nbytes, shape in tensors:
        end = name.rpartition(".")[2]
        if end.endswith(ZEROS):
            total = total._replace(zeros=True)
        elif end.endswith(SCALES) and not any(word in end for word in NO_SCALES):
            total = total._replace(scales=prod(shape))
        elif nbytes > total.nbytes:
            one_way = raw.get("quant_method") == "gptq" or raw.get("version") == "gemm"
            words = shape if one_way and end == "qweight" else ()
            total = total._replace(nbytes=nbytes, words=words)
    return total
