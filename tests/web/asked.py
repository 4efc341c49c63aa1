"""Random requests over everything that the form offers, the same for one seed."""

import random

from weighbridge.faces.web.form import form

MODELS = ("gpt2", "qwen3-0.6b", "bert-base-uncased", "llama3.2:1b")
TYPED = {  # settings whose values are names
    "gpu": ("H100", "2x H200", "a100-80gb:4", "8卡A800", "b200", "141GiB"),
    "gpu_memory": ("79GiB", 76 << 30),
    "headroom": ("1GiB", "10%", 1 << 30),
    "ram": ("64GiB", 32 << 30),
    "dtype": ("float16", "bfloat16", "float32"),
    "engine_version": ("5.0",),
    "torch_version": ("2.6",),
    "kv_cache_dtype": ("fp8", "auto"),
    "cache_type_k": ("q8_0", "f16"),
    "cache_type_v": ("f16",),
    "image_size": (224, "1280x720", [336, 224]),
    "tensor_split": ("3,1", [3, 1]),
    "lora_targets": ("all-linear", ["q_proj", "v_proj"], "q_proj,v_proj", r".*\.(q|v)_proj"),
    "modules_to_save": (["lm_head"],),
    "optim_args": ("foreach=False,fused=True", ["weight_decay=0.01"]),
    "context": ("8K", "8k", 2048, 4096.0),
    "kv_cache_memory_bytes": ("4GiB", 1 << 30),
    "revision": (),
    "command": (),
    "exact": (),
}


SMALL = {  # where answers have remedies, which take their time
    **TYPED,
    "gpu": ("4090", "2x RTX 4090", "a100,2", "T4", "m3 max 64gb", "24GiB", "4张3090"),
    "gpu_memory": ("24GiB", "11.5GiB", 8 << 30),
}
DECIDING = {"load": (), "infer": ("engine",), "train": ("method", "shard")}


def requests(seed, count, typed=TYPED):
    """So many requests of load, infer and train, of settings that the form shows together."""
    rng = random.Random(seed)
    tabs = {tab["name"]: _settings(tab) for tab in form("en")["tabs"]}
    for number in range(count):
        task = ("load", "infer", "train", "infer", "train")[number % 5]
        settings = {s["name"]: s for s in tabs[task]}
        workload = {name: _value(rng, settings[name], typed) for name in DECIDING[task]}
        shown = [s for s in settings.values() if relevant(s, workload)]
        for s in rng.sample(shown, k=rng.randint(1, 4)):
            workload.setdefault(s["name"], _value(rng, s, typed))
        if rng.random() < 0.7:
            workload["gpu"] = _value(rng, settings["gpu"], typed)
        told = {name: value for name, value in workload.items() if value is not None}
        yield {"task": task, "model": rng.choice(MODELS), "workload": told}


def relevant(s, workload):
    """Whether the page shows a setting beside those that were chosen."""
    if s["engines"] and workload.get("engine", "transformers") not in s["engines"]:
        return False
    return s["when"] is None or any(
        workload.get(name) in values if values else name in workload
        for name, values in s["when"].items()
    )


def _settings(tab):
    return [setting for section in tab["sections"] for setting in section["settings"]]


def _value(rng, s, typed):
    if s["name"] in typed:
        return rng.choice(typed[s["name"]]) if typed[s["name"]] else None
    if s["kind"] == "flag":
        return rng.choice((True, False))
    if s["choices"] or s["known"]:
        return rng.choice(s["choices"] or s["known"])
    if s["slider"]:
        return rng.randint(s["slider"]["least"], min(s["slider"]["most"], 4096))
    if s["name"].endswith("_parallel_size"):
        return rng.choice((1, 2))
    if s["kind"] in ("count", "whole", "number"):
        return rng.randint(int(s["least"] or 0), int(min(s["most"] or 64, 64)))
    return None
