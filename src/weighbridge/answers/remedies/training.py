"""Changes of a training question."""

from collections.abc import Iterator, Mapping
from typing import Any

from weighbridge.answers.remedies import formats, prices
from weighbridge.answers.remedies.case import FRAGMENTED, UNMERGED, Move, RemedyCase
from weighbridge.base.parsed import names_beside
from weighbridge.base.versions import numbers
from weighbridge.memory.components.weights import BITSANDBYTES, FOUR_BITS
from weighbridge.training.frameworks import FRAMEWORKS
from weighbridge.training.plan import TORCH
from weighbridge.training.segments import GROWS
from weighbridge.training.unsloth import NAME as UNSLOTH
from weighbridge.workload.train import TUNERS

ALL = frozenset(("*",))
STATES = frozenset(("optimizer_states", "master_weights"))
SAVED = frozenset(("activations",))
STEPS = frozenset(("activations", "logits"))
OWN_PRECISION = frozenset(("precision",))  # DeepSpeed trains a float32 copy of any dtype
NO_STATES = OWN_PRECISION | {"optimizer"}  # and optimizer states are off the card
TRAINED = frozenset(("weights", "gradients", "adapters", *STATES))
SHORTEST = 256  # tokens: shorter sequences teach little (assumed)
SHARES = (2, 4, 8)
NEARLY = 0.8  # saved activations are almost proportional to tokens (assumed)
# With a Liger switch: transformers 5.23 training_args.py (use_liger_kernel), axolotl's plugin
LIGER = ("trainer", "trl", "accelerate", "axolotl", "plain")
PATCHED = names_beside(__file__, "liger.txt")
COPIED = ("GptOssForCausalLM",)  # training/unsloth.py, EXPERTS_ALONE: others may stay in 16 bits
EIGHT: Mapping[str, str] = {"adamw_8bit": "8-bit states", "paged_adamw_8bit": "paged states"}
ADAMS = frozenset(("adamw_torch", "adamw_torch_fused", "adam", "adamw_apex_fused", "adamw"))
# Linears, those of all experts included: a run of more takes a minute or longer (assumed)
MANY_APART, MOST_APART = 4_000, 20_000
FEW = ("q_proj", "v_proj")
LONG = 2048  # tokens per rank, at least, if sequences are split over ranks (assumed)
SHORTER = (1, 2, 4)  # layers moved off the fullest stage
SMALL = 8  # the smallest LoRA rank that is offered
# Share that usually remains
FROZEN = {"weights": 0.5, "gradients": 0.02, "optimizer_states": 0.02, "master_weights": 0.0}
NARROWED = {"weights": 0.5, "gradients": 0.5, "activations": 0.4}  # surely remains
HALVED = dict.fromkeys(("weights", "gradients", "optimizer_states", "temporaries"), 0.5)
THINNER = {"adapters": 0.3, "gradients": 0.3, "optimizer_states": 0.3, "activations": 0.8}
AWAY = {
    "states on the host": {"optimizer_states": 0.0, "master_weights": 0.0, "weights": 0.5},
    "parameters on the host": dict.fromkeys(TRAINED, 0.1),
}
OF_RANKS = {
    "zero2": ("gradients", "optimizer_states", "master_weights", "temporaries"),
    "zero3": ("weights", "gradients", "optimizer_states", "master_weights", "temporaries"),
}
OF_RANKS["fsdp2"] = OF_RANKS["zero3"]
SHARERS = ("fsdp2", "zero3")  # their ranks shard the weights, others replicate them
LITTLE_LESS = 0.9  # surely remains of what is unchanged; the rest is for padding (assumed)
SHARDED: Mapping[str, tuple[str, ...]] = {
    "states and gradients shared": ("zero2",),
    "everything shared": ("fsdp2", "zero3"),
}


def moves(case: RemedyCase) -> Iterator[Move]:
    """Yield every single change that the framework supports; none if the base has no kernels."""
    if formats.unrunnable(case):
        return
    yield from _releases(case)
    yield from _trainers(case)
    yield from _kernels(case)
    yield from _packages(case)
    yield from segments(case)
    yield from checkpoints(case)
    yield from _optimizers(case)
    yield from batches(case)
    yield from lengths(case)
    yield from _methods(case)
    yield from _bases(case)
    yield from _adapters(case)
    yield from _precisions(case)
    yield from _shards(case)
    yield from _stages(case)
    yield from _sequences(case)
    yield from _offloads(case)
    yield from _brought_back(case)
    yield from _unpinned(case)
    yield from _in_parts(case)
    yield from _read_once(case)


def runnable(case: RemedyCase) -> Move | None:
    """Return fp16-mixed, if the card lacks the precision's hardware and the user set none."""
    if not case.free("precision"):
        return None
    cost, change = prices.CHANGES["mixed"], {"precision": "fp16-mixed"}
    return Move(kind="precision", change=change, cost=cost, touches=ALL)


def _releases(case: RemedyCase) -> Iterator[Move]:
    """Yield the last release whose experts are linears, since bitsandbytes skips stacked experts.
    With very many linears an estimate takes minutes: it is tried once, or not at all."""
    form = str(case.effective.get("quantization") or "")
    if not case.free("engine_version") or not form.startswith(BITSANDBYTES):
        return
    if not _stacked(case) or case.apart > MOST_APART:
        return
    bits = formats.BITS["bnb-int8" if form.startswith("bnb-") else "nf4"]
    yield Move(
        kind="release",
        change={"engine_version": UNMERGED},
        cost=prices.CHANGES["unmerged experts"],
        touches=frozenset(("weights", "activations")),
        leaves={"weights": bits / formats.WIDTHS["bfloat16"]},
        keeps={"weights": (bits + 1) / formats.WIDTHS["bfloat16"]},
        alone=case.apart > MANY_APART,
    )


def _trainers(case: RemedyCase) -> Iterator[Move]:
    """Yield Unsloth on one card for classes whose experts its 4-bit copies surely quantize, while
    bitsandbytes leaves stacked experts as they are."""
    form, change = case.effective.get("quantization"), {"framework": UNSLOTH}
    cost = prices.CHANGES[UNSLOTH]
    if case.report.model.architecture not in COPIED or not case.free("framework"):
        return
    if not form and case.free("quantization", "dtype") and case.effective["method"] == "lora":
        form, cost = "nf4", prices.together((cost, prices.CHANGES["qlora"]))
        change = {**change, "quantization": form}
    if case.count == 1 and formats.compiled(case.part) and str(form).startswith(BITSANDBYTES):
        yield Move(kind="framework", change=change, cost=cost, touches=ALL)


def _kernels(case: RemedyCase) -> Iterator[Move]:
    """Yield a loss without full logits, attention without stored scores."""
    effective = case.effective
    if case.free("loss") and effective["loss"] == "standard":
        name = "chunked" if effective["framework"] == "torchtune" else "liger"
        if name == "chunked" or liger(case):
            yield Move(
                kind="loss",
                change={"loss": name},
                cost=prices.CHANGES[name],
                touches=frozenset(("logits",)),
            )
    kernel = formats.unscored(case)
    if kernel is not None and case.free("attention") and scores(case):
        change, cost = {"attention": kernel[0]}, kernel[1]
        yield Move(kind="attention", change=change, cost=cost, touches=SAVED)


def _packages(case: RemedyCase) -> Iterator[Move]:
    """Yield the packages whose kernels save less for backward than torch does."""
    if case.free("kernels") and case.effective.get("kernels") == "missing":
        yield Move(
            kind="kernels",
            change={"kernels": "installed"},
            cost=prices.CHANGES["kernels"],
            touches=SAVED,
            keeps={"activations": 0.15},
        )


def liger(case: RemedyCase) -> bool:
    """Return whether the framework can switch Liger on, and Liger supports the class."""
    known = case.report.model.architecture in PATCHED and formats.compiled(case.part)
    return known and case.effective["framework"] in LIGER


def scores(case: RemedyCase) -> bool:
    """Return whether attention stores its scores: they grow with the square of the length."""
    return case.effective["attention"] in ("eager", "math")


def segments(case: RemedyCase) -> Iterator[Move]:
    """Yield expandable segments of the allocator, unless they are on or torch lacks them."""
    framework = FRAMEWORKS.get(str(case.effective["framework"]))
    usual = framework is not None and framework.allocator
    if usual or not case.free("expandable_segments") or not formats.compiled(case.part):
        return
    if (numbers(case.workload.torch_version) or TORCH) >= GROWS:
        yield Move(
            kind="allocator",
            change={"expandable_segments": True},
            cost=prices.CHANGES["growing segments"],
            touches=frozenset((FRAGMENTED,)),
            keeps={FRAGMENTED: 0.3},
        )


def checkpoints(case: RemedyCase) -> Iterator[Move]:
    if case.free("checkpointing") and case.effective["checkpointing"] == "none":
        yield Move(
            kind="checkpointing",
            change={"checkpointing": "full"},
            cost=prices.CHANGES["checkpointing"],
            touches=SAVED,
            keeps={"activations": 0.15},
        )


def _optimizers(case: RemedyCase) -> Iterator[Move]:
    if not case.free("optimizer", "optim_args", "optimizer_in_backward"):
        return
    if case.effective["optimizer"] not in ADAMS or case.effective["offload"] != "none":
        return
    if case.effective["framework"] not in FRAMEWORKS:  # frameworks only for rewards list none
        return
    eight = EIGHT if formats.compiled(case.part) else {}  # of bitsandbytes
    if case.effective["framework"] == "axolotl" and case.effective["shard"] == "fsdp2":
        eight = {"adamw_torch_8bit": "8-bit states"}  # 0.19 refuses bitsandbytes' (validation.py)
    known = FRAMEWORKS[str(case.effective["framework"])].optimizers
    for name, cost in (*eight.items(), ("adafactor", "adafactor")):
        if known and name not in known:
            continue
        yield Move(
            kind="optimizer",
            change={"optimizer": name},
            cost=prices.CHANGES[cost],
            touches=STATES,
        )


def batches(case: RemedyCase) -> Iterator[Move]:
    """Yield the same global batch in more and smaller micro-batches."""
    batch = int(case.effective["batch_size"])
    pieces = int(case.effective.get("gradient_accumulation") or 1)
    if not case.free("batch_size", "gradient_accumulation"):
        return
    for share in (2, 4, 8, 16, 32):
        if batch % share:
            return
        change = {"batch_size": batch // share, "gradient_accumulation": pieces * share}
        words = f"{share} times as many micro-batches of {batch // share}: the same global batch"
        cost = prices.micro(share, words)
        yield Move(
            kind="batch",
            change=change,
            cost=cost,
            touches=STEPS,
            leaves=dict.fromkeys(STEPS, NEARLY / share),
            keeps=dict.fromkeys(STEPS, 1 / share),
            graded=True,
        )


def lengths(case: RemedyCase) -> Iterator[Move]:
    """Yield shorter sequences."""
    length = int(case.effective["seq_len"])
    if not case.free("seq_len"):
        return
    for share in SHARES:
        if length // share >= SHORTEST:
            cost = prices.shorter(length, length // share, "tokens of a sequence")
            change = {"seq_len": length // share}
            part = 1 / share
            yield Move(
                kind="seq_len",
                change=change,
                cost=cost,
                touches=STEPS,
                leaves=dict.fromkeys(STEPS, NEARLY * (part * part if scores(case) else part)),
                keeps=dict.fromkeys(STEPS, part),
                graded=True,
            )


# Settings a framework needs besides its method: axolotl 0.19 passes PEFT a rank of None if its file
# sets none, which PEFT refuses (loaders/adapter.py, load_lora)
NAMES: Mapping[str, Mapping[str, Any]] = {
    "axolotl": {"lora_r": 8, "lora_alpha": 8, "lora_targets": ("all-linear",)}
}


def _methods(case: RemedyCase) -> Iterator[Move]:
    """Yield methods that train less: LoRA, or QLoRA."""
    method = case.effective["method"]
    asked = NAMES.get(case.effective["framework"], {}) if method == "full" else {}
    named = {name: value for name, value in asked.items() if case.free(name)}
    if not case.free("method", "quantization", "dtype"):
        return
    if method == "full":
        cost = prices.CHANGES["lora"]
        change = {"method": "lora", **named}
        yield Move(kind="method", change=change, cost=cost, touches=ALL, keeps=FROZEN, apart=True)
    if method in ("full", "lora", "dora") and not case.effective.get("quantization"):
        cost = prices.CHANGES["qlora"]
        if method == "full":
            cost = prices.together((prices.CHANGES["lora"], cost))
        if formats.suits("nf4", case):
            keeps = {**FROZEN, "weights": 5 / formats.width(case)}
            change = {"method": "qlora", **named}
            yield Move(
                kind="method", change=change, cost=cost, touches=ALL, keeps=keeps, apart=True
            )


def _bases(case: RemedyCase) -> Iterator[Move]:
    """Yield a frozen base in fewer bits, with the rest of it in 16."""
    effective = case.effective
    if effective["method"] == "full":
        return
    if case.free("kbit_upcast") and effective.get("kbit_upcast") == "peft":
        cost = prices.CHANGES["no upcast"]
        touches, keeps = STEPS | {"weights"}, {"activations": 0.6, "weights": 0.8}
        change = {"kbit_upcast": "none"}
        leaves = {"weights": 0.5, "activations": 0.25, "logits": 0.25}
        yield Move(
            kind="upcast", change=change, cost=cost, touches=touches, keeps=keeps, leaves=leaves
        )
    if not case.free("quantization", "dtype") or effective.get("quantization"):
        return
    if not formats.suits("nf4", case) or effective["method"] in TUNERS:
        return
    forms = {"bnb-int8": "int8 base", "nf4": "qlora"}
    if case.free("method"):
        del forms["nf4"]  # under its own name
    for form, name in forms.items():
        yield Move(
            kind="quantization",
            change={"quantization": form},
            cost=prices.CHANGES[name],
            touches=frozenset(("weights",)),
            leaves={"weights": _packed(case, formats.BITS[form])},
            keeps={"weights": _packed(case, formats.BITS[form] + 1)},
            alone=form != "nf4",
        )


def _packed(case: RemedyCase, bits: float) -> float:
    """Return the share of the weights that remains if linears take `bits` per weight. Stacked
    experts stay as they are: weights that a token does not use are only theirs."""
    model, share = case.report.model, bits / formats.width(case)
    idle = 1 - model.active_parameters / model.parameters if _stacked(case) else 0.0
    return share + (1 - share) * idle


def _stacked(case: RemedyCase) -> bool:
    """Return whether experts are stacked, which bitsandbytes leaves as they are."""
    return case.tensors < case.apart


def _adapters(case: RemedyCase) -> Iterator[Move]:
    """Yield smaller adapters, and fewer."""
    rank = case.effective.get("lora_r")
    if not rank:
        return
    touches = TRAINED - {"weights"} | STEPS
    if case.free("lora_r") and rank > SMALL:
        cost = prices.less(rank, SMALL, f"adapters of rank {SMALL} instead of {rank}", 1.0)
        change = {"lora_r": SMALL}
        yield Move(kind="rank", change=change, cost=cost, touches=touches, keeps=THINNER)
    targets = case.effective.get("lora_targets") or ()
    if case.free("lora_targets") and len(targets) > len(FEW) and set(FEW) <= set(targets):
        cost = prices.CHANGES["fewer targets"]
        fewer = {"lora_targets": FEW}
        yield Move(kind="targets", change=fewer, cost=cost, touches=touches, keeps=THINNER)


def _precisions(case: RemedyCase) -> Iterator[Move]:
    now = case.effective["precision"]
    if not case.free("precision") or not formats.has_bfloat16(case):
        return
    if now == "fp32":
        cost = prices.CHANGES["mixed"]
        change = {"precision": "bf16-mixed"}
        yield Move(kind="precision", change=change, cost=cost, touches=ALL)
    if not case.free("dtype") or case.effective["shard"].startswith("zero"):
        return
    if now in ("fp32", "bf16-mixed", "fp16-mixed") and case.effective["method"] == "full":
        cost = prices.CHANGES["bf16"]
        change = {"precision": "bf16"}
        yield Move(
            kind="precision", change=change, cost=cost, touches=ALL, keeps=HALVED, leaves=NARROWED
        )


def _shards(case: RemedyCase) -> Iterator[Move]:
    """Yield shardings that split more among the same ranks."""
    if case.count < 2 or not case.free("shard", "tensor_parallel_size", "pipeline_parallel_size"):
        return
    if case.effective["shard"] not in ("none", "ddp", "zero1", "zero2"):
        return
    if case.effective["method"] in TUNERS:
        return
    for name, kinds in SHARDED.items():
        for kind in kinds:
            if kind != case.effective["shard"]:
                cost = prices.CHANGES[name]
                part = 1 / case.count
                keeps = dict.fromkeys(OF_RANKS[kind], part)
                change = {"shard": kind, **_storage(case, kind)}
                yield Move(
                    kind="sharding",
                    change=change,
                    cost=cost,
                    touches=ALL,
                    keeps=keeps,
                    leaves=_left(case, kind),
                    beside=OWN_PRECISION if kind.startswith("zero") else frozenset(),
                )


def _sequences(case: RemedyCase) -> Iterator[Move]:
    """Yield sequences split over all ranks, which also shard the weights."""
    names = ("context_parallel_size", "tensor_parallel_size", "pipeline_parallel_size", "shard")
    length = int(case.effective.get("seq_len") or 0)
    if case.count < 2 or not case.free(*names) or length < LONG * case.count:
        return
    for shard in SHARERS:
        if case.effective["shard"] not in ("none", "ddp", "zero1", "zero2", shard):
            continue
        part = dict.fromkeys(STEPS, 1 / case.count)
        yield Move(
            kind="sharding",
            change={"shard": shard, "context_parallel_size": case.count},
            cost=prices.CHANGES["sequences shared"],
            touches=ALL,
            keeps={**dict.fromkeys(OF_RANKS[shard], 1 / case.count), **part},
            leaves={**_left(case, shard), **part},
            beside=OWN_PRECISION if shard.startswith("zero") else frozenset(),
        )


def _left(case: RemedyCase, shard: str) -> Mapping[str, float]:
    """Return the surely remaining share of a rank's weights, 16-bit if they were 32-bit, and of
    what its own sequences take."""
    whole = LITTLE_LESS * min(1, 16 / formats.width(case))
    narrowed = dict.fromkeys(STEPS, NARROWED["activations"])
    return {"weights": whole / case.count if shard in SHARERS else whole, **narrowed}


def _storage(case: RemedyCase, shard: str) -> Mapping[str, str]:
    """Return the storage dtype of quantized weights: FSDP shards only what is stored as floats."""
    effective, stored = case.effective, "bnb_4bit_quant_storage"
    four = str(effective.get("quantization") or "").startswith(FOUR_BITS)
    packed = four and shard == "fsdp2" and case.free(stored)
    return {stored: "bfloat16"} if packed and effective.get(stored) in (None, "uint8") else {}


def _offloads(case: RemedyCase) -> Iterator[Move]:
    """Yield states, or parameters too, in host memory: ZeRO does that on one device as well."""
    if not case.free("offload", "optimizer") or case.effective["offload"] != "none":
        return
    shard, full = case.effective["shard"], case.effective["method"] == "full"
    if not (case.free("shard") or shard.startswith("zero")) or not formats.compiled(case.part):
        return
    if not full:
        yield from _base_offloaded(case)
        return
    zero = shard if shard.startswith("zero") else "zero2"
    for name, change in (
        ("states on the host", _kept(case, zero, "optimizer")),
        ("parameters on the host", _kept(case, "zero3", "params")),
    ):
        if change:
            yield _offloaded(case, name, change)


def _offloaded(case: RemedyCase, name: str, change: Mapping[str, Any]) -> Move:
    left = dict(_left(case, str(change.get("shard", case.effective["shard"]))))
    if change["offload"] == "params":
        del left["weights"]
    return Move(
        kind="offload",
        change=change,
        cost=prices.CHANGES[name],
        touches=ALL,
        leaves=left,
        keeps=AWAY[name],
        beside=NO_STATES,
    )


def _base_offloaded(case: RemedyCase) -> Iterator[Move]:
    """Yield a frozen base in host memory; FSDP gathers one layer at a time on all cards."""
    if case.count < 2 or case.effective["method"] in TUNERS:
        return
    change = {**_kept(case, "fsdp2", "params"), **_storage(case, "fsdp2")}
    if "offload" in change:
        cost = prices.together(
            (prices.CHANGES["everything shared"], prices.CHANGES["parameters on the host"])
        )
        yield Move(
            kind="offload",
            change=change,
            cost=cost,
            touches=ALL,
            keeps=AWAY["parameters on the host"],
        )


def _stages(case: RemedyCase) -> Iterator[Move]:
    """Yield layer counts in which the fullest stage has fewer, and the least full ones more."""
    even: list[int] = case.report.derived.get("stage_layers", [])
    if not even or not case.free("pp_layer_partition"):
        return
    fullest = case.report.derived["fullest_stage"]
    gpus = [d for d in case.report.devices if d.kind == "gpu"]
    first_ranks = gpus[:: len(gpus) // len(even)]
    peaks = [device.peak("allocated").expected for device in first_ranks]
    others = sorted((i for i in range(len(even)) if i != fullest), key=peaks.__getitem__)
    for fewer in (n for n in SHORTER if n < even[fullest]):
        counts = even.copy()
        counts[fullest] -= fewer
        for i in range(fewer):
            counts[others[i % len(others)]] += 1
        yield Move(
            kind="stages",
            change={"pp_layer_partition": tuple(counts)},
            cost=prices.CHANGES["uneven stages"],
            touches=TRAINED | STEPS,
            leaves=dict.fromkeys(TRAINED, LITTLE_LESS * (1 - fewer / even[fullest])),
            keeps=dict.fromkeys(TRAINED, 1 - fewer / even[fullest]),
            graded=True,
        )


def _brought_back(case: RemedyCase) -> Iterator[Move]:
    """Yield less offloading, or none, if host memory is short: although the user asked for it,
    since it is what takes the memory."""
    how, shard = case.effective.get("offload", "none"), case.effective["shard"]
    if how == "none" or not case.short_of_ram:
        return
    less = ("optimizer", "none") if how == "params" and shard == "zero3" else ("none",)
    for setting in less:
        yield Move(
            kind="offload",
            change={"offload": setting},
            cost=prices.CHANGES["less on the host"],
            graded=True,
            frees=True,
        )


def _unpinned(case: RemedyCase) -> Iterator[Move]:
    """Yield unpinned host memory for ZeRO: no block is rounded up, and none is kept. If host memory
    is short, even against the user's setting, since pinning takes the memory."""
    how, shard = case.effective["offload"], case.effective["shard"]
    if how not in ("optimizer", "params", "nvme") or not shard.startswith("zero"):
        return
    free = case.short_of_ram or case.free("zero_pin_memory")
    if case.workload.zero_pin_memory is not False and free:
        yield Move(
            kind="pinned pages",
            change={"zero_pin_memory": False},
            cost=prices.CHANGES["pages not pinned"],
            touches=ALL,
            frees=True,
        )


def _in_parts(case: RemedyCase) -> Iterator[Move]:
    """Yield saving by rank, if a whole model does not fit in host memory."""
    shared = case.effective["shard"] in ("zero3", "fsdp1", "fsdp2", "hsdp")
    if shared and case.short_of_ram and case.workload.gather_on_save is not False:
        yield Move(
            kind="saving",
            change={"gather_on_save": False},
            cost=prices.CHANGES["saved in parts"],
            frees=True,
        )


def _read_once(case: RemedyCase) -> Iterator[Move]:
    """Yield loading in which one rank reads the weights of all, if FSDP shards them."""
    if not case.effective["shard"].startswith("fsdp") or case.count < 2:
        return
    name = "cpu_ram_efficient_loading"
    if case.free(name) and not case.effective.get(name):
        yield Move(
            kind="loading",
            change={name: True},
            cost=prices.CHANGES["one rank reads"],
            touches=ALL,
            frees=True,
        )


def _kept(case: RemedyCase, shard: str, what: str) -> dict[str, Any]:
    """Return the change, with the sharding that it needs; empty if the user set another."""
    now = case.effective["shard"]
    if now == shard:
        return {"offload": what}
    return {"shard": shard, "offload": what} if case.free("shard") else {}
