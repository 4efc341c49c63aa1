"""Remarks, a line each, on settings whose effects a user may not expect."""

from collections.abc import Callable, Mapping

from weighbridge.base.dtypes import FLOAT32
from weighbridge.base.records import replace
from weighbridge.base.sentences import clauses, sentence
from weighbridge.engines.engine import written
from weighbridge.engines.transformers import formats
from weighbridge.memory.components.weights import BITSANDBYTES, unpacked_experts
from weighbridge.models.arch.model_types import differs, facts
from weighbridge.training import packages, unsloth
from weighbridge.training.adapters import barred, matched
from weighbridge.training.kbit import four_bits
from weighbridge.training.parameters import members
from weighbridge.training.plan import TrainingPlan

FLAGS = {"image": "--images", "audio": "--audio-seconds"}
# Frameworks with selective checkpointing as a setting; torchtune's recomputes whole layers
OWN_SELECTION = ("torchtitan",)


def remarks(plan: TrainingPlan) -> list[str]:
    return [line for line in (remark(plan) for remark in REMARKS) if line]


def _emulated(plan: TrainingPlan) -> str:
    """Return a remark that the GPU emulates bfloat16; "" if it has units for it."""
    asked = plan.framework.lowers and plan.precision.autocast
    emulation = formats.emulated(plan.part, asked or plan.computing)
    if not emulation:
        return ""
    if plan.framework.lowers and plan.part is not None:
        reason = formats.missing_units(plan.part, "bfloat16")
        return sentence("float16_itself", lacking=reason, framework=plan.framework.name)
    if refused(plan):
        return sentence("trainer_refuses", emulation=emulation)
    return sentence("emulation_slow", emulation=emulation)


# torch.cuda.is_bf16_supported, which transformers' Trainer calls (utils/import_utils.py,
# is_torch_bf16_gpu_available): False on a V100 with 2.2.2 (pytorch issue 124996), True if torch
# emulates it since (a T4: issue 387 of github.com/MakazhanAlpamys/Soup); of 2.3 it is assumed
EMULATES = (2, 4)


def refused(plan: TrainingPlan) -> str:
    """Return why the trainer refuses bf16 on this GPU; "" if no reason is known."""
    trainers = ("trainer", "trl", "axolotl")
    if plan.framework.name not in trainers or plan.precision.name not in ("bf16", "bf16-mixed"):
        return ""
    if plan.torch >= EMULATES or not formats.emulated(plan.part, plan.computing):
        return ""
    return sentence("fp16_mixed")


def _float32_base(plan: TrainingPlan) -> str:
    """Return a remark that TRL loads float32 by default (model_init_kwargs: dtype), others 16 bits;
    "" if it does not apply."""
    named = plan.asked_dtype or plan.framework.name != "trl"
    if named or plan.dtype != FLOAT32 or plan.precision.autocast is None:
        return ""
    return clauses(sentence("trl_float32.weights"), sentence("trl_weighs"))


def _experts(plan: TrainingPlan) -> str:
    return unpacked_experts(
        plan.subject.part, replace(plan.subject.choice, dtype=plan.dtype), plan.major
    )


def _upcast(plan: TrainingPlan) -> str:
    """Return a remark on PEFT's casts of a quantized base."""
    form = plan.subject.choice.scheme
    if form is None:
        return ""
    if plan.base.upcast != "none":
        return clauses(sentence(f"casts.{plan.base.upcast}"), sentence("casts.without"))
    if plan.base.asked_upcast not in (None, "none"):
        return sentence("upcast_unused", value=plan.base.asked_upcast, form=form.name)
    return ""


def _barred(plan: TrainingPlan) -> str:
    """Return a remark that newer releases of PEFT refuse an adapter on one of the targets; "" if
    none does."""
    since, adapters = facts(plan.subject.model_type).training.no_lora_since, plan.adapters
    if not since or adapters is None:
        return ""
    specs = members(plan.subject.part.blueprint, major=plan.major).specs
    path = barred(matched(specs, adapters.targets), plan.subject.model_type, adapters.tuner)
    if not path:
        return ""
    target, kind = path.rpartition(".")[2], plan.subject.model_type
    return sentence("lora_barred", since=since, target=target, kind=kind)


def _packed(plan: TrainingPlan) -> str:
    form = plan.subject.choice.scheme
    if form is None or form.name.startswith(BITSANDBYTES):
        return formats.without_kernels(plan.part, plan.subject.choice)
    if plan.base.kernel is None:
        return sentence("dequantized_one", form=form.name)
    if form.name.startswith("gptq") and plan.base.asked_kernel is None:
        return sentence("gptq_linear")
    return ""


def _kernels(plan: TrainingPlan) -> str:
    """Return a remark that layers with package kernels are counted as torch runs them, if the user
    did not set whether the packages are installed."""
    names = packages.of(plan.subject.body)
    if plan.asked_kernels is not None or not names or plan.framework.loads != "transformers":
        return ""
    if packages.modelled(plan.subject.body):
        return sentence("kernels", names=names)
    return sentence("kernels_less", names=names)


def _balanced(plan: TrainingPlan) -> str:
    """Return a remark that ranks of expert parallelism may receive more tokens than they send."""
    if plan.sharding.expert == 1:
        return ""
    return sentence("balanced")


def _virtual(plan: TrainingPlan) -> str:
    """Return a remark that the number of virtual tokens is assumed, as PEFT has no default; "" if
    it is set."""
    if plan.adapters is None or not plan.adapters.assumed_tokens:
        return ""
    return sentence("virtual_tokens", count=plan.adapters.virtual_tokens)


def _selective(plan: TrainingPlan) -> str:
    if plan.checkpointing != "selective" or plan.framework.name in OWN_SELECTION:
        return ""
    return sentence("selective", framework=plan.framework.name)


def _items(plan: TrainingPlan) -> str:
    """Return a remark that the step of an encoder is not counted without images or audio; "" if
    there are some."""
    kinds = {t.kind for t in plan.subject.body.towers}
    asked = {kind for kind, count in plan.items.items() if count}
    if differs(plan.subject.model_type, "own_items"):
        return _of_a_batch(plan, asked)
    without = sorted(kinds - asked)
    if not without:
        return ""
    return sentence("without_items" if len(without) > 1 else f"without.{without[0]}")


def _of_a_batch(plan: TrainingPlan, kinds: set[str]) -> str:
    sized = plan.image_size is not None and differs(plan.subject.model_type, "sized_images")
    if not kinds or (sized and kinds == {"image"}):
        return ""
    flags = " and ".join(FLAGS[kind] for kind in sorted(kinds))
    return sentence("own_items", flags=flags, kind=plan.subject.model_type)


def _whole(plan: TrainingPlan) -> str:
    """Return a remark on quantized weights that are replicated on every rank
    (sharding/numbers.py)."""
    form, s = plan.subject.choice.scheme, plan.sharding
    if form is None or plan.codes in ("parts", "all") or not s.parameters:
        return ""
    by = "FSDP" if s.fully else "ZeRO-3"
    if four_bits(form):
        return sentence("whole_integers", by=by)
    if plan.codes == "both":
        return sentence("whole_int8", by=by)
    return sentence("whole_packed", form=form.name, by=by)


def _version(plan: TrainingPlan) -> str:
    """Return a remark that the framework's version changes nothing here, if the user sets one."""
    if plan.release is None or plan.framework.versioned or plan.framework.older:
        return ""
    return sentence("framework_version", framework=plan.framework.name)


def _newer(plan: TrainingPlan) -> str:
    """Return a remark on set releases that are newer than those whose sources were read."""
    asked = {
        "torch": plan.torch,
        "accelerate": plan.accelerate,
        "DeepSpeed": plan.zero.version,
        "bitsandbytes": plan.base.bitsandbytes,
        plan.framework.name: plan.release,
    }
    newer = [n for n, read in NEWEST.items() if (asked.get(n) or ())[:2] > read]
    releases = ((name, written(asked[name] or ()), written(NEWEST[name])) for name in newer)
    return clauses(
        *(sentence("newer", library=name, version=v, last=last) for name, v, last in releases)
    )


NEWEST: Mapping[str, tuple[int, int]] = {  # releases whose sources were read
    "torch": (2, 14),
    "accelerate": (1, 15),
    "DeepSpeed": (0, 19),
    "bitsandbytes": (0, 50),
    "trl": (1, 16),
    "litgpt": (0, 5),
    "torchtitan": (2026, 8),
}
REMARKS: tuple[Callable[[TrainingPlan], str], ...] = (
    _emulated,
    _float32_base,
    _experts,
    unsloth.remark,
    _barred,
    _upcast,
    _packed,
    _kernels,
    _balanced,
    _virtual,
    _selective,
    _items,
    _whole,
    _version,
    _newer,
)
