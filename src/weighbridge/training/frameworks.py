"""Defaults of frameworks: what each does where the user says nothing, and in which dtypes it holds
what.

    precision       weights   autocast    of full fine-tuning with the Trainer or a plain loop
    bf16-mixed      float32   bfloat16
    bf16            bfloat16  none
    fp32            float32   none
    fp8-mixed       float32   bfloat16, products of linears in float8 (torchao)

    trl             float32 also where it is frozen; checkpoints; tiles of logits; by release
    axolotl         bf16-mixed: bfloat16 under autocast
    unsloth         its own kernels and loss, adapters alone: the base stays in 16 bits, inputs of
                    layers go to the host (use_gradient_checkpointing="unsloth"); nf4 twice packed
    deepspeed       16 bits without autocast, the float32 copy among ranks (BF16_Optimizer)
    torchtitan      float32 parts, gathered in bfloat16 by FSDP2; alone under autocast. Selective
                    checkpoints. Its versions are dates: it has few releases, and users install its
                    main branch
    torchtune       bfloat16, also adapters and states; a step in one kernel; eight chunks of logits
    accelerate      as a plain loop, whose outputs are in float32
    lightning       float32 by default; gradients of a step live through the next forward
    litgpt          the same by bf16-true; logits cast to float32 by Fabric, held to the next
    megatron        bfloat16, with main gradients and master weights in float32, or float16, with
                    main gradients in float16; rules of its own

Nobody names a framework: full training is the Trainer's. Adapters are trained by the recipe that
the guides of PEFT and TRL document: TRL's SFTTrainer, over a base that is loaded in 16 bits
(model_init_kwargs), of a class that predicts the next token.

Several ranks: torchtitan shards over all that are left (data_parallel_shard_degree -1), torchtune's
distributed recipes and litgpt's (FSDPStrategy) too; the others replicate.
A frozen base stays in 16 bits whatever the precision (transformers 5 loads in the model's dtype).
"""

from collections.abc import Mapping, Sequence
from typing import Any

from weighbridge.base.dtypes import BFLOAT16, FLOAT16, FLOAT32, DType
from weighbridge.base.errors import UnsupportedError, UsageError
from weighbridge.base.parsed import Parsed, sections_beside
from weighbridge.base.records import field, frozen_record, replace
from weighbridge.base.sentences import sentence
from weighbridge.base.versions import DATES, dated, numbers
from weighbridge.base.wording import either
from weighbridge.engines.engine import written
from weighbridge.memory.components.weights import FOUR_BITS
from weighbridge.workload import Train

OF_ARGUMENTS = "adamw_torch_fused"  # default of TrainingArguments, in its newest releases


@frozen_record
class Precision:
    """Dtypes of a precision setting: `weights` that are trained, `frozen` weights, and `autocast`
    for products."""

    weights: DType
    frozen: DType
    name: str = ""
    autocast: DType | None = None
    float8: bool = False  # products of linears run in float8


PRECISIONS: Mapping[str, Precision] = {
    "bf16-mixed": Precision(weights=FLOAT32, frozen=BFLOAT16, autocast=BFLOAT16),
    "fp16-mixed": Precision(weights=FLOAT32, frozen=FLOAT16, autocast=FLOAT16),
    "bf16": Precision(weights=BFLOAT16, frozen=BFLOAT16),
    "fp16": Precision(weights=FLOAT16, frozen=FLOAT16),
    "fp32": Precision(weights=FLOAT32, frozen=FLOAT32),
    "fp8-mixed": Precision(weights=FLOAT32, frozen=BFLOAT16, autocast=BFLOAT16, float8=True),
}
WIDE = Precision(weights=FLOAT32, frozen=FLOAT32, autocast=BFLOAT16)  # a frozen base, too
ALL_WIDE: Mapping[str, Precision] = {
    **PRECISIONS,
    "bf16-mixed": WIDE,
    "fp16-mixed": Precision(weights=FLOAT32, frozen=FLOAT32, autocast=FLOAT16),
}
AS_STORED: Mapping[str, Precision] = {  # in 16 bits, and autocast over them
    **PRECISIONS,
    "bf16-mixed": Precision(weights=BFLOAT16, frozen=BFLOAT16, autocast=BFLOAT16),
    "fp16-mixed": Precision(weights=FLOAT16, frozen=FLOAT16, autocast=FLOAT16),
}


@frozen_record
class Framework:
    """The defaults of one framework, used if the user sets nothing."""

    name: str
    source: str
    precisions: Mapping[str, Precision] = field(default_factory=lambda: PRECISIONS)
    precision: str = "bf16-mixed"
    optimizer: str | None = None
    checkpointing: str = "none"
    tuned_checkpointing: str = ""  # checkpointing with adapters, if it differs
    loss: str = "standard"
    full_loss: str = ""  # loss of full fine-tuning, if it differs
    losses: Mapping[str, str] = field(default_factory=dict)  # the user's name of a loss -> its own
    attention: str | None = None
    outputs: bool = True  # outputs, logits among them, live until the next forward has run
    forgets_late: bool = False  # gradients live through the next forward, to its backward
    unsure: int = 0  # percent of what a step holds besides weights and states, that kernels may add
    targets: tuple[str, ...] = ()  # of LoRA; empty: PEFT's defaults
    packs: str = "nf4"  # quantization format of qlora
    stores: str = "uint8"  # storage dtype of 4-bit weights (bnb_4bit_quant_storage)
    lowers: bool = False  # bfloat16 becomes float16 on a GPU without it
    own_copies: bool = False  # it downloads its own quantized copy of the model
    rank: int = 8  # default of adapters (peft LoraConfig)
    fused_adapters: bool = False  # adapter products are added in place, in the base output's dtype
    decomposes: bool = True  # it supports DoRA
    tunes: bool = False  # it is supported only with adapters
    wide_adapters: bool = True  # LoRA in float32 (PEFT); else in the dtype of frozen weights
    lowers_packed: bool = False  # with quantized weights, LoRA is in the dtype of products
    dated: bool = False  # its versions are dates
    versioned: bool = False  # whether any rule depends on its version
    compiles: bool = False  # torch.compile is supported for its layers
    shard: str | None = None
    shards: tuple[str, ...] = ()  # supported kinds of sharding; empty: any
    ranks: tuple[str, ...] = ()  # supported kinds of parallelism besides data-parallel
    stages: bool = False  # it has pipelines, or leaves them to the training loop
    optimizers: tuple[str, ...] = ()  # supported optimizers; empty: any
    shares_vocab: bool = False  # tensor parallelism shards embeddings as well
    shares_tokens: bool = False  # tensor-parallel ranks shard the tokens between layers
    spreads: str = "ddp"  # default sharding of several ranks
    sharded_checkpointing: str = ""  # checkpointing under FSDP, if it differs
    arguments: bool = False  # its settings are TrainingArguments, with their default optimizer
    one_flat: bool = False  # FSDP1 joins adapters and base in one flat parameter (use_orig_params)
    waits: bool = False  # only the last micro-batch reduces gradients
    loads: str = "transformers"  # whose loader reads and writes weights; "": its own
    accelerate: bool = False  # accelerate prepares the model, and wraps it in FSDP
    float8: bool = False  # accelerate converts linears to torchao's float8
    float_outputs: bool = False  # accelerate: under mixed precision logits are cast to float32
    upcast: str = "none"  # how the unquantized rest of a base in 4 or 8 bits is cast (kbit.py)
    reentrant: bool | None = None  # checkpoints; None: the default of transformers
    allocator: str = ""  # PYTORCH_ALLOC_CONF that it sets if the user does not
    copies_logits: bool = False  # after the forward it copies all logits but the last
    # settings before a release, the newest release first
    older: tuple[tuple[tuple[int, ...], Mapping[str, Any]], ...] = ()

    def at(self, release: tuple[int, ...] | None) -> "Framework":
        """Return the framework's defaults as of `release`; None is the newest."""
        framework = self
        for before, changed in self.older:
            if release is not None and release < before:
                framework = replace(framework, **changed)
        return framework


OWN_COPIES: Mapping[str, Precision] = {  # that the optimizer has: weights are in 16 bits alone
    "bf16-mixed": Precision(weights=BFLOAT16, frozen=BFLOAT16),
    "fp16-mixed": Precision(weights=FLOAT16, frozen=FLOAT16),
}
TABLES: Mapping[str, Mapping[str, Precision]] = {  # precisions by their name in frameworks.txt
    "all-wide": ALL_WIDE,
    "as-stored": AS_STORED,
    "wide-in-bfloat16": {**PRECISIONS, "bf16-mixed": WIDE, "fp8-mixed": replace(WIDE, float8=True)},
    "own-copies": {**PRECISIONS, **OWN_COPIES},
    "own-copies-alone": OWN_COPIES,
}
SWITCHES = {"yes": True, "no": False, "usual": None}
UNSAID = Framework(name="", source="")


def _read(name: str, lines: Sequence[str]) -> Framework:
    """Return the framework `name` from its `lines` of frameworks.txt."""
    facts: dict[str, Any] = {}
    older = []
    for line in lines:
        key, text = line.partition("  # ")[0].split(maxsplit=1)
        if key == "before":
            release, changes = text.split(maxsplit=1)
            changed = (change.split(maxsplit=1) for change in changes.split(", "))
            older.append((numbers(release) or (), {k: _value(k, v) for k, v in changed}))
        else:
            facts[key] = _value(key, text.strip())
    return Framework(name=name, older=tuple(older), **facts)


def _value(key: str, text: str) -> Any:
    """Return a field's value, parsed by the type of its default."""
    usual = getattr(UNSAID, key)
    if key == "precisions":
        return TABLES[text]
    if key == "losses":
        return dict(pair.split("=") for pair in text.split())
    if isinstance(usual, bool) or key == "reentrant":
        return SWITCHES[text]
    if isinstance(usual, tuple):
        return tuple(text.split())
    return int(text) if isinstance(usual, int) else text.removeprefix("-")


SECTIONS = sections_beside(__file__, "frameworks.txt")
FRAMEWORKS: Mapping[str, Framework] = Parsed(
    {name: (name, lines) for name, lines in SECTIONS.items()}, lambda written: _read(*written)
)


STORAGE: Mapping[str, DType] = {  # of 4-bit weights
    "bfloat16": BFLOAT16,
    "float16": FLOAT16,
    "float32": FLOAT32,
}


def framework(name: str | None, release: str | None = None) -> Framework:
    known = FRAMEWORKS.get(name or "trainer")
    if known is None:
        raise UsageError(sentence("framework", name=name, known=", ".join(FRAMEWORKS)))
    return known.at(dated(release or "", known.name) if known.dated else numbers(release))


def date_of(w: Train) -> tuple[int, ...] | None:
    """Return the release date of a framework versioned by date; None is the newest. Raises
    UsageError if the version is no date."""
    framework, version = w.framework or "", w.framework_version
    date = dated(version or "", framework)
    if version and date is None:
        releases = sorted(DATES[framework])
        raise UsageError(
            sentence(
                "framework_dates",
                version=version,
                framework=framework,
                first=written(releases[0]),
                last=written(releases[-1]),
            )
        )
    return date


NAMED_SINCE = (0, 27)  # TRL, that a name is loaded in float32 by: before, in its files' dtype
RECIPE_SINCE = (4, 56)  # the transformers that TRL 1.16 requires (trl 1.16 pyproject.toml)


def recipe(w: Train, transformers: tuple[int, ...]) -> Mapping[str, str]:
    """Return the settings assumed for adapters if the framework is TRL or not set; {} for full
    training and other frameworks. TRL gets a model in the dtype of its products; given a name
    without a dtype it loads float32 (trl 1.16 trainer/utils.py, create_model_from_path), which a
    file or `--dtype float32` sets. With older releases of `transformers` QLoRA has the
    checkpointing that PEFT's prepare_model_for_kbit_training switches on."""
    if w.method in (None, "full") or (w.framework or "trl") != "trl":
        return {}
    release = w.framework_version
    if release and (w.framework is None or (numbers(release) or NAMED_SINCE) < NAMED_SINCE):
        return {}
    if transformers < RECIPE_SINCE:
        return {"checkpointing": w.checkpointing or "full"} if w.method == "qlora" else {}
    chosen = PRECISIONS.get(w.precision or FRAMEWORKS["trl"].precision)
    meant = {"framework": "trl"}
    if w.dtype is None and chosen is not None:
        meant["dtype"] = chosen.frozen.name
    return meant


def resolved(w: Train) -> tuple[Framework, Precision]:
    """Return the framework and its precision. DeepSpeed converts a model to 16 bits whatever the
    Trainer's precision, and keeps the float32 copy itself. If quantized weights are stored as
    floats for FSDP, the rest is loaded in their dtype, as in PEFT's recipe."""
    trainer = framework(w.framework, w.framework_version)
    if w.shard is not None and trainer.shards and w.shard not in trainer.shards:
        raise UnsupportedError(
            sentence(
                "not_its_shard", shard=w.shard, framework=trainer.name, known=either(trainer.shards)
            )
        )
    chosen = precision(trainer, w.precision)
    if (w.shard or "").startswith("zero") and chosen.autocast is not None:
        chosen = Precision(weights=chosen.autocast, frozen=chosen.autocast, name=chosen.name)
    floats = stored(w, trainer)
    if floats is not None:  # one flat parameter has one dtype
        chosen = replace(chosen, frozen=floats)
    return trainer, chosen


def stored(w: Train, framework: Framework) -> DType | None:
    """Return the float dtype in which bitsandbytes stores 4-bit weights (bnb_4bit_quant_storage);
    None for integers."""
    packs = w.method == "qlora" and (w.quantization or framework.packs).startswith(FOUR_BITS)
    usual = framework.stores if packs else ""
    return STORAGE.get(w.bnb_4bit_quant_storage or usual)


def precision(framework: Framework, name: str | None) -> Precision:
    named = framework.precisions.get(name or framework.precision)
    if named is None or (named.float8 and not framework.float8):
        known = (n for n, x in framework.precisions.items() if framework.float8 or not x.float8)
        raise UnsupportedError(
            sentence("precision", name=name, framework=framework.name, known=", ".join(known))
        )
    return replace(named, name=name or framework.precision)
