"""Kubernetes manifests that train: as their command in a shell, with their cards and memory."""

import pytest
from tests.cases import all_of

from weighbridge.base.errors import UsageError
from weighbridge.files.runfiles import read

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


NOHUP = '["nohup", "bash", "-c"]', SHELL[1]


@pytest.mark.parametrize("said", [WORDS, SHELL, NOHUP])
def test_a_job_is_the_line_that_it_starts(said):
    found = read(job(*said), "job.yaml")
    assert found.kind == "kubernetes-job"
    (run,) = found.runs
    (line,) = read(f"{LINE}\n", "a.sh").runs
    assert run.model == line.model == "org/name"
    beside = {"data_parallel_size": 4, "expandable_segments": True, "ram": "200GiB"}
    assert run.settings == {**line.settings, **beside, "shard": "ddp"}
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


# Several pods

ARGS = LINE.removeprefix("torchrun ")
RESOURCES = "{limits: {nvidia.com/gpu: 8}}"


def torch_job(command=f"torchrun {ARGS}", spec="", master=1, workers=3):
    roles = {"Master": master, "Worker": workers}
    return f"""apiVersion: kubeflow.org/v1
kind: PyTorchJob
metadata: {{name: tune}}
spec:
{spec}  pytorchReplicaSpecs:
""" + "".join(
        f"""    {role}:
      replicas: {count}
      template:
        spec:
          containers:
          - name: pytorch
            image: x
            command: {command.split()}
            resources: {RESOURCES}
"""
        for role, count in roles.items()
    )


def indexed(command, parallelism=4, completions=4):
    return f"""apiVersion: batch/v1
kind: Job
metadata: {{name: tune}}
spec:
  parallelism: {parallelism}
  completions: {completions}
  completionMode: Indexed
  template:
    spec:
      containers:
      - name: tune
        image: x
        env: [{{name: NODES, value: "4"}}]
        command: {command.split()}
        resources: {RESOURCES}
"""


def train_job(nodes):
    return f"""apiVersion: trainer.kubeflow.org/v1alpha1
kind: TrainJob
metadata: {{name: tune}}
spec:
  trainer:
    numNodes: {nodes}
    numProcPerNode: 8
    command: {f"torchrun {ARGS}".split()}
    resourcesPerNode: {RESOURCES}
"""


def job_set(command, replicas=2, parallelism=2):
    inner = indexed(command, parallelism, parallelism).partition("spec:\n")[2]
    return f"""apiVersion: jobset.x-k8s.io/v1alpha2
kind: JobSet
metadata: {{name: tune}}
spec:
  replicatedJobs:
  - name: node
    replicas: {replicas}
    template:
      spec:
{"".join(f"      {line}{chr(10)}" for line in inner.splitlines())}"""


def mpi_job(words, slots="  slotsPerWorker: 8\n", workers=2):
    return f"""apiVersion: kubeflow.org/v2beta1
kind: MPIJob
metadata: {{name: tune}}
spec:
{slots}  mpiReplicaSpecs:
    Launcher:
      template:
        spec:
          containers: [{{name: l, image: x, command: {words.split()}}}]
    Worker:
      replicas: {workers}
      template:
        spec:
          containers:
          - {{name: w, image: x, resources: {{limits: {{nvidia.com/gpu: 8, memory: 9Gi}}}}}}
"""


def runtime(command, nodes):
    text = job_set(command, 1, 1).replace("jobset.x-k8s.io", "trainer.kubeflow.org")
    text = text.replace("kind: JobSet", "kind: TrainingRuntime")
    return text.replace("spec:\n", f"spec:\n  mlPolicy: {{numNodes: {nodes}}}\n", 1)


def placed(text):
    (run,) = read(text, "job.yaml").runs
    settings = run.settings
    return settings["data_parallel_size"], settings.get("ranks_per_machine"), run.cards


NODES = f"torchrun --nnodes {{}} --nproc_per_node 8 {ARGS}"
WHOLE = f"accelerate launch --num_machines 4 --num_processes 32 {ARGS}"
EACH = f"accelerate launch --num_processes 8 {ARGS}"
CASES = [
    (torch_job(), (32, 8, 32)),
    (torch_job(spec="  nprocPerNode: '4'\n"), (16, 4, 32)),
    (torch_job(f"torchrun --nproc_per_node 2 {ARGS}"), (8, 2, 32)),
    (torch_job(NODES.format(4)), (32, 8, 32)),
    (torch_job(f"python {ARGS}"), (32, 8, 32)),
    (torch_job(WHOLE), (32, 8, 32)),
    (torch_job(EACH), (32, 8, 32)),
    (torch_job(workers=0), (8, None, 8)),
    (indexed(NODES.format(4)), (32, 8, 32)),
    (indexed(NODES.format("$(NODES)")), (32, 8, 32)),
    (indexed(NODES.format("$(ELSE)")), (32, 8, 32)),
    (indexed(WHOLE), (32, 8, 32)),
    (indexed(f"torchrun {ARGS}"), (8, None, 8)),
    (train_job(4), (32, 8, 32)),
    (train_job(1), (8, None, 8)),
    (job_set(NODES.format(4)), (32, 8, 32)),
    (job_set(NODES.format("$(ELSE)")), (32, 8, 32)),
    (runtime(f"torchrun {ARGS}", 2), (16, 8, 16)),
    (mpi_job(f"mpirun -np 16 python {ARGS}"), (16, 8, 16)),
    (mpi_job(f"mpirun -np 8 python {ARGS}"), (8, 4, 16)),
    (mpi_job(f"mpirun python {ARGS}"), (16, 8, 16)),
    (mpi_job(f"mpirun python {ARGS}", slots=""), (2, 1, 16)),
]


@all_of(("text", "ranks"), CASES)
def test_all_pods_of_a_run_are_counted(text, ranks):
    assert placed(text) == ranks


def told(text):
    (run,) = read(text, "job.yaml").runs
    return [*run.notes, *(f"{one.key}: {one.why}" for one in run.unread)], run.unread


def test_a_number_of_pods_that_is_none_is_told_and_not_guessed():
    for text, key in (
        (torch_job(workers='"$(REPLICAS)"'), "replicas"),
        (train_job("'{N}'"), "numNodes"),
    ):
        lines, unread = told(text)
        assert any(
            line.startswith(f"{key}: it is ") and "not in the file" in line for line in lines
        )
        assert [(one.lowers, one.raises) for one in unread if one.key == key] == [(True, True)]
        assert all(one.line for one in unread)


@all_of(
    ("text", "why"),
    [
        (indexed(NODES.format(3)), "names 3 machines, and the manifest starts 4 pods"),
        (indexed(NODES.format(4), parallelism=1), "names 4 machines, and the manifest starts 1 "),
        (indexed(NODES.format(4), 4, 2), "names 4 machines, and the manifest starts 2 pods"),
        (torch_job(NODES.format(2)), "names 2 machines, and the manifest starts 4 pods"),
    ],
)
def test_a_command_and_a_manifest_that_contradict_are_told(text, why):
    lines, unread = told(text)
    assert any(why in line for line in lines)
    assert [(one.raises, one.lowers) for one in unread] == [(True, False)]


@all_of(
    ("text", "note"),
    [
        (indexed(f"torchrun {ARGS}"), "4 pods are started, and the command trains on one machine"),
        (indexed(NODES.format(1)), "4 pods are started, and the command trains on one machine"),
        (torch_job(NODES.format(1)), "4 pods are started, and the command trains on one machine"),
        (indexed(NODES.format(2)), "4 pods are started, and 2 of them are one run"),
        (indexed(NODES.format("$(ELSE)")), "the 4 pods of the job are taken"),
    ],
)
def test_pods_that_train_apart_and_those_of_a_variable_are_told(text, note):
    lines, unread = told(text)
    assert any(note in line for line in lines)
    assert not unread


def test_the_memory_of_workers_counts_and_one_pod_has_no_note():
    (run,) = read(mpi_job(f"mpirun -np 16 python {ARGS}"), "job.yaml").runs
    assert run.settings["ram"] == "9GiB"
    lines, _ = told(indexed(f"torchrun {ARGS}", 1, 1))
    assert not any("pods" in line for line in lines)
