"""A verdict is a function of its report: what JSON says of its conditions gives it again, none of them
is missing, and what is not known forbids the answers that it leaves open."""

import json
from itertools import product

import pytest

import weighbridge
from tests.cases import all_of, some
from weighbridge.base.errors import WeighbridgeError
from weighbridge.base.memory import Bytes, exactly
from weighbridge.memory.report.verdict import Condition, judge

HYBRID, DENSE, MOE = "qwen3.5-9b", "llama-3.1-8b", "qwen3-30b-a3b"
NAMES = ("llama-3.2-1b", DENSE, MOE, HYBRID, "gemma-3-12b", "gpt-oss-20b", "llama-3.1-70b")
ENGINES = ("transformers", "vllm", "sglang", "llama.cpp", "ollama")
CARDS = ("4090", "h100", "rtx-3060", "4090:2", "gb10")
BY_NAME = [
    ("infer", name, {"engine": engine, "gpu": card, "context": context})
    for (name, engine, card), context in zip(
        product(NAMES, ENGINES, CARDS), (4096, 32768, 65536) * 99, strict=False
    )
]
MLX = [("infer", name, {"engine": "mlx", "gpu": "m3-max-36gb"}) for name in NAMES]
COMMANDS = [
    f"vllm serve {{}}{flags}"
    for flags in (
        *("", " --max-model-len 8192", " --max-num-seqs 4096 --max-num-batched-tokens 8192"),
        *(" --gpu-memory-utilization 0.5", " --enforce-eager --kv-cache-dtype fp8"),
        *(" --kv-cache-memory-bytes 2000000000", " --tensor-parallel-size 2"),
        *(" --hf-overrides '{\"num_hidden_layers\":300}'", " --config x.yaml", " --some-new-flag"),
    )
] + [
    f"python -m sglang.launch_server --model-path {{}}{flags}"
    for flags in ("", " --context-length 32768", " --mem-fraction-static 0.6", " --some-new-flag")
]
BY_COMMAND = [
    ("infer", name, {"command": command.replace("{}", name), "gpu": card})
    for command in COMMANDS
    for name, card in (
        ("meta-llama/Llama-3.1-8B", "4090"),
        ("Qwen/Qwen3.5-9B", "h100"),
        ("meta-llama/Llama-3.1-70B", "h100"),
    )
]
LLAMA_CPP = [
    (
        "infer",
        f"{name}:Q4_K_M",
        {"command": f"llama-server -hf {name}:Q4_K_M -c {context}", "gpu": card},
    )
    for name in ("unsloth/Qwen3.6-27B-GGUF", "unsloth/Qwen3-8B-GGUF")
    for context in (8192, 131072)
    for card in ("4080", "3060")
]
TRAINING = [
    ("train", name, {"method": method, "framework": framework, "gpu": card, "ram": "32GiB"})
    for name in ("llama-3.2-1b", DENSE)
    for method in ("full", "lora", "qlora")
    for framework in ("trainer", "axolotl")
    for card in ("4090", "h100:2")
] + [
    ("train", DENSE, {"method": method, "gpu": card, "lora_r": 16})
    for method in ("grpo", "dpo")
    for card in ("4090", "h100")
]
PICTURES = [
    ("infer", name, {"gpu": card, "engine": engine})
    for name in ("flux.1-dev", "sdxl", "wan2.1-t2v-1.3b")
    for engine in ("diffusers", "comfyui")
    for card in ("3060", "4090")
]
CASES = [*BY_NAME, *MLX, *BY_COMMAND, *LLAMA_CPP, *TRAINING, *PICTURES]


def size(bounds):
    return bounds and Bytes(**bounds)


def read_again(report):
    """The verdict of a report as JSON has it, by its conditions alone."""
    return judge(
        Condition(
            c["name"],
            size(c.get("needed")),
            size(c.get("available")),
            opens=c.get("opens", ""),
            ground=c.get("ground", "physical"),
        )
        for c in report["verdict"]["conditions"]
    )


def asked(task, name, settings):
    try:
        return getattr(weighbridge, task)(name, **settings, offline=True)
    except WeighbridgeError as error:
        pytest.skip(f"{error}"[:80])


@pytest.mark.parametrize(("task", "name", "settings"), some(9, CASES))
def test_a_verdict_is_a_function_of_its_report(task, name, settings):
    report = json.loads(json.dumps(asked(task, name, settings).to_dict()))
    verdict, derived = report["verdict"], report["derived"]
    conditions = verdict["conditions"]
    assert read_again(report) == verdict["fits"]
    held = [d["peak"]["driver"] for d in report["devices"] if d["kind"] == "gpu"]
    assert conditions[0]["needed"] == {
        bound: max(each[bound] for each in held) for bound in ("low", "expected", "high")
    }
    opens = {c.get("opens") for c in conditions}
    if derived.get("not_counted"):
        assert "yes" in opens
    if verdict["fits"] == "yes":
        assert {c["holds"] for c in conditions} == {"yes"}
        assert not derived.get("not_counted")
        assert derived.get("serves_as_asked", True)
        assert not derived.get("command", {}).get("unknown")
    if verdict.get("ground") == "physical":
        assert opens.isdisjoint(("no", "either"))


ENOUGH, LITTLE, CLOSE = (
    Condition("memory", Bytes(9, 10, 11), have) for have in (exactly(11), exactly(8), exactly(10))
)
MORE, LESS, EITHER = (Condition("read", opens=opens) for opens in ("yes", "no", "either"))
REFUSED = Condition("starts", ground="tried")


@all_of(
    ("whole", "holds"),
    [((1, 2, 10), "yes"), ((1, 2, 11), "unknown"), ((10, 12, 14), "unknown"), ((11, 12, 13), "no")],
)
def test_a_number_holds_where_its_worst_does(whole, holds):
    assert Condition("memory", Bytes(*whole), exactly(10)).holds == holds


@all_of(
    ("conditions", "verdict"),
    [
        ((), "yes"),
        ((ENOUGH,), "yes"),
        ((ENOUGH, CLOSE), "unknown"),
        ((ENOUGH, CLOSE, LITTLE), "no"),
        ((ENOUGH, MORE), "unknown"),
        ((ENOUGH, LESS), "yes"),
        ((LITTLE, LESS), "unknown"),
        ((LITTLE, MORE), "no"),
        ((LITTLE, EITHER), "unknown"),
        ((ENOUGH, EITHER), "unknown"),
        ((ENOUGH, EITHER, REFUSED), "no"),  # whatever its memory
        ((LITTLE, LESS, REFUSED), "no"),
    ],
)
def test_the_law_of_a_verdict(conditions, verdict):
    assert judge(conditions) == verdict
    assert judge(reversed(conditions)) == verdict


@pytest.mark.slow
@pytest.mark.parametrize("free", ["10GiB", "14GiB", "20GiB"])
def test_a_share_is_of_the_whole_card_however_much_others_hold_of_it(free):
    """vLLM asks for 0.92 of what the card has, and refuses where less is free; the share that it
    needs is told, of the same whole."""
    model, asked = "qwen3-1.7b", {"gpu": "l4", "gpu_memory": free, "offline": True}
    line = f"vllm serve {model} --max-model-len 4096"
    found = weighbridge.infer(command=line, **asked)
    assert found.verdict.fits == "no"
    (remedy,) = (r for r in found.remedies if set(r.change) == {"gpu_memory_utilization"})
    assert remedy.fits == "yes"
    assert remedy.change["gpu_memory_utilization"] * 22 < int(free.removesuffix("GiB"))
    assert weighbridge.infer(command=f"{line} {remedy.flags}", **asked).verdict.fits == "yes"
    by_name = weighbridge.infer(model, engine="vllm", context=4096, **asked)
    assert by_name.verdict.fits == "yes"
    assert remedy.flags in by_name.derived["launch"]
