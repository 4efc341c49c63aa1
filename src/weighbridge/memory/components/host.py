"""Host memory: a process, its copies while it loads weights, and pages of the files.

    4.51 on     the class is built without memory. Safetensors are mapped, zip pickles too: a tensor
                that keeps its dtype is a view of the file. A change of dtype copies (the target's
                bytes); since 5, experts stored separately are stacked into one parameter, a copy
    cast, too   four threads cast such experts ahead of the stacking, and the C library keeps freed
                blocks of up to 32 MiB: none to all of the experts' bytes once more
    before      without a device_map the model is built in memory first, and tensors are copied in,
                file by file; before 4.37 a pickle was read whole
    ZeRO-3      parameters come in shards, from rank 0. From 5.0 to 5.22 every rank read the files
                and stacked all experts first, in the dtype of the files; since 5.23 only rank 0,
                one parameter at a time
    FSDP        if rank 0 reads for all, what bitsandbytes packs comes back to its host memory
    device_map  tensors go straight to the device: only pages of the file. bitsandbytes sets one if
                the user does not, and quantizes on the device; torchao, HQQ and quanto quantize
                where the tensors are

Pages of files are separate (`droppable`): they stay until the room is needed elsewhere, and are no
need. Source: transformers 4.36 to 5.23 modeling_utils.py (from_pretrained, load_state_dict),
core_model_loading.py (WeightConverter, spawn_materialize), integrations/deepspeed.py
(_apply_weight_conversions_to_state_dict), quantizers/quantizer_bnb_4bit.py (update_device_map).
RssAnon of a 938 MiB bfloat16 model was 2 MiB when loaded in its own dtype, its full float32 size
when cast, and 1.87 x the parameters with pages when its experts were stacked. `python -m
benchmarks.loading` measures 1, 2 and 4 processes, their own pages and those of files separately.
"""

from collections import defaultdict
from collections.abc import Iterable

from weighbridge.base.dtypes import DType
from weighbridge.base.memo import memo
from weighbridge.base.memory import ONCE, Bytes, Component, exactly
from weighbridge.base.records import NamedTuple
from weighbridge.base.units import GIB, MIB
from weighbridge.memory.components.weights import FLOATING, FormatChoice
from weighbridge.models.checkpoint.model import ModelPart
from weighbridge.models.quantization.scheme import Scheme
from weighbridge.models.tensors import CheckpointTensor

SOURCE = "transformers modeling_utils.py, core_model_loading.py"
OWN_DEVICE_MAP = ("nf4", "fp4", "bnb-")  # formats whose loader sets a device_map by itself
BUILT_FIRST_BEFORE = (4, 51)  # transformers ignores low_cpu_mem_usage from then on
MAPPED_PICKLES_SINCE = (4, 37)
STACKED_SINCE = (5, 0)  # experts stored separately
STACKED_IN_TURN_SINCE = (5, 23)  # under ZeRO-3
QUANTIZED_HERE = ("torchao", "hqq", "quanto")  # quantized where the tensors are loaded to
PICKLES = (".bin", ".pt", ".pth", ".ckpt")
# Resident bytes of a process of torch and CUDA without weights. Without a GPU the imports of torch
# 2.13 (CUDA 13) and transformers 5.23 with its Trainer hold 0.42 GiB of anonymous memory on Linux;
# what the driver adds for a context is not published
PROCESS = Bytes(GIB // 2, 3 * GIB // 2, 4 * GIB)
# A DataLoader worker writes 5 MiB of its own for rows of an array, and a reference count into each
# Python object that it reads (165 MiB for a list of lists); at most all that imports hold
WORKER = Bytes(5 * MIB, (5 * MIB + PROCESS.low) // 2, PROCESS.low)


class LoadedPart(NamedTuple):
    """The dtype and bytes in which a part's weights are loaded; `native` is its files' dtype, for
    when none was read."""

    dtype: DType
    weights: int
    native: DType
    converted: bool = False  # on the host: dequantized or quantized there


def processes(count: int, each: Bytes = PROCESS) -> Component:
    """Return the host memory of `count` torch processes."""
    who = "a process" if count == 1 else f"{count} processes"
    return Component(
        name="other",
        role=ONCE,
        detail="processes",
        bytes=Bytes(*(count * nbytes for nbytes in each)),
        basis="assumed",
        formula=f"{who} of Python, torch and CUDA's libraries",
        source="imports alone were read: 0.42 GiB; no rule is published",
    )


def workers(count: int) -> Component:
    """Return the host memory of `count` forked data workers: the parent's pages that each one
    writes."""
    return Component(
        name="other",
        detail="data workers",
        bytes=Bytes(*(count * nbytes for nbytes in WORKER)),
        basis="assumed",
        formula=f"{count:,} forked processes: what they write of the parent's pages, a row of data "
        "at least, all that its imports hold at most; lists of Python objects are beside it",
        source="python -m benchmarks.loading",
    )


def pages(nbytes: int, *, detail: str = "mapped files", source: str = SOURCE) -> Component:
    """Return the pages of mapped files, of which any share may be resident."""
    return Component(
        name="weights",
        detail=detail,
        bytes=Bytes(0, nbytes, nbytes),
        basis="computed",
        formula=f"{nbytes:,} bytes of file pages, which the kernel may drop",
        source=source,
        droppable=True,
        passing=True,
    )


def straight(form: Scheme | None, *, device_map: bool) -> bool:
    """Return whether transformers loads tensor by tensor straight to the device."""
    return device_map or (form is not None and form.name.startswith(OWN_DEVICE_MAP))


def loaded(part: ModelPart, choice: FormatChoice, weights: int, native: DType) -> LoadedPart:
    """Return how a part's weights are loaded in a format; a GGUF file is dequantized on the host,
    and some formats are quantized there."""
    form = choice.scheme
    here = form is not None and form.name.startswith(QUANTIZED_HERE)
    packs = here and not choice.as_stored and not part.packed
    return LoadedPart(choice.dtype, weights, native, packs or _files(part).gguf)


class HostReading(NamedTuple):
    """How weights are read. `processes`: those that copy; `straight`: directly to the device;
    `in_parts`: sharded by ZeRO-3; `back`: returned from the device after quantization, for FSDP to
    shard."""

    processes: int = 1
    straight: bool = False
    in_parts: bool = False
    back: bool = False


def while_loading(
    part: ModelPart, to: LoadedPart, how: HostReading, *, version: tuple[int, ...]
) -> tuple[Component, ...]:
    """Return what the host holds at the peak of loading one part."""
    files = _files(part)
    copied, formula = _copies(part, to, how, version)
    read = 0 if version >= MAPPED_PICKLES_SINCE else files.largest_pickle
    if read:
        formula = f"{formula or 'nothing is copied'}, and a file of {read:,} bytes is read whole"
    several = "" if how.processes == 1 else f"; in {how.processes} processes"
    copies = Component(
        name="weights",
        passing=True,
        detail=part.name or "copies",
        bytes=Bytes(*(how.processes * (nbytes + read) for nbytes in copied)),
        basis="computed" if copied.low == copied.high else "assumed",
        formula=f"{formula}{several}",
        source=SOURCE,
    )
    return (copies, mapped(part, to)) if copies.bytes.high else (mapped(part, to),)


def mapped(part: ModelPart, to: LoadedPart, *, source: str = SOURCE) -> Component:
    """Return the pages of a part's files, of which its tensors are views."""
    whole = to.weights if part.packed else to.native.size(part.blueprint.parameters)
    name = f"mapped files {part.name}".strip()
    return pages(_files(part).nbytes or whole, detail=name, source=source)


def _copies(
    part: ModelPart, to: LoadedPart, how: HostReading, version: tuple[int, ...]
) -> tuple[Bytes, str]:
    """Return (bytes, reason) of what one process holds besides file pages."""
    stacks, plan = version >= STACKED_SINCE, part.blueprint
    if how.in_parts and stacks and version < STACKED_IN_TURN_SINCE and not part.packed:
        return exactly(to.native.size(plan.experts)), "ZeRO-3: all experts are stacked, a copy"
    if how.back:
        return exactly(
            to.weights
        ), f"packed on the device, {to.weights:,} bytes come back to rank 0"
    if how.straight or how.in_parts:
        return exactly(0), ""
    if version < BUILT_FIRST_BEFORE:
        return exactly(to.weights), f"the model is built in memory first: {to.weights:,} bytes"
    experts = to.weights * plan.experts // max(1, plan.parameters)
    cast = any(dtype != to.dtype for dtype in _files(part).floating or [to.native])
    if not to.converted and (not cast or part.packed):
        return exactly(experts if stacks else 0), "experts are stacked, a copy" if stacks else ""
    again = experts if stacks and not to.converted else 0
    formula = f"{to.weights:,} bytes of copies in {to.dtype.name}"
    if again:
        formula += f", and up to {again:,} of experts that were cast before they were stacked"
    return Bytes(to.weights, to.weights + again // 2, to.weights + again), formula


class _Files(NamedTuple):
    """Sizes in bytes and dtypes of a part's files; empty if none was read."""

    nbytes: int
    largest_pickle: int
    floating: frozenset[DType]  # dtypes of the stored floating-point tensors
    gguf: bool


def _files(part: ModelPart) -> _Files:
    return memo(part, ("files",), lambda: _read(part.stored))


def _read(stored: Iterable[CheckpointTensor]) -> _Files:
    sizes: dict[str, int] = defaultdict(int)
    dtypes = set()
    for tensor in stored:
        sizes[tensor.file] += tensor.nbytes
        dtypes.add(tensor.dtype)
    return _Files(
        nbytes=sum(sizes.values()),
        largest_pickle=max(
            (size for name, size in sizes.items() if name.endswith(PICKLES)), default=0
        ),
        floating=frozenset(dtype for dtype in dtypes if dtype.name.startswith(FLOATING)),
        gguf=any(name.endswith(".gguf") for name in sizes),
    )
