"""Remedies for a pipeline, as one ladder of steps in the order in which people take them.

    cards that are idle, model offload, tiled decode, fp8 denoiser, GGUF or 4 bits, 4 bits for text
    encoders, groups of blocks with a stream, one leaf at a time, fewer frames, a smaller size

A step is tried if it can lower the fullest stage, on top of those before it; steps that lower
nothing are left out. Each is estimated as a question of its own. The search ends with the first
that fits and one that has spare room. If the question fits, the search is for the largest size and
the most frames. Source of the order: threads about FLUX, Wan and SDXL (docs/pictures.md).
"""

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from weighbridge.answers.remedies.climbing import Ask, Step, answered, climb
from weighbridge.base.records import replace
from weighbridge.base.sentences import sentence
from weighbridge.memory.report import Report
from weighbridge.memory.report.verdict import Price, Remedy
from weighbridge.models.catalogue.pipelines import find
from weighbridge.pictures import comfy, sdcpp
from weighbridge.pictures.cards import BALANCED
from weighbridge.pictures.formats import TEXT
from weighbridge.pictures.request import SWAPPED, USUAL_DTYPE, is_before_bfloat16
from weighbridge.pictures.stages import DECODE, DENOISE, ENCODE
from weighbridge.workload.picture import Picture

if TYPE_CHECKING:
    from weighbridge.machines.accelerators.parts import Part

LOAD, MAKING = "load", (DENOISE, DECODE)
SMALLER = (0.75, 0.5)  # shares of the frames; of each side
LARGEST_SIDE, LONGEST = 4096, 10  # pixels; times the requested frames, at the end of a search
TRIES = 6
# Prices in comparable points (assumed but for the order)
FREE = Price()
SPREAD = Price(speed=1)
OFFLOADED = Price(speed=4)
TILED = Price(quality=1, speed=1)
CAST = Price(quality=2, speed=2)
PACKED = Price(quality=6, speed=3, effort=5)
SMALL = Price(scope=25)
ONE_LEAF = Price(speed=60)


def ladder(report: Report, w: Picture, ask: Ask, pinned: frozenset[str]) -> tuple[Remedy, ...]:
    """Return the steps climbed from the user's question. No typed setting changes."""
    steps = {comfy.NAME: _of_comfy, sdcpp.NAME: _of_sdcpp}.get(w.engine or "", _steps)
    return climb(report, w, ask, pinned, steps(report, w))


def _of_comfy(report: Report, w: Picture) -> Iterator[Step]:
    """Yield the steps for ComfyUI, which offloads models by itself."""
    row = report.workload
    if w.quantization is None:
        yield Step({"quantization": "fp8"}, sentence("step.fp8"), CAST, (DENOISE,))
        change = {"quantization": "fp8+text=fp8"}
        yield Step(change, sentence("step.text_fp8"), CAST, (ENCODE,))
        for form in ("Q6_K", "Q4_K_S") if row.get("gguf") else ():
            change = {"quantization": f"{form}+text=fp8"}
            yield Step(change, sentence("step.gguf", form=form), PACKED, (ENCODE, DENOISE))
    if str(row["pipeline"]).startswith(SWAPPED):
        blocks = report.derived.get("blocks", 0)
        cost = sentence("step.swap", count=blocks)
        counts = tuple(range(1, blocks + 1))
        yield Step({"blocks_to_swap": blocks}, cost, CAST, (DENOISE,), counts=counts)
    yield Step({"vae_tiling": True}, sentence("step.tiling"), TILED, (DECODE,))
    yield from _smaller(row)
    yield Step({"vram_mode": "no"}, sentence("step.novram"), ONE_LEAF)


def _of_sdcpp(report: Report, w: Picture) -> Iterator[Step]:
    """Yield the steps for stable-diffusion.cpp."""
    row = report.workload
    if _several(report, w):
        yield Step({"device_map": ("text=1",)}, sentence("step.cards"), SPREAD)
    yield Step({"attention": sdcpp.FLASH}, sentence("step.flash"), FREE, (DENOISE,))
    yield Step({"offload": "model"}, sentence("step.model"), OFFLOADED)
    yield Step({"vae_tiling": True}, sentence("step.tiling"), TILED, (DECODE,))
    if w.quantization is None:
        for form in ("Q8_0", "Q4_K"):
            change = {"quantization": f"{form}+text={form}"}
            cost = sentence("step.gguf", form=form)
            yield Step(change, cost, PACKED, (ENCODE, DENOISE), weights=True)
    yield from _smaller(row)


def _steps(report: Report, w: Picture) -> Iterator[Step]:
    """Yield every step for diffusers, in the order in which people take them."""
    row, several = report.workload, _several(report, w)
    whole = {"device_map": None} if several else {}
    offloaded = Step({"offload": "model", **whole}, sentence("step.model"), OFFLOADED)
    if several:
        yield Step({"device_map": (BALANCED,)}, sentence("step.cards"), SPREAD)
    else:
        yield offloaded
    yield Step({"vae_tiling": True}, sentence("step.tiling"), TILED, (DECODE,))
    if row["batch_size"] > 1:
        yield Step({"vae_slicing": True}, sentence("step.slicing"), TILED, (DECODE,))
    if row["vae_dtype"] != row["dtype"] == USUAL_DTYPE:
        narrow = {"vae_dtype": USUAL_DTYPE}
        yield Step(narrow, sentence("step.vae"), TILED, (DECODE,))
    elif row["vae_dtype"] != row["dtype"] and not is_before_bfloat16(w):
        whole_so = {"dtype": USUAL_DTYPE, "vae_dtype": None}  # no cast of latents
        yield Step(whole_so, sentence("step.bfloat16"), TILED, (DECODE,))
    if w.quantization is None:
        yield from _formats(row)
    if several:
        yield offloaded
    change = {"offload": "group-block", "offload_stream": True, **whole}
    yield Step(change, sentence("step.group"), CAST, (ENCODE, DENOISE))
    plain = {"quantization": None, "layerwise_casting": False}
    if w.quantization is None:  # quantized weights are loaded on the card, whole
        yield Step(change | plain, sentence("step.group_plain"), CAST, (LOAD,))
    if "drop" not in row:
        yield Step({"drop": (TEXT,)}, sentence("step.apart"), PACKED, (ENCODE,))
    change = {"offload": "group-leaf", "offload_stream": False, **whole}
    yield Step(change, sentence("step.leaf"), ONE_LEAF)  # the result stays the same
    if w.quantization is None:
        yield Step(change | plain, sentence("step.leaf_plain"), ONE_LEAF, (LOAD,))
    yield from _smaller(row)


def _several(report: Report, w: Picture) -> bool:
    """Return whether components may go on idle cards, each whole on one of them."""
    v = report.verdict
    if v is None or v.count == 1 or w.device_map or (w.context_parallel_size or 1) > 1:
        return False
    there = (c for phase in report.fullest.phases for c in phase.components if c.name == "weights")
    largest = max((c.bytes.expected for c in there), default=0)
    return w.offload in (None, "none") and largest < v.usable.low


def _formats(row: Mapping[str, Any]) -> Iterator[Step]:
    cast = {"layerwise_casting": True}
    yield Step(cast, sentence("step.cast"), CAST, (DENOISE,), weights=True)
    for form in ("Q6_K", "Q4_K_S") if row.get("gguf") else ():
        change = {"quantization": form, "layerwise_casting": False}
        yield Step(change, sentence("step.gguf", form=form), PACKED, (DENOISE,), weights=True)
    change = {"quantization": "nf4+text=nf4", "layerwise_casting": False}
    yield Step(change, sentence("step.nf4"), PACKED, (ENCODE, DENOISE), weights=True)


def _smaller(row: Mapping[str, Any]) -> Iterator[Step]:
    frames, width, height = row["frames"], row["width"], row["height"]
    for share in SMALLER if frames > 1 else ():
        fewer = _whole(row, int(frames * share))
        change = {"frames": fewer, "seconds": None}
        yield Step(change, sentence("step.frames", frames=fewer), SMALL, MAKING)
    if row["batch_size"] > 1:
        yield Step({"batch_size": 1}, sentence("step.batch", batch=1), SMALL, MAKING)
    for share in SMALLER:
        size = int(height * share), int(width * share)
        cost = sentence("step.size", width=size[1], height=size[0])
        yield Step({"size": size}, cost, SMALL, MAKING)


def _whole(row: Mapping[str, Any], frames: int) -> int:
    """Return the most frames, up to `frames`, that make whole latents."""
    known = find(str(row["pipeline"]))
    time = 1 if known is None else int(known.recipe.get("time", 1))
    return max(1, (frames - 1) // time * time + 1)


# ---- limits of what fits


def limited(report: Report, w: Picture, ask: Ask) -> Report:
    """Return the report with the largest size and most frames that surely fit, one at a time."""
    row = report.workload
    width, height, frames = row["width"], row["height"], row["frames"]
    side = LARGEST_SIDE / max(width, height)

    def sized(share: float) -> Picture:
        return w.but(size=(int(height * share), int(width * share)))

    derived = report.derived.copy()
    larger = _most(sized, 1.0, side, ask)
    if larger is not None:
        derived["largest_size"] = f"{larger.workload['width']}x{larger.workload['height']}"
    if frames > 1:
        longer = _most(lambda n: w.but(frames=int(n), seconds=None), frames, frames * LONGEST, ask)
        derived["most_frames"] = frames if longer is None else longer.workload["frames"]
    return replace(report, derived=derived)


def _most(change: Callable[[float], Picture], least: float, most: float, ask: Ask) -> Report | None:
    """Return the report of the largest value found to fit between `least`, which fits, and `most`;
    None if nothing larger fits."""
    known: Report | None = None
    for _ in range(TRIES):
        middle = (least * most) ** 0.5
        then = answered(ask, change(middle))
        if then is not None and then.verdict is not None and then.verdict.fits == "yes":
            least, known = middle, then
        else:
            most = middle
    return known


def with_cards(report: Report, w: Picture, ask: Ask) -> Report:
    """Return the report with the smallest cards on which it surely fits, as asked and with one
    component at a time. Only NVIDIA's: other vendors' cards have no published run."""
    ways = {"": w, "model": w.but(offload="model")}
    if w.offload not in (None, "none"):
        del ways["model"]
    cards = {way: _smallest(asked, ask) for way, asked in ways.items()}
    named = {way: name for way, name in cards.items() if name}
    return replace(report, derived=report.derived | {"smallest_cards": named})


def _smallest(w: Picture, ask: Ask) -> str:
    bare = answered(ask, w)
    if bare is None:
        return ""
    for part in sold_cards():
        then = answered(ask, w.but(gpu=part.id)) if part.room.low >= bare.peak.expected else None
        if then is not None and then.verdict is not None and then.verdict.fits == "yes":
            return part.name
    return ""


def sold_cards() -> "list[Part]":
    """Return the NVIDIA cards that are sold as such, smallest first."""
    from weighbridge.machines.accelerators.parts import parts

    known = (p for p in parts().values() if p.kind == "gpu" and p.vendor == "NVIDIA")
    sold = (p for p in known if "modified" not in p.name.lower())
    return sorted(sold, key=lambda part: (part.room.low, len(part.id), part.id))
