"""Agreement of an index with the shards that it names, tensor by tensor, both ways.

A loader reads every tensor of every shard that an index names (transformers 5.23
modeling_utils.py, load_shard_file), so what is in two is in memory once, and the sizes of an index
are of no use to it. What disagrees is said; what the headers hold is believed.
"""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from weighbridge.base.sentences import about, sentence
from weighbridge.base.wording import shown
from weighbridge.models.checkpoint.layouts import Folder, Weights
from weighbridge.models.tensors import CheckpointTensor

if TYPE_CHECKING:
    from weighbridge.models.formats.index import Index

Tensors = tuple[CheckpointTensor, ...]
TOTAL_OFF = 64  # a total may be off by one in so many bytes: older tools count blobs otherwise
SHARD = re.compile(r"(.*)-\d{5}-of-\d{5,6}(\.safetensors|\.bin)")


def agreed(path: str, index: "Index | None", tensors: Tensors) -> tuple[Tensors, list[str]]:
    """Return the tensors without duplicate names, and notes on duplicates and on the index at
    `path`."""
    notes = [] if index is None else list(differences(path, index, tensors))
    counts = Counter(t.name for t in tensors)
    if len(counts) < len(tensors):
        twice = [name for name, count in counts.items() if count > 1]
        notes.append(sentence("twice", names=_first(twice)))
    return tuple({t.name: t for t in tensors}.values()), notes


def differences(path: str, index: "Index", tensors: Tensors) -> Iterator[str]:
    """Yield sentences on differences between an index and its shards' headers."""
    folder = path[: path.rfind("/") + 1]
    there = {(t.name, t.file.removeprefix(folder)) for t in tensors}
    mapped, named = set(index.weight_map.items()), {name for name, _ in there}
    absent = [name for name in index.weight_map if name not in named]
    elsewhere = [name for name, file in mapped - there if name in named]
    unmapped = [t.name for t in tensors if t.name not in index.weight_map]
    for key, names in (("absent", absent), ("elsewhere", elsewhere), ("unmapped", unmapped)):
        if names:
            yield about(path, sentence(f"indexed.{key}", names=_first(sorted(names))))
    yield from _total(path, index, sum(t.nbytes for t in tensors))


def _total(path: str, index: "Index", total: int) -> Iterator[str]:
    if index.claimed and (
        index.total_size is None or abs(index.total_size - total) * TOTAL_OFF > total
    ):
        yield sentence("total_size", path=path, claimed=shown(index.claimed), size=total)


def _first(names: Sequence[str]) -> str:
    key = "tensors_are" if len(names) > 1 else "tensor_is"
    return sentence(key, name=names[0], more=len(names) - 1)


def left_out(files: Folder, chosen: Weights, tensors: Tensors) -> Iterator[str]:
    """Yield notes on weight files that are not loaded: shards missing from the index, or next to a
    single file of the same name."""
    read = dict.fromkeys(t.file.rpartition("/")[2] for t in tensors)
    listed = chosen.listed_in
    stems = {name.rpartition(".")[0] for name in read}
    if listed is not None:
        stems = {listed.path.rpartition("/")[2].partition(".")[0]}
    shards = [(name, match[1]) for name in files.files if (match := SHARD.fullmatch(name))]
    beside = [name for name, stem in shards if stem in stems and name not in read]
    if beside:
        key = "not_loaded_with.many" if len(beside) > 1 else "not_loaded_with"
        yield sentence(key, name=beside[0], more=len(beside) - 1, read=next(iter(read)))
