"""Command lines of launchers, read: which program, and one of how many. Without torch."""

import sys
from textwrap import dedent

import pytest

from tests.cases import all_of
from weighbridge.base.errors import NotFoundError, UnsupportedError, UsageError
from weighbridge_lab.trace import program
from weighbridge_lab.trace.distributed import launched, world
from weighbridge_lab.trace.launchers import EVERY_CARD, TraceLaunch, read


def launch(line, **options):
    return read(line.split(), **options)


SCRIPT = {"program": "train.py", "arguments": ("--lr", "1")}


@all_of(
    ("line", "found"),
    [
        ("train.py --lr 1", {}),
        ("python train.py --lr 1", {}),
        ("/usr/bin/python3.12 -u -W ignore -Xdev train.py --lr 1", {}),
        ("torchrun train.py --lr 1", {"processes": 1}),
        ("torchrun --nproc-per-node 8 train.py --lr 1", {"processes": 8}),
        ("torchrun --nproc_per_node=8 --standalone train.py --lr 1", {"processes": 8}),
        ("torchrun train.py -- --lr 1", {"processes": 1}),  # torch's own parser loses it, too
        ("torchrun --nproc-per-node 8 -- train.py --lr 1", {"processes": 8}),
        ("torchrun --nproc-per-node gpu train.py --lr 1", {"processes": EVERY_CARD}),
        (
            "torchrun --nnodes 1:4 --node-rank 2 --nproc-per-node 8 train.py --lr 1",
            {"processes": 8, "nodes": 4, "node": 2},
        ),
        ("python -m torch.distributed.run --nproc-per-node 2 train.py --lr 1", {"processes": 2}),
        ("python -m torch.distributed.launch --use_env train.py --lr 1", {"processes": 1}),
    ],
)
def test_a_line_means(line, found):
    assert launch(line) == TraceLaunch(**SCRIPT, **found)


def test_modules():
    module = TraceLaunch(program="pkg.train", module=True, arguments=("-x",))
    assert launch("pkg.train -x", module=True) == module
    assert launch("python -m pkg.train -x") == module
    run = launch("torchrun --nproc-per-node 4 -m pkg.train -x")
    assert (run.program, run.module, run.arguments, run.processes) == (
        "pkg.train",
        True,
        ("-x",),
        4,
    )


def test_accelerate_tells_its_processes():
    run = launch(
        "accelerate launch --num_processes 8 --num_machines 2 --machine_rank 1 --mixed_precision bf16 "
        "--use_fsdp --fsdp_version 2 --fsdp_transformer_layer_cls_to_wrap Layer train.py --lr 1"
    )
    assert (run.processes, run.nodes, run.node) == (4, 2, 1)
    assert run.variables["ACCELERATE_MIXED_PRECISION"] == "bf16"
    assert run.variables["ACCELERATE_USE_FSDP"] == "true"
    assert run.variables["FSDP_VERSION"] == "2"
    assert run.variables["FSDP_TRANSFORMER_CLS_TO_WRAP"] == "Layer"
    assert run.variables["FSDP_SHARDING_STRATEGY"] == "FULL_SHARD"
    assert launch("accelerate launch train.py").processes == EVERY_CARD
    assert "ACCELERATE_USE_FSDP" not in launch("accelerate launch train.py").variables


def test_accelerate_reads_its_file(tmp_path):
    pytest.importorskip("yaml")
    path = tmp_path / "config.yaml"
    path.write_text(
        dedent("""
        distributed_type: FSDP
        fsdp_config: {fsdp_version: 2, fsdp_offload_params: true}
        mixed_precision: fp16
        num_machines: 1
        num_processes: 4
        use_cpu: false
    """)
    )
    run = launch(f"accelerate launch --config_file {path} --num_processes 2 train.py")
    assert run.processes == 2, "a flag is stronger than the file"
    assert run.variables["FSDP_OFFLOAD_PARAMS"] == "true"
    assert run.variables["ACCELERATE_MIXED_PRECISION"] == "fp16"


def test_accelerate_tells_deepspeed_what_was_asked(tmp_path):
    asked = (
        "--zero_stage 3 --offload_param_device CPU --zero3_init_flag True --gradient_clipping 1.0"
    )
    run = launch(f"accelerate launch --num_processes 4 --use_deepspeed {asked} train.py")
    told = {name: value for name, value in run.variables.items() if "PRECISION" not in name}
    assert told == {
        "ACCELERATE_USE_DEEPSPEED": "true",
        "ACCELERATE_DEEPSPEED_ZERO_STAGE": "3",
        "ACCELERATE_DEEPSPEED_OFFLOAD_PARAM_DEVICE": "cpu",
        "ACCELERATE_DEEPSPEED_ZERO3_INIT": "true",
        "ACCELERATE_GRADIENT_CLIPPING": "1.0",
    }
    assert (run.processes, run.notes) == (4, ())
    assert "ACCELERATE_USE_DEEPSPEED" not in launch("accelerate launch train.py").variables


def test_accelerate_reads_deepspeed_of_its_file(tmp_path):
    pytest.importorskip("yaml")
    path = tmp_path / "zero.yaml"
    path.write_text(
        dedent("""
        distributed_type: DEEPSPEED
        deepspeed_config: {zero_stage: 2, deepspeed_config_file: Zero.json}
        num_processes: 8
    """)
    )
    run = launch(f"accelerate launch --config_file {path} train.py")
    assert run.variables["ACCELERATE_USE_DEEPSPEED"] == "true"
    assert run.variables["ACCELERATE_DEEPSPEED_ZERO_STAGE"] == "2"
    assert run.variables["ACCELERATE_DEEPSPEED_CONFIG_FILE"] == "Zero.json"


def test_what_is_not_known_is_said():
    run = launch("torchrun --frob 3 --nproc-per-node 2 train.py --lr 1")
    assert (run.program, run.processes, run.arguments) == ("train.py", 2, ("--lr", "1"))
    assert run.notes == ("torchrun: we do not know --frob; it is left out",)
    assert launch("torchrun --frob train.py").program == "train.py"


@all_of(
    ("line", "error", "words"),
    [
        ("torchrun --nproc-per-node 8", UsageError, "has to follow"),
        ("torchrun --nproc-per-node many train.py", UsageError, "a whole number"),
        ("torchrun --no-python train.sh", UnsupportedError, "not Python"),
        ("python -c print(1)", UsageError, "into a file"),
        ("accelerate test", UsageError, "accelerate launch"),
        ("accelerate launch --use_megatron_lm train.py", UnsupportedError, "Megatron-LM"),
    ],
)
def test_what_cannot_be_traced(line, error, words):
    with pytest.raises(error, match=words):
        launch(line)


# Which process of how many


def test_ranks_within_nodes():
    one = world(16, 11)
    assert (one.per_node, one.local_rank, one.node) == (8, 3, 1)
    assert world(12).per_node == 12
    assert world(6, 5, 2).variables()["GROUP_RANK"] == "2"
    assert world(4, 3).variables()["LOCAL_WORLD_SIZE"] == "4"


def test_the_environment_is_put_back(monkeypatch):
    import os

    monkeypatch.setenv("RANK", "7")
    with launched(world(4, 2)):
        assert (os.environ["RANK"], os.environ["WORLD_SIZE"]) == ("2", "4")
    assert os.environ["RANK"] == "7"
    assert "WORLD_SIZE" not in os.environ
    with launched(None):
        assert "RANK" not in os.environ


# Programs, as Python runs them


def test_a_module_runs_as_main(tmp_path, monkeypatch, capsys):
    package = tmp_path / "somebody"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "__main__.py").write_text("print(__name__, __package__)")
    (package / "train.py").write_text(
        "import sys\nfrom . import __name__ as own\nprint(own, __spec__.name, sys.argv)"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", ["", *sys.path])
    for name in ("somebody.train", "somebody"):
        asked = program.request(name, ("-a",), module=True)
        with program.as_python(asked) as main:
            program.execute(asked, main)
    first, second = capsys.readouterr().out.splitlines()
    assert first == f"somebody somebody.train {[str(package / 'train.py'), '-a']}"
    assert second == "__main__ somebody"
    asked = program.request("somebody.nowhere", (), module=True)
    with program.as_python(asked) as main, pytest.raises(ImportError, match="No module named"):
        program.execute(asked, main)
    with pytest.raises(NotFoundError, match=r"nowhere\.py: no such script"):
        program.request("nowhere.py", ())


@pytest.mark.parametrize(
    ("source", "arguments", "told"),
    [
        ("import torch", ["--gpu", "4090"], True),
        ("import torch", ["--gpu=4090"], True),
        ("p.add_argument('--gpu')", ["--gpu", "0"], False),
        ("print(args.time_limit)", ["--time-limit", "9"], False),
        ("import torch", ["--lr", "1"], False),
    ],
)
def test_options_of_ours_behind_a_script_are_told(tmp_path, source, arguments, told):
    path = tmp_path / "s.py"
    path.write_text(source)
    launch = read([str(path), *arguments])
    assert launch.arguments == tuple(arguments)
    assert bool(launch.notes) is told
    assert all("stand before the script" in note for note in launch.notes)
