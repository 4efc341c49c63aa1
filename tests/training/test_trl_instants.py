"""What TRL 1.16's own trainers have allocated at each instant, as the fake GPU saw them
(tests/torch/trl_trainers.py), and what follows of it by hand."""

import json
from pathlib import Path

import pytest

import weighbridge
from tests.torch.trl_trainers import ANSWER, PROMPT, SHAPE
from weighbridge.answers.estimate.train import of_step
from weighbridge.answers.questions.question import question
from weighbridge.training import learning

LINES = [
    json.loads(line)
    for line in Path(__file__).with_name("trl_instants.jsonl").read_text().splitlines()
]
PARAMETERS = 19_598_592  # of the tiny Llama: 2 x 32,000 x 256, and four layers
LAYERS = PARAMETERS - 2 * 32_000 * 256


def instants(kind, precision, *, lora):
    [x] = [x for x in LINES if (x["kind"], x["precision"], x["lora"]) == (kind, precision, lora)]
    return x["instants"]


def first(seen, name):
    return next(x for x in seen if x[0] == name)


def order(seen):
    """Names of the second step, without what stands before a module."""
    names = [name for name, *_ in seen]
    start = [i for i, name in enumerate(names) if name == "begins"][-1]
    return [name for name in names[start:] if not name.startswith(("before", "begins", "clipped"))]


@pytest.mark.parametrize(
    ("kind", "lora", "expected"),
    [
        ("dpo", False, ["policy", "reference quiet", "loss", "backward", "step", "end"]),
        ("dpo", True, ["policy", "policy quiet", "loss", "backward", "step", "end"]),
        (
            "kto",
            False,
            [
                *("policy quiet", "policy", "reference quiet", "reference quiet"),
                *("loss", "backward", "step", "end"),
            ],
        ),
        ("reward", False, ["policy", "loss", "backward", "step", "end"]),
    ],
)
def test_the_order_of_a_step(kind, lora, expected):
    assert order(instants(kind, "bf16-mixed", lora=lora)) == expected


def test_grpo_generates_then_the_reference_then_the_policy():
    seen = order(instants("grpo", "bf16-mixed", lora=False))
    assert seen == ["generation", "reference quiet", "policy", "loss", "backward", "step", "end"]


@pytest.mark.parametrize("kind", ["dpo", "kto", "grpo"])
def test_a_reference_is_a_second_copy_and_none_beside_adapters(kind):
    """Weights in float32, twice, against once; 1 % are buffers and adapters."""
    full, lora = (first(instants(kind, "fp32", lora=x), "load")[1] for x in (False, True))
    assert full == pytest.approx(2 * 4 * PARAMETERS, rel=0.02)
    assert lora == pytest.approx(4 * PARAMETERS, rel=0.03)


def test_a_reward_model_has_no_vocabulary_above():
    seen = instants("reward", "fp32", lora=False)
    weights = 4 * (32_000 * 256 + LAYERS + 256)
    assert first(seen, "load")[1] == pytest.approx(weights, rel=0.02)


def test_the_reference_runs_while_the_graph_of_dpo_lives():
    seen = instants("dpo", "bf16-mixed", lora=False)
    policy, reference = first(seen, "policy"), first(seen, "reference quiet")
    load = first(seen, "load")
    assert reference[1] > policy[1] > load[1] + 60_000_000


# ---- what we say of the same runs


def asked(line):
    """The question of a line: TRL's own settings, as its trainer was given them."""
    kind, adapters = line["kind"], line["lora"]
    shapes = {"seq_len": PROMPT + ANSWER, "max_new_tokens": ANSWER}
    if kind == "grpo":
        shapes |= {"num_generations": 2, "kl_beta": 0.04, "rollout_engine": "none"}
    return shapes | {
        "method": kind,
        "tuner": "lora" if adapters else "full",
        **({"lora_targets": ("q_proj", "v_proj")} if adapters else {}),
        "framework": "trl",
        "framework_version": "1.16",
        "precision": line["precision"],
        "dtype": "bfloat16" if line["precision"] == "bf16" else "float32",
        "batch_size": 2,
        "checkpointing": "none",
        "optimizer": "adamw_torch",
        "gpu": "a100-80gb",
    }


@pytest.fixture(scope="module")
def model():
    config = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], **SHAPE}
    return weighbridge.prepare(config)


@pytest.mark.parametrize(
    "line", LINES, ids=lambda x: f"{x['kind']} {x['precision']} {'lora' if x['lora'] else 'full'}"
)
def test_the_closed_form_has_the_peaks_of_trl(line, model):
    """Each within half a percent; a quiet pass is marked where its layers end, before its head."""
    workload = question("train", None, asked(line)).workload
    ours = {one.name: one.at("allocated").expected for one in actor(model, workload)}
    most = {}
    for name, _, peak in line["instants"]:
        most[name] = max(peak, most.get(name, 0))
    assert ours["forward"] == pytest.approx(most["policy"], rel=0.005)
    backward = max(most["loss"], most["backward"])
    assert max(ours["loss"], ours["backward"]) == pytest.approx(backward, rel=0.005)
    assert ours["step"] == pytest.approx(most["step"], rel=0.005)


def actor(model, workload):
    run = learning.run(workload, 1)
    return of_step(model.model(), run.trained, objective=run.objective).devices[0].phases
