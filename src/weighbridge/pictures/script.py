"""The lines of diffusers that run a pipeline as it was weighed.

    nf4, bnb-int8, torchao-int8, torchao-fp8   packed as they are loaded
    GGUF                                       a file, of a repository where one is known
    fp8                                        rests in float8, and is cast layer by layer

Source: diffusers 0.42 docs/source/en/optimization/memory.md, quantization/{overview,gguf}.md,
hooks/layerwise_casting.py (of modules that are not diffusers').
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from weighbridge.base.records import NamedTuple
from weighbridge.models.catalogue.pipelines import find, of_repository
from weighbridge.models.checkpoint.model import Model
from weighbridge.pictures import comfy, formats, sdcpp
from weighbridge.pictures.card import ComponentPlacement
from weighbridge.pictures.cards import BALANCED
from weighbridge.pictures.companions import control_class
from weighbridge.pictures.formats import FP8, is_gguf
from weighbridge.pictures.spec import PipelineSpec
from weighbridge.settings.ranks import RING


class PackedForm(NamedTuple):
    """A quantization format as a config of diffusers and of transformers."""

    config: str
    arguments: str
    backend: str = ""  # of a PipelineQuantizationConfig; "": the libraries' configs differ
    torchao: str = ""  # torchao class to import


PACKED = {
    "nf4": PackedForm(
        "BitsAndBytesConfig",
        'load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype={dtype}',
        "bitsandbytes_4bit",
    ),
    "bnb-int8": PackedForm("BitsAndBytesConfig", "load_in_8bit=True", "bitsandbytes_8bit"),
    "torchao-int8": PackedForm(
        "TorchAoConfig", "Int8WeightOnlyConfig()", torchao="Int8WeightOnlyConfig"
    ),
    "torchao-fp8": PackedForm(
        "TorchAoConfig", "Float8WeightOnlyConfig()", torchao="Float8WeightOnlyConfig"
    ),
}
OFFLOADS = {
    "model": "pipe.enable_model_cpu_offload()",
    "sequential": "pipe.enable_sequential_cpu_offload()",
}
LEVELS = {"group-block": "block_level", "group-leaf": "leaf_level"}


class GgufFile(NamedTuple):
    """The address or path of a GGUF file, and a note for the user."""

    where: str
    note: str = ""


class PipelineLines:
    """Writes a script from the repository, classes by component, GGUF files, formats, and effective
    settings."""

    def __init__(
        self,
        repo: str,
        classes: Mapping[str, str],
        gguf: Mapping[str, GgufFile],
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
        packed = {n: form for n, form in self.forms.items() if form in PACKED}
        yield from self._imports(files, packed)
        passed = [json.dumps(self.repo), f"torch_dtype={dtype}"]
        passed += ['device_map="balanced"'] if w.get("device_map") else []
        passed += [f"{name}=None" for name in w["dropped"]]
        for name in files:
            yield from self._file(name, dtype)
            passed.append(f"{name}={name}")
        yield from self._elsewhere(files, packed)
        for name, other in w["dtypes"].items():
            where = f'{json.dumps(self.repo)}, subfolder="{name}", torch_dtype=torch.{other}'
            yield f"{name} = {self.classes[name]}.from_pretrained({where})"
            passed.append(f"{name}={name}")
        if packed:
            yield f"quantized = PipelineQuantizationConfig({self._packing(packed, dtype)})"
            passed.append("quantization_config=quantized")
        yield from self._controls(dtype, passed)
        yield from self._ranks()
        yield f"pipe = {self._loader()}.from_pretrained({', '.join(passed)})"
        yield from self._companions()
        yield from self._placed(dtype)
        yield self._call()

    def _ranks(self) -> Iterator[str]:
        """Yield the first lines of a script that runs in several processes."""
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

    def _file(self, name: str, dtype: str) -> Iterator[str]:
        """Yield the lines that load denoiser `name` from a GGUF file."""
        where, note = json.dumps(self.gguf[name].where), self.gguf[name].note
        if note:
            yield f"# {name}: {note}"
        config = f"GGUFQuantizationConfig(compute_dtype={dtype})"
        loads = f"{self.classes[name]}.from_single_file({where}, quantization_config={config}"
        yield f"{name} = {loads}, torch_dtype={dtype})"

    def _call(self) -> str:
        w = self.settings
        sizes = [f"width={w['width']}", f"height={w['height']}"]
        if w["frames"] > 1:
            sizes.append(f"num_frames={w['frames']}")
        if w["batch_size"] > 1:
            kind = "videos" if w["frames"] > 1 else "images"
            sizes.append(f"num_{kind}_per_prompt={w['batch_size']}")
        if w.get("controlnet"):
            sizes.append("image=image" if w["denoiser"] == "unet" else "control_image=image")
        sizes += ["ip_adapter_image=image"] if w.get("ip_adapter") else []
        alone = {*w["dropped"]} & {*w["encoders"]}  # a run of their own made the embeddings
        prompt = "**embeddings" if alone else '"..."'
        return f"out = pipe({prompt}, {', '.join(sizes)})"

    def _packing(self, packed: Mapping[str, str], dtype: str) -> str:
        """Return the quantization config: one backend for all components, or a config each."""
        form = PACKED[next(iter(packed.values()))]
        if not self._apart(packed):
            pairs = (pair.split("=", 1) for pair in form.arguments.format(dtype=dtype).split(", "))
            values = ", ".join(f'"{key}": {value}' for key, value in pairs)
            return f'"{form.backend}", {{{values}}}, {json.dumps(sorted(packed))}'
        each = ", ".join(
            f'"{name}": {self._library(name)}.{PACKED[one].config}'
            f"({PACKED[one].arguments.format(dtype=dtype)})"
            for name, one in sorted(packed.items())
        )
        return f"quant_mapping={{{each}}}"

    def _others(self, library: str) -> list[str]:
        """Return the classes of components that load in a dtype of their own and belong to
        `library`."""
        names = self.settings["dtypes"]
        return [self.classes[name] for name in names if self._library(name) == library]

    def _library(self, name: str) -> str:
        return "transformers" if name in self.settings["encoders"] else "diffusers"

    def _imports(self, files: Mapping[str, str], packed: Mapping[str, str]) -> Iterator[str]:
        libraries = map(self._library, packed) if self._apart(packed) else ()
        yield from (f"import {one}" for one in sorted({*libraries, "torch"}))
        yield f"from diffusers import {', '.join(sorted(self._names(files, packed)))}"
        yield from (f"from transformers import {cls}" for cls in self._others("transformers"))
        if self._resting().difference(self.settings["denoisers"]):
            yield "from diffusers.hooks import apply_layerwise_casting"
        if names := sorted({PACKED[one].torchao for one in packed.values()} - {""}):
            yield f"from torchao.quantization import {', '.join(names)}"

    def _apart(self, packed: Mapping[str, str]) -> bool:
        """Return whether each component needs a config of its own: there are two formats, or
        torchao's."""
        return len({*packed.values()}) > 1 or not all(PACKED[f].backend for f in packed.values())

    def _resting(self) -> set[str]:
        """Return the names of components that are stored in float8."""
        return {name for name, form in self.forms.items() if form == FP8}

    def _loader(self) -> str:
        """Return the name of the class that loads the pipeline; with a ControlNet it is another
        one."""
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
        """Yield a comment for each format that diffusers cannot load."""
        names = self.forms.keys() - self._resting() - set().union(*loaded)
        yield from (f"# {name}: the file in {self.forms[name]}" for name in sorted(names))

    def _names(self, files: Mapping[str, str], packed: Mapping[str, str]) -> set[str]:
        names = {self._loader(), *(self.classes[name] for name in files)}
        names |= {self.settings["control_class"]} if self.settings.get("controlnet") else set()
        names |= {"GGUFQuantizationConfig"} if files else set()
        names |= {"ContextParallelConfig"} if self.settings.get("context_parallel_size") else set()
        names.update(self._others("diffusers"))
        return names | ({"PipelineQuantizationConfig"} if packed else set())

    def _cast(self, dtype: str) -> Iterator[str]:
        """Yield a line for each component that is stored in float8."""
        w, resting = self.settings, self._resting()
        casts = f"storage_dtype=torch.float8_e4m3fn, compute_dtype={dtype}"
        for name in w["denoisers"]:
            if w.get("layerwise_casting") or name in resting:
                yield f"pipe.{name}.enable_layerwise_casting({casts})"
        for name in sorted(resting.difference(w["denoisers"])):
            yield f"apply_layerwise_casting(pipe.{name}, {casts})"

    def _placed(self, dtype: str) -> Iterator[str]:
        w, offload = self.settings, str(self.settings["offload"])
        yield from self._cast(dtype)
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
    model: Model, row: PipelineSpec, place: ComponentPlacement, settings: Mapping[str, Any]
) -> str | None:
    """Return the script or command that runs the pipeline; None if its repository is unknown, or
    cards are set by component."""
    if settings["engine"] == comfy.NAME:
        return comfy.script(row, settings, place.forms)
    if settings["engine"] == sdcpp.NAME:
        return sdcpp.script(row, settings, place.forms, place.cards)
    if not row.repo_id or (place.cards and settings["device_map"] != [BALANCED]):
        return None  # the user places such components on cards
    classes = {p.name: p.blueprint.cls for p in model.parts}
    more: dict[str, Any] = {**settings, "denoiser": row.denoiser}
    more |= {"denoisers": row.denoisers, "encoders": (*row.encoders, row.image_encoder)}
    dropped = more["dropped"] = sorted(formats.left_out(settings.get("drop", ()), row, classes))
    forms = {name: form for name, form in place.forms.items() if name not in dropped}
    more["dtypes"] = _apart(row, place, dropped)
    more["control_class"] = control_class(classes[row.denoiser])
    repo = model.reference if "/" in model.reference else row.repo_id
    gguf = {name: _gguf(model, row, name, place.forms.get(name, "")) for name in row.denoisers}
    return PipelineLines(repo, classes, gguf, forms, more).text()


def _apart(row: PipelineSpec, place: ComponentPlacement, dropped: Sequence[str]) -> dict[str, str]:
    """Return component -> dtype name, for components that the pipeline would load or decode in
    another dtype."""
    usual = place.dtypes[row.denoiser].name
    upcast = {row.vae: "float32"} if row.upcast and usual == "float16" else {}
    dtypes = ((name, dtype.name) for name, dtype in place.dtypes.items() if name not in dropped)
    return {name: dtype for name, dtype in dtypes if dtype != upcast.get(name, usual)}


def _gguf(model: Model, row: PipelineSpec, component: str, form: str) -> GgufFile:
    """Return a denoiser's GGUF file: its address if the catalogue names the file, else a local
    path, with a note on the repository if one is known. A fine-tune of a pipeline has neither."""
    known = find(model.reference) or of_repository(model.reference)
    here = f"./{component}-{form}.gguf"
    if known is None or not row.gguf:
        return GgufFile(here)
    address = f"https://huggingface.co/{row.gguf}"
    file = known.gguf_file(component, form)
    return (
        GgufFile(f"{address}/blob/main/{file}") if file else GgufFile(here, f"{form} of {address}")
    )
