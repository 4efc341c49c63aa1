"""Remarks on settings, a line each, of which a user may not expect what they do."""

from collections.abc import Callable, Mapping

from weighbridge.base.dtypes import FLOAT32
from weighbridge.base.records import replace
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
# Frameworks whose own setting it is; torchtune's selective mode recomputes whole layers
OWN_SELECTION = ("torchtitan",)


def remarks(plan: TrainingPlan) -> list[str]:
    return [line for line in (remark(plan) for remark in REMARKS) if line]


def _emulated(plan: TrainingPlan) -> str:
    """Say what becomes of bfloat16 on a card without units for it."""
    emulation = formats.emulated(plan.part, plan.computing)
    if not emulation:
        return ""
    if plan.framework.lowers and plan.part is not None:
        reason = formats.missing_units(plan.part, "bfloat16")
        return f"{reason}: {plan.framework.name} takes float16 by itself"
    if refused(plan):
        return f"{emulation}, and the Trainer refuses it; use --precision fp16-mixed"
    return f"{emulation}, which is slow; --precision fp16-mixed takes as much memory"


# torch.cuda.is_bf16_supported, which transformers' Trainer asks (utils/import_utils.py,
# is_torch_bf16_gpu_available): False on a V100 with 2.2.2 (pytorch issue 124996), True where torch
# emulates it since (a T4: issue 387 of github.com/MakazhanAlpamys/Soup); of 2.3 it is assumed
EMULATES = (2, 4)


def refused(plan: TrainingPlan) -> str:
    """Say why the launch does not run as asked; "" where nothing is known against it."""
    trainers = ("trainer", "trl", "axolotl")
    if plan.framework.name not in trainers or plan.precision.name not in ("bf16", "bf16-mixed"):
        return ""
    if plan.torch >= EMULATES or not formats.emulated(plan.part, plan.computing):
        return ""
    return "only with --precision fp16-mixed: the Trainer refuses bfloat16 on this card"


def _float32_base(plan: TrainingPlan) -> str:
    """TRL's own default (model_init_kwargs: dtype), where others load the model's 16 bits."""
    frozen = plan.method != "full"
    if plan.framework.name != "trl" or plan.dtype != FLOAT32 or plan.precision.autocast is None:
        return ""
    what = "the frozen base, too, is" if frozen else "weights are"
    if plan.subject.choice.scheme is not None:
        what = "what is not packed of the frozen base is"
    return (
        f"trl loads in float32 unless model_init_kwargs name a dtype: {what} twice as large as in "
        f'16 bits; --dtype bfloat16 weighs it with dtype="bfloat16"'
    )


def _experts(plan: TrainingPlan) -> str:
    return unpacked_experts(
        plan.subject.part, replace(plan.subject.choice, dtype=plan.dtype), plan.major
    )


def _upcast(plan: TrainingPlan) -> str:
    """Say what PEFT's recipe does to a base that is packed."""
    form = plan.subject.choice.scheme
    if form is None:
        return ""
    if plan.base.upcast != "none":
        return f"{CASTS[plan.base.upcast]}; without that call: --kbit-upcast none"
    if plan.base.asked_upcast not in (None, "none"):
        return (
            f"--kbit-upcast {plan.base.asked_upcast} changes nothing: PEFT leaves {form.name} as "
            "it is"
        )
    return ""


def _barred(plan: TrainingPlan) -> str:
    """Say that newer releases of PEFT refuse one of the targets."""
    since, adapters = facts(plan.subject.model_type).training.no_lora_since, plan.adapters
    if not since or adapters is None:
        return ""
    specs = members(plan.subject.part.blueprint, major=plan.major).specs
    path = barred(matched(specs, adapters.targets), plan.subject.model_type, adapters.tuner)
    if not path:
        return ""
    return (
        f"--lora-targets: PEFT {since} and newer refuses {path.rpartition('.')[2]} of "
        f"{plan.subject.model_type}, whose kernels read past its adapter; it was counted as older "
        "releases train it"
    )


def _packed(plan: TrainingPlan) -> str:
    form = plan.subject.choice.scheme
    if form is None or form.name.startswith(BITSANDBYTES):
        return formats.without_kernels(plan.part, plan.subject.choice)
    if plan.base.kernel is None:
        return (
            f"linears in {form.name} are taken to be dequantized one at a time, as bitsandbytes' "
            "in 4 bits are; a kernel that keeps each of them is in the high estimate"
        )
    if form.name.startswith("gptq") and plan.base.asked_kernel is None:
        return (
            "every linear in GPTQ is taken to keep its weight in 16 bits from forward to backward, "
            "as torch's kernel does; the low estimate is without: --gptq-kernel says which runs"
        )
    return ""


def _kernels(plan: TrainingPlan) -> str:
    """Say that layers with kernels of packages are counted as torch runs them, where nobody said
    whether those are installed."""
    names = packages.of(plan.subject.body)
    if plan.asked_kernels is not None or not names or plan.framework.loads != "transformers":
        return ""
    if packages.modelled(plan.subject.body):
        return f"counted without {names}, which takes more: --kernels installed weighs it with them"
    return f"counted without {names}, which takes more: with them a step takes less"


def _balanced(plan: TrainingPlan) -> str:
    """Say that ranks with other experts may be sent more tokens than they send."""
    if plan.sharding.expert == 1:
        return ""
    return (
        "experts are taken to be chosen evenly: a rank whose experts are chosen more often is sent "
        "more tokens, and takes more"
    )


def _virtual(plan: TrainingPlan) -> str:
    """Say how many tokens are trained where nobody said: PEFT has no default."""
    if plan.adapters is None or not plan.adapters.assumed_tokens:
        return ""
    return (
        f"{plan.adapters.virtual_tokens} tokens are taken to be trained, as in PEFT's examples: "
        "--virtual-tokens says how many"
    )


def _selective(plan: TrainingPlan) -> str:
    if plan.checkpointing != "selective" or plan.framework.name in OWN_SELECTION:
        return ""
    return (
        f"--checkpointing selective is no setting of {plan.framework.name}: every second product "
        "is kept, as torchtitan's policy does"
    )


def _items(plan: TrainingPlan) -> str:
    """Say that sequences without images or sounds leave their tower's step uncounted."""
    kinds = {t.kind for t in plan.subject.body.towers}
    asked = {kind for kind, count in plan.items.items() if count}
    if differs(plan.subject.model_type, "own_items"):
        return _of_a_batch(plan, asked)
    without = sorted(kinds - asked)
    if not without:
        return ""
    return (
        f"sequences have no {' and no '.join(without)} in them: its tower's weights are counted, "
        f"what it takes in a step is not ({', '.join(FLAGS[kind] for kind in without)})"
    )


def _of_a_batch(plan: TrainingPlan, kinds: set[str]) -> str:
    sized = plan.image_size is not None and differs(plan.subject.model_type, "sized_images")
    if not kinds or (sized and kinds == {"image"}):
        return ""
    return (
        f"{' and '.join(FLAGS[kind] for kind in sorted(kinds))} changes nothing: "
        f"{plan.subject.model_type} is trained on batches of its own items, of its config's size; "
        "--batch-size counts them"
    )


def _whole(plan: TrainingPlan) -> str:
    """Say which packed weights are whole on each rank (sharding/numbers.py)."""
    form, s = plan.subject.choice.scheme, plan.sharding
    if form is None or plan.codes in ("parts", "all") or not s.parameters:
        return ""
    by = "FSDP" if s.fully else "ZeRO-3"
    if four_bits(form):
        return (
            f"packed weights are integers, which accelerate leaves whole on every rank under {by}: "
            "--bnb-4bit-quant-storage bfloat16 shares them out"
        )
    if plan.codes == "both":
        return f"bitsandbytes keeps weights in 8 bits whole on every rank, beside {by}'s parts"
    return f"packed weights in {form.name} are no parameters: {by} leaves them whole on every rank"


def _version(plan: TrainingPlan) -> str:
    """Say that a framework's version changes nothing: silence would say that it was heeded."""
    if plan.release is None or plan.framework.versioned or plan.framework.older:
        return ""
    libraries = "--engine-version (transformers), --torch-version, --accelerate-version"
    return (
        f"--framework-version changes nothing: no rule of {plan.framework.name} depends on it; "
        f"what does is {libraries}"
    )


def _newer(plan: TrainingPlan) -> str:
    """Say of releases that are newer than those whose sources our rules were read in."""
    asked = {
        "torch": plan.torch,
        "accelerate": plan.accelerate,
        "DeepSpeed": plan.zero.version,
        "bitsandbytes": plan.base.bitsandbytes,
        plan.framework.name: plan.release,
    }
    newer = [n for n, read in NEWEST.items() if (asked.get(n) or ())[:2] > read]
    return "; ".join(
        f"{name} {written(asked[name] or ())}: our rules are for releases up to "
        f"{written(NEWEST[name])}, and those are used"
        for name in newer
    )


NEWEST: Mapping[str, tuple[int, int]] = {  # releases that we read
    "torch": (2, 14),
    "accelerate": (1, 15),
    "DeepSpeed": (0, 19),
    "bitsandbytes": (0, 50),
    "trl": (1, 16),
    "litgpt": (0, 5),
    "torchtitan": (2026, 8),
}
CASTS = {
    "peft": "QLoRA: embeddings, norms and hidden states count in float32, because PEFT's "
    "prepare_model_for_kbit_training casts them",
    "trl": "norms are taken as cast to float32, and what follows them with it, embedding and head "
    "as bfloat16, as TRL's peft_module_casting_to_bf16 leaves them",
    "norms": "norms are taken as cast to float32, and what follows them with it, as TRL 0.25's "
    "prepare_model_for_kbit_training does it",
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
