"""A container that is given fewer cards than its line starts ranks does not start."""

import pytest
from tests.cases import all_of

import weighbridge
from weighbridge.engines.launch import parse
from weighbridge.files.runfiles import read

COMPOSE = """services:
  vllm:
    image: vllm/vllm-openai:v0.11.0
    command: --model Qwen/Qwen3-8B {flags}
    deploy:
      resources:
        reservations:
          devices: [{{driver: nvidia, count: {cards}, capabilities: [gpu]}}]
"""
CASES = [
    ("--tensor-parallel-size 2", 1, 1),
    ("--tensor-parallel-size 2 --pipeline-parallel-size 2", 2, 2),
    ("--tensor-parallel-size 2", 2, None),
    ("--tensor-parallel-size 2", 4, None),
    ("", 1, None),
    ("--tensor-parallel-size 16", 8, None),  # of two machines
    ("--tensor-parallel-size 2 --distributed-executor-backend ray", 1, None),
]


@all_of(("flags", "cards", "sees"), CASES)
def test_fewer_cards_than_ranks_are_told(flags, cards, sees):
    run = read(COMPOSE.format(flags=flags, cards=cards), "compose.yaml").runs[0]
    (why,) = parse(run.command).stops or (None,)
    assert (why and why.why.values["left"]) == (None if sees is None else sees)


DOCKER = "docker run {} vllm/vllm-openai:v0.11.0 --model qwen3-0.6b -tp 2 --max-model-len 512"
LINE = "{}vllm serve qwen3-0.6b -tp 2 --max-model-len 512"
SERVICE = """services:
  vllm:
    image: vllm/vllm-openai:v0.11.0
    command: --model qwen3-0.6b -tp 2 --max-model-len 512
    {}
"""
POD = """apiVersion: v1
kind: Pod
metadata: {{name: a}}
spec:
  containers:
  - name: a
    image: vllm/vllm-openai:v0.11.0
    args: [--model, qwen3-0.6b, -tp, "2", --max-model-len, "512"]
    {}
"""
# How a process is given cards -> the text of it for one card, and for two
SEEN = [
    ("run.sh", DOCKER, "--gpus 1", "--gpus 2"),
    ("run.sh", DOCKER, "--gpus device=3", "--gpus '\"device=0,1\"'"),
    ("run.sh", DOCKER, "--gpus count=1", "--gpus all"),
    ("run.sh", DOCKER, "-e NVIDIA_VISIBLE_DEVICES=0", "-e NVIDIA_VISIBLE_DEVICES=all"),
    ("run.sh", DOCKER, "--device nvidia.com/gpu=0", "--device nvidia.com/gpu=all"),
    ("run.sh", DOCKER, "--gpus 2 -e CUDA_VISIBLE_DEVICES=1", "--gpus 2"),
    ("run.sh", LINE, "CUDA_VISIBLE_DEVICES=0 ", "CUDA_VISIBLE_DEVICES=0,1 "),
    ("run.sh", LINE, "export HIP_VISIBLE_DEVICES=1; ", "HIP_VISIBLE_DEVICES=1,2 "),
    ("run.sh", LINE, "HIP_VISIBLE_DEVICES=0,1 ROCR_VISIBLE_DEVICES=0 ", ""),
    ("compose.yaml", SERVICE, "gpus: [{count: 1}]", "gpus: all"),
    ("compose.yaml", SERVICE, "environment: [NVIDIA_VISIBLE_DEVICES=0]", "gpus: [{count: 2}]"),
    (
        "compose.yaml",
        SERVICE,
        'deploy: {resources: {reservations: {devices: [{device_ids: ["1"]}]}}}',
        'deploy: {resources: {reservations: {devices: [{device_ids: ["1", "2"]}]}}}',
    ),
    (
        "pod.yaml",
        POD,
        "resources: {limits: {nvidia.com/gpu: 1}}",
        "resources: {limits: {nvidia.com/gpu: 2}}",
    ),
]


@all_of(("name", "text", "one", "two"), SEEN)
def test_however_cards_are_given_more_ranks_than_are_seen_do_not_start(name, text, one, two):
    for given, left in ((one, [1]), (two, [])):
        (run,) = read(text.format(given), name).runs
        launch = parse(run.command)
        assert [each.why.values["left"] for each in launch.stops] == left
        assert all(each.answer == "no" for each in launch.stops)


@pytest.mark.slow
@pytest.mark.parametrize("asks", ["--gres=gpu:{}", "--gpus-per-node={}", "--gpus={}"])
def test_a_job_has_the_cards_that_it_asks_for(asks):
    """Cards that are typed with a number stand in place of the job's, which is told."""
    job = f"#!/bin/bash\n#SBATCH {asks}\nvllm serve qwen3-0.6b -tp 2 --max-model-len 512\n"
    for cards, gpu, fits in ((1, "4090", "no"), (2, "4090", "yes"), (1, "4090:2", "yes")):
        found = weighbridge.weigh(job.format(cards), name="job.sh", gpu=gpu)
        assert found.fits == fits
        assert any("fewer than" in note for note in found.runs[0].run.notes) is (cards == 1)


@pytest.mark.slow
def test_what_does_not_start_is_a_no(tmp_path):
    path = tmp_path / "compose.yaml"
    path.write_text(COMPOSE.format(flags="--tensor-parallel-size 2", cards=1))
    found = weighbridge.weigh(path, gpu="l40s:2")
    assert found.fits == "no"
    assert "the command needs 2 devices, and it sees 1" in found.runs[0].report.verdict.reason
    path.write_text(COMPOSE.format(flags="--tensor-parallel-size 2", cards=2))
    assert weighbridge.weigh(path, gpu="l40s:2").fits == "yes"


@pytest.mark.parametrize(
    ("typed", "card", "told"),
    [
        ("h100", "h100:2", [{"typed": "h100", "cards": "h100:2"}]),
        ("h100:4", "h100:4", []),
        ("h100+h200", "h100+h200", []),
        ("2x h100", "2x h100", []),
    ],
)
def test_a_file_says_how_many_and_an_option_which(typed, card, told):
    from weighbridge.workload import read as asked

    line = "vllm serve qwen3-0.6b -tp 2 --max-model-len 512"
    (run,) = weighbridge.weigh(line, name="run.sh", gpu=typed).runs
    if run.report is not None:
        assert run.report.workload["gpu"] == asked("infer", {"gpu": card}).gpu
    assert [note.values for note in run.run.notes if note.key == "text.cards"] == told
    (alone,) = weighbridge.weigh("vllm serve qwen3-0.6b", name="run.sh", gpu=typed).runs
    assert not alone.run.notes  # one card is what it says
    trained = (
        "torchrun --nproc_per_node 2 train.py --model_name_or_path qwen3-0.6b --max_length 512"
    )
    (run,) = weighbridge.weigh(trained, name="run.sh", gpu=typed).runs
    if run.report is not None:
        assert run.report.workload["gpu"] == asked("train", {"gpu": card}).gpu


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "text", "one"),
    [
        ("run.sh", DOCKER, "--gpus 1"),
        ("compose.yaml", SERVICE, "gpus: [{count: 1}]"),
        ("pod.yaml", POD, "resources: {limits: {nvidia.com/gpu: 1}}"),
    ],
)
def test_the_count_of_a_file_is_that_which_the_answer_names(name, text, one):
    """Too few cards are told as such: one is named, nothing is to spare, and fewer ranks start."""
    found = weighbridge.weigh(text.format(one), name=name, gpu="l4")
    (run,) = found.runs
    verdict = run.report.verdict
    assert (verdict.fits, verdict.count, verdict.devices_used) == ("no", 1, 2)
    assert "to spare" not in str(found)
    assert [r.change for r in run.report.remedies] == [{"tensor_parallel_size": 1}]
    again = weighbridge.weigh(text.format(one), name=name, gpu="l4", tensor_parallel_size=1)
    assert again.fits == "yes"
    typed = weighbridge.weigh(text.format(one), name=name, gpu="l4:2")
    assert typed.fits == "no"
    assert "to spare" not in str(typed)


def test_the_card_of_a_manifest_has_the_count_of_the_manifest():
    select = "nodeSelector: {nvidia.com/gpu.product: NVIDIA-L4}"
    for count in (1, 2):
        given = f"resources: {{limits: {{nvidia.com/gpu: {count}}}}}\n  {select}"
        pod = POD.format(given)
        (run,) = read(pod, "pod.yaml").runs
        assert run.settings["gpu"] == ("NVIDIA-L4" if count == 1 else f"NVIDIA-L4:{count}")
