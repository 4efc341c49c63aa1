"""Random requests over the catalogue, and what must hold of the answers, alone and in pairs.

    python -m tests.hostile.asking --requests 2000 --seed 7
    python -m tests.hostile.asking --request "7:123"        one of them again

Alone: the laws of every report (laws.py), a verdict that follows from the peaks, and the exit code of
the command line that follows from the verdict. In pairs: twice the context or the batch takes no
less. A refusal is an answer; what is no refusal of ours is a defect.
"""

import argparse
import json
import random
import sys
from collections import Counter

from tests.hostile.laws import broken
from weighbridge.base.errors import WeighbridgeError
from weighbridge.faces import api
from weighbridge.models import catalogue

ENGINES = {
    "transformers": ("dtype", "quantization", "engine_version", "attention", "kv_cache_dtype"),
    "vllm": ("dtype", "engine_version", "tensor_parallel_size", "gpu_memory_utilization"),
    "sglang": ("dtype", "tensor_parallel_size", "mem_fraction_static", "engine_version"),
    "llama.cpp": ("quantization", "n_gpu_layers", "cache_type_k", "parallel", "flash_attn"),
}
VALUES = {
    "dtype": ("bfloat16", "float16", "float32"),
    "quantization": ("nf4", "bnb-int8", "gptq-4bit-g128", "Q4_K_M", "Q8_0", "fp8-block"),
    "attention": ("flash", "efficient", "math", "eager"),
    "kv_cache_dtype": ("auto", "fp8"),
    "tensor_parallel_size": (1, 2, 4, 8),
    "gpu_memory_utilization": (0.5, 0.9, 0.95),
    "mem_fraction_static": (0.6, 0.88),
    "n_gpu_layers": (0, 5, 999),
    "cache_type_k": ("f16", "q8_0"),
    "parallel": (1, 4),
    "flash_attn": ("on", "off", "auto"),
}
VERSIONS = {
    "transformers": ("4.40", "4.57", "5.0", "5.23"),
    "vllm": ("0.9.2", "0.11.0", "0.15.0", "0.20.0"),
    "sglang": ("0.4.6", "0.5.3", "0.5.9"),
}
GPUS = (
    "4090",
    "3060",
    "t4",
    "a100-80gb",
    "a100-80gb:2",
    "h100:8",
    "b200",
    "mi300x",
    "m3-max-128gb",
)
TRAINING = {
    "method": ("full", "lora", "qlora", "dora"),
    "framework": ("trainer", "trl", "torchtune", "torchtitan", "litgpt", "plain", "axolotl"),
    "precision": ("bf16-mixed", "fp16-mixed", "bf16", "fp32"),
    "optimizer": ("adamw_torch", "adamw_8bit", "sgd", "adafactor", "paged_adamw_8bit", "lion_8bit"),
    "checkpointing": ("none", "full", "selective"),
    "loss": ("standard", "chunked", "liger"),
    "attention": ("flash", "efficient", "math", "eager"),
    "gradient_accumulation": (1, 4),
    "lora_r": (4, 64),
    "offload": ("none", "optimizer", "params"),
}
SHARDS = ("none", "ddp", "zero1", "zero2", "zero3", "fsdp1", "fsdp2")
LARGEST = 20 * 10**9  # parameters of a model that is trained here, so that 2,000 take minutes


def request(rng):
    """A task, a model and its settings."""
    model, task = rng.choice(catalogue.names()), rng.choice(("load", "infer", "infer", "train"))
    if task == "load":
        given = _some(rng, {k: VALUES[k] for k in ("dtype", "quantization")}, 0.4)
    elif task == "infer":
        given = serving(rng)
    else:
        given = training(rng)
    if rng.random() < 0.6:
        given["gpu"] = rng.choice(GPUS)
    if rng.random() < 0.1:
        given["headroom"] = rng.choice(("1GiB", "10%"))
    return task, model, given


def _some(rng, values, share):
    return {key: rng.choice(held) for key, held in values.items() if rng.random() < share}


def serving(rng):
    engine = rng.choice(list(ENGINES))
    keys = [key for key in ENGINES[engine] if rng.random() < 0.25]
    given = {key: rng.choice(VALUES.get(key) or VERSIONS[engine]) for key in keys}
    given |= {"engine": engine, "context": rng.choice((128, 1000, 4096, 32768))}
    if rng.random() < 0.4:
        given["batch_size"] = rng.choice((1, 2, 7, 32))
    return given


def training(rng):
    given = _some(rng, TRAINING, 0.25)
    given |= {"seq_len": rng.choice((64, 512, 2048)), "batch_size": rng.choice((1, 1, 2, 5))}
    if rng.random() < 0.3:
        given |= {"shard": rng.choice(SHARDS), "data_parallel_size": rng.choice((2, 8))}
    return given


def ask(task, model, given):
    """(report, refusal)"""
    try:
        return getattr(api, task)(model, **given).to_dict(), None
    except WeighbridgeError as error:
        return None, error


def findings(task, model, given):
    """Each thing that is wrong with the answer, and whether there was one."""
    report, refusal = ask(task, model, given)
    found = []
    if report is None:
        found += [f"a refusal of {len(str(refusal))} characters"] if len(str(refusal)) > 300 else []
        return found, False
    found += broken(report)
    found += verdict(report)
    found += exit_code(report)
    found += more(task, model, given, report)
    return found, True


def verdict(report):
    """What was said of the device follows from its peaks."""
    said = report["verdict"]
    if said is None:
        return
    left, held = said["usable"], said["per_device"]
    least, most = held["low"], held["high"]
    if said["fits"] == "yes" and least > left["high"]:
        yield f"it fits, and the least it takes is {least - left['high']} more than there is"
    other = any(
        words in said["reason"]
        for words in ("share", "it needs", "does not start", "will not start", "leaves room")
    )
    if said["fits"] == "no" and most <= left["low"] and not other:
        yield f"it does not fit, and the most it takes leaves {left['low'] - most}: {said['reason']}"


def exit_code(report):
    """Exit code of the command with --check."""
    from types import SimpleNamespace

    from weighbridge.faces.cli import options

    said = report["verdict"]
    record = SimpleNamespace(fits=said["fits"] if said else "unknown", derived={})
    code = options.exit_code(record, check=True)
    if said is not None and code != {"yes": 0, "no": 1, "unknown": 4}[said["fits"]]:
        yield f"exit code {code} of {said['fits']}"


# Of allocated memory: torch's allocator keeps segments by what was asked for before, so that the
# reserved peak is no monotone function of sizes (20 MiB for one block more than 1 MiB). A step of
# training frees and takes in another order where a size crosses a kernel's tile.
SLACK = {"infer": 0.0, "train": 0.01}
GROWS = {"infer": ("context", "batch_size"), "train": ("seq_len", "batch_size")}


def more(task, model, given, report):
    """Twice of what it is asked for takes no less."""
    for key in GROWS.get(task, ()):
        if key not in given:
            continue
        larger, _ = ask(task, model, given | {key: 2 * given[key]})
        if larger is None or _workload(larger) != _workload(report):
            continue
        for bound in ("low", "expected", "high"):
            before, after = _peak(report, bound), _peak(larger, bound)
            if after < before * (1 - SLACK[task]):
                yield f"{key} {2 * given[key]} takes {before - after:,} less ({bound}) of {before:,}"


def _workload(report):
    """What else is asked: a larger workload may have other defaults."""
    told = {
        k: v for k, v in report["workload"].items() if k not in ("context", "batch_size", "seq_len")
    }
    return json.dumps(told, sort_keys=True, default=str)


def _peak(report, bound):
    return sum(d["peak"]["allocated"][bound] for d in report["devices"])


def at(seed, number):
    return request(random.Random(f"{seed}:{number}"))


def run(count, seed, *, quiet=False):
    """(answered, refused, {request: findings}); a defect is a finding."""
    answered, wrong = 0, {}
    for number in range(count):
        asked = at(seed, number)
        if asked[0] == "train" and api.load(asked[1]).model.parameters > LARGEST:
            asked = ("load", asked[1], {})
        try:
            found, told = findings(*asked)
        except Exception as error:
            found, told = [f"defect: {type(error).__name__}: {error}"], False
        answered += told
        if found:
            wrong[f"{seed}:{number}"] = found
            if not quiet:
                print(f"FINDING {seed}:{number} {asked}: {'; '.join(found)[:500]}", flush=True)
    return answered, count - answered, wrong


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--requests", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--request", help='one of them again: "7:123"')
    options = parser.parse_args()
    if options.request:
        seed, _, number = options.request.partition(":")
        asked = at(seed, number)
        print(asked, *findings(*asked), sep="\n")
        return None
    answered, refused, wrong = run(options.requests, options.seed)
    kinds = Counter(what.partition(" ")[0] for found in wrong.values() for what in found)
    print(
        f"{answered:,} answered, {refused:,} refused, {len(wrong):,} with findings: {dict(kinds)}"
    )
    return sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
