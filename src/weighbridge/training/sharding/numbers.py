"""Ranks (settings/ranks.py), what they shard, and how much of a quantized base.

Quantized weights, and libraries that refuse to shard them:

    buffers      GPTQ, AWQ: no sharding sees them as parameters, and each rank has all of them
    parameters   bitsandbytes, HQQ, EETQ: integers; of bitsandbytes' 4 bits also what is stored as
                 floats (bnb_4bit_quant_storage). Scales and maps are their attributes, and whole
    FSDP1        shards floats; with integers it raises
    FSDP2        shards floats, and since torch 2.12 integers; before, it makes parameters of
                 them that would be trained, which raises. accelerate leaves bitsandbytes' 4 bits
                 out since 1.14 if they are integers (torch 2.7 allows it). Int8Params become
                 plain parameters, and their linear raises for want of its `CB`. axolotl and
                 torchtune have their own code that shards them, torchtune scales too
    ZeRO-3       shards parameters of every dtype. The model was not made under zero.Init, so it is
                 on each device before. Int8Params stay whole besides their part, by `CB`

Source: torch 2.13 distributed/fsdp/_flat_param.py (_validate_tensors_to_flatten),
_fully_shard/_fsdp_param.py (_init_sharded_param, and what it was up to 2.11: axolotl
monkeypatch/fsdp2_qlora.py); accelerate 1.13 and 1.14 utils/fsdp_utils.py (fsdp2_prepare_model);
bitsandbytes 0.50 nn/modules.py; hqq 0.2.8 core/quantize.py; transformers 5.23 integrations/eetq.py;
torchtune training/_distributed.py (shard_model, of NF4Tensor); DeepSpeed
runtime/zero/partition_parameters.py (_convert_to_zero_parameters, all_gather_coalesced), engine.py
(_configure_distributed_model). FSDP2 was tried with hqq and with both linears of bitsandbytes.
"""

from collections.abc import Iterator, Mapping
from typing import Literal

from weighbridge.base.dtypes import TORCH, DType
from weighbridge.base.errors import TriedError, UsageError
from weighbridge.base.records import frozen_record
from weighbridge.base.sentences import sentence
from weighbridge.base.units import ceil_div
from weighbridge.memory.components.weights import BITSANDBYTES
from weighbridge.models.quantization.scheme import Scheme
from weighbridge.settings.ranks import Ranks
from weighbridge.training import kbit
from weighbridge.workload import FSDP, Train

# Kinds without support for expert parallelism: torch distributed/fsdp _flat_param.py; DeepSpeed
# runtime/engine.py (_configure_zero_optimizer asserts)
FLAT = ("fsdp1", "zero3")


@frozen_record
class Sharding(Ranks):
    """Numbers of ranks, and what they shard; `kind` is the strategy of data-parallel ranks."""

    kind: str = "none"  # none, ddp, zero1, zero2, zero3, fsdp1, fsdp2, hsdp
    schedule: str = ""  # pipeline schedule; "" for one stage
    layers: tuple[int, ...] = ()  # layers per stage
    offload: str = "none"
    context_by: str = ""  # method of context-parallel attention; "" for one rank
    reshard: bool | None = None  # whether layers are resharded after forward; None: the default
    prefetch: str | None = None  # FSDP1's backward prefetch: pre, post, none; None: the default
    reduced: DType | None = None  # dtype in which FSDP reduces gradients; None: the default
    whole_experts: bool = False  # tensor parallelism splits no expert if experts are parallel

    @property
    def fully(self) -> bool:
        """Return whether FSDP shards parameters, gradients and states."""
        return self.kind in FSDP

    @property
    def parameters(self) -> bool:
        """Return whether parameters are sharded, by FSDP or by ZeRO."""
        return self.fully or self.kind == "zero3"

    @property
    def shares(self) -> int:
        """Return the number of ranks that parameters, gradients or states are sharded over. With
        HSDP and no replicas set, it is the ranks of a machine left by tensor parallelism."""
        if self.kind == "hsdp" and self.replicas is None:
            return min(max(1, self.per_machine // self.tensor), self.among)
        return self.sharing

    @property
    def expert_shares(self) -> int:
        """Return the number of ranks that shard a rank's experts: those with the same experts, not
        split again over expert ranks. In torchtitan (efsdp = fsdp x tp / ep) tensor ranks are among
        them; else these split each expert's width."""
        ranks = self.shares * (self.tensor if self.whole_experts else 1)
        return max(1, ranks // self.expert)

    @property
    def expert_width(self) -> int:
        """Return into how many parts each expert's width is split: tensor ranks that are no expert
        ranks."""
        if self.whole_experts:
            return 1
        return max(1, self.tensor * min(self.shares, self.expert) // self.expert)


def sharding(w: Train, count: int | None, spreads: str = "ddp") -> Sharding:
    """Return the sharding over `count` devices, None if none are named. `spreads` is the default
    strategy of several ranks. Raises UsageError for contradictions."""
    ranks = Ranks.of(w.said)
    total = None if w.data_parallel_size is not None else count or ranks.copy
    ranks = ranks if total is None else ranks.over(total)
    shares = Sharding(
        **ranks.numbers,
        kind=w.shard or (spreads if _ranks_shard(ranks, spreads) else "none"),
        offload=w.offload or "none",
        reshard=w.reshard_after_forward,
        prefetch=w.backward_prefetch,
        reduced=TORCH[w.reduce_dtype] if w.reduce_dtype else None,
    )
    return checked(shares, total)


def checked(shares: Sharding, total: int | None = None) -> Sharding:
    """Return `shares` unchanged. Raises UsageError if it is impossible, or does not fit `total`
    devices."""
    wrong = next((one.why for one in shares.contradictions(total)), "")
    if wrong := wrong or next(_contradictions(shares), ""):
        raise UsageError(wrong)
    return shares


def _ranks_shard(ranks: Ranks, spreads: str) -> bool:
    """Return whether ranks shard anything by default: data-parallel ones, or context-parallel ones
    if FSDP is the default."""
    return ranks.data > 1 or (spreads in FSDP and ranks.context > 1)


def _contradictions(by: Sharding) -> Iterator[str]:
    """Yield a message for each reason why ranks cannot shard in this way."""
    if by.kind == "none" and by.data > 1:
        yield sentence("shard.none", ranks=by.data)
    if by.pipeline > 1 and by.kind in ("zero2", "zero3"):
        yield sentence("shard.pipelines", kind=by.kind, stages=by.pipeline)
    yield from _offload_contradictions(by)
    yield from _fsdp_contradictions(by)
    if by.expert > 1 and by.kind in FLAT:
        yield sentence(f"experts_under.{by.kind}")


def _offload_contradictions(by: Sharding) -> Iterator[str]:
    if by.offload == "params" and not by.parameters:
        yield sentence("offload.params")
    if by.offload == "optimizer" and by.fully:
        yield sentence("offload.fsdp", kind=by.kind)
    if by.offload == "optimizer" and not by.kind.startswith("zero"):
        yield sentence("offload.optimizer")
    if by.offload == "nvme" and by.kind != "zero3":
        yield sentence("offload.nvme")


def _fsdp_contradictions(by: Sharding) -> Iterator[str]:
    if by.replicas is not None and by.kind != "hsdp":
        yield sentence("hsdp.replicas")
    if by.among % by.shares:  # torch distributed/fsdp/_init_utils.py: dist.new_subgroups
        even = by.tensor * next(n for n in range(by.shares, 0, -1) if by.among % n == 0)
        yield sentence("hsdp.machine", shares=by.shares, among=by.among, even=even)
    reshard = f"{'no-' if by.reshard is False else ''}reshard-after-forward"
    for name, value in ((reshard, by.reshard), ("reduce-dtype", by.reduced)):
        if value is not None and not by.fully:
            yield sentence("fsdp.flag", name=name)
    if by.prefetch is not None and by.kind != "fsdp1":
        yield sentence("fsdp1.prefetch")


def share(rows: int, ranks: int) -> int:
    """Return the rows of the first rank, which has the largest shard."""
    return ceil_div(rows, ranks)


# ---- packed


Held = Literal["whole", "parts", "both", "all"]

PARAMETERS = (*BITSANDBYTES, "hqq-", "eetq")
EIGHT_BITS = "bnb-int8"
INTEGERS_SHARED = (2, 12)  # torch since which FSDP2 shards integers
IGNORES = (2, 7)  # torch since which FSDP2 has ignored_params
LEAVES_OUT = (1, 14)  # accelerate since which bitsandbytes' 4 bits are left out
SHARE_INTEGERS: Mapping[str, Held] = {"axolotl": "parts", "torchtune": "all"}


@frozen_record
class PackedRun:
    """Facts of a run that decide, besides format and ranks, whether quantized weights are sharded.
    `floats`: codes are stored as floats; `prepares`: accelerate wraps the model. `accelerate` is
    None for the newest."""

    framework: str
    prepares: bool
    floats: bool
    torch: tuple[int, int]
    accelerate: tuple[int, ...] | None


def held_codes(form: Scheme | None, sharding: Sharding, run: PackedRun) -> Held:
    """Return how a rank holds the codes of quantized weights: whole, in parts, or both; `all`:
    scales are sharded, too. Raises UsageError if the libraries refuse."""
    if form is None or not sharding.parameters or not form.name.startswith(PARAMETERS):
        return "whole"
    if run.framework == "litgpt":  # has none at all (training/litgpt.py)
        return "whole"
    if sharding.kind == "zero3":
        return "both" if form.name == EIGHT_BITS else "parts"
    if run.floats:
        return "parts"
    if sharding.kind == "fsdp1":
        raise TriedError(
            sentence("fsdp1.integers", form=form.name, instead=_instead(form, "--shard zero3")),
            seen="torch distributed/fsdp/_flat_param.py: Cannot flatten integer dtype tensors",
        )
    return _by_fsdp2(form, run)


def _by_fsdp2(form: Scheme, run: PackedRun) -> Held:
    if run.framework in SHARE_INTEGERS:
        return SHARE_INTEGERS[run.framework]
    if form.name == EIGHT_BITS:
        raise TriedError(
            sentence("fsdp2.int8"),
            seen="bitsandbytes nn/modules.py: 'Parameter' object has no attribute 'CB'",
        )
    newer = run.accelerate is None or run.accelerate >= LEAVES_OUT
    if run.prepares and newer and kbit.four_bits(form) and run.torch >= IGNORES:
        return "whole"
    if run.torch >= INTEGERS_SHARED:
        return "parts"
    release = ".".join(map(str, run.torch))
    raise TriedError(
        sentence(
            "fsdp2.integers",
            form=form.name,
            release=release,
            instead=_instead(form, "--torch-version 2.12"),
        ),
        seen="torch: Only Tensors of floating point and complex dtype can require gradients",
    )


def _instead(form: Scheme, otherwise: str) -> str:
    return sentence("store_bfloat16") if kbit.four_bits(form) else sentence("use", what=otherwise)
