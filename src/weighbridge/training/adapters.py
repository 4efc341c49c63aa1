"""Adapters of PEFT, and the modules that PEFT puts them on.

    names         a module whose path is, or ends in, one of them
    pattern       a single text with a sign of regular expressions: the whole path
    all-linear    every linear but the head (the classifier of a classification model)
    none given    by model type
    state spaces  LoRA and methods like it: PEFT refuses out_proj, which kernels read past adapters
    experts       linears of each expert, and the router's, are parameters since transformers 5:
                  gate and up together at twice the rank, down, the router

Source: PEFT 0.21 tuners/tuners_utils.py (check_target_module_exists,
_maybe_include_all_linear_layers, _check_lora_target_modules_mamba), utils/constants.py,
utils/transformers_weight_conversion.py (_convert_peft_config_moe).
"""

import re
from collections.abc import Iterable, Mapping, Sequence

from weighbridge.base.dtypes import FLOAT32, DType
from weighbridge.base.errors import TriedError, UsageError
from weighbridge.base.records import NamedTuple, frozen_record
from weighbridge.base.sentences import sentence
from weighbridge.models.arch.model_types import facts
from weighbridge.models.arch.roles import makes_labels, makes_logits
from weighbridge.training.forward.modules import ParameterSpec

ALL = "all-linear"
# transformers 5.23 conversion_mapping.py: the linears that became one parameter, (the first, the
# second or both) and the one behind them
EXPERTS: Mapping[str, tuple[tuple[str, ...], str]] = {
    "w1_w3": (("w1", "w3"), "w2"),
    "gate_up": (("gate_proj", "up_proj"), "down_proj"),
}
LIKE_LORA = ("", "adalora", "randlora")  # tuners with LoRA's targets: LoRA itself has no name
PATTERN = re.compile(r"[\\^$*+?\[\](){}|]")
LINEARS = ("linear", "conv1d", "expert")  # one expert of transformers 4 is made of linears


@frozen_record
class Adapters:
    """Settings of adapters. `targets` are as the user writes them: module names, a regex,
    "all-linear"."""

    r: int
    alpha: int
    targets: tuple[str, ...]
    dropout: float = 0.0
    dora: bool = False
    tuner: str = ""  # another PEFT method (training/tuners.py, prompts.py)
    size: int = 0  # only of `tuner`: FourierFT's frequencies, the side of BOFT's blocks
    virtual_tokens: int = 0  # trained virtual tokens, put before the sequence
    assumed_tokens: bool = False  # the user did not set the number of virtual tokens
    rslora: bool = False
    dtype: DType = FLOAT32  # PEFT's autocast_adapter_dtype
    modules_to_save: tuple[str, ...] = ()


def usual(model_type: str) -> tuple[str, ...] | None:
    """Return PEFT's default target modules for the model type
    (TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING of its utils/constants.py), None if it has
    none."""
    return facts(model_type).training.lora or None


def matched(
    params: Iterable[ParameterSpec], targets: Sequence[str], whole: Sequence[str] = ()
) -> list[str]:
    """Return the paths of modules that get an adapter, in the class's order; modules saved `whole`
    get none. Raises UsageError if nothing matches."""
    weights = [h for h in params if h.name.endswith(".weight")]
    linears = [h.name.removesuffix(".weight") for h in weights if h.kind in LINEARS]
    linears = [n for n in linears if not _within(n, whole)]
    if list(targets) == [ALL]:
        return [n for n in linears if not _head(n)]
    names = [n for n in linears if _targeted(n, targets)]
    if not names:
        known = ", ".join(sorted({n.rpartition(".")[2] for n in linears}))
        raise UsageError(sentence("adapters.no_linear", targets=",".join(targets), known=known))
    return names


def usual_names(params: Iterable[ParameterSpec], model_type: str, tuner: str) -> tuple[str, ...]:
    """Return the targets assumed for a model type without PEFT defaults: every linear that PEFT
    accepts."""
    refused = _refused(model_type, tuner)
    if not refused:
        return (ALL,)
    weights = (h.name for h in params if h.name.endswith(".weight") and h.kind in LINEARS)
    paths = [name.removesuffix(".weight") for name in weights]
    names = dict.fromkeys(path.rpartition(".")[2] for path in paths if not _head(path))
    return tuple(name for name in names if name not in refused)


def barred(paths: Iterable[str], model_type: str, tuner: str) -> str:
    """Return the path of the first module on which PEFT refuses an adapter; "" for none."""
    refused = _refused(model_type, tuner)
    return next((path for path in paths if path.rpartition(".")[2] in refused), "")


def refuse_targets(paths: Iterable[str], model_type: str, tuner: str) -> None:
    """Raise UsageError if every release of PEFT refuses an adapter on one of the modules."""
    path = barred(paths, model_type, tuner)
    if path and not facts(model_type).training.no_lora_since:
        raise TriedError(
            sentence("adapters.barred", name=path, kind=model_type),
            seen="peft tuners/tuners_utils.py: is incompatible with Mamba-based models",
        )


def _refused(model_type: str, tuner: str) -> tuple[str, ...]:
    return facts(model_type).training.no_lora if tuner in LIKE_LORA else ()


class ExpertTarget(NamedTuple):
    """A targeted parameter that stacks all experts, or is a router's; its rank is `ranks` times the
    adapters'."""

    name: str
    ranks: int


def experts(
    params: Iterable[ParameterSpec], model_type: str, targets: Sequence[str]
) -> tuple[list[ExpertTarget], list[str]]:
    """Return (parameters to adapt, other targets, which name linears). Raises UsageError if only
    one of two joined parameters is named."""
    kind = facts(model_type).training.experts_were
    stacks = [h for h in params if h.kind == "experts" and len(h.shape) == 3]
    if not kind or not stacks:
        return [], list(targets)
    everything = list(targets) == [ALL]
    up, back = EXPERTS[kind]
    named = {t.rpartition(".")[2] for t in targets} | ({*up, back, "gate"} if everything else set())
    if 0 < len(named & set(up)) < len(up):
        raise UsageError(sentence("adapters.joined", names=" and ".join(up)))
    chosen = []
    for h in params:
        leaf = h.name.rpartition(".")[2]
        if leaf == "gate_up_proj" and up[0] in named:
            chosen.append(ExpertTarget(h.name, 2))
        elif (leaf == "down_proj" and back in named) or (
            h.name.endswith(".gate.weight") and "gate" in named
        ):
            chosen.append(ExpertTarget(h.name, 1))
    others = [ALL] if everything else [t for t in targets if t not in (*up, back, "gate")]
    return chosen, others


def saved(params: Iterable[str], whole: Sequence[str]) -> list[str]:
    """Return the names of parameters in modules trained whole (modules_to_save). Raises UsageError
    for unknown modules."""
    names = list(params)
    for name in whole:
        if not any(_within(n, (name,)) for n in names):
            known = ", ".join(sorted({n.split(".")[0] for n in names} - {"model", "transformer"}))
            raise UsageError(sentence("adapters.no_module", name=name, known=known))
    return [n for n in names if _within(n, whole)]


def _within(name: str, modules: Sequence[str]) -> bool:
    return any(re.match(rf"(?:^|.*\.){re.escape(m)}(?:$|\..*)", name) for m in modules)


def _head(name: str) -> bool:
    weight = f"{name}.weight"
    return makes_logits(weight) or makes_labels(weight)


def _targeted(name: str, targets: Sequence[str]) -> bool:
    if len(targets) == 1 and PATTERN.search(targets[0]):
        return re.fullmatch(targets[0], name) is not None
    return any(name == t or name.endswith(f".{t}") for t in targets)
