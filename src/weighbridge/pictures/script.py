"""The lines of diffusers that run a pipeline as it was weighed.

Source: diffusers 0.42 docs/source/en/optimization/memory.md, quantization/{overview,gguf}.md.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from weighbridge.models.checkpoint.model import Model
from weighbridge.pictures import comfy, sdcpp
from weighbridge.pictures.card import ComponentPlacement
from weighbridge.pictures.cards import BALANCED
from weighbridge.pictures.companions import control_class
from weighbridge.pictures.formats import is_gguf
from weighbridge.pictures.spec import PipelineSpec
from weighbridge.settings.ranks import RING

BITSANDBYTES = {"nf4": "bitsandbytes_4bit", "bnb-int8": "bitsandbytes_8bit"}
ARGUMENTS = {
    "bitsandbytes_4bit": '{"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", '
    '"bnb_4bit_compute_dtype": torch.bfloat16}',
    "bitsandbytes_8bit": '{"load_in_8bit": True}',
}
OFFLOADS = {
    "model": "pipe.enable_model_cpu_offload()",
    "sequential": "pipe.enable_sequential_cpu_offload()",
}
LEVELS = {"group-block": "block_level", "group-leaf": "leaf_level"}


class PipelineLines:
    """What a script is made of: the repository, classes by component, and settings in effect."""

    def __init__(
        self,
        repo: str,
        classes: Mapping[str, str],
        gguf: Mapping[str, str],
        forms: Mapping[str, str],
        settings: Mapping[str, Any],
    ) -> None:
        self.repo, self.classes, self.gguf = repo, classes, gguf
        self.forms, self.settings = forms, settings

    def text(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        w = self.settings
        dtype = f"torch.{w['dtype']}"
        files = {n: f for n, f in self.forms.items() if is_gguf(f) and n in self.gguf}
        packed = {n: form for n, form in self.forms.items() if form in BITSANDBYTES}
        yield "import torch"
        yield f"from diffusers import {', '.join(sorted(self._names(files, packed)))}"
        passed = [json.dumps(self.repo), f"torch_dtype={dtype}", *self._mapped()]
        for name, form in files.items():
            where = json.dumps(f"{self.gguf[name]}-{form}.gguf")
            config = f"GGUFQuantizationConfig(compute_dtype={dtype})"
            made = f"{self.classes[name]}.from_single_file({where}, quantization_config={config}"
            yield f"{name} = {made}, torch_dtype={dtype})"
            passed.append(f"{name}={name}")
        yield from self._elsewhere(files, packed)
        name, wide = w["vae"], f"torch.{w['vae_dtype']}"
        if wide != dtype and not w["upcast"]:
            cls, folder = self.classes[name], f'subfolder="{name}", torch_dtype={wide}'
            yield f"{name} = {cls}.from_pretrained({json.dumps(self.repo)}, {folder})"
            passed.append(f"{name}={name}")
        if packed:
            kind = BITSANDBYTES[next(iter(packed.values()))]
            listed = json.dumps(sorted(packed))
            yield f'quantized = PipelineQuantizationConfig("{kind}", {ARGUMENTS[kind]}, {listed})'
            passed.append("quantization_config=quantized")
        yield from self._controls(dtype, passed)
        yield from self._ranks()
        yield f"pipe = {self._loader()}.from_pretrained({', '.join(passed)})"
        yield from self._companions()
        yield from self._placed(dtype)
        yield self._call()

    def _mapped(self) -> Iterator[str]:
        if self.settings.get("device_map"):
            yield 'device_map="balanced"'

    def _ranks(self) -> Iterator[str]:
        """Yield what each of several processes begins with."""
        if ranks := self.settings.get("context_parallel_size"):
            yield f"# torchrun --nproc-per-node {ranks}"
            yield 'torch.distributed.init_process_group("nccl")'
            yield "torch.cuda.set_device(torch.distributed.get_rank())"

    def _divided(self) -> Iterator[str]:
        w = self.settings
        if ranks := w.get("context_parallel_size"):
            name, by = w["denoiser"], w["context_parallel_by"]
            if by == RING:  # whose kernel must give sums of exponents
                yield f'pipe.{name}.set_attention_backend("_native_cudnn")'
            config = f"ContextParallelConfig({by}_degree={ranks})"
            yield f"pipe.{name}.enable_parallelism(config={config})"

    def _call(self) -> str:
        w = self.settings
        sizes = [f"width={w['width']}", f"height={w['height']}"]
        if w["frames"] > 1:
            sizes.append(f"num_frames={w['frames']}")
        if w.get("controlnet"):
            sizes.append("image=image" if w["denoiser"] == "unet" else "control_image=image")
        sizes += ["ip_adapter_image=image"] if w.get("ip_adapter") else []
        return f'out = pipe("...", {", ".join(sizes)})'

    def _loader(self) -> str:
        """Return the class that picks the pipeline, which a ControlNet makes another one."""
        return (
            "AutoPipelineForText2Image" if self.settings.get("controlnet") else "DiffusionPipeline"
        )

    def _controls(self, dtype: str, passed: list[str]) -> Iterator[str]:
        count = int(self.settings.get("controlnet") or 0)
        if count:
            cls = self.settings["control_class"]
            one = f'{cls}.from_pretrained("...", torch_dtype={dtype})'
            listed = ", ".join([one] * count)
            yield f"controlnet = {one if count == 1 else f'[{listed}]'}"
            passed.append("controlnet=controlnet")

    def _companions(self) -> Iterator[str]:
        w = self.settings
        for number in range(int(w.get("lora") or 0)):
            yield f'pipe.load_lora_weights("...", adapter_name="lora_{number}")'
        if w.get("lora") and w.get("fuse_lora"):
            yield "pipe.fuse_lora()"
            yield "pipe.unload_lora_weights()"
        if w.get("ip_adapter"):
            yield 'pipe.load_ip_adapter("h94/IP-Adapter", subfolder="...", weight_name="...")'
        if w.get("refiner"):
            yield "# then the refiner's pipeline, with this one's text_encoder_2 and vae"

    def _elsewhere(self, *loaded: Mapping[str, str]) -> Iterator[str]:
        """Yield a word for the reader on each format that no line of diffusers loads."""
        names = self.forms.keys() - set().union(*loaded)
        yield from (f"# {name}: the file in {self.forms[name]}" for name in sorted(names))

    def _names(self, files: Mapping[str, str], packed: Mapping[str, str]) -> set[str]:
        names = {self._loader(), *(self.classes[name] for name in files)}
        names |= {self.settings["control_class"]} if self.settings.get("controlnet") else set()
        names |= {"GGUFQuantizationConfig"} if files else set()
        names |= {"ContextParallelConfig"} if self.settings.get("context_parallel_size") else set()
        w = self.settings
        if w["vae_dtype"] != w["dtype"] and not w["upcast"]:
            names.add(self.classes[w["vae"]])
        return names | ({"PipelineQuantizationConfig"} if packed else set())

    def _placed(self, dtype: str) -> Iterator[str]:
        w, offload = self.settings, str(self.settings["offload"])
        if w.get("layerwise_casting"):
            name = w["denoiser"]
            casts = f"storage_dtype=torch.float8_e4m3fn, compute_dtype={dtype}"
            yield f"pipe.{name}.enable_layerwise_casting({casts})"
        if offload in LEVELS:
            stream = ", use_stream=True" if w.get("offload_stream") else ""
            cards = 'onload_device="cuda", offload_device="cpu"'
            blocks = ", num_blocks_per_group=1" if offload == "group-block" else ""
            level = f'offload_type="{LEVELS[offload]}"'
            yield f"pipe.enable_group_offload({cards}, {level}{blocks}{stream})"
        elif not w.get("device_map"):
            yield OFFLOADS.get(offload, 'pipe.to("cuda")')
        yield from self._divided()
        if w.get("vae_tiling"):
            yield "pipe.vae.enable_tiling()"
        if w.get("vae_slicing"):
            yield "pipe.vae.enable_slicing()"


def script(
    model: Model, row: PipelineSpec, place: ComponentPlacement, settings: Mapping[str, object]
) -> str | None:
    """Return the lines that run it so; None of a pipeline that has no repository."""
    if settings["engine"] == comfy.NAME:
        return comfy.script(row, settings, place.forms)
    if settings["engine"] == sdcpp.NAME:
        return sdcpp.script(row, settings, place.forms, place.cards)
    if _by_hand(row, place, settings):
        return None
    classes = {p.name: p.blueprint.cls for p in model.parts}
    more = {**settings, "denoiser": row.denoiser, "vae": row.vae, "upcast": row.upcast}
    more["control_class"] = control_class(classes[row.denoiser])
    repo = model.reference if "/" in model.reference else row.repo_id
    stems = {name: next(iter(files), name) for name, files in row.files.items()}
    folder = f"https://huggingface.co/{row.gguf}/blob/main/" if row.gguf else "./"
    gguf = {name: f"{folder}{stems.get(name, name)}" for name in row.denoisers}
    return PipelineLines(repo, classes, gguf, place.forms, more).text()


def _by_hand(row: PipelineSpec, place: ComponentPlacement, settings: Mapping[str, object]) -> bool:
    """Tell whether no line of diffusers loads it so: a pipeline without a repository, components
    that its user places."""
    return not row.repo_id or bool(place.cards and settings["device_map"] != [BALANCED])
