"""The Python API: one function a question, the same that the command line calls."""

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from weighbridge import catalogue
from weighbridge.errors import (
    BadFileError,
    NotFoundError,
    UnsupportedError,
    UsageError,
    WeighbridgeError,
)
from weighbridge.estimate import commanded
from weighbridge.estimate.infer import infer as serve
from weighbridge.estimate.load import load as weigh
from weighbridge.gather import Options, gather, gather_config, naming
from weighbridge.inventory import Inventory
from weighbridge.model import Model, ModelPart, resolve
from weighbridge.report import Report
from weighbridge.settings import read
from weighbridge.wording import clipped
from weighbridge.workload import Infer, Load, Train

if TYPE_CHECKING:
    from weighbridge.launch import Launch

OF_VALUES = (ArithmeticError, AssertionError, AttributeError, LookupError, TypeError, ValueError)
BROKEN = (*OF_VALUES, RecursionError, MemoryError)


def load(
    model: Any,
    *,
    dtype: str | None = None,
    quantization: str | None = None,
    engine_version: str | None = None,
    device_map: str | None = None,
    base_model: bool = False,
    gpu: str | None = None,
    gpu_memory: str | int | None = None,
    headroom: str | int | None = None,
    ram: str | int | None = None,
    revision: str | None = None,
    token: str | None = None,
    cache_dir: str | None = None,
    offline: bool = False,
    trust_remote_code: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Report:
    """What the weights of `model` take, in every format, and what loading them allocates.

    Args:
        model: a reference as the command line takes it (catalogue name, Hub id, path, URL), a
            `pathlib.Path`, a config as a mapping, or a live `torch.nn.Module`.
        dtype: the dtype to load in ("bfloat16"); None is the engine's default, printed.
        quantization: the format to load in ("nf4", "gptq-4bit-g128", "Q4_K_M").
        engine_version: version of transformers ("4.40"); None is the newest known.
        device_map: "auto" or "cuda" loads straight to the device; None is `.to("cuda")`.
        base_model: count the headless class.
        gpu: the device that the verdict is about: "4090", "a100-80gb:8", "2x RTX 4090".
        gpu_memory: what a process can have of that device, or of any: "24GiB", or bytes.
        headroom: what is to stay free on each device: "1GiB", "10%" or bytes; None is nothing.
        ram: host memory that processes can have: "64GiB", bytes, or "local" for this machine's;
            None states what is needed and does not judge it.

    Returns:
        A frozen `Report`; all sizes are bytes.

    Raises:
        weighbridge.errors.WeighbridgeError: bad input, an unknown model, or an unreachable Hub.
    """
    workload: Load = read(
        "load",
        {
            "dtype": dtype,
            "quantization": quantization,
            "engine_version": engine_version,
            "device_map": device_map,
            "base_model": base_model,
            "gpu": gpu,
            "gpu_memory": gpu_memory,
            "headroom": headroom,
            "ram": ram,
        },
    )
    workload.check()
    options = Options(
        revision=revision,
        token=token,
        cache_dir=cache_dir,
        offline=offline,
        trust_remote_code=trust_remote_code,
        progress=progress,
    )
    found = _model(model, options, base_model=base_model)
    with _following(model):
        return weigh(found, workload)


def infer(
    model: Any = None,
    workload: Infer | None = None,
    *,
    command: str | None = None,
    revision: str | None = None,
    token: str | None = None,
    cache_dir: str | None = None,
    offline: bool = False,
    trust_remote_code: bool = False,
    progress: Callable[[int, int], None] | None = None,
    **settings: Any,
) -> Report:
    """What serving `model` takes, per device and phase, by the rules of one engine.

    Args:
        model: as for `load`; may be left out where the command names one.
        workload: all settings as one typed record; or give them by name instead, typed or as the
            command line writes them: `engine="vllm", context="32K", gpu="h100:2"`.
        command: the engine's own launch command ("vllm serve org/name -tp 2"); what it does not
            say is the engine's default. Settings given beside it win.

    Returns:
        A frozen `Report`; `devices` are the accelerators and then the host.

    Raises:
        weighbridge.errors.WeighbridgeError: bad input, an unknown model or engine, or an
            unreachable Hub.
    """
    _either(workload, settings)
    launched = None if command is None else _parsed(command)
    options = Options(
        revision=revision or (launched.revision if launched is not None else None),
        token=token,
        cache_dir=cache_dir,
        offline=offline,
        trust_remote_code=trust_remote_code,
        progress=progress,
    )
    if launched is not None:
        if workload is not None:
            raise UsageError("give settings beside a command by name, not as a workload")
        given = {"engine": launched.engine, **launched.settings, **settings}
        workload = replace(read("infer", given), engine_defaults=True)
        if model is not None and model != launched.model:
            raise UsageError(
                f"the command serves {launched.model!r}, not {model!r}; name one model"
            )
        model = launched.model
    elif workload is None:
        workload = read("infer", settings)
    assert workload is not None
    if model is None:
        raise UsageError("name a model, or a --command that does")
    workload.check()
    draft, projector = (
        None if name is None else _model(name, options, base_model=False)
        for name in (workload.draft_model, workload.mmproj)
    )
    found = _model(model, options, base_model=workload.base_model)
    with _following(model):
        report = serve(found, workload, draft=draft, projector=projector)
        if launched is None:
            return report
        length = commanded.longest(report, workload, launched)
        if length is not None:
            shorter = replace(workload, context=length)
            again = serve(found, shorter, draft=draft, projector=projector)
            report = commanded.told_longest(again, length)
    return _with_command(commanded.judged(report, launched, found), launched)


def train(
    model: Any,
    workload: Train | None = None,
    *,
    revision: str | None = None,
    token: str | None = None,
    cache_dir: str | None = None,
    offline: bool = False,
    trust_remote_code: bool = False,
    progress: Callable[[int, int], None] | None = None,
    **settings: Any,
) -> Report:
    """What fine-tuning or training `model` takes, per device and phase.

    Args:
        model: as for `load`.
        workload: all settings as one typed record; or give them by name instead, typed or as the
            command line writes them: `method="lora", lora_r=16, seq_len="4K"`.

    Returns:
        A frozen `Report`; `devices` are the accelerators and then the host.

    Raises:
        weighbridge.errors.WeighbridgeError: bad input, an unknown model, settings that contradict
            each other, or an unreachable Hub.
    """
    from weighbridge.estimate.train import train as learn  # a third of all modules
    from weighbridge.settings.training import consistent

    _either(workload, settings)
    if workload is None:
        workload = read("train", settings)
    assert workload is not None
    consistent(workload)
    workload.check()
    options = Options(
        revision=revision,
        token=token,
        cache_dir=cache_dir,
        offline=offline,
        trust_remote_code=trust_remote_code,
        progress=progress,
    )
    found = _model(model, options, base_model=workload.base_model)
    with _following(model):
        return learn(found, workload)


def _either(workload: Infer | Train | None, settings: Mapping[str, Any]) -> None:
    if workload is not None and settings:
        raise UsageError("give the settings as one workload or by name, not both")


def _parsed(command: str) -> "Launch":
    from weighbridge.launch import parse  # tables of flags, which few ask for

    return parse(command)


def _with_command(report: Report, launched: "Launch") -> Report:
    """What was read of the engine's own command line, and what it decides itself."""
    told = {
        "engine": launched.engine,
        "program": launched.program,
        "ignored": launched.ignored,
        "unknown": launched.unknown,
        "defaults": [
            {"name": name, "value": value, "why": why} for name, value, why in launched.defaults
        ],
    }
    return replace(
        report,
        derived={**report.derived, "command": told},
        warnings=(*launched.warnings, *report.warnings),
    )


def resolved(model: Any, *, base_model: bool = False, **source: Any) -> Model:
    """The model alone, to be asked about many times; `source` as for `load`."""
    return _model(model, Options(**source), base_model=base_model)


def _model(model: Any, options: Options, *, base_model: bool) -> Model:
    if isinstance(model, Model):
        return model
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(model, torch.nn.Module):
        return _live(model)
    if isinstance(model, os.PathLike) and not os.path.exists(model):
        raise NotFoundError(f"{os.fspath(model)!r}: no such file or folder")
    if not isinstance(model, str | os.PathLike | Mapping):
        raise TypeError(f"model must be a reference, a path, a config or a module, not {model!r}")
    with _following(model, WeighbridgeError):
        return resolve(_inventory(model, options), base_model=base_model)


@contextmanager
def _following(model: Any, *named: type[WeighbridgeError]) -> Iterator[None]:
    """What is wrong with a file may show only when it is estimated: its error names it as well.

    A stranger's config or metadata can contradict itself in more ways than are checked one by one.
    Where arithmetic over it breaks, the error says so in one line, and where. The built-in
    catalogue is ours: what breaks over it is a defect, as is what breaks over a live module.
    """
    text, known = _reference(model), named or (BadFileError, UnsupportedError)
    try:
        yield
    except known as error:
        if not text:
            raise
        raise naming(text, error) from error
    except BROKEN as error:
        if not isinstance(model, str | os.PathLike | Mapping | Model) or catalogue.has(text):
            raise
        raise _unfollowed(text, error) from error


def _unfollowed(text: str, error: Exception) -> BadFileError:
    import traceback

    place = traceback.extract_tb(error.__traceback__)[-1]
    told = BadFileError(
        f"what it holds could not be followed ({type(error).__name__}: {_said(error)}"
        f" at {os.path.basename(place.filename)}:{place.lineno}): its values contradict each other,"
        " or that no model has; if other programs load it, report this"
    )
    return naming(text, told) if text else told  # type: ignore[return-value]


def _said(error: Exception) -> str:
    return clipped(str(error), 50)


def _reference(model: Any) -> str:
    if isinstance(model, Model):
        return model.reference
    return os.fspath(model) if isinstance(model, str | os.PathLike) else ""


def _inventory(model: Any, options: Options) -> Inventory:
    if isinstance(model, Mapping):
        return gather_config(model)
    return gather(os.fspath(model), options)


def _live(module: Any) -> Model:
    from weighbridge.arch.live import from_module, own_dtype

    dtype = own_dtype(module)
    plan = from_module(module, dtype=dtype)
    config = getattr(module, "config", None)
    raw = config.to_dict() if config is not None and callable(getattr(config, "to_dict", 0)) else {}
    return Model(
        reference=plan.cls,
        name=plan.cls,
        revision=None,
        parts=(
            ModelPart(name="", library="torch", blueprint=plan, config={**raw, "dtype": dtype}),
        ),
        read_from=("the live module",),
    )
