"""The one record that formats produce and everything else reads: a tensor as a file stores it."""

from collections import Counter
from collections.abc import Sequence
from itertools import compress

from weighbridge.base.dtypes import ALIASES, TORCH, DType
from weighbridge.base.errors import BadFileError
from weighbridge.base.records import NamedTuple
from weighbridge.base.sentences import sentence


class CheckpointTensor(
    NamedTuple
):  # not a frozen dataclass: half the cost, and there may be 100,000
    """A tensor of a file. `nbytes` is the file's statement, checked against dtype and shape."""

    name: str
    dtype: DType
    shape: tuple[int, ...]
    nbytes: int
    file: str = ""


EXPERTS = "experts."  # and a number, and what every expert of a layer has


class Counted(NamedTuple):
    """Tensors, with each layer's equal experts listed once. `copies`: tensors that each of `first`
    stands for. `stands`: for every tensor, the index in `first` of the one that stands for it.
    `ordered`: whether experts come in equal order, each module's tensors together and nothing else
    among them."""

    first: tuple[CheckpointTensor, ...]
    copies: tuple[int, ...]
    ordered: tuple[bool, ...]
    stands: tuple[int, ...]

    def only(self, chosen: Sequence[bool]) -> "Counted":
        """Return only the chosen tensors of `first`, and the tensors they stand for."""
        place = {index: new for new, index in enumerate(compress(range(len(chosen)), chosen))}
        return Counted(
            tuple(compress(self.first, chosen)),
            tuple(compress(self.copies, chosen)),
            tuple(compress(self.ordered, chosen)),
            tuple(place[index] for index in self.stands if index in place),
        )


def one_by_one(tensors: Sequence[CheckpointTensor]) -> Counted:
    count = len(tensors)
    return Counted(tuple(tensors), (1,) * count, (True,) * count, tuple(range(count)))


def counted(tensors: Sequence[CheckpointTensor]) -> Counted:
    """Return the tensors with equal experts counted once: a mixture of 90,000 tensors has some
    2,000 that differ in more than an expert's number."""
    layers: dict[str, dict[str, _Expert]] = {}
    others = set()
    for index, t in enumerate(tensors):
        head, word, tail = t.name.partition(EXPERTS)
        if not word:
            continue
        number, _, suffix = tail.partition(".")
        if not number.isdecimal():
            others.add(head)
            continue
        experts = layers.setdefault(head, {})
        expert = experts.get(number) or experts.setdefault(number, _Expert({}, [], []))
        expert.kinds[suffix] = (t.dtype, t.shape, t.nbytes)
        expert.names.append(suffix)
        expert.places.append(index)
    stands_for, apart = list(range(len(tensors))), set[int]()
    for head, experts in layers.items():
        all_experts = tuple(experts.values())
        if _stand_for_each_other(all_experts):
            _count_experts(all_experts, stands_for)
            if head in others or not _in_one_order(all_experts):
                apart.update(all_experts[0].places)
    return _gathered(tensors, stands_for, apart)


class _Expert(NamedTuple):
    """One expert of a layer: its tensors' kinds, names and indexes."""

    kinds: dict[str, tuple[DType, tuple[int, ...], int]]
    names: list[str]
    places: list[int]


def _stand_for_each_other(experts: Sequence[_Expert]) -> bool:
    """Return whether every expert has the same tensors, each once."""
    first = experts[0]
    return all(e.kinds == first.kinds and len(e.names) == len(e.kinds) for e in experts)


def _in_one_order(experts: Sequence[_Expert]) -> bool:
    first = experts[0].names
    return all(e.names == first or _by_module(e.names) == _by_module(first) for e in experts)


def _by_module(names: Sequence[str]) -> list[tuple[str, list[str]]]:
    by_module: dict[str, list[str]] = {}
    for name in names:
        by_module.setdefault(name.rpartition(".")[0], []).append(name)
    return list(by_module.items())


def _count_experts(experts: Sequence[_Expert], stands_for: list[int]) -> None:
    """Set in `stands_for` that the first expert's tensors stand for those of all experts."""
    first = dict(zip(experts[0].names, experts[0].places, strict=True))
    for expert in experts:
        for name, index in zip(expert.names, expert.places, strict=True):
            stands_for[index] = first[name]


def _gathered(
    tensors: Sequence[CheckpointTensor], stands_for: Sequence[int], apart: set[int]
) -> Counted:
    firsts = [index for index, other in enumerate(stands_for) if index == other]
    place = {index: position for position, index in enumerate(firsts)}
    stands = tuple(map(place.__getitem__, stands_for))
    copies = Counter(stands)
    return Counted(
        tuple(tensors[index] for index in firsts),
        tuple(copies[position] for position in range(len(firsts))),
        tuple(index not in apart for index in firsts),
        stands,
    )


class Array(NamedTuple):
    """An array in the metadata: at most KEPT numbers are kept, and no strings."""

    kind: str
    length: int
    values: tuple[int | float | bool, ...] | None


Value = int | float | bool | str | Array


def torch_dtype(name: str, where: str) -> DType:
    """Return the dtype that a config or a user calls `name` ("torch.bfloat16", "bf16", "half")."""
    plain = name.removeprefix("torch.").lower()
    try:
        return TORCH[ALIASES.get(plain, plain)]
    except KeyError:
        known = ", ".join(sorted(TORCH))
        raise BadFileError(sentence("unknown_dtype", where=where, name=name, known=known)) from None
