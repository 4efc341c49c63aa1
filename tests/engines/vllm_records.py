"""Published readings of vLLM beside what we say from model, flags and card alone.

    python -m tests.engines.vllm_records        every record, and the errors of each quantity

llm-d-planner: logs of vLLM 0.19 on H100s, and one of 0.11. AgileRL: NVML while a colocated engine
generates (0.23, 0.26). The recipes and the traps are in the README beside the records.
"""

import functools
import json
import statistics
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace

from tests.corpus import ROOT
from tests.engines.test_caches_vllm import config_of, logs
from weighbridge.base.units import GIB
from weighbridge.engines.interface import EngineAnswer, Subject
from weighbridge.engines.subject import subject
from weighbridge.engines.table import engine, version
from weighbridge.engines.vllm.infer import infer
from weighbridge.models import catalogue
from weighbridge.models.checkpoint.gather import gather_config
from weighbridge.models.checkpoint.model import resolve
from weighbridge.workload import Infer

WINDOWS = ROOT / "measurements" / "agilerl_grpo.jsonl"
FORMATS = {  # as the fine-tune is packed; the config at hand is its base's
    "RedHatAI/Qwen2.5-7B-Instruct-fp8-dynamic": "w8a8-fp8",
    "RedHatAI/Qwen2.5-7B-Instruct-quantized.w8a8": "w8a8-int8",
    "RedHatAI/Meta-Llama-3.1-8B-Instruct-quantized.w4a16": "gptq-4bit-g128",
    "RedHatAI/Meta-Llama-3.1-8B-Instruct-quantized.w8a8": "w8a8-int8",
}
# The configs at hand are of fine-tunes with longer rotary tables: Gemma 3's own have 131,072 rows.
STRETCHED = {"google/gemma-3-4b-it": 131_072, "google/gemma-3-12b-it": 131_072}
TRAINED = {  # of the same shapes
    "Qwen/Qwen2.5-3B-Instruct": "qwen2.5-3b",
    "Qwen/Qwen2.5-7B-Instruct": "qwen2.5-7b",
    "HuggingFaceTB/SmolLM2-1.7B-Instruct": "smollm2-1.7b",
    "allenai/OLMoE-1B-7B-0924-Instruct": "olmoe-1b-7b",
}
CARDS = {"NVIDIA A100-SXM4-40GB": "A100 SXM 40GB", "NVIDIA L4": "L4", "NVIDIA H100 80GB": "H100"}


@dataclass(frozen=True)
class Reading:
    quantity: str
    who: str
    predicted: float
    measured: float

    @property
    def error(self) -> float:
        return self.predicted / self.measured - 1


def of_config(raw: dict, w: Infer) -> Subject:
    kind = engine("vllm")
    return subject(resolve(gather_config(raw)), w, kind, version(kind, w.engine_version)[0])


def config(model_id: str) -> dict | None:
    raw = config_of(model_id)
    if raw is None or model_id not in STRETCHED:
        return raw
    text = raw["text_config"] | {"max_position_embeddings": STRETCHED[model_id]}
    return raw | {"text_config": text}


def held(answer: EngineAnswer) -> int:
    """What "Model loading took" counts."""
    load = answer.devices[0].phases[0].components
    names = ("weights", "buffers", "rounding", "workspaces")
    return sum(c.bytes.expected for c in load if c.name in names and c.detail != "requests")


def planned() -> Iterator[Reading]:
    """The logs of 0.19 and of 0.11."""
    for record in logs():
        raw, flags = config(record["model_id"]), record["engine"]
        if raw is None:
            continue
        tensor = int((record.get("parallelism") or "TP 1").split()[1].rstrip(","))
        w = Infer(
            engine_defaults=True,
            engine_version="0.19",
            quantization=FORMATS.get(record["model_id"]),
            context=flags["max_model_len"],
            max_num_batched_tokens=int(flags["max_num_batched_tokens"]),
            max_num_seqs=int(flags["max_num_seqs"]),
            gpu_memory_utilization=flags["gpu_memory_utilization"],
            block_size=16,
            tensor_parallel_size=tensor,
            gpu="H100",
        )
        yield from compared(f"{record['model_id']} x{tensor}", raw, w, record["components"])
    raw = config_of("openai/gpt-oss-20b")
    if raw is not None and logs():
        w = Infer(
            engine_defaults=True, engine_version="0.11", context=16_000, block_size=128, gpu="H100"
        )
        logged = {
            "weights_memory_gib": 13.47,
            "activation_memory_gib": 7.38,
            "kv_cache_memory_gib": 50.28,
        }
        yield from compared("openai/gpt-oss-20b 0.11", raw, w, logged)


def compared(who: str, raw: dict, w: Infer, logged: dict) -> Iterator[Reading]:
    answer = infer(of_config(raw, w), w, w.budget())
    facts = answer.derived
    names = {
        "weights_memory_gib": held(answer) / GIB,
        "activation_memory_gib": facts["profile_peak_bytes"] / GIB,
        "kv_cache_memory_gib": facts["available_kv_cache_bytes"] / GIB,
        "cuda_graph_estimated_gib": facts["cuda_graph_estimate_bytes"] / GIB,
        "cuda_graph_actual_gib": facts["cuda_graph_bytes"] / GIB,
        "kv_cache_tokens": facts["kv_cache_tokens"],
    }
    for name, value in names.items():
        if name in logged:
            yield Reading(name, who, value, logged[name])


@functools.cache
def trained(model_id: str) -> Subject | None:
    name = TRAINED.get(model_id)
    raw = catalogue.find(name).config if name else config_of(model_id)
    return of_config(raw, Infer(context=512, engine_version="0.23")) if raw else None


def windows() -> Iterator[Reading]:
    """NVML while G completions of one prompt are generated, with one slot for adapters."""
    lines = WINDOWS.read_text().splitlines() if WINDOWS.exists() else []
    for record in map(json.loads, lines):
        found = trained(record["model_id"]) if record["kind"] == "engine" else None
        if found is None or record["confidence"] == "low":
            continue
        flags = record["engine"]
        w = Infer(
            engine_defaults=True,
            engine_version=record["framework_version"].split("vllm ")[1],
            context=flags["max_model_len"],
            prompt_len=record["prompt_len"],
            max_new_tokens=record["new_tokens"],
            shared_prefix=record["prompt_len"],
            batch_size=record["batch"],
            max_num_batched_tokens=flags["max_num_batched_tokens"],
            max_num_seqs=flags["max_num_seqs"],
            gpu_memory_utilization=flags["gpu_memory_utilization"],
            max_loras=flags["max_loras"],
            max_lora_rank=flags["max_lora_rank"],
            gpu=CARDS[record["gpu"]],
        )
        answer = infer(replace(found, context=flags["max_model_len"]), w, w.budget())
        who = f"{record['id']} {record['model_id']} {record['gpu']} T={flags['max_num_batched_tokens']}"
        yield Reading("nvml", who, answer.derived["serving_bytes"] / GIB, record["bytes"] / GIB)


def by_quantity(readings: Iterator[Reading]) -> dict[str, list[float]]:
    errors = defaultdict(list)
    for r in readings:
        errors[r.quantity].append(abs(r.error))
    return {name: sorted(found) for name, found in errors.items()}


def p95(errors: list[float]) -> float:
    return errors[round(0.95 * (len(errors) - 1))]


def main() -> None:
    readings = [*planned(), *windows()]
    for r in readings:
        print(f"{r.quantity:25} {r.who:70} {r.predicted:12.3f} {r.measured:12.3f} {r.error:+.2%}")
    for name, errors in by_quantity(iter(readings)).items():
        middle = statistics.median(errors)
        print(f"{name:25} n {len(errors):3} median {middle:.3%} p95 {p95(errors):.3%}")


if __name__ == "__main__":
    main()
