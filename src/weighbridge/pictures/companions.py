"""ControlNets, IP-Adapters, refiners and LoRAs, which people load beside a pipeline.

    controlnet   as the denoiser is built, fewer blocks deep; it runs before each step, and what it
                 gives stays while the denoiser runs
    ip_adapter   an image encoder, a projection of what that gives, and keys and values of it in
                 each cross attention of a U-Net
    refiner      a second denoiser, behind the first
    lora         two matrices beside each linear of the denoiser's blocks, until they are fused

How many blocks a ControlNet of a transformer has is what `from_transformer` takes: published ones
have others. A U-Net's has its way down. Source: diffusers 0.42 models/controlnets/{controlnet,
controlnet_flux, controlnet_sd3, controlnet_qwenimage}.py, loaders/{ip_adapter, lora_pipeline}.py;
laion/CLIP-ViT-bigG-14-laion2B-39B-b160k config.json (the image encoder of SDXL's IP-Adapter).
"""

from collections.abc import Mapping
from typing import Any

from weighbridge.base.errors import UnsupportedError
from weighbridge.base.memo import memo
from weighbridge.base.records import NamedTuple, replace
from weighbridge.base.sentences import sentence
from weighbridge.models.catalogue.pipelines import find
from weighbridge.models.checkpoint.gather import gather_config
from weighbridge.models.checkpoint.model import ModelPart, resolve
from weighbridge.pictures import components
from weighbridge.pictures.config import class_of
from weighbridge.pictures.spec import PipelineSpec
from weighbridge.workload.picture import Picture

Parts = dict[str, ModelPart]
UNET = "UNet2DConditionModel"
# denoiser class -> its ControlNet class, and changes to the denoiser's config
CONTROLS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    UNET: ("ControlNetModel", {}),
    "FluxTransformer2DModel": ("FluxControlNetModel", {"num_layers": 4, "num_single_layers": 10}),
    "SD3Transformer2DModel": (
        "SD3ControlNetModel",
        {"num_layers": 12, "extra_conditioning_channels": 1},
    ),
    "QwenImageTransformer2DModel": ("QwenImageControlNetModel", {"num_layers": 5}),
}
CONTROL, IMAGE_ENCODER, REFINER = "controlnet", "image_encoder", "refiner"
# The image encoder of IP-Adapters by the width of the text, as changes of svd-xt's (ViT-H): SDXL's
# is ViT-bigG
ENCODERS: Mapping[int, Mapping[str, int]] = {
    768: {},
    2048: {
        "hidden_size": 1664,
        "intermediate_size": 8192,
        "num_hidden_layers": 48,
        "projection_dim": 1280,
    },
}
USUAL_RANK = 32  # default rank of a LoRA: assumed, published ones are 4 to 128


class LoraFiles(NamedTuple):
    """How many LoRAs each linear of a denoiser's blocks has, and their rank."""

    number: int
    rank: int


def joined(row: PipelineSpec, parts: Parts, w: Picture) -> tuple[PipelineSpec, Parts]:
    """Return the pipeline and its components with the ControlNets, IP-Adapter and refiner that the
    user loads. Raises UnsupportedError for ones not published for its classes."""
    for wanted, join in (
        (w.controlnet, _with_controls),
        (w.ip_adapter, _with_pictures),
        (w.refiner, _with_refiner),
    ):
        if wanted:
            row, parts = join(row, parts, w)
    return row, parts


def control_class(denoiser: str) -> str:
    """Return the ControlNet class of a denoiser class; "" if there is none."""
    return CONTROLS.get(denoiser, ("",))[0]


def _with_controls(row: PipelineSpec, parts: Parts, w: Picture) -> tuple[PipelineSpec, Parts]:
    denoiser = parts[row.denoiser]
    cls, changes = CONTROLS.get(class_of(denoiser.config), ("", {}))
    if not cls or denoiser.config.get("class_embed_type"):
        raise _unknown("--controlnet", row)
    config = {**denoiser.config, "_class_name": cls, **changes}
    part = _part(CONTROL, config, denoiser)
    names = [CONTROL, *(f"{CONTROL}_{i}" for i in range(2, (w.controlnet or 0) + 1))]
    return row._replace(controls=tuple(names)), {**parts, **dict.fromkeys(names, part)}


def _with_pictures(row: PipelineSpec, parts: Parts, w: Picture) -> tuple[PipelineSpec, Parts]:
    """Return the pipeline and components with an IP-Adapter added to the U-Net."""
    unet = parts[row.denoiser]
    width: Any = unet.config.get("cross_attention_dim")
    known = class_of(unet.config) == UNET and isinstance(width, int) and width in ENCODERS
    large = find("svd-xt")
    if not known or large is None or unet.config.get("encoder_hid_dim_type"):
        raise _unknown("--ip-adapter", row)
    encoder = {**large.parts[IMAGE_ENCODER], **ENCODERS[width]}
    shown = {"image_embed_dim": encoder["projection_dim"]}
    added = {
        row.denoiser: _part(row.denoiser, {**unet.config, **shown}, unet),
        IMAGE_ENCODER: _part(IMAGE_ENCODER, encoder, unet),
    }
    chain = (*row.encoders, IMAGE_ENCODER, *row.denoisers, row.vae)
    return row._replace(image_encoder=IMAGE_ENCODER, shown=True, chain=chain), {**parts, **added}


def _with_refiner(row: PipelineSpec, parts: Parts, w: Picture) -> tuple[PipelineSpec, Parts]:
    other = find(row.refiner)
    if other is None:
        raise _unknown("--refiner", row)
    config = other.parts[other.recipe["denoisers"][0]]
    part = _part(REFINER, config, parts[row.denoiser])
    denoisers = (*row.denoisers, REFINER)
    chain = tuple(name for name in row.order if name != row.vae)
    chain = (*chain, REFINER, row.vae)
    return row._replace(denoisers=denoisers, chain=chain), {**parts, REFINER: part}


def _part(name: str, config: Mapping[str, Any], owner: ModelPart) -> ModelPart:
    """Return a component made from its config, cached with `owner`, the denoiser."""

    def make() -> ModelPart:
        plan = components.blueprint(config) if "_class_name" in config else None
        if plan is None:  # a class of transformers
            [whole] = resolve(gather_config(dict(config)), base_model=False).parts
            return replace(whole, name=name)
        return ModelPart(name=name, library="diffusers", blueprint=plan, config=config)

    return memo(owner, ("companion", name), make)


def _unknown(flag: str, row: PipelineSpec) -> UnsupportedError:
    return UnsupportedError(sentence("picture.companion", flag=flag, pipeline=row.name))


def loras(w: Picture) -> LoraFiles | None:
    """Return the LoRAs that run beside the denoiser; None if there are none, or if they are fused
    into it."""
    count = w.lora or 0
    return None if not count or w.fuse_lora else LoraFiles(count, w.lora_r or USUAL_RANK)
