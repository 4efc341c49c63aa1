"""An engine's numbers alone say what its full answer says, wherever a search looks: over the
catalogue, cards, settings and points at random. The search over full answers is the oracle."""

import random

import pytest

from tests.cases import each
from weighbridge import prepare
from weighbridge.answers.estimate import infer, limits, served
from weighbridge.answers.estimate.limits import largest
from weighbridge.base.errors import WeighbridgeError
from weighbridge.engines.table import ENGINES, version
from weighbridge.models import catalogue
from weighbridge.workload import read

PROBED = [name for name, kind in ENGINES.items() if kind.probe]
FEW = (
    *("llama-3.1-8b", "gemma-3-4b", "gpt-oss-20b", "qwen3-30b-a3b", "deepseek-v2-lite"),
    *(
        "qwen3-next-80b-a3b",
        "whisper-small",
        "bert-base-uncased",
        "mamba-codestral-7b",
        "qwen2.5-vl-7b",
    ),
)
CARDS = ("4090", "t4", "h100", "a100-40gb", "h100:2", "b200", "h100:8", "l4:4")
COMMON = {
    "context": lambda draw: int(2 ** draw.uniform(5, 15)),
    "batch_size": lambda draw: int(2 ** draw.uniform(0, 11)),
    "tensor_parallel_size": lambda draw: draw.choice((2, 4, 8)),
    "pipeline_parallel_size": lambda draw: 2,
    "shared_prefix": lambda draw: 300,
    "headroom": lambda draw: "10%",
}
OWN = {
    "vllm": {
        "engine_version": lambda draw: draw.choice(("0.9", "0.11", "0.19", "0.24", "0.28")),
        "gpu_memory_utilization": lambda draw: draw.choice((0.3, 0.8, 0.95)),
        "max_num_seqs": lambda draw: draw.choice((1, 64, 2000)),
        "max_num_batched_tokens": lambda draw: draw.choice((2048, 8192)),
        "enforce_eager": lambda draw: draw.choice((True, False)),
        "num_gpu_blocks_override": lambda draw: 5000,
    },
    "sglang": {
        "engine_version": lambda draw: draw.choice(("0.4.6", "0.5.3", "0.5.12", "0.5.20")),
        "mem_fraction_static": lambda draw: draw.choice((0.3, 0.6, 0.9)),
        "max_running_requests": lambda draw: draw.choice((4, 64, 1000)),
        "chunked_prefill_size": lambda draw: draw.choice((1024, 4096)),
        "disable_cuda_graph": lambda draw: True,
        "disable_radix_cache": lambda draw: True,
    },
    "transformers": {
        "engine_version": lambda draw: draw.choice(("4.37", "4.45", "4.57", "5.1")),
        "quantization": lambda draw: draw.choice(("nf4", "gptq-4bit-g128", "fp8-block")),
        "attention": lambda draw: draw.choice(("eager", "flash")),
        "cache_implementation": lambda draw: draw.choice(("static", "quanto")),
        "num_beams": lambda draw: 3,
        "max_new_tokens": lambda draw: 20,
    },
    "llama.cpp": {
        "engine_version": lambda draw: draw.choice(("4905", "6000", "8000")),
        "quantization": lambda draw: draw.choice(("Q4_K_M", "Q8_0")),
        "flash_attn": lambda draw: draw.choice(("on", "off")),
        "n_gpu_layers": lambda draw: draw.choice((0, 3, 99)),
        "n_cpu_moe": lambda draw: 5,
        "parallel": lambda draw: 16,
        "cache_type_k": lambda draw: "q8_0",
        "no_kv_offload": lambda draw: True,
        "program": lambda draw: "cli",
    },
    "ik_llama.cpp": {
        "quantization": lambda draw: draw.choice(("Q4_K_M", "IQ4_K")),
        "flash_attn": lambda draw: draw.choice(("on", "off")),
        "mla_attn": lambda draw: draw.choice((1, 2, 3)),
        "n_gpu_layers": lambda draw: draw.choice((0, 3, 99)),
        "fused_moe": lambda draw: True,
    },
    "ollama": {
        "engine_version": lambda draw: draw.choice(("0.30", "0.31.2")),
        "quantization": lambda draw: draw.choice(("Q4_K_M", "Q8_0")),
        "kv_cache_dtype": lambda draw: "q8_0",
        "n_gpu_layers": lambda draw: draw.choice((0, 3, 99)),
        "parallel": lambda draw: 16,
        "split_mode": lambda draw: "layer",
    },
}
POINTS = 4


def asked(draw, name, engine):
    """(subject, workload, engine, budget) of a question at random, or None where it is refused."""
    kinds = COMMON | OWN.get(engine, {})
    said = {n: make(draw) for n, make in kinds.items() if draw.random() < 0.3}
    w = read("infer", {"engine": engine, "gpu": draw.choice(CARDS), **said})
    kind, model, budget = ENGINES[engine], prepare(name).model(), w.budget()
    if draw.random() < 0.2:
        w = w.but(engine_defaults=True)
    try:
        s = infer.subject_of(model, w, kind, version(kind, w.engine_version)[0])
        kind.infer(s, w, budget)
    except WeighbridgeError:
        return None
    return s, w, kind, budget


def both(s, w, kind, budget):
    """Whether a point holds, by the full answer and by its numbers; of a context and a batch."""

    def full(point):
        moved = w.but(prompt_len=point.prompt_len, batch_size=point.batch_size)
        there = infer.replace(s, context=point.context)
        if kind.holds is not None and not kind.holds(there, moved, budget):
            return False
        answer = limits.answered(there, moved, kind, budget)
        found = infer.widened(answer, limits.runs(s, kind, moved))
        return served.verdict(found, w, kind.name, budget).fits == "yes"

    spare = limits._quick(s, w, kind, budget)
    return full, lambda point: limits._enough(spare(point))


def said(holds, point):
    try:
        return holds(point)
    except WeighbridgeError as error:
        return str(error)


def compare(draw, name, engine, points=POINTS):
    found = asked(draw, name, engine)
    if found is None:
        return 0
    full, quick = both(*found)
    w = found[1]
    for _ in range(points):
        context = int(2 ** draw.uniform(0, 17))
        prompt = max(1, context // 2) if draw.random() < 0.3 else None
        point = limits.SearchPoint(context, prompt, int(2 ** draw.uniform(0, 12)))
        assert said(full, point) == said(quick, point), (name, w, point)
    return points


@pytest.mark.slow
@pytest.mark.parametrize("engine", PROBED)
def test_numbers_alone_say_what_answers_say(engine):
    draw = random.Random(engine)
    compared = sum(compare(draw, name, engine) for name in FEW)
    assert compared >= 5 * POINTS


@pytest.mark.slow
@pytest.mark.parametrize("step", each(2, (40, 1)))
@pytest.mark.parametrize("engine", PROBED)
def test_numbers_alone_say_what_answers_say_over_the_catalogue(engine, step):
    draw = random.Random(engine)
    asked_of = catalogue.names()[::step]
    compared = sum(compare(draw, name, engine) for name in asked_of for _ in range(3))
    assert compared > 1000 // step


@pytest.mark.slow
@pytest.mark.parametrize("engine", PROBED)
@pytest.mark.parametrize(
    "name",
    [
        "llama-3.1-8b",
        pytest.param("deepseek-v2-lite", marks=pytest.mark.slow),
        pytest.param("gemma-3-4b", marks=pytest.mark.slow),
    ],
)
def test_limits_are_those_of_a_search_over_full_answers(engine, name):
    draw = random.Random(f"limits {engine} {name}")
    found = None
    while found is None:
        found = asked(draw, name, engine)
    s, w, _, _ = found
    full, quick = both(*found)
    most = s.longest or limits.UNBOUNDED

    def longer(holds):
        return lambda n: holds(limits.SearchPoint(n, None, w.batch_size or 1))

    def more(holds):
        return lambda n: holds(limits.SearchPoint(s.context, None, n))

    for way, end, near in ((longer, most, s.context), (more, 4096, w.batch_size or 1)):
        assert largest(way(quick), end, near=near) == largest(way(full), end, near=near)


@pytest.mark.slow
def test_devices_that_have_the_like_are_walked_once(monkeypatch):
    from weighbridge.engines.transformers import infer as serving

    walked = []
    peaks = serving.peaks

    def counted(subject, p, start, end):
        walked.append((start, end))
        return peaks(subject, p, start, end)

    monkeypatch.setattr(serving, "peaks", counted)
    found = prepare("llama-3.1-70b").infer(gpu="a100-80gb:64", batch_size=3)
    assert len(found.devices) > 40
    # two searches of some twenty points: at each of them five shares of layers differ
    assert len(set(walked)) == 5
    assert len(walked) < 5 * 2 * 20
