"""SimuMax's own answers beside ours, on peaks that it printed of eight B200.

    python -m benchmarks.simumax PATH

PATH is a checkout of MooreThreads/SimuMax, or its docs/b200/b200_release_v1.2_summary.json alone,
which holds what it measured and what it answers, in GiB. Models and settings are what its launchers
say (simu_tools/megatron_scripts/scripts). Ours knew 11 of 23 stages of these runs when its rules
were found; of the others, with context ranks, four and eight tensor ranks or DeepSeek-V3, the
allocated bytes were looked at when the rules stood.
"""

import argparse
import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import weighbridge
from weighbridge.base.memory import Device
from weighbridge.base.units import GIB, MIB
from weighbridge_lab.evidence.accuracy import percentile

SUMMARY = Path("docs/b200/b200_release_v1.2_summary.json")
CASE = re.compile(r"(llama3_70b|llama3_405b|deepseekv2|deepseekv3)_")
NUMBER = {"tensor": "_tp", "pipeline": "_pp", "context": "_cp", "expert": "_ep"}
GPT = {
    "model_type": "megatron-gpt", "architectures": ["GPTModel"], "normalization": "RMSNorm",
    "position_embedding_type": "rope", "swiglu": True, "add_bias_linear": False,
    "tie_word_embeddings": False,
}  # fmt: skip
LLAMA = GPT | {"num_key_value_heads": 8, "head_dim": 128, "vocab_size": 128257}
DEEPSEEK = GPT | {
    "num_attention_heads": 128, "num_key_value_heads": 128, "q_lora_rank": 1536,
    "kv_lora_rank": 512, "qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "v_head_dim": 128,
    "n_group": 8, "first_k_dense_replace": 1,
}  # fmt: skip
MODELS: dict[str, dict[str, Any]] = {
    "llama3_70b": LLAMA
    | {"hidden_size": 8192, "intermediate_size": 28672, "num_attention_heads": 64},
    "llama3_405b": LLAMA
    | {"hidden_size": 16384, "intermediate_size": 53248, "num_attention_heads": 128}
    | {"num_key_value_heads": 16},
    "deepseekv2": DEEPSEEK
    | {"hidden_size": 5120, "intermediate_size": 12288, "vocab_size": 102401}
    | {"num_experts": 160, "num_experts_per_tok": 6, "moe_intermediate_size": 1536}
    | {"shared_expert_intermediate_size": 3072},
    "deepseekv3": DEEPSEEK
    | {"hidden_size": 7168, "intermediate_size": 18432, "vocab_size": 129281}
    | {"num_experts": 256, "num_experts_per_tok": 8, "moe_intermediate_size": 2048}
    | {"shared_expert_intermediate_size": 2048},
}
FUSED = ("cross_entropy_loss_fusion", "cross_entropy_fusion_impl=te", "cp_comm_type=a2a")
UNMASKED = "no_create_attention_mask_in_dataloader"
ROUTED = (
    "moe_token_dispatcher_type=alltoall", "moe_grouped_gemm", "moe_permute_fusion",
    "moe_expert_capacity_factor=1", "moe_pad_expert_input_to_capacity",
)  # fmt: skip


class StageBeside(NamedTuple):
    """The allocated bytes of a stage, measured, by SimuMax and by us, and what each of its ranks
    reserves beside our low and high end."""

    name: str
    measured: float
    theirs: float
    ours: float
    reserved: tuple[float, ...]
    bounds: tuple[float, float]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("path", type=Path, metavar="PATH")
    typed = parser.parse_args()
    path = typed.path / SUMMARY if typed.path.is_dir() else typed.path
    for line in table(stages(json.loads(path.read_text())["rows"])):
        print(line)


def stages(rows: Iterable[dict[str, Any]]) -> Iterator[StageBeside]:
    """Yield each stage of each setting once: what it takes does not depend on the micro-batches."""
    seen = set()
    for row in rows:
        setting = re.sub(r"_mbc\d+", "", row["case"])
        if setting not in seen:
            seen.add(setting)
            yield from _stages(row, setting.removesuffix("_cef"))


def _stages(row: dict[str, Any], setting: str) -> Iterator[StageBeside]:
    ranks = {kind: _number(setting, key) for kind, key in NUMBER.items()}
    devices = _answer(setting, ranks)
    each = len(row["peak_memory_by_rank_mb"]) // ranks["pipeline"]
    for stage in range(ranks["pipeline"]):
        mine = range(stage * each, (stage + 1) * each)
        printed = [row["peak_memory_by_rank_mb"][str(i)] for i in mine]
        peaks = [p.at("allocated") for p in devices[mine[0]].phases]
        bounds = devices[mine[0]].peak("reserved")
        yield StageBeside(
            name=setting + (f", stage {stage}" if ranks["pipeline"] > 1 else ""),
            measured=max(p["max_allocated_mb"] for p in printed) * MIB,
            theirs=GIB * row["peak_alloc_by_stage_gib"][("last" if stage else "first") + "_stage"],
            ours=max(peak.expected for peak in peaks),
            reserved=tuple(p["max_reserved_mb"] * MIB for p in printed),
            bounds=(bounds.low, bounds.high),
        )


def _answer(setting: str, ranks: dict[str, int]) -> list[Device]:
    found = CASE.match(setting)
    if found is None:
        raise SystemExit(f"{setting}: no model of ours has such a name")
    length = _number(setting, "_seq", 4096)
    config = MODELS[found[1]] | {
        "num_hidden_layers": _number(setting, "_l"),
        "max_position_embeddings": length,
    }
    report = weighbridge.train(
        config,
        framework="megatron",
        framework_version="2025-10-08",
        torch_version="2.10",
        gpu="b200:8",
        batch_size=1,
        seq_len=length,
        gradient_accumulation=8,
        shard="zero1",
        **{f"{kind}_parallel_size": n for kind, n in ranks.items()},
        megatron_args=[
            *FUSED,
            UNMASKED,
            *(ROUTED if "num_experts" in config else ()),
            *(["sequence_parallel"] if ranks["tensor"] > 1 else ()),
        ],
    )
    return [device for device in report.devices if device.kind == "gpu"]


def _number(setting: str, key: str, usual: int = 1) -> int:
    found = re.search(rf"{key}(\d+)", setting)
    return int(found[1]) if found else usual


def table(rows: Iterable[StageBeside]) -> Iterator[str]:
    """Yield a row for each stage, and how far both are from what was printed."""
    yield "| setting | allocated, GiB | SimuMax | ours | ranks reserve | our bounds |"
    yield "| --- | ---: | ---: | ---: | --- | --- |"
    theirs, ours, below, above, ranks = [], [], 0, 0, 0
    for row in rows:
        theirs.append(row.theirs / row.measured - 1)
        ours.append(row.ours / row.measured - 1)
        low, high = row.bounds
        below += sum(n < low for n in row.reserved)
        above += sum(n > high for n in row.reserved)
        ranks += len(row.reserved)
        yield (
            f"| {row.name} | {row.measured / GIB:.3f} | {theirs[-1]:+.2%} | {ours[-1]:+.3%} "
            f"| {_ends(row.reserved)} | {_ends(row.bounds)} |"
        )
    yield ""
    for name, errors in (("SimuMax", theirs), ("ours", ours)):
        sizes = sorted(map(abs, errors))
        yield f"{name}: median {median(sizes):.3%}, largest {percentile(sizes, 100):.3%}"
    yield f"{ranks} ranks reserve: {below} below our bounds, {above} above them"


def _ends(found: tuple[float, ...]) -> str:
    return f"{min(found) / GIB:.1f} to {max(found) / GIB:.1f}"


if __name__ == "__main__":
    main()
