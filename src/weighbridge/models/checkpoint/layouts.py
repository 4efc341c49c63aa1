"""Files of a folder that its library would load, by their names alone: nothing is read here.

transformers and diffusers look, in this order, for one safetensors file, an index of safetensors
shards, one pickle, an index of pickles (transformers 5.23 modeling_utils.py,
`_get_resolved_checkpoint_files`; diffusers 0.42 models/model_loading_utils.py). Files of a variant
(`model.fp16.safetensors`) and `consolidated.*` are loaded only where they are alone.
"""

import re
from collections.abc import Iterable, Sequence

from weighbridge.base.records import NamedTuple, dataclass
from weighbridge.models.checkpoint.inventory import CONFIGS
from weighbridge.models.formats import PICKLES
from weighbridge.models.formats.strict_json import MAX_CONFIG
from weighbridge.models.sources.base import SourceFile

WEIGHTS = (".safetensors", *PICKLES, ".gguf")
STEMS = ("model", "diffusion_pytorch_model", "pytorch_model", "adapter_model", "open_clip_model")
INDEX = re.compile(r"(.*)(\.safetensors|\.bin)\.index\.json")
VARIANT = re.compile(r"\.(fp16|fp32|bf16|float16|non_ema|ema|8bit|4bit)[.-]")
# Pickles that hold no weights of the model: transformers trainer.py, accelerate checkpointing.py
NOT_WEIGHTS = re.compile(r"^(training_args|optimizer|scheduler|rng_state|scaler|random_states)")
MOST_SOON = 16  # small files that are read early: a pipeline has some seven parts
SIDE = re.compile(r"\.(json|txt|model|jinja|tiktoken)$|^tokenizer")


class Weights(NamedTuple):
    """The chosen weight files, and the index that lists them."""

    files: tuple[SourceFile, ...] = ()
    listed_in: SourceFile | None = None


@dataclass(frozen=True, slots=True)
class Folder:
    """The files directly in one folder ("" is the root), by their names."""

    path: str
    files: dict[str, SourceFile]

    def get(self, name: str) -> SourceFile | None:
        return self.files.get(name)

    def ending(self, *endings: str) -> list[SourceFile]:
        return [e for name, e in sorted(self.files.items()) if name.lower().endswith(endings)]

    def side_bytes(self) -> int:
        """Return the bytes of configs and tokenizers, which a library downloads with the
        weights."""
        return sum(e.size or 0 for name, e in self.files.items() if SIDE.search(name))


def folder(entries: Iterable[SourceFile], path: str = "") -> Folder:
    prefix = f"{path}/" if path else ""
    inside = (e for e in entries if e.path.startswith(prefix))
    files = {e.path[len(prefix) :]: e for e in inside}
    return Folder(path, {name: e for name, e in files.items() if "/" not in name})


def weights(files: Folder) -> Weights:
    """Return the weight files that the library would load from this folder; empty without any."""
    for endings, index in (
        (".safetensors", ".safetensors.index.json"),
        (PICKLES, ".bin.index.json"),
    ):
        chosen = _of_kind(files, endings, index)
        if chosen.files or chosen.listed_in:
            return chosen
    return Weights()


def soon(entries: Sequence[SourceFile]) -> list[SourceFile]:
    """Return the small files that will be read in any case, so that they can be fetched early."""
    root = folder(entries)
    index = root.get("model_index.json")
    if index is not None:
        inner = [e for e in entries if e.path.count("/") == 1]
        whole = [index, *(e for e in inner if e.path.endswith("/config.json"))]
    else:
        configs = [root.get(name) for name in CONFIGS]
        config = next((e for e in configs if e is not None), None)
        whole = [e for e in (config, weights(root).listed_in, root.get("modules.json")) if e]
    return [e for e in whole if e.size is not None and e.size <= MAX_CONFIG][:MOST_SOON]


def _of_kind(files: Folder, endings: str | tuple[str, ...], index: str) -> Weights:
    endings = (endings,) if isinstance(endings, str) else endings
    for stem in STEMS:
        for ending in endings:
            single = files.get(stem + ending)
            if single is not None:
                return Weights((single,))
        listed = files.get(stem + index)
        if listed is not None:
            return Weights((), listed)
    return _by_ending(files, endings, index)


def _by_ending(directory: Folder, endings: Sequence[str], index: str) -> Weights:
    """Return weight files with unusual names: an index if there is one, else files without a
    variant."""
    indexes = [e for e in directory.ending(index) if not VARIANT.search(e.path)]
    if indexes:
        return Weights((), indexes[0])
    files = [e for e in directory.ending(*endings) if not NOT_WEIGHTS.match(_name(e))]
    plain = [e for e in files if not VARIANT.search(_name(e))] or files
    not_consolidated = [e for e in plain if not _name(e).startswith("consolidated")] or plain
    return Weights(tuple(not_consolidated))


def shards(entries: Iterable[SourceFile], index: SourceFile) -> tuple[SourceFile, ...]:
    """Return the shards of `index` next to it; () unless all of them are there."""
    stem, ending = INDEX.sub(r"\1", index.path), INDEX.sub(r"\2", index.path)
    named = re.compile(rf"{re.escape(stem)}-\d{{5}}-of-(\d{{5,6}}){re.escape(ending)}")
    numbered = [(e, match[1]) for e in entries if (match := named.fullmatch(e.path))]
    return (
        tuple(e for e, of in numbered) if {len(numbered)} == {int(of) for _, of in numbered} else ()
    )


def _name(entry: SourceFile) -> str:
    return entry.path.rpartition("/")[2]
