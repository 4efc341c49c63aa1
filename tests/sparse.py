"""Checkpoints that weigh nothing: real headers, and a hole where the data would be."""

import json
from math import prod
from pathlib import Path

from weighbridge.base.dtypes import SAFETENSORS
from weighbridge.models.arch.blueprint import Blueprint

SAFETENSORS_NAMES = {dtype.name: name for name, dtype in SAFETENSORS.items()}
SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"


def nbytes(dtype, shape):
    return SAFETENSORS[dtype].size(prod(shape))


def write_safetensors(path, tensors, metadata=None):
    """`tensors` is {name: (dtype of the format, shape)}; returns the size of the file."""
    header, offset = {"__metadata__": metadata or {"format": "pt"}}, 0
    for name, (dtype, shape) in tensors.items():
        stop = offset + nbytes(dtype, shape)
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [offset, stop]}
        offset = stop
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + offset)
    return 8 + len(text) + offset


def beginning(path, count):
    with Path(path).open("rb") as file:
        return file.read(count)


def write_index(folder, weight_map, total_size):
    index = {"metadata": {"total_size": total_size}, "weight_map": weight_map}
    (Path(folder) / INDEX).write_text(json.dumps(index, indent=2))


def as_tensors(source, dtype="BF16"):
    """{name: (dtype, shape)} of a blueprint's own parameters; a mapping is returned as it is."""
    if not isinstance(source, Blueprint):
        return dict(source)
    return {
        p.name: (SAFETENSORS_NAMES.get(p.dtype, dtype), p.shape)
        for p in source.params
        if not p.tied
    }


def write_repo(folder, config, tensors, *, shards=1, dtype="BF16", weight_map=None):
    """A model as save_pretrained leaves it: config.json, then one file or shards and their index."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config, indent=2))
    tensors = as_tensors(tensors, dtype)
    if shards == 1 and weight_map is None:
        write_safetensors(folder / SINGLE, tensors)
        return folder
    weight_map = weight_map or spread(tensors, shards)
    for file in sorted(set(weight_map.values())):
        held = {name: tensors[name] for name in tensors if weight_map[name] == file}
        write_safetensors(folder / file, held)
    write_index(folder, weight_map, sum(nbytes(*tensor) for tensor in tensors.values()))
    return folder


def spread(tensors, shards):
    """{name: file}: the tensors in order, about as many bytes in each file."""
    total, done, weight_map = sum(nbytes(*t) for t in tensors.values()), 0, {}
    for name, tensor in tensors.items():
        index = min(shards, done * shards // max(1, total) + 1)
        weight_map[name] = f"model-{index:05}-of-{shards:05}.safetensors"
        done += nbytes(*tensor)
    return weight_map
