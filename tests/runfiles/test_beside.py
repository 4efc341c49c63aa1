"""Files that a run file names: those below its folder are read with it, and no others; without one
that decides no verdict is sure."""

import json
import os

import pytest

import weighbridge
from weighbridge.base.cost import MOST
from weighbridge.base.errors import BadFileError
from weighbridge.faces.cli import menu
from weighbridge.files.runfiles.beside import beside
from weighbridge.files.runfiles.document import Document
from weighbridge.files.runfiles.kinds import folder_of, read, text_of

AXOLOTL = (
    "base_model: qwen3-0.6b\nadapter: lora\nlora_r: 4\nsequence_len: 256\nmicro_batch_size: 1\n"
)
FACTORY = (
    "model_name_or_path: org/name\nstage: sft\nfinetuning_type: lora\nlora_rank: 4\n"
    "cutoff_len: 256\nper_device_train_batch_size: 1\n"
)
TRL = "model_name_or_path: org/name\nlearning_rate: 1.0e-5\nmax_length: 256\n"
TUNE = (
    "model: {_component_: torchtune.models.llama3_1.lora_llama3_1_8b, lora_rank: 4}\n"
    "tokenizer: {_component_: torchtune.models.llama3.llama3_tokenizer, max_seq_len: 256}\n"
    "batch_size: 1\n"
)
TITAN = '[model]\nname = "llama3"\nflavor = "8B"\n[training]\nlocal_batch_size = 1\nseq_len = 256\n'
SCRIPT = (
    "from transformers import AutoModelForCausalLM\nfrom trl import SFTConfig, SFTTrainer\n"
    'model = AutoModelForCausalLM.from_pretrained("org/name")\n'
    "SFTTrainer(model, args=SFTConfig(per_device_train_batch_size=1, max_length=256))\n"
)
ZERO3 = (
    "distributed_type: DEEPSPEED\nnum_processes: 4\nmixed_precision: bf16\n"
    "deepspeed_config:\n  zero_stage: 3\n  offload_param_device: cpu\n"
)
STAGE = json.dumps({"zero_optimization": {"stage": 2, "reduce_bucket_size": 1000}, "odd": 1})
FILES = {
    "ax.yml": AXOLOTL,
    "lf.yaml": FACTORY,
    "trl.yaml": TRL,
    "tune.yaml": TUNE,
    "titan.toml": TITAN,
    "sft.py": SCRIPT,
    "configs/ranks.yaml": ZERO3,
    "configs/ds.json": STAGE,
    "list.yaml": "- a\n",
}
ARGUMENTS = "--model_name_or_path org/name --per_device_train_batch_size 1 --max_length 256"


@pytest.fixture
def folder(tmp_path):
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def run_of(folder, text, name="run.sh"):
    path = folder / name
    path.write_text(text)
    return read(*text_of(path, None), None, folder_of(path, None)).runs[0]


@pytest.mark.parametrize(
    ("line", "settings"),
    [
        ("axolotl train ax.yml", {"framework": "axolotl", "seq_len": 256}),
        ("axolotl train ax.yml --micro-batch-size 3", {"batch_size": 3}),
        ("axolotl train ax.yml --launcher accelerate -- --num_processes 2",
         {"data_parallel_size": 2, "shard": "ddp"}),
        ("accelerate launch --num_processes 2 -m axolotl.cli.train ax.yml",
         {"framework": "axolotl", "data_parallel_size": 2}),
        ("module load cuda\nsrun axolotl train ./ax.yml", {"lora_r": 4}),
        ("llamafactory-cli train lf.yaml", {"lora_r": 4, "seq_len": 256}),
        ("NPROC_PER_NODE=4 llamafactory-cli train lf.yaml cutoff_len=512",
         {"seq_len": 512, "data_parallel_size": 4}),
        (f"llamafactory-cli train {ARGUMENTS} --cutoff_len 64 --deepspeed configs/ds.json",
         {"seq_len": 64, "shard": "zero2", "zero_reduce_bucket_size": 1000}),
        ("axolotl train --deepspeed configs/ds.json ax.yml", {"lora_r": 4, "shard": "zero2"}),
        ("axolotl train --launcher=torchrun ax.yml", {"lora_r": 4}),
        ("axolotl train --debug ax.yml", {"lora_r": 4}),
        ("trl sft --config trl.yaml", {"framework": "trl", "seq_len": 256}),
        ("torchrun any.py --config trl.yaml --max_length 512 --per_device_train_batch_size 2",
         {"seq_len": 512, "batch_size": 2}),
        ("tune run --nproc_per_node 2 lora_finetune_distributed --config tune.yaml batch_size=2",
         {"framework": "torchtune", "batch_size": 2, "data_parallel_size": 2}),
        ("NGPU=8 CONFIG_FILE=titan.toml ./run_train.sh",
         {"framework": "torchtitan", "seq_len": 256, "data_parallel_size": 8}),
        ("python sft.py", {"framework": "trl", "seq_len": 256}),
        ("torchrun --nproc_per_node 2 sft.py", {"data_parallel_size": 2, "shard": "ddp"}),
        (f"accelerate launch --config_file configs/ranks.yaml any.py {ARGUMENTS}",
         {"shard": "zero3", "offload": "params", "data_parallel_size": 4,
          "precision": "bf16-mixed"}),
        (f"accelerate launch --config_file configs/ranks.yaml --num_processes 8 a.py {ARGUMENTS}",
         {"shard": "zero3", "data_parallel_size": 8}),
        (f"deepspeed --num_gpus 2 any.py --deepspeed configs/ds.json {ARGUMENTS}",
         {"shard": "zero2", "zero_reduce_bucket_size": 1000, "data_parallel_size": 2}),
    ],
)  # fmt: skip
def test_a_command_is_weighed_with_the_file_that_it_names(folder, line, settings):
    run = run_of(folder, f"#!/bin/bash\n{line}\n")
    assert not run.refused
    assert not any(one.missing for one in run.unread)
    assert {name: run.settings.get(name) for name in settings} == settings


@pytest.mark.parametrize("first", ['echo "starting"', "nvidia-smi", "unset FOO", "cat notes.txt"])
@pytest.mark.parametrize(("begin", "name"), [("#!/bin/bash\n", "run"), ("", "run.sh")])
def test_a_script_is_one_whatever_it_begins_with(folder, first, begin, name):
    line = f"deepspeed --num_gpus 2 any.py --deepspeed configs/ds.json {ARGUMENTS}"
    run = run_of(folder, f"{begin}{first}\n{line}\n", name)
    assert run.settings["shard"] == "zero2"
    assert run.settings["data_parallel_size"] == 2


@pytest.mark.parametrize(
    ("name", "text"), [("a.yml", AXOLOTL), ("a.yaml", FACTORY), ("a.yaml", TRL)]
)
def test_a_stage_of_deepspeed_is_read_where_its_file_is(folder, name, text):
    run = run_of(folder, f"{text}deepspeed: configs/ds.json\n", name)
    assert (run.settings["shard"], run.settings["zero_reduce_bucket_size"]) == ("zero2", 1000)
    (strange,) = [one for one in run.unread if one.key == "odd"]
    assert strange.file == "configs/ds.json"
    gone = run_of(folder, f"{text}deepspeed: configs/gone.json\n", name)
    assert [one.missing for one in gone.unread if one.missing] == ["configs/gone.json"]


@pytest.mark.slow
def test_lines_are_of_the_file_that_they_stand_in(folder):
    (folder / "ax.yml").write_text(AXOLOTL + "odd: 1\n")
    run = run_of(folder, "\naxolotl train ax.yml\n")
    assert {(one.file, one.end) for one in run.understood} == {("ax.yml", 0)}
    assert [(one.key, one.file, one.line) for one in run.unread] == [("odd", "ax.yml", 6)]
    (folder / "run.sh").write_text("axolotl train ax.yml\n")
    found = weighbridge.weigh(folder / "run.sh")
    assert "ax.yml:6: odd: it is no key that we know" in found.warnings
    told = found.to_dict()["runs"][0]
    assert told["not_understood"][0]["file"] == told["understood"][0]["file"] == "ax.yml"


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ("axolotl train gone.yml", "gone.yml"),
        ("llamafactory-cli train gone.yaml", "gone.yaml"),
        ("trl sft --config gone.yaml", "gone.yaml"),
        ("tune run lora_finetune_single_device --config ../gone.yaml", "../gone.yaml"),
        ("CONFIG_FILE=gone.toml ./run_train.sh", "gone.toml"),
    ],
)
def test_without_the_file_that_it_starts_nobody_can_say(tmp_path, capsys, line, name):
    path = tmp_path / "run.sh"
    path.write_text(f"{line}\n")
    assert menu.run([str(path), "--gpu", "h100"]) == 4
    told = "".join(capsys.readouterr())
    assert f"{name} is not here" in told or f"{name}, which is not here" in told
    path.write_text(f"#!/bin/bash\n#SBATCH --gres=gpu:h100:1\n{line}\n")
    assert menu.run(["sbatch", str(path)]) == 4
    assert "cannot say: " in capsys.readouterr().err


@pytest.mark.slow
def test_a_launchers_config_that_is_not_there_leaves_no_firm_verdict(tmp_path):
    path = tmp_path / "run.sh"
    arguments = ARGUMENTS.replace("org/name", "qwen3-0.6b")
    path.write_text(
        f"accelerate launch --config_file gone/z.yaml --num_processes 2 a.py {arguments}\n"
    )
    for card in "h100:2", "4060:2":
        (run,) = weighbridge.weigh(path, gpu=card).runs
        assert run.fits == "unknown"
        assert "gone/z.yaml is not here" in run.report.verdict.reason


def test_a_config_that_is_none_is_one_line(folder):
    assert "list.yaml is no axolotl config" in run_of(folder, "axolotl train list.yaml\n").refused
    (folder / "bad.yaml").write_text("a: [\n")
    with pytest.raises(BadFileError, match=r"bad\.yaml:2: this is no YAML"):
        run_of(folder, "axolotl train bad.yaml\n")


def test_only_what_lies_below_the_folder_is_read(folder, tmp_path_factory):
    outside = tmp_path_factory.mktemp("outside")
    (outside / "ax.yml").write_text(AXOLOTL)
    (folder / "link.yml").symlink_to(outside / "ax.yml")
    (folder / "within.yml").symlink_to(folder / "ax.yml")
    (folder / "away").symlink_to(outside)
    (folder / "large.yml").write_text("a" * (MOST + 1))
    os.mkfifo(folder / "pipe.yml")
    document = Document(syntax="shell", text="", data="", folder=str(folder))

    def found(name, of=document):
        return beside(of, name, ("yaml",))

    assert found("ax.yml").data["base_model"] == "qwen3-0.6b"
    assert found("configs/../ax.yml") is not None
    assert found("within.yml") is not None
    away = os.path.relpath(outside / "ax.yml", folder)
    for name in (
        *("link.yml", "away/ax.yml", away, str(outside / "ax.yml"), str(folder / "ax.yml")),
        *("~/ax.yml", "pipe.yml", "configs", "gone.yml", "", "a\0b", "x" * 5000),
    ):
        assert found(name) is None, name
    with pytest.raises(BadFileError, match="longer than"):
        found("large.yml")
    assert found("ax.yml", Document(syntax="shell", text="", data="")) is None


def test_a_paste_reads_no_file(folder, monkeypatch):
    monkeypatch.chdir(folder)
    (run,) = read("axolotl train ax.yml\n").runs
    assert run.refused == "it starts ax.yml, which is not here"
    (run,) = weighbridge.weigh("axolotl train ax.yml\n").runs
    assert run.code == 4
    assert weighbridge.weigh("axolotl train ax.yml", name="run.sh").runs[0].code == 4


@pytest.mark.slow
def test_a_job_of_slurm_is_weighed_with_its_config(folder, capsys):
    path = folder / "job.sbatch"
    path.write_text(
        "#!/bin/bash\n#SBATCH --gres=gpu:h100:1\n#SBATCH --mem=64G\naxolotl train ax.yml\n"
    )
    assert menu.run(["sbatch", str(path)]) == 0
    assert "enough" in capsys.readouterr().out
