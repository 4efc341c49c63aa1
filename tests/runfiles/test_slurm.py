"""Slurm scripts: what they ask for, whether that is enough, and the lines to write."""

import json

import pytest
from tests.cases import all_of

import weighbridge
from weighbridge import weigh
from weighbridge.base.errors import UsageError
from weighbridge.base.units import GIB, MIB
from weighbridge.faces.cli import menu
from weighbridge.files.runfiles import read
from weighbridge.files.runfiles.slurm import SlurmJob, asked

SERVE = """\
#!/bin/bash
#SBATCH --gres=gpu:{card}{count}
#SBATCH {memory}
vllm serve qwen3-8b --max-model-len 8192
"""


@all_of(
    ("lines", "job"),
    [
        ("--gres=gpu:a100:4 --mem=160G", SlurmJob(4, "a100", 1, 160 * GIB)),
        ("--gres gpu:2 --mem 500", SlurmJob(2, "", 1, 500 * MIB)),
        ("--gpus-per-node=h100:8 --nodes=2 --mem=0", SlurmJob(8, "h100", 2, whole=True)),
        ("-N2 -G16 -pgpu -c8 --mem=1T", SlurmJob(8, "", 2, 1024 * GIB, 8)),
        ("-Gh100:2 -J4", SlurmJob(2, "h100")),
        ("--exclusive --nodes=2 -H -N 3 --gres=gpu:2", SlurmJob(2, "", 3)),
        ("-N 2 -G 16 --mem=1T", SlurmJob(8, "", 2, 1024 * GIB)),
        ("--gpus-per-task=1 --ntasks-per-node=4 --mem-per-gpu=32G", SlurmJob(4, "", 1, 128 * GIB)),
        ("-N 2 -G h100:16 --gpus-per-task=1 --mem-per-gpu=60G", SlurmJob(8, "h100", 2, 480 * GIB)),
        ("-N 2 -G 16 --gpus-per-task=a100:1 -n 16", SlurmJob(8, "a100", 2)),
        ("-N 2 -G 16 --gpus-per-task=0", SlurmJob(8, "", 2)),
        ("-N 2 -n 4 --gpus-per-task=2", SlurmJob(4, "", 2)),
        ("-N 2 -n 3 --gpus-per-task=2", SlurmJob(4, "", 2)),
        ("-N 2 --gpus-per-task=2 -n 4 --ntasks-per-node=4", SlurmJob(4, "", 2)),
        ("-N 2 --gpus-per-node=4 -G a100:16", SlurmJob(4, "a100", 2)),
        ("-N 2 --gpus-per-task=a100:2", SlurmJob(2, "a100", 2)),
        ("-n 15 --ntasks-per-node=8 --gres=gpu:8", SlurmJob(8, "", 2)),
        ("--ntasks-per-node=8 --gres=gpu:8", SlurmJob(8)),
        ("-n 8 --gres=gpu:8", SlurmJob(8)),
        ("-N 2 -n 8 --mem-per-cpu=4G -c 2", SlurmJob(None, "", 2, 32 * GIB, 2)),
        ("--gres=gpu --mem-per-cpu=4G --cpus-per-task=8", SlurmJob(1, "", 1, 32 * GIB, 8)),
        ("--gres=nvme:1,gpu:v100:2", SlurmJob(2, "v100")),
        ("--gres=gpu:tesla", SlurmJob(1, "tesla")),
        ("--time=1:00:00", SlurmJob()),
        ("--gres=gpu:4090:4,shard:2", SlurmJob(4, "4090")),
        ("--gpus-per-node=8 --constraint=h100", SlurmJob(8, "h100")),
        ('--gres=gpu:2 -C "ib&a100-80gb"', SlurmJob(2, "a100-80gb")),
        ('--gres=gpu:2 -C "a100|h100"', SlurmJob(2)),
        ("--gres=gpu:2 --constraint=80gb", SlurmJob(2)),
        ("--gres=gpu:l40s:2 --constraint=h100", SlurmJob(2, "l40s")),
    ],
)
def test_lines_are_cards_machines_and_memory(lines, job):
    assert asked(f"#!/bin/bash\n#SBATCH {lines}\nsrun x\n")._replace(says="") == job


@all_of(
    ("text", "says"),
    [
        ("srun x", "no line of it begins with #SBATCH"),
        ("#SBATCH --nodes=many", "'many' is no number"),
        ("#SBATCH --gres=gpu:-1", "--gres=gpu:-1 is no number of cards: write --gres=gpu:2, or"),
        ("#SBATCH --gres=gpu:h100:-1", "--gres=gpu:h100:-1 is no number of cards"),
        ("#SBATCH --gpus=-1", "--gpus=-1 is no number of cards"),
        ("#SBATCH --gres=gpu:$COUNT", r"--gres=gpu:\$COUNT is no number of cards"),
        ("#SBATCH --nodes=-2", "'-2' is no number|'' is no number"),
        ("#SBATCH --gres=gpu:1 --mem=lots", "'lots' is no size of Slurm"),
    ],
)
def test_what_cannot_be_read_is_one_line(text, says):
    with pytest.raises(UsageError, match=says):
        asked(text)


def test_a_job_without_a_kind_of_card_asks_for_it():
    with pytest.raises(UsageError, match="names no kind of card"):
        SlurmJob(2).settings(None)
    assert SlurmJob(2, nodes=2).settings("h100")["gpu"] == "h100:4"
    assert SlurmJob(1, "a100", 1, 8 * GIB).settings(None) == {"gpu": "a100", "ram": "8GiB"}


@pytest.fixture
def run(tmp_path, capsys):
    def told(*words, **said):
        path = tmp_path / "job.sbatch"
        path.write_text(
            SERVE.format(**{"card": "h100:", "count": 1, "memory": "--mem=64G", **said})
        )
        code = menu.run(["sbatch", str(path), *words])
        return code, capsys.readouterr().out

    return told


def test_a_job_that_asks_for_enough_is_told_so(run):
    code, out = run()
    assert code == 0
    assert out.startswith("qwen3-8b on H100 SXM5 80GB: enough\n")
    assert "64.00 GiB is asked for" in out
    assert "write:" not in out
    assert out.endswith("h100 is H100 SXM5 80GB or H100 NVL 94GB: the answer is the same\n")


@pytest.mark.slow
def test_memory_that_lacks_is_a_line_to_write(run):
    code, out = run(memory="--time=1")
    assert code == 0
    assert "no memory is asked for" in out
    assert "write:\n#SBATCH --gres=gpu:h100:1\n#SBATCH --mem=" in out
    code, out = run(memory="--mem=4G")
    assert code in (1, 4)
    assert "#SBATCH --mem=" in out


@pytest.mark.slow
def test_memory_that_alone_lacks_is_written_with_the_same_cards(run):
    """The need at worst, in whole GiB; a job that asks for that is enough."""
    code, out = run(memory="--mem=1G")
    assert code == 1
    assert "not known to be enough" not in out
    (card, memory) = out.partition("write:\n")[2].splitlines()[:2]
    assert card == "#SBATCH --gres=gpu:h100:1"
    again, out = run(memory=memory.removeprefix("#SBATCH "))
    assert (again, "write:" in out) == (0, False)


def test_all_memory_of_a_machine_is_enough(run):
    code, out = run(memory="--mem=0")
    assert (code, "all of it is asked for" in out, "write:" in out) == (0, True, False)


def test_a_job_without_cards_gets_none(run):
    for gres in ({"count": 0}, {"card": "0,nvme:", "count": 1}):
        code, out = run("--gpu", "h100-sxm", **gres)
        assert (code, ": not enough" in out, "no card is asked for" in out) == (1, True, True)
        assert "write:\n#SBATCH --gres=gpu:" in out and ":1\n#SBATCH --mem=64G" in out


@pytest.mark.slow
def test_cards_that_lack_are_told(run):
    code, out = run("--model", "llama-3.1-70b", card="rtx-4090:")
    assert (code, ": not enough" in out) == (1, True)


def test_the_answer_as_json_has_what_was_asked_for(run):
    code, out = run("--json", "--gpu", "h100", card="")
    told = json.loads(out)
    assert (code, told["schema"], told["asked"]["cards"]) == (0, "weighbridge.sbatch/1", 1)
    assert told["runs"][0]["fits"] == "yes"


A100 = """\
#!/bin/bash
#SBATCH --nodes=1 --gres=gpu:a100:{count}
#SBATCH --cpus-per-task=8
vllm serve llama-3.1-70b --tensor-parallel-size {count} --max-model-len 8192
"""


def written(tmp_path, text):
    path = tmp_path / "job.sh"
    path.write_text(text)
    return str(path)


@pytest.mark.slow
def test_a_card_of_two_sizes_is_judged_by_each(tmp_path, capsys):
    code = menu.run(["sbatch", written(tmp_path, A100.format(count=2))])
    out = capsys.readouterr().out
    assert code == 4
    assert out.startswith("a100 is A100 SXM4 40GB or A100 PCIe 80GB: --gpu says which\n")
    assert "2 x A100 SXM4 40GB: not enough" in out
    assert "2 x A100 PCIe 80GB: enough" in out
    assert "#SBATCH --gres=gpu:a100:2\n#SBATCH --cpus-per-task=8\n#SBATCH --mem=" in out


def test_a_card_that_is_typed_is_the_one(tmp_path, capsys):
    path = written(tmp_path, A100.format(count=2))
    assert menu.run(["sbatch", path, "--gpu", "a100-80gb"]) == 0
    assert "40GB" not in capsys.readouterr().out


BIG = """\
#!/bin/bash
#SBATCH --gres=gpu:{kind}:{count}
#SBATCH --mem=64G
vllm serve qwen2.5-72b --tensor-parallel-size 4 --max-model-len 32768
"""


@pytest.mark.slow
def test_cards_that_are_not_enough_are_not_written(tmp_path, capsys):
    """What helps is another kind of card, or a format: no number of these."""
    path = written(tmp_path, BIG.format(kind="a100", count=2))
    assert menu.run(["sbatch", path, "--gpu", "a100-40gb:4"]) == 1
    out = capsys.readouterr().out
    assert "write:" not in out
    assert "not known to be enough; with --quantization fp8 it fits" in out


@pytest.mark.slow
def test_each_card_that_a_kind_may_mean_has_its_own_lines(tmp_path, capsys):
    path = written(tmp_path, BIG.format(kind="a100", count=2))
    assert menu.run(["sbatch", path]) == 1
    smaller, larger = capsys.readouterr().out.split("qwen2.5-72b on 2 x A100 PCIe 80GB")
    assert "write:" not in smaller
    assert "write:\n#SBATCH --gres=gpu:a100:4\n" in larger


def test_more_cards_that_were_typed_are_written_where_they_are_used(tmp_path, capsys):
    path = written(tmp_path, BIG.format(kind="h100", count=2))
    assert menu.run(["sbatch", path, "--gpu", "h200:4"]) == 0
    assert "write:\n#SBATCH --gres=gpu:h200:4\n" in capsys.readouterr().out
    path = written(tmp_path, A100.format(count=2))
    assert menu.run(["sbatch", path, "--gpu", "h200:8", "--model", "qwen3-8b"]) == 0
    assert "gpu:a100:8" not in capsys.readouterr().out


@pytest.mark.slow
def test_any_command_reads_the_lines_of_a_job(tmp_path):
    lines = "#SBATCH --gres=gpu:l40s:2\n#SBATCH --mem=300G\n"
    text = f"#!/bin/bash\n{lines}vllm serve llama-3.1-70b --tensor-parallel-size 2\n"
    (run,) = weigh(written(tmp_path, text)).runs
    assert (run.run.settings["gpu"], run.run.settings["ram"]) == ("l40s:2", "300GiB")
    told = {(one.key, one.line) for one in run.run.understood}
    assert {("#SBATCH --gres", 2), ("#SBATCH --mem", 3)} <= told


@pytest.mark.slow
def test_a_smaller_card_that_is_too_small_is_no_no(tmp_path):
    path = written(tmp_path, A100.format(count=2))
    found = weigh(path)
    assert found.fits == "unknown"
    assert "job.sh:2: card: a100 is A100 SXM4 40GB or A100 PCIe 80GB" in found.warnings[0]
    named = weigh(path, gpu="a100-80gb")  # as many as the job asks for
    assert named.fits == "yes"
    assert not any("a100 is" in line for line in named.warnings)
    assert weigh(path, gpu="a100-40gb").fits == "no"


@pytest.mark.slow
def test_a_no_of_each_card_that_a_name_may_mean_is_a_no(tmp_path):
    path = written(tmp_path, A100.format(count=1))
    found = weigh(path)
    assert found.fits == "no"
    assert "80GB: the answer is the same" in found.warnings[0]
    assert menu.run(["sbatch", path]) == 1


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("--gres=gpu:volta:2", "'volta' is no card that we know"),
        ("--nodes=many", "'many' is no number"),
    ],
)
def test_what_a_job_asks_for_and_nobody_knows_is_told(tmp_path, line, why):
    text = f"#!/bin/bash\n#SBATCH {line}\nvllm serve qwen3-8b\n"
    assert why in weigh(written(tmp_path, text)).warnings[0]


SEVERAL = """\
#!/bin/bash
#SBATCH --nodes=2
#SBATCH --gres=gpu:a100-80gb:4
#SBATCH --mem={memory}G
srun torchrun --nnodes={nodes} --nproc_per_node=4 t.py --model_name_or_path qwen3-0.6b \\
    --bf16 --per_device_train_batch_size 1 --fsdp "full_shard auto_wrap"
"""


@pytest.mark.slow
@pytest.mark.parametrize("nodes", ["2", "$SLURM_NNODES"])
def test_each_machine_of_a_job_has_the_ranks_of_its_own_cards(tmp_path, nodes):
    """Two machines of four ranks: each loads for its own, and no more."""
    (run,) = weigh(written(tmp_path, SEVERAL.format(memory=400, nodes=nodes))).runs
    assert (run.run.settings["ranks_per_machine"], run.run.settings["gpu"]) == (4, "a100-80gb:8")
    asked = {name: value for name, value in run.run.settings.items() if name != "ranks_per_machine"}
    needed = {
        each: weighbridge.train("qwen3-0.6b", **{**asked, **each_of}).verdict.host.needed.expected
        for each, each_of in ((4, {"ranks_per_machine": 4}), (8, {}))
    }
    assert run.report.verdict.host.needed.expected == needed[4]
    assert needed[8] == 2 * needed[4]
    told = [(one.key, one.value) for one in run.run.understood if one.key == "#SBATCH --nodes"]
    assert told == ([] if nodes == "2" else [("#SBATCH --nodes", "2")])


def test_one_machine_needs_no_word_of_its_ranks(tmp_path):
    text = SEVERAL.format(memory=400, nodes=1).replace("--nodes=2", "--nodes=1")
    (run,) = weigh(written(tmp_path, text)).runs
    assert "ranks_per_machine" not in run.run.settings


TRAINS = "python train.py --model_name_or_path org/name --per_device_train_batch_size 1"
SPELLED = [
    ("--gres=gpu:h100-sxm:16", "--mem=64G", ["--gres gpu:h100-sxm:16", "--mem 64G"]),
    ("--gres nvme:1,gpu:v100:2", "--mem 500", ["--gres nvme:1,gpu:v100:2", "--mem 500"]),
    ("-G h100-sxm:2", "--mem-per-gpu=30G", ["-G h100-sxm:2", "--mem-per-gpu 30G"]),
    ("--gpus-per-node=1 -C h100-sxm", "--mem-per-cpu 4G", ["-C h100-sxm", "--mem-per-cpu 4G"]),
    ("--gres=gpu:2\n#SBATCH --gres=gpu:h100-sxm:4", "--time=1", ["--gres gpu:h100-sxm:4"]),
]


@all_of(("cards", "memory", "shown"), SPELLED)
def test_what_was_read_is_shown_as_it_stands_there(cards, memory, shown):
    text = f"#!/bin/bash\n#SBATCH {memory}\n#SBATCH {cards}\n{TRAINS}\n"
    (run,) = read(text, "job.sh").runs
    told = [one for one in run.understood if one.key.startswith("#SBATCH")]
    assert sorted(f"{one.key} {one.value}" for one in told) == sorted(f"#SBATCH {s}" for s in shown)
    last = 2 + cards.count("\n") + 1
    assert {one.setting: one.line for one in told} == {
        "gpu": last,
        **({"ram": 2} if told[1:] else {}),
    }


@pytest.mark.parametrize(
    ("cards", "key", "why"),
    [
        ("-G h100:2", "card", "h100 is H100 SXM5 80GB or H100 NVL 94GB"),
        ("--gpus-per-node=2 -C h100", "card", "h100 is H100 SXM5 80GB or H100 NVL 94GB"),
        ("--gpus=mine:2", "--gpus", "'mine' is no card that we know"),
    ],
)
def test_what_is_unsure_of_a_card_stands_at_its_own_option(cards, key, why):
    text = f"#!/bin/bash\n#SBATCH --mem=64G\n\n#SBATCH {cards}\n{TRAINS}\n"
    (run,) = read(text, "job.sh").runs
    (told,) = (one for one in run.unread if one.key == key)
    assert told.line == 4 and why in told.why


SHORT = """\
#!/bin/bash
#SBATCH --gres=gpu:h100-sxm:2
#SBATCH --mem={memory}G
torchrun --nproc_per_node 2 train.py --model_name_or_path llama-3.1-8b --bf16 True \\
  --per_device_train_batch_size {batch} --fsdp "full_shard auto_wrap"
"""


@pytest.mark.slow
def test_the_change_of_a_file_is_told_where_no_number_of_cards_surely_does(tmp_path, capsys):
    """The note names the first change of the report; memory that lacks is written all the same, by
    the screen of the file as well."""
    for batch, memory, lines in ((2, 64, True), (2, 200, False), (8, 64, False)):
        path = tmp_path / "job.sbatch"
        path.write_text(SHORT.format(memory=memory, batch=batch))
        (report,) = (run.report for run in weigh(path).runs)
        assert report.verdict.fits == ("unknown" if batch == 2 else "no")
        assert menu.run(["sbatch", str(path)]) == (4 if batch == 2 else 1)
        out = capsys.readouterr().out
        flags = next((one.flags for one in report.remedies if one.fits == "yes"), "")
        told = f"; with {flags} it fits" if flags else ", and no change is known to do"
        assert f"more of these cards are not known to be enough{told}" in out
        assert flags and ("--ram" in flags) is (batch == 8)
        assert ("write:" in out) is lines
        screen = str(weigh(path))
        assert ("What the job has to ask Slurm for" in screen) is lines
        written = out.partition("write:\n")[2].splitlines()
        assert all(f"  {line}" in screen.splitlines() for line in written)


WRAPPED = """\
#!/bin/bash
#SBATCH --nodes=2
#SBATCH --gres=gpu:h100-sxm:8
srun {}
"""
PLAIN = (
    "torchrun --nnodes 2 --nproc-per-node 8 t.py --model_name_or_path org/name MORE"
    '--per_device_train_batch_size 2 --bf16 --fsdp "full_shard auto_wrap"'
)
SHELLS = (
    f"bash -c '{PLAIN}'",
    'sh -c "{}"'.format(PLAIN.replace('"', "'")),
    'bash -lc "{}"'.format(PLAIN.replace('"', '\\"').replace("MORE", "\\\n   ")),
    f"--export=ALL bash -c '\n  export RANK=$SLURM_PROCID\n  {PLAIN}'",
)


def test_a_run_in_a_shell_of_its_own_is_the_run_written_plainly():
    plain, *shells = (
        read(WRAPPED.format(line.replace("MORE", "")), "job.sbatch") for line in (PLAIN, *SHELLS)
    )
    assert plain.runs[0].settings["shard"] == "fsdp1"
    assert plain.runs[0].settings["data_parallel_size"] == 16
    for each in shells:
        assert each.kind == plain.kind == "training-command"
        assert [run.settings for run in each.runs] == [run.settings for run in plain.runs]


AS_TASKS = """\
#!/bin/bash
#SBATCH {}
{} train.py --model_name_or_path org/name --per_device_train_batch_size 2
"""


def of_tasks(lines, command):
    (run,) = read(AS_TASKS.format(lines.replace(" -", "\n#SBATCH -"), command), "job.sbatch").runs
    ranks = run.settings.get("data_parallel_size"), run.settings.get("ranks_per_machine")
    return run, ranks


EIGHT = "-N 2 --gres=gpu:8"


@all_of(
    ("lines", "command", "ranks"),
    [
        (f"{EIGHT} --ntasks-per-node=1", "srun python", (2, 1)),
        (f"{EIGHT} --ntasks-per-node=4", "/usr/bin/srun python3 -u", (8, 4)),
        ("-N 2 -n 4 --gpus-per-task=2", "srun python", (4, 2)),
        ("-N 2 -G 16 --gpus-per-task=1", "srun python", (16, 8)),
        ("-N 4 -G 32", "srun -N 2 --ntasks-per-node=8 python", (16, 8)),
        ("-N 4 -G 32 -n 4", "srun --ntasks-per-node=8 python", (32, 8)),
        ("-N 2 -G 16 --ntasks-per-node=1", "srun -n16 python", (16, 8)),
        (f"{EIGHT} -n 2", "srun -l -n 4 singularity exec -n 3 --nv x.sif python", (4, 2)),
        (f"{EIGHT} -n 2", "srun --mpi=pmix conda run -n 8 python", (2, 1)),
        (f"{EIGHT} -n 2", "srun -N1 -n4 python", (4, 4)),
        ("--gres=gpu:8 -n 8", "srun python", (8, None)),
        ("--gres=gpu:8 -n 4", "srun -n $SLURM_NTASKS --ntasks ${SLURM_NTASKS} python", (4, None)),
        ("--gres=gpu:8 -n 4", "srun -n $N python", (None, None)),
        (f"{EIGHT} -n 2", "srun torchrun --nnodes 2 --nproc_per_node 8", (16, 8)),
        (f"{EIGHT} -n 2", "srun python -m torch.distributed.run --nproc_per_node 8", (8, 8)),
        (
            f"{EIGHT} -n 2",
            "srun python -m accelerate.commands.launch --num_processes 16",
            (None, 8),
        ),
        (f"{EIGHT} -n 2", "srun accelerate launch --num_processes 16 --num_machines 2", (16, 8)),
        (f"{EIGHT} -n 2", "mpirun -np 16 python", (16, 8)),
        (f"{EIGHT} -n 2", "srun mpirun -np 16 python", (16, 8)),
        (f"{EIGHT} -n 2", "python", (None, 8)),
        (EIGHT, "srun python", (None, 8)),
    ],
)
def test_the_tasks_of_srun_are_the_ranks_of_what_starts_none(lines, command, ranks):
    assert of_tasks(lines, command)[1] == ranks


def test_tasks_that_nobody_knows_are_told():
    for lines, command, said in (
        ("--gres=gpu:8", "srun -n $N python", "$N"),
        ("-n x", "srun python", "x"),
    ):
        run, _ = of_tasks(lines, command)
        (told,) = (one for one in run.unread if one.key == "cards")
        assert told.why.startswith(f"'{said}' is no number") and told.raises


@all_of(
    ("lines", "command", "told"),
    [
        (EIGHT, "srun python", True),
        ("-N 2 --gpus-per-node=2", "srun python", True),
        ("-N 2 --gres=gpu:1", "srun python", False),
        ("-N 2", "srun python", False),
        (EIGHT, "srun -n 16 python", False),
        (EIGHT, "python", False),
    ],
)
def test_tasks_that_nobody_names_are_told_where_a_machine_has_several_cards(lines, command, told):
    run, _ = of_tasks(lines, command)
    found = [one for one in run.unread if "no number of tasks" in one.why]
    assert [(one.key, one.line, one.raises) for one in found] == ([("cards", 4, True)] * told)


@all_of(
    ("lines", "command", "line", "why"),
    [
        (
            "-G 8 -N 2",
            "torchrun --nnodes 4 --nproc-per-node 8",
            3,
            "names 4 machines, and the job asks for 2: it does not start so",
        ),
        (
            "-N 2 --gpus-per-node=4",
            "torchrun --nnodes 2 --nproc-per-node 8",
            3,
            "starts 8 processes on each machine, and the job asks for cards there: 4",
        ),
        ("-t 9 --gres=gpu:4", "srun -n 5 python", 3, "starts 5 processes on each machine"),
    ],
)
def test_a_command_that_its_job_does_not_hold_is_told(lines, command, line, why):
    run, _ = of_tasks(lines, command)
    (told,) = (one for one in run.unread if one.key == "cards")
    assert (told.line, told.raises, told.lowers) == (line, True, False)
    assert why in told.why
    assert not any("not used" in note for note in run.notes)


@all_of(
    ("lines", "command", "note"),
    [
        (f"{EIGHT} -n 2", "srun python", ["16 cards, and the command starts 2 ranks: 14 cards"]),
        (EIGHT, "torchrun --nnodes 2 --nproc-per-node 8", []),
        (EIGHT, "mpirun -np 16 python", []),
        (EIGHT, "python", []),
    ],
)
def test_cards_of_a_job_that_no_rank_has_are_told(lines, command, note):
    run, _ = of_tasks(lines, command)
    assert not any(one.key == "cards" for one in run.unread)
    found = [one for one in run.notes if "not used" in one]
    assert len(found) == len(note)
    assert all(said in one for said, one in zip(note, found, strict=True))


@pytest.mark.slow
def test_sbatch_tells_that_a_command_and_its_job_disagree(tmp_path, capsys):
    text = SEVERAL.format(memory=400, nodes=4)
    menu.run(["sbatch", written(tmp_path, text)])
    said = "the command names 4 machines, and the job asks for 2: it does not start so"
    assert capsys.readouterr().out.count(said) == 1
    menu.run(["sbatch", written(tmp_path, text.replace("nodes=4", "nodes=2"))])
    assert "does not start so" not in capsys.readouterr().out


def test_a_line_of_slurm_without_an_option_asks_for_nothing():
    (run,) = read(
        "#SBATCH a\ntorchrun --nproc-per-node 2 train.py --model_name_or_path gpt2\n"
    ).runs
    assert not any(u.key == "#SBATCH" for u in run.unread)


@pytest.mark.slow
def test_devices_that_a_run_has_are_asked_for_in_the_words_of_the_job(tmp_path, capsys):
    """Slurm's own word for a kind stays, whatever size was typed for it here."""
    line = "vllm serve qwen3-8b --tensor-parallel-size 4 --max-model-len 4096"
    path = written(tmp_path, f"#!/bin/bash\n#SBATCH --gres=gpu:a100:2\n#SBATCH --mem=64G\n{line}\n")
    assert menu.run(["sbatch", path, "--gpu", "a100-80gb"]) == 1
    assert "write:\n#SBATCH --gres=gpu:a100:4\n" in capsys.readouterr().out
