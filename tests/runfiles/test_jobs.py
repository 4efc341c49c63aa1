"""Kubernetes manifests that train: as their command in a shell, with their cards and memory."""

import pytest

from weighbridge.errors import UsageError
from weighbridge.runfiles import read

LINE = "torchrun train.py --model_name_or_path org/name --bf16 True --per_device_train_batch_size 2"
POD = """apiVersion: {api}
kind: {kind}
metadata: {{name: tune}}
spec:
{spec}
"""
CONTAINER = """      containers:
      - name: tune
        image: pytorch/pytorch:2.9.0
        command: {command}
        args: {args}
        env: [{{name: PYTORCH_CUDA_ALLOC_CONF, value: "expandable_segments:True"}}]
        resources: {{limits: {{nvidia.com/gpu: 4, memory: 200Gi}}}}
"""
WORDS = '["torchrun", "train.py"]', str(LINE.split()[2:])
SHELL = '["/bin/bash", "-c"]', f'["set -e; pip install x; {LINE}"]'


def job(command, args):
    pod = "  template:\n    spec:\n" + CONTAINER.format(command=command, args=args)
    return POD.format(api="batch/v1", kind="Job", spec=pod)


@pytest.mark.parametrize("said", [WORDS, SHELL])
def test_a_job_is_the_line_that_it_starts(said):
    found = read(job(*said), "job.yaml")
    assert found.kind == "kubernetes-job"
    (run,) = found.runs
    (line,) = read(f"{LINE}\n", "a.sh").runs
    assert run.model == line.model == "org/name"
    beside = {"data_parallel_size": 4, "expandable_segments": True, "ram": f"{200 << 30}B"}
    assert run.settings == {**line.settings, **beside}
    assert run.cards == 4
    assert all(0 < one.line <= 15 for one in run.understood)
    assert all(one.start == one.end == 0 for one in run.understood if one.setting != "ram")


def test_ranks_of_the_launcher_come_first():
    command = '["torchrun", "--nproc_per_node", "2", "train.py"]'
    (run,) = read(job(command, WORDS[1]), "job.yaml").runs
    assert run.settings["data_parallel_size"] == 2


def test_masters_and_workers_are_one_run():
    pod = "\n".join(
        f"    {role}:\n      template:\n        spec:\n"
        + "".join(
            f"    {line}\n"
            for line in CONTAINER.format(command=WORDS[0], args=WORDS[1]).splitlines()
        )
        for role in ("Master", "Worker")
    )
    text = POD.format(
        api="kubeflow.org/v1", kind="PyTorchJob", spec=f"  pytorchReplicaSpecs:\n{pod}"
    )
    assert len(read(text, "job.yaml").runs) == 1


def test_what_does_not_train_is_a_manifest_as_before():
    serves = job('["vllm", "serve", "org/name"]', "[]")
    assert read(serves, "job.yaml").kind == "kubernetes"
    with pytest.raises(UsageError, match="Kubernetes manifest starts nothing"):
        read(job('["sleep", "1"]', "[]"), "job.yaml")
