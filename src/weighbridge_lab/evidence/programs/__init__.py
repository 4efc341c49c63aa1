"""Programs of published measurements, as their authors ran them: plain torch, a few lines each.

    function(device, **setting) -> None

All modules but this one import torch. Models are made from configs; nothing is downloaded, and
batches come from nothing. What is measured is the peak of the whole function, or what follows its
last `torch.cuda.reset_peak_memory_stats()`.
"""

from collections.abc import Callable, Mapping
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from weighbridge.base.records import field, frozen_record


@frozen_record
class EvidenceProgram:
    """A program of published measurements. `home` is "module:function" in this package."""

    home: str
    needs: tuple[str, ...] = ()  # besides torch
    settings: Mapping[str, Any] = field(default_factory=dict)  # of all its records
    seconds: int = 120  # that a run may take
    convolutions: bool = False  # for which cuDNN chooses workspaces
    patches: tuple[str, ...] = ()  # models whose names begin so convolve only for their patches

    @property
    def missing(self) -> list[str]:
        """Return the names of required packages that are not installed."""
        return [name for name in ("torch", *self.needs) if find_spec(name) is None]

    def convolves(self, setting: Mapping[str, Any]) -> bool:
        return self.convolutions and not str(setting.get("model")).startswith(self.patches)

    def load(self, setting: Mapping[str, Any]) -> Callable[[str], None]:
        """Return the function with its arguments filled in. Imports torch and the program's
        packages, which must not be imported while a fake GPU stands in."""
        for package in self.needs:
            import_module(package)
        module, _, function = self.home.partition(":")
        program = getattr(import_module(f"{__name__}.{module}"), function)
        return partial(program, **{**self.settings, **setting})


PROGRAMS: Mapping[str, EvidenceProgram] = {
    "xmem_cnn": EvidenceProgram(
        home="xmem:convolutional", needs=("torchvision",), convolutions=True
    ),
    "xmem_transformer": EvidenceProgram(home="xmem:transformer", needs=("transformers",)),
    "gpumemnet_cnn": EvidenceProgram(
        home="gpumemnet:convolutional", needs=("torchvision",), convolutions=True
    ),
    "gpumemnet_timm": EvidenceProgram(
        home="timm_nets:train",
        needs=("timm", "torchvision"),
        convolutions=True,
        patches=(
            *("beit", "cait", "deit", "vit", "swin", "mixer", "gmixer", "gmlp", "resmlp"),
            "convit",
        ),
    ),
    "gpumemnet_mlp": EvidenceProgram(home="gpumemnet:perceptron"),
    "liger_cross_entropy": EvidenceProgram(home="liger:cross_entropy", needs=("liger_kernel",)),
    "liger_embedding": EvidenceProgram(home="liger:embedding"),
    "liger_experts": EvidenceProgram(home="liger:experts"),
    "liger_feed_forward": EvidenceProgram(home="liger:gated", needs=("transformers",)),
    "liger_linear_cross_entropy": EvidenceProgram(home="liger:linear_cross_entropy"),
    "liger_parallel_cross_entropy": EvidenceProgram(home="liger:parallel_cross_entropy"),
    "peft_metamath": EvidenceProgram(
        home="peft_methods:metamath",
        needs=("transformers", "peft"),
        settings={"longest": 688},
        seconds=600,
    ),
    "peft_pictures": EvidenceProgram(
        home="peft_methods:pictures",
        needs=("transformers", "peft", "diffusers"),
        settings={
            "transformer": {  # FLUX.2-klein-base-4B: 3,875,544,576 parameters, as printed
                "num_layers": 5,
                "num_single_layers": 20,
                "num_attention_heads": 24,
                "joint_attention_dim": 7680,
                "guidance_embeds": False,
            }
        },
        seconds=600,
    ),
    "agilerl_grpo": EvidenceProgram(
        home="agilerl:learn", needs=("transformers", "peft", "liger_kernel", "triton"), seconds=600
    ),
}
