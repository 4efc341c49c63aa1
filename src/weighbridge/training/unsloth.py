"""Unsloth's own loader and loss: what is in 4 bits, in which dtype layers run, how long a chunk is.

    experts    quantized whatever the class has them as: separate linears for gpt-oss, Params4bit
               for the stacks of transformers 5; routers are not
    dynamic    the copies that it downloads by itself (unsloth-bnb-4bit) leave more linears in 16
               bits. Their configs list them; without one a share of weights is open, and encoders
    stacks     of transformers 5 stayed in 16 bits up to unsloth_zoo 2026.6.1, whose newest
               transformers was 5.5, as that of 2026.7.1; 2026.6.7 quantizes them
    gpt-oss    its copies leave attention: 20B and 120B took 12.8 and 59.3 GiB when loaded, 11.7 and
               57.8 with attention in 4 bits, 12.6 and 59.1 without
    float32    classes whose values overflow float16: on cards without bfloat16 hidden states
               between layers are float32, and so are the MLP's and attention's outputs
    llama      is the class of copies of Phi-3, 3.5 and 4, whose projections are separate
    encoders   run as torch compiles them, without checkpoints unless the user sets them
    loss       before 2024.11.7 there were all logits, in 16 bits with their gradient over them, and
               after the forward in float32 (accelerate, of a model's outputs). Then a kernel
               made none, except for classes whose language model is a part. From 2025.8.5 to
               2026.9.2 chunks had 4 bytes per logit in half of what is free, from 2026.7 in 4 GiB
               at most, and were one or multiples of four. A chunk took 2.5 to 7 bytes per logit in
               eight notebooks: torch.compile may keep its float32 form, or may not

Source: unsloth_zoo 2025.10.1 to 2026.10.9 (also 2026.6.7, 2026.7.1, 2026.9.2, 2026.9.3)
model_lists.py, fused_losses/cross_entropy_loss.py; unsloth 2024.4 to 2025.8 models/llama.py
(CausalLM_fast_forward); unsloth_zoo temporary_patches/{gpt_oss,gemma,moe_utils_bnb4bit}.py; unsloth
2026.10.9 models/loader.py, models/mapper.py; unslothai/unsloth 015bdef0 models/
sentence_transformer.py; unslothai/notebooks bdda2efc (both sizes of gpt-oss; Phi_3.5_Mini: "Fast
Llama patching", 29,884,416 trained); the card of unsloth/phi-4-unsloth-bnb-4bit.
"""

from collections.abc import Iterator
from math import ceil
from typing import TYPE_CHECKING

from weighbridge.base.memory import Bytes, Component
from weighbridge.base.records import replace
from weighbridge.base.sentences import sentence
from weighbridge.base.units import GIB
from weighbridge.engines.interface import Subject
from weighbridge.engines.transformers.formats import lacks
from weighbridge.machines.accelerators.chips import BFLOAT16_SINCE
from weighbridge.memory.components.weights import EXPERTS, MERGES, weight_bytes
from weighbridge.models.checkpoint.gather import gather_config
from weighbridge.models.checkpoint.model import Model, resolve
from weighbridge.models.quantization.scheme import in_tower
from weighbridge.training.kbit import experts_too

if TYPE_CHECKING:
    from weighbridge.machines.accelerators.parts import Part
    from weighbridge.training.frameworks import Framework
    from weighbridge.training.plan import TrainingPlan

NAME = "unsloth"
EXPERTS_ALONE = ("gpt_oss",)  # whose copies quantize only experts
_WIDE = """
embedding_gemma2 gemma3 gemma3n gemma4 glm4_moe glm4_moe_lite gpt_oss qwen3_5 qwen3_5_moe
qwen3_moe
"""
WIDE = tuple(_WIDE.split())
ENCODERS = (
    "albert",
    "bert",
    "distilbert",
    "electra",
    "modernbert",
    "mpnet",
    "roberta",
    "xlm-roberta",
)
# Classes with such copies (INT_TO_FLOAT_MAPPER); of others it quantizes all linears itself
_DYNAMIC = """
apertus aya_vision cohere cohere2 gemma3 gemma3n gemma4 granite granitemoehybrid lfm2 llama
llava llava_next ministral3 mistral mistral3 mixtral mllama olmo2 olmo3 phi3 qwen2 qwen2_5_vl
qwen2_vl qwen3 qwen3_5 qwen3_moe qwen3_vl
"""
DYNAMIC = tuple(_DYNAMIC.split())
# percent of the weights. Loaded copies took more than with all linears in 4 bits: Llama 3.3 70B 4
# %, Gemma 4 31B 8 %, Phi-4 17 %, Qwen3 14B 22 % (unslothai/notebooks bdda2efc)
MOST_LEFT = 25
UNPACKED_WITH = (5, 5)
# Bytes per logit of a chunk: in 16 bits, and in float32 if torch.compile does not fuse it
LOGIT, WIDE_LOGIT = 2, 4
# Unsloth releases since which a kernel makes no logits, logits are made in chunks, float32 logits
# of a chunk take at most 4 GiB, and those in all dtypes do
CUT, FUSED, CAPPED, SHORT = (2024, 11, 7), (2025, 8, 5), (2026, 7), (2026, 9, 3)


def copied(model: Model) -> Model:
    """Return the model with the class of the copy that Unsloth downloads: Phi-3's with full rotary
    is Llama's."""
    config = model.parts[0].config
    if config.get("model_type") != "phi3" or config.get("partial_rotary_factor", 1) != 1:
        return model
    llama = {**config, "model_type": "llama", "architectures": ["LlamaForCausalLM"]}
    return replace(model, parts=resolve(gather_config(llama)).parts)


def fetched(subject: Subject) -> Subject:
    """Return the model as Unsloth loads it, with experts in 4 bits; unchanged if it is not in 4
    bits."""
    listed = subject.part.quantization is not None
    return experts_too(subject, NAME, others=listed or _kind(subject) not in EXPERTS_ALONE)


def _kind(subject: Subject) -> str:
    return subject.model_type.removesuffix("_text")


def checkpointing(subject: Subject, framework: "Framework") -> str:
    """Return FastSentenceTransformer's default checkpointing; "" for other classes."""
    return "none" if framework.own_copies and subject.model_type in ENCODERS else ""


def lowers(subject: Subject, framework: "Framework", card: "Part | None") -> bool:
    """Return whether an encoder runs in float16 because the GPU has no bfloat16."""
    return bool(checkpointing(subject, framework)) and lacks(card, BFLOAT16_SINCE)


def attention(subject: Subject, framework: "Framework") -> str | None:
    """Return "flex", Unsloth's attention for classes with sinks; None for others."""
    return "flex" if framework.own_copies and _kind(subject) in EXPERTS_ALONE else None


def widens(subject: Subject, framework: "Framework", card: "Part | None") -> bool:
    """Return whether layers run in float32 because the card has no bfloat16."""
    return framework.own_copies and _kind(subject) in WIDE and lacks(card, BFLOAT16_SINCE)


def components(
    plan: "TrainingPlan", phase: str, loaded: int, activations: int
) -> Iterator[Component]:
    """Yield what Unsloth's own quantized copies and its older releases may hold besides; `loaded`
    bytes are on the card when training begins, `activations` are the bytes counted in this
    phase."""
    if not plan.framework.own_copies:
        return
    left = _left(plan.subject)
    if plan.stream is not None and phase != "load":
        yield Component(
            name="activations",
            detail="in float32",
            bytes=Bytes(0, 0, activations),
            basis="assumed",
            formula="as many bytes again: gate, up, queries, keys and values are cast, too",
            source="unsloth_zoo 2026.10.9 temporary_patches/gemma.py",
        )
    stacks = _stacks(plan)
    if stacks:
        yield Component(
            name="weights",
            detail="experts that may be left in 16 bits",
            bytes=Bytes(0, stacks, stacks),
            basis="assumed",
            formula="stacks of experts, as releases leave them that go with this transformers",
            source="unsloth_zoo 2026.6.1, 2026.6.7 temporary_patches/moe_utils_bnb4bit.py",
        )
    if left:
        yield Component(
            name="weights",
            detail="linears that may be left in 16 bits",
            bytes=Bytes(0, left // 2, left),
            basis="assumed",
            formula=f"up to {MOST_LEFT} % of the weights, and towers: the config of the 4 bit copy "
            "that Unsloth fetches lists them (llm_int8_skip_modules)",
            source="unslothai/notebooks bdda2efc; unsloth 2026.10.9 models/mapper.py",
        )
    if phase == "loss" and plan.loss == NAME:
        most = plan.batch * plan.length * plan.subject.body.vocab
        release = plan.release or SHORT
        part = plan.part if release >= FUSED else None  # before, there were no chunks
        free = None if part is None else part.visible.bytes.low - loaded
        chunks = older_chunks(most, free, capped=CAPPED <= release < SHORT)
        chunk = most // chunks * (LOGIT + WIDE_LOGIT)
        meant = chunk if release < CUT else chunk // 2 if FUSED <= release < SHORT else 0
        yield Component(
            name="logits",
            detail="longer chunks",
            bytes=Bytes(0, meant, chunk),
            basis="assumed",
            formula="a chunk of unsloth_zoo up to 2026.9.2, in 16 bits and in float32",
            source="unsloth_zoo 2026.4.1 fused_losses/cross_entropy_loss.py (get_chunk_size)",
        )


def _stacks(plan: "TrainingPlan") -> int:
    """Return by how many bytes stacked experts are larger in 16 bits than quantized, for releases
    of transformers whose Unsloth releases did not quantize them."""
    subject, form = plan.subject, plan.subject.choice.scheme
    if form is None or not form.stacks or _kind(subject) in EXPERTS_ALONE:
        return 0
    numbers = (p.numel * p.copies for p in subject.part.blueprint.counted if p.kind in EXPERTS)
    older = (MERGES,) <= plan.version <= UNPACKED_WITH
    return subject.choice.dtype.size(sum(numbers)) * 3 // 4 if older else 0


def remark(plan: "TrainingPlan") -> str:
    """Return a remark that Unsloth's copy decides which linears are in 4 bits."""
    if not _left(plan.subject):
        return ""
    return sentence("unsloth_copy", percent=MOST_LEFT)


def older_chunks(logits: int, free: int | None, *, capped: bool = False) -> int:
    """Return into how many chunks `logits` were split up to 2026.9.2: one if `free` bytes are
    unknown, or half of them exceed all logits in float32; else the nearest multiple of four.
    `capped`: chunks take 4 GiB at most, and their number is rounded up."""
    if free is None:
        return 1
    room = min(free // 2, 4 * GIB) if capped else free // 2
    exact = WIDE_LOGIT * logits / max(1, room)
    return max((ceil if capped else round)(exact / 4) * 4, 1) if exact > 1 else 1


def _left(subject: Subject) -> int:
    """Return the most bytes that Unsloth's copy may take besides, if no config lists the linears
    that it left in 16 bits."""
    form, part = subject.choice.scheme, subject.part
    packed = form is not None and form.maker == NAME and part.quantization is None
    if not packed or _kind(subject) not in DYNAMIC:
        return 0
    plan, dtype = part.blueprint, subject.choice.dtype
    towers = sum(
        dtype.size(p.numel * p.copies) * 3 // 4  # less what 4 bits take
        for p in plan.counted
        if p.kind == "linear" and in_tower(plan, p)
    )
    return weight_bytes(part, subject.choice, major=subject.major) * MOST_LEFT // 100 + towers
