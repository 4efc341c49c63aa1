"""One run has one record of ranks, whatever starts it, and wherever its line stands."""

import pytest
from tests.cases import all_of

from weighbridge.files.runfiles import read
from weighbridge.settings.ranks import Ranks

ARGS = "--model_name_or_path org/name --per_device_train_batch_size 2 --bf16"
# Lines that start so many processes on each of so many machines
LAUNCHERS = (
    "torchrun --nnodes {machines} --nproc_per_node {each} train.py {args}",
    "PET_NNODES={machines} PET_NPROC_PER_NODE={each} torchrun train.py {args}",
    "python -m torch.distributed.run --nnodes={machines} --nproc-per-node={each} train.py {args}",
    "accelerate launch --num_processes {all} --num_machines {machines} train.py {args}",
    "deepspeed --num_nodes {machines} --num_gpus {each} train.py {args}",
    "mpirun -np {all} -npernode {each} python train.py {args}",
    "srun --nodes={machines} --ntasks={all} --gpus-per-node={each} python train.py {args}",
    "NNODES={machines} NPROC_PER_NODE={each} swift sft --model org/name --tuner_type full",
    "NNODES={machines} NPROC_PER_NODE={each} llamafactory-cli train {args} --stage sft",
    "trl sft --num_machines {machines} --num_processes {all} {args}",
)
JOB = """apiVersion: batch/v1
kind: Job
metadata: {{name: a}}
spec:
  parallelism: {machines}
  template:
    spec:
      containers:
      - name: a
        image: pytorch/pytorch
        command: ["torchrun", "--nnodes", "{machines}", "--nproc_per_node", "{each}", "train.py",
          "--model_name_or_path", "org/name", "--per_device_train_batch_size", "2"]
        resources: {{limits: {{nvidia.com/gpu: {each}}}}}
"""
SIZES = [(1, 4), (2, 8), (3, 4)]


def run_of(text, name="a.sh"):
    (run,) = read(text, name).runs
    return run


@all_of(("machines", "each"), SIZES)
def test_every_launcher_of_a_run_has_the_same_ranks(machines, each):
    same = Ranks(data=machines * each, per_machine=each if machines > 1 else 8)
    lines = [
        x.format(machines=machines, each=each, all=machines * each, args=ARGS) for x in LAUNCHERS
    ]
    runs = {line: run_of(line) for line in lines}
    runs["job"] = run_of(JOB.format(machines=machines, each=each), "a.yaml")
    assert {line: Ranks.of(run.settings) for line, run in runs.items()} == dict.fromkeys(runs, same)
    assert {run.settings["shard"] for run in runs.values()} == {"ddp"}


def test_devices_of_litgpt_are_those_of_each_machine():
    config = (
        "checkpoint_dir: checkpoints/org/name\nprecision: bf16-true\ntrain: {micro_batch_size: 1}\n"
    )
    run = run_of(f"{config}devices: 4\nnum_nodes: 2\nlora_r: 8\n", "litgpt.yaml")
    assert Ranks.of(run.settings) == Ranks(data=8, per_machine=4)


@all_of(("machines", "each"), SIZES)
def test_ranks_of_a_sequence_leave_the_others(machines, each):
    for flags in ("--parallelism_config_cp_size 2", "--parallelism_config_tp_size 2"):
        line = f"accelerate launch --num_processes {machines * each} {flags} --use_fsdp train.py {ARGS}"
        ranks = Ranks.of(run_of(line).settings)
        assert (ranks.data, ranks.cards) == (machines * each // 2, machines * each)


LINES = [x.format(machines=2, each=8, all=16, args=ARGS) for x in LAUNCHERS]


@pytest.mark.parametrize(
    "around", ["It runs out of memory:\n\n{}\n", "CUDA out of memory, why?\n\n```bash\n{}\n```\n"]
)
def test_a_line_means_the_same_alone_and_within_a_text(around):
    for line in LINES:
        alone, (within,) = run_of(line), read(around.format(line), "mail.txt").runs
        assert (within.model, within.settings) == (alone.model, alone.settings), line


def test_a_config_of_trl_that_is_not_its_own_leaves_open_what_ranks_share():
    (unread,) = run_of(f"trl sft --accelerate_config mine --num_processes 8 {ARGS}").unread
    assert (unread.key, unread.lowers, unread.raises) == ("accelerate_config", True, True)
