"""The content of the files: every tensor under its checkpoint name, by part, and what was read.

    Reference -> Source -> the files that a loader would choose -> headers -> Inventory

A part is tensors with a config: one for most models, several for a pipeline. After this stage
nobody may ask which format a file had.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from weighbridge.base.errors import BadFileError
from weighbridge.base.records import dataclass, frozen_record
from weighbridge.base.sentences import sentence
from weighbridge.base.wording import shown
from weighbridge.models.sources.reference import Reference
from weighbridge.models.tensors import CheckpointTensor

if TYPE_CHECKING:
    from weighbridge.models.formats import Plan


@frozen_record
class StoredModel:
    """One model: its stored tensors (none if only a config is known), and its config."""

    name: str = ""  # "" for the only one; "unet", "text_encoder" in a pipeline
    library: str = "transformers"  # library of the class that the config names
    config: Mapping[str, Any] | None = None
    where: str = "config.json"  # the config's path in errors
    tensors: tuple[CheckpointTensor, ...] = ()
    quantization: Mapping[str, Any] | None = None
    cls: str = ""  # the class that a pipeline's index names
    listed: tuple[str, ...] = ()  # tensors in an index, if no header was read
    listed_bytes: int | None = None  # their bytes in that index
    vouched: bool = False  # from the catalogue, whose parameter counts are known


@frozen_record
class Inventory:
    """What was read of a model's files, or of a pipeline's parts."""

    reference: str
    name: str
    revision: str | None = None
    parts: tuple[StoredModel, ...]
    read_from: tuple[str, ...]
    download_bytes: int | None = None
    notes: tuple[str, ...] = ()
    repo_id: str | None = None  # its Hub id, unless the reference is the id
    code: str | None = None  # folder or repository with Python code that may run
    rough: bool = False  # only a size is known
    origin: Reference | None = None  # the parsed reference; None for a config in memory
    form: str = ""  # the format in the name (llama3.1:8b-q8_0)

    @property
    def stored_bytes(self) -> int | None:
        """Return the bytes of all tensors in the files; None if no header was read."""
        if not any(part.tensors for part in self.parts):
            return None
        return sum(t.nbytes for part in self.parts for t in part.tensors)


def declared_quantization(config: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the config's quantization settings, None without any; MLX writes `quantization`."""
    text = config.get("text_config")
    for place in (config, text if isinstance(text, Mapping) else {}):
        for key in ("quantization_config", "compression_config", "quantization"):
            if isinstance(place.get(key), str | list | int | float):
                raise BadFileError(sentence("value_object", key=key, value=place[key]))
            if isinstance(place.get(key), Mapping):
                experts = place.get("expert_dtype")  # DeepSeek-V4 has this key beside it
                return place[key] if experts is None else {**place[key], "expert_dtype": experts}
    return None


SAID_TWICE = ("bits", "group_size", "w_bit", "q_group_size")


def otherwise(name: str, config: Mapping[str, Any], beside: Mapping[str, Any]) -> Iterator[str]:
    """Yield a note per quantization setting that the file `name` states differently."""
    for key in SAID_TWICE:
        ours, theirs = config.get(key), beside.get(key)
        if ours is not None and theirs is not None and ours != theirs:
            yield sentence(
                "theirs_and_ours", name=name, key=key, theirs=shown(theirs), ours=shown(ours)
            )


def _from_params(raw: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a params.json of Mistral as the equivalent transformers config."""
    from weighbridge.models.formats.mistral_params import transformers_config

    return transformers_config(raw)


def _of_adapter(raw: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return an adapter's config as a model's; only the adapter's own tensors are estimated."""
    return {"architectures": [f"PEFT {raw.get('peft_type', 'adapter')}"], "adapter": dict(raw)}


CONFIGS: Mapping[
    str, Callable[[Mapping[str, Any]], Mapping[str, Any]]
] = {  # the first that is there
    "config.json": dict,
    "params.json": _from_params,
    "adapter_config.json": _of_adapter,
}


def library_of(config: Mapping[str, Any], library: str) -> str:
    """Return the library that loads a config: timm for `architecture`, diffusers for `_class_name`,
    else `library`."""
    if "_class_name" in config:
        return "diffusers"
    return "timm" if "architecture" in config and "model_type" not in config else library


# Limits on what the headers of all files of a model hold together

T = TypeVar("T")
MAX_TENSORS = 250_000  # a mixture of 384 experts in packed layers has 207,000
MAX_HEADERS = 96_000_000  # and 27 MB of headers
OF_ALL = "the headers of its files"


@dataclass
class Bound:
    """Limits on all of a model's headers together, since each file may be within its format's
    limits."""

    header_bytes: int = 0
    tensors: int = 0

    def keep(self, plan: "Plan[T]", count: Callable[[T], int]) -> "Plan[T]":
        """Run the parser `plan` within the limits. Raises BadFileError above one."""
        wanted = next(plan)
        while True:
            data = yield wanted
            self.header_bytes += len(data)
            if self.header_bytes > MAX_HEADERS:
                raise BadFileError(sentence("headers_bytes", most=MAX_HEADERS))
            try:
                wanted = plan.send(data)
            except StopIteration as done:
                parsed: T = done.value
                break
        self.tensors += count(parsed)
        if self.tensors > MAX_TENSORS:
            raise BadFileError(sentence("headers_tensors", most=MAX_TENSORS))
        return parsed
