"""Programs that train pipelines, and what each of them chooses where nothing is said.

    diffusers     adapters in the dtype of the base, autocast; its own modules
    kohya         adapters in float32, autocast; modules of its own of every model (library/*.py)
    simpletuner   adapters in bfloat16, autocast; transformers of its own, diffusers' UNets
    ai-toolkit    adapters in float32, whose input is cast, without autocast; all linears of blocks,
                  of UNets all linears
    musubi        adapters in float32, autocast; modules of its own
    onetrainer    adapters in float32, autocast; diffusers' modules, all linears and convolutions

Whoever runs modules of its own keeps other activations than diffusers'. Of 177 published peaks of
SimpleTuner and musubi-tuner, of 14 denoisers, 89 % were within 15 % of what diffusers' modules
take. FORKED is what holds 95 % of the others when one denoiser is left out (34 to 41 % above, 14 to
29 below; so 88 % of those left out lie inside, and 3 % above); LOOPED what six peaks of a U-Net
earned, which is diffusers' in a loop that is not.
Source: diffusers 0.42 examples/dreambooth, examples/text_to_image,
examples/research_projects/flux_lora_quantization; sd-scripts 0.9
networks/lora.py, library/train_util.py; SimpleTuner 3 @ bc8e6ab7 helpers/models,
helpers/training/{gradient_checkpointing_interval, offloaded_gradient_checkpointer}.py; ai-toolkit
@ 27a03a91 toolkit/lora_special.py, toolkit/network_mixins.py (lora_input),
jobs/process/BaseSDTrainProcess.py, toolkit/memory_management/manager_modules.py (PIPELINE_DEPTH);
musubi-tuner networks/lora.py; OneTrainer @ 23df3832 modules/module/LoRAModule.py
(__create_modules), modules/modelSetup.
"""

import re
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from weighbridge.base.parsed import lines_beside, text_beside
from weighbridge.base.records import NamedTuple
from weighbridge.pictures.adapting import EVERY
from weighbridge.pictures.values import TORCH
from weighbridge.training.adapters import ALL

CLASSES: Mapping[str, tuple[str, ...]] = {
    name: tuple(words)
    for line in lines_beside(__file__, "trainer_classes.txt")
    for name, *words in [line.split()]
}
TRAIN = "train:"  # before a program's name there
ATTENTION = (
    *("to_q", "to_k", "to_v", "to_out.0"),
    *("add_q_proj", "add_k_proj", "add_v_proj", "to_add_out"),
    *("to_query", "to_key", "to_value"),  # Kandinsky's
)
NOTHING = "-"  # marks that nothing is written
LINES = " | "  # separates lines of one change


class StepSpread(NamedTuple):
    """Percent by which the activations of a step may be smaller, or larger, than estimated."""

    below: int
    above: int


EXACT, LOOPED, FORKED = StepSpread(5, 5), StepSpread(20, 20), StepSpread(30, 40)
DDP = ("ddp",)
DEEPSPEED = (*DDP, "zero1", "zero2", "zero3")


class PictureTrainer(NamedTuple):
    """`wide`: adapters are in float32; `casts`: PEFT's layers, which cast what they are given;
    `bypassed`: LoKr multiplies by its factors, and makes no matrix as large as the weight;
    `master`: what is trained whole is in float32; `around`: how sure activations are; `unets`:
    whether UNets are its own, too; `beside`: texts are encoded while the denoiser is there;
    `precise`: denoisers whose autoencoder is in
    float32, and that of pipelines which upcast it; `kernels`: convolutions have the rank of
    linears; `depth` layers that are streamed are on the card, of forward and again of backward,
    and wait as they are packed where `packs`; blocks that are swapped are the last of all lists
    together where `combined`; `shares`: ways in which several cards share a run; `buckets`: of DDP,
    of which gradients are views beside blocks that are swapped where `swaps_by_views`; `torch`: the
    release that it is installed with, SimpleTuner's that of its published peaks (assumed: attention
    kernels that it names fail beside 2.12's norms)."""

    name: str
    title: str
    rank: int
    targets: tuple[str, ...]
    around: StepSpread
    source: str
    wide: bool = True
    casts: bool = False
    bypassed: bool = False
    master: bool = True
    optimizer: str = "adamw_torch"
    factor: int = 0  # LoKr's default; 0: nearest to the square root
    factors: Mapping[str, int] = {}  # the smallest of its examples, where a run must say them
    unets: bool = True
    beside: bool = False
    precision: str = "bf16-mixed"
    precise: tuple[str, ...] = ()
    kernels: bool = False
    depth: int = 2  # RamTorch's layers on the card: one runs, one arrives
    packs: bool = False
    combined: bool = False
    shares: tuple[str, ...] = DDP
    buckets: bool = True
    swaps_by_views: bool = False
    joined: tuple[str, ...] | None = None  # classes whose pairs are one; None: all
    sending: tuple[str, ...] = ()
    torch: tuple[int, int] = TORCH

    def adapts(self, cls: str) -> tuple[str, ...]:
        """Return the module names that get adapters by default in denoiser class `cls`."""
        kind = f"adapts:{self.name}:"
        others = (CLASSES[name] for name in CLASSES if f"{kind}{cls}".startswith(name))
        return next(others, self.targets)

    def forks(self, cls: str) -> bool:
        """Return whether the trainer runs its own version of denoiser class `cls`, not
        diffusers'."""
        return self.around == FORKED and (self.unets or "UNet" not in cls)

    def spread(self, cls: str) -> StepSpread:
        """Return the percentages by which activations of class `cls` may differ from the
        estimate."""
        return LOOPED if self.around == FORKED and not self.forks(cls) else self.around

    def checkpoints(self, cls: str, how: str, *, most: bool = False) -> str:
        """Return the checkpointing that the trainer really uses for class `cls` if `how` is set.
        U-Nets know no intervals; every second block keeps as much as two of four. `most`: what it
        may recompute, since of classes whose blocks are not joined it was published to do so with
        all (Cosmos, HiDream, four formats) and with every second (LongCat-Image, Kandinsky 5)."""
        if self.joined is None or how not in ("pairs", "half"):
            return how
        if "UNet" in cls:
            return "full"
        return how if cls in self.joined else "full" if most else "half"


TRAINERS: Mapping[str, PictureTrainer] = {
    one.name: one
    for one in (
        PictureTrainer(
            "diffusers",
            "diffusers' examples",
            4,
            ("to_k", "to_q", "to_v", "to_out.0"),
            EXACT,
            "diffusers 0.42 examples/",
            precise=CLASSES["precise"],
            wide=False,
            casts=True,
            beside=True,
            torch=(2, 11),
            shares=(*DEEPSPEED, "fsdp2"),
        ),
        PictureTrainer(
            "kohya",
            "sd-scripts",
            4,
            (ALL,),
            FORKED,
            "sd-scripts 0.9 networks/lora.py",
            shares=DEEPSPEED,
            torch=(2, 6),
        ),
        PictureTrainer(
            "simpletuner",
            "SimpleTuner",
            16,
            ATTENTION,
            FORKED,
            "SimpleTuner 3 helpers/models/",
            wide=False,
            casts=True,
            bypassed=True,
            master=False,
            optimizer="adamw_bf16",
            factor=16,  # config/lycoris_config.json.example; examples/*.lycoris-lokr have 2 to 25
            factors={"Attention": 2, "FeedForward": 4},
            unets=False,
            combined=True,
            shares=(*DEEPSPEED, "fsdp2"),
            swaps_by_views=True,
            joined=CLASSES["joined"],
            sending=CLASSES["sending"],
            torch=(2, 11),
        ),
        PictureTrainer(
            "ai-toolkit",
            "ai-toolkit",
            16,
            (ALL,),
            FORKED,
            "ai-toolkit toolkit/lora_special.py",
            optimizer="adamw_8bit",
            bypassed=True,
            unets=False,
            precision="bf16",
            depth=4,
            packs=True,
        ),
        PictureTrainer(
            "musubi",
            "musubi-tuner",
            4,
            (ALL,),
            FORKED,
            "musubi-tuner networks/lora.py",
            optimizer="adamw_8bit",
            torch=(2, 9),
        ),
        PictureTrainer(
            "onetrainer",
            "OneTrainer",
            16,
            (EVERY,),
            LOOPED,
            "OneTrainer modules/module/LoRAModule.py",
            kernels=True,
            buckets=False,
            torch=(2, 12),
        ),
    )
}


@cache
def words(trainer: str, cls: str = "") -> Mapping[str, str]:
    """Return a trainer's keys for weighbridge's settings and denoiser class `cls`, keyed by setting
    or setting=value. A row that applies to some classes has the prefix of their names:
    quantization=nf4:Flux2."""
    rows: dict[str, dict[str, str]] = {}
    for line in text_beside(__file__, "trainer_words.txt").splitlines():
        if line.startswith("["):
            rows[line.strip("[]")] = known = {}
        else:
            change, text = line.split(maxsplit=1)
            plain, _, begins = change.partition(":")
            if cls.startswith(begins):
                known[plain] = text
    return rows[trainer]


def pasted(trainer: str, cls: str, change: Mapping[str, Any]) -> str:
    """Return changed settings as lines of the trainer's command or config; "" if it has no key for
    one of them."""
    known = words(trainer, cls)
    filled = {**change, "part": "unet" if "UNet" in cls else "transformer"}
    if "size" in change:
        height, width = change["size"]
        filled |= {"height": height, "width": width, "side": round((height * width) ** 0.5)}
    lines = [_line(known, name, value) for name, value in _single(change)]
    if not all(lines):
        return ""
    written = (line.format(**filled) for line in lines if line != NOTHING)
    return "\n".join(dict.fromkeys(part for line in written for part in line.split(LINES)))


def _single(change: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield changes one by one: formats of several components, and several dropped components, are
    separate changes."""
    for name, value in change.items():
        if name == "quantization" and value:
            yield from ((name, form) for form in re.split("[,+]", value))
        elif name == "drop" and value:
            yield from ((name, component) for component in value)
        else:
            yield name, value


def _line(known: Mapping[str, str], name: str, value: Any) -> str:
    """Return the trainer's line for one change; "" if it has no key for it."""
    if name.startswith("uncached"):
        return known.get("cached", NOTHING if value else "")
    if value is False:
        return NOTHING
    return known.get(f"{name}={value}") or known.get(name, "")
