"""Pipelines that are run: `measure image|video|train-image PIPELINE ...`.

    write   a folder as a pipeline's repository is, with configs and zeros in place of its weights
    make    the program that `image` and `video` print, over that folder, in two steps
    train   two steps of the denoiser as diffusers' examples take them: what encoders give is asked
            of the pipeline itself, up to the denoiser's first forward

No torch before something is run. Source: diffusers 0.42 pipelines/pipeline_utils.py
(from_pretrained), examples/dreambooth/train_dreambooth_lora_*.py.
"""

import json
import os
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from importlib import import_module
from inspect import Parameter, signature
from typing import TYPE_CHECKING, Any

from weighbridge.base.errors import UnsupportedError
from weighbridge.base.sentences import sentence
from weighbridge.pictures.spec import PipelineSpec, row_of
from weighbridge.pictures.trainers import TRAINERS
from weighbridge_lab.golden import phase

if TYPE_CHECKING:
    from weighbridge.memory.report import Report
    from weighbridge.models.checkpoint.model import Model, ModelPart

STEPS = 2  # the first has no optimizer state
WORD = "pipe "
ANY_SCHEDULER = "EulerDiscreteScheduler"  # for a pipeline that takes any of a family
MODULE = re.compile(r"pipelines/(\w+)/(pipeline_\w+)\.py")
TOKENS = 77  # of CLIP's context
SHIFTS = ("shift_factor",)  # of latents, which change no size and which pipelines read
FILE = "diffusion_pytorch_model.safetensors"
Settings = Mapping[str, Any]


# ---- a folder of zeros


def write(model: "Model", folder: str) -> None:
    """Write a pipeline's folder with zeros as weights. Raises UnsupportedError for a component that
    cannot be written."""
    import diffusers

    cls, parts = pipeline_class(row_of(model)), {part.name: part for part in model.parts}
    index: dict[str, Any] = {
        "_class_name": cls.__name__,
        "_diffusers_version": diffusers.__version__,
    }
    for name, needed in signature(cls.__init__).parameters.items():
        place = os.path.join(folder, name)
        if name in parts:
            index[name] = _write_part(parts[name], place)
        elif name == "scheduler":
            kind: Any = getattr(diffusers, getattr(needed.annotation, "__name__", ""), None)
            kind = kind if hasattr(kind, "save_config") else getattr(diffusers, ANY_SCHEDULER)
            kind().save_config(place)
            index[name] = ["diffusers", kind.__name__]
        elif name.startswith("tokenizer"):
            encoder = parts.get(name.replace("tokenizer", "text_encoder"))
            index[name] = _write_tokenizer(encoder, place)
        elif name != "self" and needed.default is Parameter.empty:
            index[name] = [None, None]
    with open(os.path.join(folder, "model_index.json"), "w", encoding="utf-8") as file:
        json.dump(index, file, indent=1)


def pipeline_class(row: PipelineSpec) -> Any:
    """Return diffusers' pipeline class by the module that a row cites. Raises UnsupportedError."""
    module_of = MODULE.search(row.source)
    if module_of is None:
        raise UnsupportedError(sentence("measure.no_pipeline", name=row.name))
    module = import_module(f"diffusers.pipelines.{module_of[1]}.{module_of[2]}")
    whole = (value for name, value in vars(module).items() if name.endswith("Pipeline"))
    for cls in whole:
        if cls.__module__ == module.__name__:
            return cls
    raise UnsupportedError(sentence("measure.no_pipeline", name=row.name))


def _write_part(part: "ModelPart", folder: str) -> list[str]:
    import diffusers
    import torch
    import transformers

    from weighbridge_lab.exact.zeros import config_of, write_holes, write_zeros

    os.makedirs(folder)
    name = part.blueprint.cls
    cls = getattr(transformers if part.library == "transformers" else diffusers, name, None)
    if cls is None:
        raise UnsupportedError(sentence("exact.no_class", name=name))
    if part.library == "transformers":
        config = config_of(part.config)
        write_zeros(cls, config, config.dtype or torch.float32, folder)
        return ["transformers", name]
    known, values = signature(cls.__init__).parameters, dict(part.config)
    values |= {shift: 0.0 for shift in SHIFTS if shift in known and values.get(shift) is None}
    with torch.device("meta"):
        module = cls.from_config(values).to(torch.bfloat16)
    module.save_config(folder)
    write_holes(module, os.path.join(folder, FILE))
    return ["diffusers", name]


def _write_tokenizer(encoder: "ModelPart | None", folder: str) -> list[str]:
    """Write a tokenizer with few words; CLIP's has the length of its encoder."""
    from weighbridge_lab.exact.zeros import write_tokenizer

    os.makedirs(folder)
    positions = encoder.config.get("max_position_embeddings", TOKENS) if encoder else TOKENS
    clip = encoder is not None and encoder.blueprint.cls.startswith("CLIP")
    write_tokenizer(folder, longest=positions if clip else None)
    return ["transformers", "PreTrainedTokenizerFast"]


# ---- pictures and video


def program(report: "Report", model: "Model", folder: str) -> str:
    """Return the Python lines that make the pictures, from a folder. Raises UnsupportedError for a
    missing file or missing embeddings."""
    lines, row = str(report.derived.get("launch") or ""), row_of(model)
    known = json.dumps(model.reference if "/" in model.reference else row.repo_id)
    away = "from_single_file" in lines or "**embeddings" in lines or "\n# " in f"\n{lines}"
    if known not in lines or away:
        raise UnsupportedError(sentence("measure.no_program"), where=row.name)
    return lines.replace(known, json.dumps(folder))


def make(report: "Report", model: "Model") -> None:
    """Make the pictures of a report, in two denoising steps."""
    with tempfile.TemporaryDirectory() as folder:
        lines = program(report, model, folder)
        write(model, folder)
        with _running_two_steps(row_of(model), report.workload):
            phase("load")
            exec(compile(lines, "made.py", "exec"), {"__name__": "__main__"})


@contextmanager
def _running_two_steps(row: PipelineSpec, settings: Settings) -> Iterator[None]:
    """Make loaded pipelines name their stages and run two steps, inside the block."""
    from diffusers import DiffusionPipeline

    load = DiffusionPipeline.__dict__["from_pretrained"]

    def loaded(cls: Any, *positional: Any, **named: Any) -> Any:
        pipe = load.__func__(cls, *positional, **named)
        _name_stages(pipe, row)
        plain = type(pipe)

        def call(self: Any, *_: Any, **sizes: Any) -> Any:
            return plain.__call__(self, **_call_arguments(plain, settings) | sizes)

        pipe.__class__ = type(plain.__name__, (plain,), {"__call__": call})
        return pipe

    DiffusionPipeline.from_pretrained = classmethod(loaded)
    try:
        yield
    finally:
        DiffusionPipeline.from_pretrained = load


def _call_arguments(cls: Any, settings: Settings) -> dict[str, Any]:
    """Return the arguments of a pipeline's call: a prompt of the estimated length, and a picture if
    it reads one."""
    known = signature(cls.__call__).parameters
    asked = {"prompt": WORD * int(settings["prompt_tokens"]), "num_inference_steps": STEPS}
    if "image" in known and known["image"].default is Parameter.empty:
        from PIL import Image

        asked["image"] = Image.new("RGB", (settings["width"], settings["height"]))
    return {name: value for name, value in asked.items() if name in known}


def _name_stages(pipe: Any, row: PipelineSpec) -> None:
    stages = dict.fromkeys((*row.encoders, row.image_encoder), "encode")
    stages |= dict.fromkeys(row.denoisers, "denoise")
    for name, stage in stages.items():
        module = getattr(pipe, name, None)
        if module is not None:
            module.register_forward_pre_hook(lambda *_, stage=stage: phase(stage))
    for stage in ("encode", "decode"):
        setattr(pipe.vae, stage, _named(getattr(pipe.vae, stage), stage))


def _named(method: Callable[..., Any], stage: str) -> Callable[..., Any]:
    def run(*positional: Any, **named: Any) -> Any:
        phase(stage)
        return method(*positional, **named)

    return run


# ---- training


class _CapturedError(Exception):
    """Raised before a pipeline's denoiser runs; it holds the denoiser's arguments."""


def train(report: "Report", model: "Model") -> None:
    """Train the denoiser for two steps. Raises UnsupportedError for what diffusers' examples do not
    do, or what is not supported here."""
    import diffusers
    import torch

    settings, row = report.workload, row_of(model)
    _followed(settings, row)
    dtype = getattr(torch, str(settings["dtype"]))
    with tempfile.TemporaryDirectory() as folder:
        write(model, folder)
        pipe = diffusers.DiffusionPipeline.from_pretrained(folder, torch_dtype=dtype)
        denoiser = getattr(pipe, row.denoiser)
        phase("load")
        denoiser.to("cuda")
        trained = list(_trained(denoiser, settings))
        phase("cache")
        inputs = _inputs(pipe, row, settings)
        pipe.vae = None
        torch.cuda.empty_cache()
        optimizer = torch.optim.AdamW(trained)
        half = str(settings["precision"]).partition("-")
        names = {"bf16": torch.bfloat16, "fp16": torch.float16}
        casting = torch.autocast("cuda", names[half[0]]) if half[2] else nullcontext()
        for _ in range(STEPS):
            phase("forward")
            with casting:
                out = denoiser(*inputs[0], **inputs[1])[0]
            loss = torch.nn.functional.mse_loss(out.float(), torch.zeros_like(out).float())
            del out
            phase("backward")
            loss.backward()
            phase("step")
            optimizer.step()
            optimizer.zero_grad()
            phase("")


PLAIN = {
    "framework": ("diffusers",),
    "method": ("lora", "full"),
    "optimizer": ("adamw_torch",),
    "checkpointing": ("none", "full"),
    "precision": ("bf16-mixed", "fp16-mixed", "bf16", "fp32"),
    "gradient_accumulation": (1,),
    "quantization": (None,),
    "blocks_to_swap": (0,),
    "streaming": ("none", None),
    "shard": ("none", None),
    "drop": (None,),
}


def _followed(settings: Settings, row: PipelineSpec) -> None:
    """Raise UnsupportedError for a setting whose run is not supported."""
    for name, values in PLAIN.items():
        if settings.get(name) not in values:
            flag = f"--{name.replace('_', '-')} {settings.get(name)}"
            raise UnsupportedError(sentence("measure.not_run", flag=flag))
    if len(row.denoisers) > 1:
        raise UnsupportedError(sentence("measure.no_pipeline", name=row.name))


def _trained(denoiser: Any, settings: Settings) -> Iterator[Any]:
    """Yield the trained parameters, after preparing the denoiser for the run."""
    denoiser.train()
    if settings["method"] == "lora":
        from peft import LoraConfig, inject_adapter_in_model

        denoiser.requires_grad_(False)
        rank, targets = int(settings["lora_r"]), list(settings["lora_targets"])
        adapters = LoraConfig(r=rank, lora_alpha=rank, target_modules=targets)
        inject_adapter_in_model(adapters, denoiser)
    if settings["checkpointing"] == "full":
        denoiser.enable_gradient_checkpointing()
    yield from (p for p in denoiser.parameters() if p.requires_grad)


def _inputs(pipe: Any, row: PipelineSpec, settings: Settings) -> tuple[Any, Any]:
    """Run the encoders; return the (positional, keyword) arguments that the denoiser would get for
    one pass."""
    import torch

    texts = [getattr(pipe, name) for name in row.encoders if getattr(pipe, name, None)]
    for module in (*texts, pipe.vae):
        module.to("cuda")
    _encode(pipe.vae, row, settings)

    def captured(_: Any, positional: Any, named: Any) -> None:
        raise _CapturedError((positional, named))

    handle = getattr(pipe, row.denoiser).register_forward_pre_hook(captured, with_kwargs=True)
    sizes = {name: settings[name] for name in ("height", "width")}
    sizes |= {"num_frames": settings["frames"]} if settings["frames"] > 1 else {}
    try:
        with torch.no_grad():
            pipe(**_call_arguments(type(pipe), settings), **sizes)
    except _CapturedError as stop:
        positional, named = stop.args[0]
    finally:
        handle.remove()
        for module in (*texts, pipe.vae):
            module.to("cpu")
    batch = int(settings["batch_size"])
    return _inputs_of_batch(positional, batch), _inputs_of_batch(dict(named), batch)


def _encode(vae: Any, row: PipelineSpec, settings: Settings) -> None:
    """Encode a batch of pictures, with the autoencoder in the dtype of the examples."""
    import torch

    precise = row.upcast or type(vae).__name__.startswith(TRAINERS["diffusers"].precise)
    wide = row.vae_dtype or ("float32" if precise else "")
    vae.to(getattr(torch, wide) if wide else vae.dtype)
    frames = (settings["frames"],) if row.kind == "video" else ()
    shape = settings["batch_size"], 3, *frames, settings["height"], settings["width"]
    with torch.no_grad():
        vae.encode(torch.zeros(shape, dtype=vae.dtype, device="cuda"))


def _inputs_of_batch(value: Any, batch: int) -> Any:
    """Return inputs for `batch` pictures, from those of one picture or of its two guidance
    passes."""
    import torch

    if isinstance(value, dict):
        return {name: _inputs_of_batch(one, batch) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_inputs_of_batch(one, batch) for one in value)
    if isinstance(value, torch.Tensor) and value.dim() and value.shape[0] <= 2:
        return value[:1].repeat(batch, *[1] * (value.dim() - 1)).detach()
    return value
