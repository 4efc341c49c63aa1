"""Products of linears in 8 bits: which linears, with which scales, and what ranks gather in 8 bits.

    accelerate    all linears but the first and the last whose sides are multiples of 16; a scale
                  per tensor
    torchtitan    the first, too, and not the head, which its files name in filter_fqns, nor the
                  router (router.gate). A scale per tensor until 2026-04-27, when it and gathers in
                  8 bits left (6348d93d); by rows since 2025-02-27 (069bae28), the only ones from
                  then on; mxfp8 since 2025-05-14 (fb17e251), on Blackwell

With a scale per tensor, torchtitan's tensor-parallel ranks gather in 8 bits the inputs of linears
and the gradients of their outputs (Float8ColwiseParallel, ...); not for DeepSeek, which it refuses,
nor gpt-oss. By rows they gather in 16. Products of experts are by rows since 2025-06-27 (5990fa30),
in mxfp8 since 2025-09-26 (5b5d4685). enable_fsdp_float8_all_gather does nothing if parameters are
sharded only for a sequence's context-parallel ranks (dp_shard_enabled).

Source: accelerate 1.15 utils/ao.py (convert_model_to_fp8_ao, filter_linear_layers); torchtitan
0.2.2 components/quantization/{float8,mx,utils}.py, models/{llama3,llama4,qwen3,deepseek_v3,
gpt_oss}/infra/parallelize.py.
"""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from weighbridge.base.errors import ContradictionError, TriedError, UsageError
from weighbridge.base.sentences import sentence
from weighbridge.base.versions import since
from weighbridge.models.arch.body import Body, Experts
from weighbridge.models.arch.mixers import Latent
from weighbridge.models.arch.roles import role
from weighbridge.training.forward.modules import ParameterSpec
from weighbridge.training.forward.ops.float8 import MULTIPLE, Casts
from weighbridge.training.frameworks import Framework, Precision, date_of
from weighbridge.training.sharding.numbers import Sharding
from weighbridge.workload import Train

if TYPE_CHECKING:
    from weighbridge.training.plan import TrainingPlan

SHARDS = ("fsdp2", "hsdp")
TENSORWISE, ROWWISE, MXFP8 = "tensorwise", "rowwise", "mxfp8"
Date = tuple[int, ...]
ROWS_ALONE: Date = (2026, 4, 27)
SAVES_NONE: Date = (2025, 2, 6)  # 88247277: selective checkpoints kept torch.abs of what was cast
SINCE: dict[str, Date] = {ROWWISE: (2025, 2, 27), MXFP8: (2025, 5, 14)}
EXPERTS_SINCE: dict[str, Date] = {ROWWISE: (2025, 6, 27), MXFP8: (2025, 9, 26)}


def recipe(w: Train, framework: Framework, chosen: Precision, date: Date | None) -> str:
    """Return what one float8 scale covers ("tensorwise", "rowwise", "mxfp8"); "" without float8
    products. Raises UsageError for scales that the framework does not have at `date` (None is the
    newest)."""
    titan = framework.name == "torchtitan"
    asked = w.float8_recipe
    if not chosen.float8:
        _refuse_alone(w)
        return ""
    if asked and not titan:
        raise ContradictionError(
            sentence("of_torchtitan", flag="--float8-recipe", framework=framework.name)
        )
    rows = titan and since(date, ROWS_ALONE)
    if asked == TENSORWISE and rows:
        raise TriedError(
            sentence("tensorwise_left"),
            seen="pytorch/torchtitan, its commit of 2026-04-27",
        )
    if asked and not since(date, SINCE.get(asked, (0,))):
        day = "-".join(f"{n:02}" for n in SINCE[asked])
        raise TriedError(
            sentence("recipe_came", asked=asked, day=day),
            seen="pytorch/torchtitan, its commit of that day",
        )
    return asked or (ROWWISE if rows else TENSORWISE)


def _refuse_alone(w: Train) -> None:
    refused = {
        "--float8-recipe": w.float8_recipe,
        "--float8-all-gather": w.float8_all_gather,
        "--float8-experts": w.float8_experts,
    }
    for flag in (flag for flag, value in refused.items() if value):
        raise UsageError(sentence("eight_bits_alone", flag=flag))


def refuse(w: Train, framework: Framework, scales: str, shares: Sharding, body: Body) -> None:
    """Raise UsageError for settings with which torchtitan does not run float8."""
    if w.float8_all_gather and (framework.name != "torchtitan" or scales != TENSORWISE):
        raise ContradictionError(sentence("gathers_scales"))
    if w.float8_all_gather and shares.kind not in SHARDS:
        raise ContradictionError(sentence("gathers_fsdp2"))
    if w.float8_experts:
        _refuse_experts(w, framework, scales, body)
    latent = any(isinstance(x, Latent) for b in body.blocks for x in b.mixers)
    if latent and scales == TENSORWISE and framework.shares_tokens and shares.tensor > 1:
        raise TriedError(
            sentence("tensorwise_latent"),
            seen="torchtitan models/deepseek_v3/infra/parallelize.py raises NotImplementedError",
        )


def _refuse_experts(w: Train, framework: Framework, scales: str, body: Body) -> None:
    if framework.name != "torchtitan":
        raise ContradictionError(
            sentence("of_torchtitan", flag="--float8-experts", framework=framework.name)
        )
    if not any(isinstance(f, Experts) for b in body.blocks for f in b.feeds):
        raise UsageError(sentence("no_experts", flag="--float8-experts"))
    came = EXPERTS_SINCE.get(scales, EXPERTS_SINCE[ROWWISE])
    if not since(date_of(w), came):
        day = "-".join(f"{n:02}" for n in came)
        raise TriedError(
            sentence("float8_experts_came", day=day),
            seen="pytorch/torchtitan, its commit of that day",
        )


def casts(plan: "TrainingPlan") -> Casts:
    """Return the rules by which this plan casts tensors to 8 bits."""
    shared = plan.framework.shares_tokens and plan.sharding.tensor > 1
    return Casts(
        fused=plan.compiled,
        absolute=plan.framework.name == "torchtitan" and not since(plan.release, SAVES_NONE),
        blocks=plan.float8_recipe == MXFP8,
        shared=shared and plan.float8_recipe == TENSORWISE,
    )


def linears(plan: "TrainingPlan", specs: Sequence[ParameterSpec]) -> Iterator[ParameterSpec]:
    """Yield the linears whose products run in float8, before kernels check their shapes."""
    every = [h for h in specs if h.kind == "linear"]
    if plan.framework.name == "torchtitan":
        yield from filter(_is_float8_in_torchtitan, every)
    else:
        yield from every[1:-1]


def divides(shape: Sequence[int]) -> bool:
    """Return whether float8 kernels accept a weight of this shape: its sides are multiples of
    16."""
    return not any(side % MULTIPLE for side in shape)


def _is_float8_in_torchtitan(spec: ParameterSpec) -> bool:
    return spec.kind == "linear" and role(spec.name) != "head"


def small(spec: ParameterSpec) -> bool:
    """Return whether torchtitan's FSDP2 may gather a parameter in 8 bits. `spec` has the shape
    after tensor-parallel sharding."""
    return _is_float8_in_torchtitan(spec) and spec.name.endswith(".weight") and divides(spec.shape)


def gathered(plan: "TrainingPlan") -> bool:
    """Return whether FSDP2 gathers linears in 8 bits: if set, and with several data-parallel
    ranks."""
    return plan.float8_all_gather and plan.sharding.data > 1
