"""Services of one file on one card, and those that are not read."""

import pytest
from tests.cases import all_of

import weighbridge
from weighbridge.files.runfiles import read

SERVICE = """\
  {name}:
    image: vllm/vllm-openai:v0.11.0
    command: --model {model} --max-model-len 4096 --gpu-memory-utilization {share}
    deploy: {{resources: {{reservations: {{devices: [{{device_ids: ["{card}"]}}]}}}}}}
"""


def services(*said):
    names = ("model", "share", "card")
    text = "".join(
        SERVICE.format(name=f"s{n}", **dict(zip(names, each, strict=True)))
        for n, each in enumerate(said)
    )
    return f"services:\n{text}"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("shares", "cards", "fits"),
    [
        ((0.4, 0.3), ("0", "0"), ("yes", "yes")),
        ((0.7, 0.6), ("0", "0"), ("no", "no")),
        ((0.9, 0.9), ("0", "0"), ("no", "no")),
        ((0.7, 0.6), ("0", "1"), ("yes", "yes")),
        ((0.7, 0.6), ("0,1", "1"), ("yes", "yes")),  # one id that is none of ours
    ],
)
def test_services_on_one_card_are_judged_by_their_sum(shares, cards, fits):
    text = services(
        *(("qwen3-0.6b", share, card) for share, card in zip(shares, cards, strict=True))
    )
    found = weighbridge.weigh(text, name="compose.yaml", gpu="h100")
    assert tuple(run.fits for run in found.runs) == fits
    if "no" in fits:
        assert "s0 and s1 share card 0: together they take about 1" in (
            found.runs[1].report.verdict.reason
        )


@pytest.mark.slow
@pytest.mark.parametrize(("second", "fits"), [("0", "no"), ("1", "yes")])
def test_a_check_of_services_counts_them_together(second, fits, tmp_path):
    (tmp_path / "compose.yaml").write_text(
        services(("qwen3-0.6b", 0.9, "0"), ("qwen3-0.6b", 0.9, second))
    )
    rules = tmp_path / "weighbridge.toml"
    rules.write_text('[[check]]\nfiles = ["compose.yaml"]\ngpu = "h100"\n')
    found = weighbridge.check(rules).files
    assert [(one.result, one.failed) for one in found] == [(fits, fits == "no")]


BOTH = "vllm serve qwen3-0.6b --max-model-len 512"
STANDING = [
    ("run.sh", f"{BOTH} & {BOTH}", ["0", "0"]),
    ("run.sh", f"nohup {BOTH} > log 2>&1 &\n{BOTH} -tp 2 &\nwait", ["0", "0 1"]),
    ("run.sh", f"CUDA_VISIBLE_DEVICES=0 {BOTH} &\nCUDA_VISIBLE_DEVICES=1 {BOTH} &", ["0", "1"]),
    ("run.sh", f"{BOTH}\n{BOTH}", ["", ""]),  # the second comes when the first has ended
    ("run.sh", f"{BOTH} &\nsleep 60; kill %1\n{BOTH}", ["", ""]),
    ("run.sh", f"srun --exact {BOTH} &\nsrun --exact {BOTH} &", ["", ""]),  # each its own
    ("run.sh", "docker run -d vllm/vllm-openai:v0.11.0 qwen3-0.6b\n" * 2, ["0", "0"]),
    ("job.sh", f"#!/bin/bash\n#SBATCH --gres=gpu:1\n{BOTH} &\n{BOTH} &\nwait\n", ["0", "0"]),
    ("compose.yaml", ["gpus: all", "gpus: all"], ["0", "0"]),
    ("compose.yaml", ["gpus: [{count: 1}]", 'gpus: [{device_ids: ["1"]}]'], ["0", "1"]),
    ("compose.yaml", ["environment: [CUDA_VISIBLE_DEVICES=1]", "gpus: all"], ["1", "0"]),
    (
        "compose.yaml",
        [
            'gpus: [{device_ids: ["2", "3"]}]\n    environment: [CUDA_VISIBLE_DEVICES=1]',
            "ipc: host",
        ],
        ["3", "0"],
    ),
    ("compose.yaml", ["profiles: [a]", "profiles: [b]"], ["", ""]),  # one or the other
    ("compose.yaml", ["environment: ['CUDA_VISIBLE_DEVICES=${A:-0}']", "gpus: all"], ["", "0"]),
]


@all_of(("name", "text", "cards"), STANDING)
def test_who_stands_on_which_card(name, text, cards):
    if name == "compose.yaml":
        image = "    image: vllm/vllm-openai:v0.11.0\n    command: --model qwen3-0.6b\n"
        text = "services:\n" + "".join(f"  s{n}:\n{image}    {s}\n" for n, s in enumerate(text))
    assert [" ".join(run.devices) for run in read(text, name).runs] == cards


@pytest.mark.slow
@pytest.mark.parametrize(("share", "fits"), [(0.9, "no"), (0.45, "unknown"), (0.4, "yes")])
def test_servers_that_are_started_at_once_share_their_card(share, fits):
    line = f"{BOTH} --gpu-memory-utilization {share}"
    found = weighbridge.weigh(f"{line} &\n{line} &\n", name="run.sh", gpu="4090")
    assert [run.fits for run in found.runs] == [fits, fits]


def test_without_a_card_the_sum_is_told():
    text = services(("qwen3-0.6b", 0.4, "0"), ("qwen3-0.6b", 0.3, "0"))
    (note,) = weighbridge.weigh(text, name="compose.yaml").runs[0].run.notes
    assert note.startswith("s0 and s1 share card 0: together they take about ")


@pytest.mark.slow
def test_a_service_without_a_number_leaves_the_others_open():
    text = services(("qwen3-0.6b", 0.4, "0"), ("nobody/knows-this", 0.3, "0"))
    found = weighbridge.weigh(text, name="compose.yaml", gpu="h100", offline=True)
    assert found.runs[0].fits == "unknown"
    assert found.runs[0].report.verdict.reason == "s1 takes memory of the same card, too"


def test_servers_that_are_not_read_are_named():
    text = services(("qwen3-0.6b", 0.4, "0")) + (
        "  other: {image: 'ollama/ollama:0.12'}\n  web: {image: nginx}\n"
    )
    (run,) = read(text, "compose.yaml").runs
    assert run.notes == ("not read, and it may take memory too: other (ollama/ollama:0.12)",)
    pod = """\
apiVersion: v1
kind: Pod
metadata: {name: p}
spec:
  containers:
  - {name: a, image: vllm/vllm-openai:v0.11.0, args: [--model, x/y]}
  - {name: b, image: ollama/ollama}
  - {name: c, image: nginx}
"""
    (run,) = read(pod, "pod.yaml").runs
    assert run.notes == ("not read, and it may take memory too: p b (ollama/ollama)",)
