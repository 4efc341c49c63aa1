"""Megatron-LM's own formula beside ours, on peaks that runs of Megatron printed.

    python -m benchmarks.megatron PATH

PATH is a checkout of Megatron-LM, or its megatron/training/theoretical_memory_usage.py alone, which
is run as it stands; nothing else of Megatron is imported. It sizes the fullest stage of what the
records say. Ours are told the same, and stand beside it row by row.
"""

import argparse
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from statistics import median
from types import ModuleType, SimpleNamespace
from typing import Any

from weighbridge.answers.estimate.train import subject_for
from weighbridge.engines.table import usual, version
from weighbridge.training.megatron.plan import MegatronPlan, plan
from weighbridge.workload import read
from weighbridge_lab.evidence import training
from weighbridge_lab.evidence.accuracy import percentile
from weighbridge_lab.evidence.predict import outcomes
from weighbridge_lab.evidence.records import Prediction, chosen

FORMULA = Path("megatron/training/theoretical_memory_usage.py")
Memory = Callable[[Any, int | None], int]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("path", type=Path, metavar="PATH")
    typed = parser.parse_args()
    path = typed.path / FORMULA if typed.path.is_dir() else typed.path
    for line in table(published(path)):
        print(line)


def published(path: Path) -> Memory:
    """Return Megatron's formula as a function of arguments and micro-batches, in bytes, chosen as
    its report_theoretical_memory chooses."""
    package, utils = ModuleType("theirs"), ModuleType("theirs.utils")
    utils.is_hybrid_model = lambda _: False  # type: ignore[attr-defined]
    utils.print_rank_0 = lambda *_: None  # type: ignore[attr-defined]
    sys.modules |= {"theirs": package, "theirs.utils": utils}
    theirs: dict[str, Any] = {"__name__": "theirs.formula", "__package__": "theirs"}
    exec(compile(path.read_text(), str(path), "exec"), theirs)

    def memory(args: Any, micro_batches: int | None) -> int:
        shared = args.sequence_parallel and args.recompute_granularity == "selective"
        name = "compute_activation_memory" + ("" if shared else "_without_sp")
        held = theirs["compute_weight_and_optimizer_memory"](args)
        return int(held + theirs[name](args, micro_batches))

    return memory


def arguments(made: MegatronPlan) -> SimpleNamespace:
    """Return the arguments of Megatron that the formula reads."""
    model, run = made.model, made.run
    feed, latent = model.experts, model.latent
    return SimpleNamespace(
        num_layers=model.layers,
        hidden_size=model.hidden,
        ffn_hidden_size=model.width,
        num_attention_heads=model.heads,
        kv_channels=model.head_dim,
        group_query_attention=latent is None,
        num_query_groups=model.kv_heads,
        swiglu=model.gated,
        normalization="LayerNorm" if model.centered else "RMSNorm",
        add_bias_linear=model.biased,
        padded_vocab_size=model.rows(run.tensor, run.multiple),
        untie_embeddings_and_output_weights=not model.tied,
        num_experts=feed.count if feed else None,
        moe_router_topk=feed.top if feed else 0,
        moe_ffn_hidden_size=feed.width if feed else None,
        moe_shared_expert_intermediate_size=(feed.shared or None) if feed else None,
        moe_layer_freq=[int(model.routed(i)) for i in range(model.layers)],
        moe_latent_size=None,
        mtp_num_layers=None,
        multi_latent_attention=latent is not None,
        q_lora_rank=model.query_rank or None,
        kv_lora_rank=latent.rank if latent else None,
        qk_head_dim=latent.nope if latent else None,
        qk_pos_emb_head_dim=latent.rotary if latent else None,
        v_head_dim=latent.value_dim if latent else None,
        seq_length=run.length // run.context,
        micro_batch_size=run.batch,
        tensor_model_parallel_size=run.tensor,
        pipeline_model_parallel_size=run.pipeline,
        virtual_pipeline_model_parallel_size=run.chunks if run.chunks > 1 else None,
        expert_model_parallel_size=run.expert,
        expert_tensor_parallel_size=run.expert_tensor,
        data_parallel_size=run.data * run.context,
        world_size=run.ranks,
        use_distributed_optimizer=run.distributed_optimizer,
        sequence_parallel=run.sequence_parallel,
        recompute_granularity="selective" if run.modules else None,
    )


def table(theirs: Memory) -> Iterator[str]:
    """Yield a row for each form of run: how far both are from what was printed."""
    forms: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for found in outcomes(chosen(source="megatron")):
        if not isinstance(found, Prediction) or found.record.level != "allocated":
            continue
        made = _plan(found)
        if made.run.recompute != "none":  # the formula keeps every layer
            continue
        said = theirs(arguments(made), made.run.accumulation)
        form = "experts" if made.model.experts else "dense"
        form += ", Transformer Engine, fused loss" if made.run.loss == "te" else ""
        forms[form].append((found.error, said / found.record.measured - 1))
    yield "| runs | n | ours: median, p95 | Megatron's: median, p95, low | Megatron's range |"
    yield "| --- | ---: | ---: | ---: | --- |"
    for form, errors in sorted(forms.items()):
        mine, their = zip(*errors, strict=True)
        low = sum(e < 0 for e in their) / len(their)
        yield (
            f"| {form} | {len(errors)} | {_two(mine)} | {_two(their)}, {low:.0%} "
            f"| {min(their):+.0%} to {max(their):+.0%} |"
        )


def _two(errors: Iterable[float]) -> str:
    sizes = sorted(map(abs, errors))
    return f"{median(sizes):.2%}, {percentile(sizes, 95):.2%}"


def _plan(found: Prediction) -> MegatronPlan:
    key = training._asked(found.record)
    workload = read("train", dict(key.setting))
    number, _ = version(usual(), workload.engine_version)
    return plan(
        subject_for(training._model(key.model), workload, number), workload, workload.budget()
    )


if __name__ == "__main__":
    main()
