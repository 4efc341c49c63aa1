"""How many processes a launcher starts, and on how many machines."""

import pytest
from tests.cases import all_of

from weighbridge.runfiles import read

ARGS = "train.py --model_name_or_path org/name --per_device_train_batch_size 2"


def run_of(launcher, env="", after=ARGS):
    (run,) = read(f"{env}{launcher} {after}\n", "a.sh").runs
    return run


def ranks(run):
    return run.settings.get("data_parallel_size"), run.settings.get("ranks_per_machine")


STARTS = [
    ("torchrun --nproc_per_node 8", (8, None)),
    ("torchrun --nnodes 2 --nproc-per-node=8", (16, 8)),
    ("torchrun --nnodes $N --nproc_per_node 8", (None, None)),
    ("PET_NNODES=2 PET_NPROC_PER_NODE=4 torchrun", (8, 4)),
    ("PET_NNODES=2 torchrun --nnodes 3 --nproc_per_node 4", (12, 4)),
    ("PET_NNODES=2 PET_NPROC_PER_NODE=4 python", (None, None)),
    ("PET_NNODES=2 PET_NPROC_PER_NODE=4 python -m torch.distributed.run", (8, 4)),
    ("accelerate launch --num_processes 16 --num_machines 2", (16, 8)),
    ("PET_NNODES=2 accelerate launch --num_processes 8", (16, 8)),
    ("PET_NNODES=4 accelerate launch --num_processes 16 --num_machines 2", (16, 8)),
    ("PET_NNODES=2 PET_NPROC_PER_NODE=4 accelerate launch", (8, 4)),
    ("mpirun -np 16 -npernode 8 python", (16, 8)),
    ("mpirun -n 4 -x A=1 python", (4, None)),
    ("mpirun -np 6 -N 4 python", (6, None)),
    ("deepspeed --include localhost:0,1,2,3", (4, None)),
    ("deepspeed --include=localhost:0,1,1", (2, None)),
    ("deepspeed -i a:0,1@b:0,2", (4, 2)),
    ("deepspeed --include a:0,1@b:0", (3, None)),
    ("deepspeed --num_gpus 4", (4, None)),
    ("deepspeed --num_accelerators 4", (4, None)),
    ("deepspeed --num_gpus 8 --num_nodes 2", (16, 8)),
    ("deepspeed --num_gpus -1 --num_nodes -1", (None, None)),
    ("deepspeed --num_gpus 8 --num_nodes 2 --hostfile hosts", (16, 8)),
    ("CUDA_VISIBLE_DEVICES=2,3 deepspeed", (2, None)),
    ("CUDA_VISIBLE_DEVICES=2,3 deepspeed --num_gpus 4", (4, None)),
]


@all_of(("launcher", "said"), STARTS)
def test_what_a_launcher_starts(launcher, said):
    run = run_of(launcher)
    assert ranks(run) == said
    assert not run.refused
    assert not any(one.missing for one in run.unread)


@all_of(
    ("line", "said"),
    [
        ("NNODES=2 NPROC_PER_NODE=8 swift sft --model org/name", (16, 8)),
        ("NPROC_PER_NODE=8 swift sft --model org/name", (8, None)),
        ("NNODES=2 NPROC_PER_NODE=8 llamafactory-cli train --model_name_or_path org/name", (16, 8)),
        (
            "CUDA_VISIBLE_DEVICES=0,1 llamafactory-cli train --model_name_or_path org/name",
            (2, None),
        ),
    ],
)
def test_what_programs_with_launchers_of_their_own_start(line, said):
    (run,) = read(f"{line}\n", "a.sh").runs
    assert ranks(run) == said


HOSTS = "# ours\nworker-0 slots=4\n\nworker-1 slots=4\nworker-2 slots=2\n"
BY_HOSTS = [
    ("", (10, None)),
    ("--num_nodes 2", (8, 4)),
    ("--num_nodes 9", (10, None)),
    ("--num_gpus 2", (6, 2)),
    ("--num_gpus 2 --num_nodes 2", (4, 2)),
    ("--include worker-0@worker-1:0,2", (6, None)),
    ("--include worker-0@worker-1", (8, 4)),
    ("--exclude worker-2", (8, 4)),
    ("--exclude worker-1:0,1@worker-2", (6, None)),
    ("-e worker-0:0@worker-1:3@worker-2:0,1", (6, 3)),
]


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "hosts").write_text(HOSTS)

    def run_of(words):
        text = f"deepspeed --hostfile hosts {words} {ARGS}\n"
        return read(text, "a.sh", folder=str(tmp_path)).runs[0]

    return run_of


def test_a_hostfile_beside_the_file_says_the_cards(folder):
    for words, said in BY_HOSTS:
        run = folder(words)
        assert (words, ranks(run), run.refused) == (words, said, "")


def test_what_a_hostfile_has_not_is_refused_as_deepspeed_does(folder, tmp_path):
    assert "'worker-9' is not in the hostfile" in folder("--include worker-9").refused
    assert "4 slots in the hostfile" in folder("--include worker-0:4").refused
    assert not folder("--include worker-0:3").refused
    (tmp_path / "hosts").write_text("worker-0 8\n")
    assert "'worker-0 8' is no line of a hostfile" in folder("").refused
    (tmp_path / "hosts").write_text("worker-0 slots=8\nworker-0 slots=8\n")
    assert "is no line of a hostfile" in folder("").refused


@all_of(
    "words",
    [
        "--hostfile hosts",
        "--hostfile hosts --num_gpus 8",
        "--hostfile hosts --num_nodes 2",
        "--hostfile hosts --include worker-0",
        "--hostfile hosts --exclude worker-0:1",
    ],
)
def test_a_hostfile_that_decides_and_is_not_here_is_told(words):
    run = run_of(f"deepspeed {words}")
    assert [one.missing for one in run.unread if one.missing] == ["hosts"]


@all_of(
    "words",
    ["--exclude localhost:0", "--include $HOSTS", "--num_nodes 2", "--include localhost"],
)
def test_cards_that_nobody_counts_are_told(words):
    run = run_of(f"deepspeed {words}")
    assert ranks(run) == (None, None)
    assert any("on how many cards it runs is not said" in one.why for one in run.unread)


REFUSED = [
    ("deepspeed --include localhost:0 --exclude localhost:1", "not both"),
    ("deepspeed --include localhost:0 --num_gpus 1", "no --num_gpus and no --num_nodes"),
    ("deepspeed --exclude localhost:0 --num_nodes 1", "no --num_gpus and no --num_nodes"),
    ("deepspeed --include localhost:a", "--include 'localhost:a'"),
    ("deepspeed --include localhost:", "--include 'localhost:'"),
    ("deepspeed --num_gpus -2", "--num_gpus -2: a launcher starts 1 or more"),
    ("torchrun --nproc_per_node -8", "--nproc_per_node -8: a launcher starts 1 or more"),
    ("torchrun --nproc_per_node=0", "--nproc_per_node 0: a launcher"),
    ("torchrun --nproc_per_node 2.5", "--nproc_per_node 2.5: a launcher"),
    ("torchrun --nnodes -1 --nproc_per_node 8", "--nnodes -1: a launcher"),
    ("accelerate launch --num_processes -4", "--num_processes -4: a launcher"),
    ("accelerate launch --num_processes 4 --num_machines 0", "--num_machines 0: a launcher"),
    ("mpirun -np 0 python", "-np 0: a launcher"),
]


@all_of(("launcher", "why"), REFUSED)
def test_what_a_launcher_refuses_is_one_clear_line(launcher, why):
    assert why in run_of(launcher).refused


def test_a_count_of_a_variable_or_of_a_program_that_is_none_is_refused():
    (run,) = read("NPROC_PER_NODE=-8 swift sft --model org/name\n", "a.sh").runs
    assert run.refused == "NPROC_PER_NODE -8: a launcher starts 1 or more"
    (run,) = read("NNODES=0 NPROC_PER_NODE=8 swift sft --model org/name\n", "a.sh").runs
    assert run.refused == "NNODES 0: a launcher starts 1 or more"


def test_megatron_is_refused_so_too():
    line = "torchrun --nproc_per_node -8 pretrain_gpt.py --num-layers 2 --hidden-size 64 --bf16"
    (run,) = read(f"{line}\n", "a.sh").runs
    assert run.refused.startswith("--nproc_per_node -8")


def test_a_count_of_a_program_that_starts_a_config_is_refused(tmp_path):
    (tmp_path / "run.yaml").write_text("base_model: org/name\nmicro_batch_size: 2\n")
    line = "axolotl train run.yaml --num-processes -4\n"
    (run,) = read(line, "a.sh", folder=str(tmp_path)).runs
    assert run.refused.startswith("--num_processes -4")
