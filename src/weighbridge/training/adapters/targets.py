"""Which modules an adapter is put on, as PEFT decides it.

    names         a module whose path is, or ends in, one of them
    pattern       a single text with a sign of regular expressions: the whole path
    all-linear    every linear but the head (the classifier of a classification model)
    none given    by model type
    experts       what was a linear of each expert, and the router's, is a parameter since
                  transformers 5: gate and up together at twice the rank, down, the router

Source: PEFT 0.21 tuners/tuners_utils.py (check_target_module_exists,
_maybe_include_all_linear_layers), utils/constants.py, utils/transformers_weight_conversion.py
(_convert_peft_config_moe).
"""

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from weighbridge.arch.bodies import LABELS, LOGITS
from weighbridge.errors import UsageError
from weighbridge.training.tensors import Held

ALL = "all-linear"
# utils/constants.py, TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING: model types -> names
USUAL = (
    ("t5 mt5", "q v"),
    ("bart opt gptj gpt_neo llama llama4 mistral mixtral stablelm", "q_proj v_proj"),
    ("gemma gemma2 gemma3_text qwen2 qwen3", "q_proj v_proj"),
    ("gpt2 gpt_bigcode", "c_attn"),
    ("bloom gpt_neox chatglm RefinedWebModel RefinedWeb falcon", "query_key_value"),
    ("blip-2", "q v q_proj v_proj"),
    ("bert roberta xlm-roberta electra layoutlm", "query value"),
    ("deberta-v2", "query_proj value_proj"),
    ("deberta", "in_proj"),
    ("mpt", "Wqkv"),
    ("codegen", "qkv_proj"),
    ("phi", "q_proj v_proj fc1 fc2"),
    ("nemotron_h", "q_proj k_proj v_proj o_proj"),
    ("rwkv", "key value receptance output"),
)
# transformers 5.23 conversion_mapping.py: types whose experts were converted so
MIXTRALS = "mixtral minimax minimax_m2"
QWENS = """
    qwen2_moe afmoe deepseek_v2 deepseek_v3 deepseek_v32 dots1 ernie4_5_moe glm4_moe glm4_moe_lite
    glm_moe_dsa glm4v_moe longcat_flash solar_open mellum qwen3_moe beam qwen3_omni_moe
    qwen3_omni_moe_thinker qwen3_omni_moe_text qwen3_next hunyuan_v1_moe flex_olmo olmoe exaone_moe
    cohere2_moe
"""
GATED = {"mixtral": ("w1", "w3"), "qwen2_moe": ("gate_proj", "up_proj")}
BACK = {"mixtral": "w2", "qwen2_moe": "down_proj"}
KINDS = {"mixtral": MIXTRALS, "qwen2_moe": QWENS}
PATTERN = re.compile(r"[\\^$*+?\[\](){}|]")
LINEARS = ("linear", "conv1d")


def usual(model_type: str) -> tuple[str, ...] | None:
    """PEFT's own choice, None where it has none."""
    for types, names in USUAL:
        if model_type in types.split():
            return tuple(names.split())
    return None


def matched(params: Iterable[Held], targets: Sequence[str], whole: Sequence[str] = ()) -> list[str]:
    """Paths of the modules, in the class's order; those that are saved `whole` have no adapter.
    Raises UsageError where there are none."""
    weights = [h for h in params if h.name.endswith(".weight")]
    linears = [h.name.removesuffix(".weight") for h in weights if h.kind in LINEARS]
    linears = [n for n in linears if not _within(n, whole)]
    if list(targets) == [ALL]:
        return [n for n in linears if not _head(n)]
    found = [n for n in linears if _targeted(n, targets)]
    if not found:
        known = ", ".join(sorted({n.rpartition(".")[2] for n in linears}))
        raise UsageError(
            f"--lora-targets {','.join(targets)}: no linear of the model is called so; it has "
            f"{known}"
        )
    return found


class Stack(NamedTuple):
    """A parameter of all experts, or a router's, with how many times the rank it has."""

    name: str
    ranks: int


def experts(
    params: Iterable[Held], model_type: str, targets: Sequence[str]
) -> tuple[list[Stack], list[str]]:
    """(what is adapted as a parameter, targets that are left for linears). Raises UsageError where
    one of two that are joined is named without the other."""
    kind = next((k for k, types in KINDS.items() if model_type in types.split()), None)
    stacks = [h for h in params if h.kind == "experts" and len(h.shape) == 3]
    if kind is None or not stacks:
        return [], list(targets)
    everything = list(targets) == [ALL]
    up, back = GATED[kind], BACK[kind]
    named = {t.rpartition(".")[2] for t in targets} | ({*up, back, "gate"} if everything else set())
    if 0 < len(named & set(up)) < len(up):
        raise UsageError(
            f"--lora-targets: {' and '.join(up)} of the experts are one parameter; name both"
        )
    found = []
    for h in params:
        leaf = h.name.rpartition(".")[2]
        if leaf == "gate_up_proj" and up[0] in named:
            found.append(Stack(h.name, 2))
        elif (leaf == "down_proj" and back in named) or (
            h.name.endswith(".gate.weight") and "gate" in named
        ):
            found.append(Stack(h.name, 1))
    rest = [ALL] if everything else [t for t in targets if t not in (*up, back, "gate")]
    return found, rest


def saved(params: Iterable[str], whole: Sequence[str]) -> list[str]:
    """Parameters of the modules that are trained whole (modules_to_save). Raises UsageError."""
    names = list(params)
    for name in whole:
        if not any(_within(n, (name,)) for n in names):
            known = ", ".join(sorted({n.split(".")[0] for n in names} - {"model", "transformer"}))
            raise UsageError(
                f"--modules-to-save {name}: no module of the model is called so; beside its layers "
                f"it has {known}"
            )
    return [n for n in names if _within(n, whole)]


def _within(name: str, modules: Sequence[str]) -> bool:
    return any(re.match(rf"(?:^|.*\.){re.escape(m)}(?:$|\..*)", name) for m in modules)


def _head(name: str) -> bool:
    weight = f"{name}.weight"
    return bool(LOGITS.search(weight) or LABELS.search(weight))


def _targeted(name: str, targets: Sequence[str]) -> bool:
    if len(targets) == 1 and PATTERN.search(targets[0]):
        return re.fullmatch(targets[0], name) is not None
    return any(name == t or name.endswith(f".{t}") for t in targets)
