"""Which modules an adapter is put on, as PEFT decides it.

    names         a module whose path is, or ends in, one of them
    pattern       a single text with a sign of regular expressions: the whole path
    all-linear    every linear but the head (the classifier of a classification model)
    none given    by model type

Source: PEFT 0.21 tuners/tuners_utils.py (check_target_module_exists,
_maybe_include_all_linear_layers), utils/constants.py.
"""

import re
from collections.abc import Iterable, Sequence

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
PATTERN = re.compile(r"[\\^$*+?\[\](){}|]")
LINEARS = ("linear", "conv1d")


def usual(model_type: str) -> tuple[str, ...] | None:
    """PEFT's own choice, None where it has none."""
    for types, names in USUAL:
        if model_type in types.split():
            return tuple(names.split())
    return None


def matched(params: Iterable[Held], targets: Sequence[str]) -> list[str]:
    """Paths of the modules, in the class's order. Raises UsageError where there are none."""
    weights = [h for h in params if h.name.endswith(".weight")]
    linears = [h.name.removesuffix(".weight") for h in weights if h.kind in LINEARS]
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


def _head(name: str) -> bool:
    weight = f"{name}.weight"
    return bool(LOGITS.search(weight) or LABELS.search(weight))


def _targeted(name: str, targets: Sequence[str]) -> bool:
    if len(targets) == 1 and PATTERN.search(targets[0]):
        return re.fullmatch(targets[0], name) is not None
    return any(name == t or name.endswith(f".{t}") for t in targets)
