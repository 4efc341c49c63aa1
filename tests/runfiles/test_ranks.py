"""How many processes a launcher starts, and on how many machines."""

import pytest
from tests.cases import all_of

from weighbridge.files.runfiles import read

ARGS = "train.py --model_name_or_path org/name --per_device_train_batch_size 2"


def run_of(launcher, env="", after=ARGS):
    (run,) = read(f"{env}{launcher} {after}\n", "a.sh").runs
    return run


def ranks(run):
    return run.settings.get("data_parallel_size"), run.settings.get("ranks_per_machine")


STARTS = [
    ("torchrun --nproc_per_node 8", (8, None)),
    ("torchrun --nnodes 2 --nproc-per-node=8", (16, 8)),
    ("torchrun --nnodes $N --nproc_per_node 8", (8, None)),
    ("torchrun --nnodes 1:4 --nproc_per_node 8", (8, None)),
    ("torchrun --nnodes 2:4 --nproc_per_node 8", (16, 8)),
    ("torchrun --nnodes $((16/8)) --nproc_per_node 8", (16, 8)),
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
    ("mpirun -H h0:8,h1:8 python", (16, 8)),
    ("mpirun --host h0:8,h1:4 python", (12, None)),
    ("mpirun -H h0,h0,h1:2 python", (4, 2)),
    ("mpirun -H h0:8,h1:8 -N 4 python", (8, 4)),
    ("mpirun -H h0:8,h1:8 -np 16 python", (16, 8)),
    ("mpirun -H h0:8,h1:8 -np 12 python", (12, None)),
    ("mpirun -H $HOSTS python", (None, None)),
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


def test_what_is_not_known_of_machines_is_told():
    def unread(words):
        run = run_of(f"torchrun {words}")
        return [(u.key, u.why, u.lowers, u.raises) for u in run.unread]

    unsaid = "its value is not in the file: one machine is counted"
    assert unread("--nnodes $N --nproc_per_node 8") == [("nnodes", unsaid, True, False)]
    assert unread("--nnodes $N --nproc_per_node 1") == [("nnodes", unsaid, True, True)]
    least = "of '1:4' machines the least are counted"
    assert unread("--nnodes 1:4 --nproc_per_node 1") == [("nnodes", least, False, False)]
    said = "on how many cards it runs is not said: --gpu says it"
    assert unread("--nproc_per_node gpu") == [("nproc_per_node", said, False, False)]
    assert unread("--nnodes 2 --nproc_per_node 8") == []


def test_a_job_of_slurm_says_the_machines_that_a_variable_counts():
    env = "#!/bin/bash\n#SBATCH --nodes=2 --gpus-per-node=h200:8\nsrun "
    run = run_of("torchrun --nnodes $SLURM_NNODES --nproc_per_node 8", env)
    assert (ranks(run), run.cards) == ((None, 8), 16)
    assert not any(one.key == "nnodes" for one in run.unread)


def test_more_processes_than_cards_are_seen_do_not_start():
    def told(launcher, env="CUDA_VISIBLE_DEVICES=0,1,2 "):
        return [u.why for u in run_of(launcher, env).unread if u.key == "cards" and u.raises]

    (why,) = told("torchrun --nproc_per_node 4")
    assert why.startswith("4 processes are started on a machine, and CUDA_VISIBLE_DEVICES shows 3")
    assert told("accelerate launch --num_processes 8 --num_machines 2")
    assert not told("accelerate launch --num_processes 6 --num_machines 2")
    assert not told("torchrun --nproc_per_node 3")
    assert not told("torchrun --nproc_per_node 4", "CUDA_VISIBLE_DEVICES=0,1,2,3 ")
    assert not told("accelerate launch --gpu_ids 0,1,2,3 --num_processes 4")
    assert not told("deepspeed --num_gpus 4")


LLAMA = "{} llamafactory-cli train lf.yaml\n"
TITAN = "torchrun --nnodes 2 --nproc_per_node=8 -m torchtitan.train --job.config_file {}\n"


@pytest.fixture
def started(tmp_path):
    (tmp_path / "lf.yaml").write_text("model_name_or_path: org/name\nstage: sft\ncutoff_len: 9\n")
    (tmp_path / "t.toml").write_text(
        '[model]\nname = "llama3"\nflavor = "8B"\n[training]\nlocal_batch_size = 2\nseq_len = 4096\n'
    )
    (tmp_path / "a.yaml").write_text("base_model: org/name\nmicro_batch_size: 2\n")
    return lambda text: read(text, "a.sh", folder=str(tmp_path)).runs[0]


def test_a_config_has_the_ranks_of_the_program_that_starts_it(started):
    both = started(LLAMA.format("FORCE_TORCHRUN=1 NNODES=2 NPROC_PER_NODE=8 NODE_RANK=0"))
    assert ranks(both) == (16, 8)
    seen = started(LLAMA.format("CUDA_VISIBLE_DEVICES=0,1,2,3 NNODES=2"))
    assert ranks(seen) == (8, 4)
    alone = started(LLAMA.format("FORCE_TORCHRUN=1 NNODES=2"))
    (told,) = (one.why for one in alone.unread if one.key == "NNODES")
    assert told.startswith("it starts 2 machines, and how many cards of each is not in the file")
    assert not any(one.key == "NNODES" for one in both.unread + seen.unread)
    axolotl = started("axolotl train a.yaml --launcher torchrun -- --nnodes 2 --nproc_per_node 8\n")
    assert ranks(axolotl) == (16, 8)


def test_torchtitan_is_started_by_torchrun_too(started):
    run = started(TITAN.format("t.toml"))
    assert (ranks(run), run.settings["batch_size"]) == ((16, 8), 2)
    named = started(f"export CONFIG_FILE=t.toml NNODES=3\n{TITAN.format('${CONFIG_FILE} ')}")
    assert (ranks(named), named.settings["seq_len"]) == ((16, 8), 4096)
    longer = started(TITAN.format("t.toml --training.seq_len 8192"))
    assert longer.settings["seq_len"] == 8192


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
