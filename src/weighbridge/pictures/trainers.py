"""Programs that train pipelines, and what each of them chooses where nothing is said.

    diffusers     adapters in the dtype of the base, autocast; its own modules
    kohya         adapters in float32, autocast; modules of its own of every model (library/*.py)
    simpletuner   adapters in bfloat16, autocast; transformers of its own, diffusers' UNets
    ai-toolkit    adapters in float32, whose input is cast, without autocast; all linears of blocks,
                  of UNets all linears
    musubi        adapters in float32, autocast; modules of its own
    onetrainer    adapters in float32, autocast; diffusers' modules, all linears and convolutions

Whoever runs modules of its own keeps other activations than diffusers': of 136 published peaks of
SimpleTuner and musubi-tuner 87 % were within 15 % of what diffusers' modules take, and 76 % within
a quarter of the activations, which `around` has (assumed; LTX-Video, SanaVideo and Wan err most).
Source: diffusers 0.42 examples/dreambooth, examples/text_to_image,
examples/research_projects/flux_lora_quantization; sd-scripts 0.9
networks/lora.py, library/train_util.py; SimpleTuner 3 helpers/models; ai-toolkit @ 27a03a91
toolkit/lora_special.py, toolkit/network_mixins.py (lora_input), jobs/process/BaseSDTrainProcess.py,
toolkit/memory_management/manager_modules.py (PIPELINE_DEPTH); musubi-tuner networks/lora.py;
OneTrainer @ 23df3832 modules/module/LoRAModule.py (__create_modules), modules/modelSetup.
"""

import re
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from weighbridge.base.parsed import text_beside
from weighbridge.base.records import NamedTuple
from weighbridge.pictures.adapting import EVERY
from weighbridge.pictures.values import TORCH
from weighbridge.training.adapters import ALL

# Denoisers that programs of low memory train, by how their classes begin, in the order of trying.
# Source: *_train_network.py of sd-scripts 0.9 and musubi-tuner; ai-toolkit @ 27a03a91
# config/examples
TRAINED: Mapping[str, tuple[str, ...]] = {
    "kohya": ("UNet2DCond", "SD3Transformer", "FluxTransformer", "Lumina2", "Chroma"),
    "musubi": ("WanTransformer", "HunyuanVideo", "QwenImageT", "Flux2", "ZImage"),
    "ai-toolkit": (
        *("FluxTransformer", "Chroma", "HiDream", "Lumina2", "QwenImageT", "SD3Transformer"),
        *("WanTransformer", "ZImage"),
    ),
}
ATTENTION = (
    *("to_q", "to_k", "to_v", "to_out.0"),
    *("add_q_proj", "add_k_proj", "add_v_proj", "to_add_out"),
    *("to_query", "to_key", "to_value"),  # Kandinsky's
)
NOTHING = "-"  # to write
LINES = " | "  # between lines of one change
EXACT, FORKED = 5, 25  # percent of what a step keeps and makes


class PictureTrainer(NamedTuple):
    """`wide`: adapters are in float32; `casts`: PEFT's layers, which cast what they are given;
    `bypassed`: LoKr multiplies by its factors, and makes no matrix as large as the weight;
    `master`: what is trained whole is in float32; `around` percent, of activations; `unets`:
    whether UNets are its own, too; `beside`: texts are encoded while the denoiser is there;
    `unet_targets`: of UNets, where they are others; `kernels`: convolutions have the rank of
    linears; `depth` layers that are streamed are on the card, of forward and again of backward,
    and wait as they are packed where `packs`; blocks that are swapped are the last of all lists
    together where `combined`; `torch`: the release that it is installed with, SimpleTuner's that of
    its published peaks (assumed: attention kernels that it names fail beside 2.12's norms)."""

    name: str
    title: str
    rank: int
    targets: tuple[str, ...]
    around: int
    source: str
    wide: bool = True
    casts: bool = False
    bypassed: bool = False
    master: bool = True
    optimizer: str = "adamw_torch"
    factor: int = 0  # LoKr's; 0: near the root
    unets: bool = True
    beside: bool = False
    precision: str = "bf16-mixed"
    unet_targets: tuple[str, ...] = ()
    kernels: bool = False
    depth: int = 2  # RamTorch: one that runs, one that comes
    packs: bool = False
    combined: bool = False
    torch: tuple[int, int] = TORCH

    def adapts(self, cls: str) -> tuple[str, ...]:
        """Return what has adapters in a class of the denoiser."""
        return self.unet_targets if self.unet_targets and "UNet" in cls else self.targets

    def forks(self, cls: str) -> bool:
        """Tell whether a class of the denoiser is another one than diffusers'."""
        return self.around == FORKED and (self.unets or "UNet" not in cls)

    def spread(self, cls: str) -> int:
        """Return the percent by which activations may be others."""
        return FORKED if self.forks(cls) else EXACT


TRAINERS: Mapping[str, PictureTrainer] = {
    one.name: one
    for one in (
        PictureTrainer(
            "diffusers",
            "diffusers' examples",
            4,
            ATTENTION,
            EXACT,
            "diffusers 0.42 examples/",
            wide=False,
            casts=True,
            beside=True,
        ),
        PictureTrainer(
            "kohya",
            "sd-scripts",
            4,
            (ALL,),
            FORKED,
            "sd-scripts 0.9 networks/lora.py",
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
            factor=16,
            unets=False,
            combined=True,
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
            unet_targets=(EVERY,),
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
            EXACT,
            "OneTrainer modules/module/LoRAModule.py",
            kernels=True,
            torch=(2, 12),
        ),
    )
}


@cache
def words(trainer: str, cls: str = "") -> Mapping[str, str]:
    """Return what a trainer calls changes of our settings for a class of the denoiser, by the
    setting or by setting=value; it has none of the others. A row of some classes alone says how
    these begin: quantization=nf4:Flux2."""
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
    """Return changes of our settings as lines of a trainer's own command or config; "" where it has
    no words for one of them."""
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
    """Yield changes one by one: formats of several components, and components that are left out,
    are several."""
    for name, value in change.items():
        if name == "quantization" and value:
            yield from ((name, form) for form in re.split("[,+]", value))
        elif name == "drop" and value:
            yield from ((name, component) for component in value)
        else:
            yield name, value


def _line(known: Mapping[str, str], name: str, value: Any) -> str:
    """Return a trainer's words for one change; "" where it has none."""
    if name.startswith("uncached"):
        return known.get("cached", NOTHING if value else "")
    if value is False:
        return NOTHING
    return known.get(f"{name}={value}") or known.get(name, "")
