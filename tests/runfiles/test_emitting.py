"""`--emit`: a new file asks for what was asked, by its own reader, and gets the same answer."""

import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from tests.cases import some

import weighbridge
from weighbridge.base.errors import UsageError
from weighbridge.faces.cli import menu
from weighbridge.files.runfiles import read
from weighbridge.files.runfiles.dumping import dumped
from weighbridge.files.runfiles.emitting import TARGETS
from weighbridge.files.runfiles.record import PlannedRun
from weighbridge.files.runfiles.serving.containers import served
from weighbridge.settings.ranks import Ranks
from weighbridge.training import launching

MODEL = "llama-3.1-8b"
SERVER = "llama-3.2-1b"  # which a launch line can name
TRAINED = {
    "qlora": {"method": "qlora"},
    "lora": {
        "method": "lora",
        "lora_r": 32,
        "lora_targets": "all-linear",
        "lora_dropout": 0.05,
        "seq_len": 4096,
        "batch_size": 2,
        "checkpointing": "full",
    },
    "full": {"precision": "fp16-mixed", "optimizer": "adamw_8bit", "gradient_accumulation": 4},
    "fsdp2": {"gpu": "h100:8", "shard": "fsdp2", "offload": "params"},
    "zero2": {"gpu": "h100:4", "shard": "zero2", "offload": "optimizer", "method": "lora"},
    "zero3": {"gpu": "h100:8", "shard": "zero3", "offload": "params", "checkpointing": "full"},
}
NVME = {"gpu": "h100:8", "shard": "zero3", "offload": "nvme"}
WHOLE = ("axolotl", "llama-factory", "trl", "trainer")
FRAMEWORK = {"axolotl": "axolotl", "llama-factory": "trainer", "trainer": "trainer", "trl": "trl"}
# What LLaMA-Factory does in its own way: a base in 16 bits, nothing of it cast
WAYS = {"llama-factory": {"kbit_upcast": "none", "bnb_4bit_quant_storage": "bfloat16"}}
SERVED = {
    "two": {"engine": "vllm", "gpu": "l40s:2", "context": 8000},
    "sizes": {
        "engine": "vllm",
        "gpu": "h100",
        "context": 4096,
        "max_num_seqs": 8,
        "kv_cache_dtype": "fp8",
        "gpu_memory_utilization": 0.8,
        "enforce_eager": True,
    },
    "release": {"engine": "vllm", "gpu": "h100", "context": 4096, "engine_version": "0.19"},
}
SUFFIXES = {
    "yaml": ".yaml",
    "json": ".json",
    "python": ".py",
    "toml": ".toml",
    "modelfile": ".modelfile",
}


def answered(made, model=None, **beside):
    """Weigh a file by its own reader, as anybody would."""
    name = f"run{SUFFIXES[TARGETS[made.kind].syntax]}"
    found = weighbridge.weigh(made.text, name=name, model=model, offline=True, **beside)
    assert found.file.kind == TARGETS[made.kind].kind
    assert not any(one.line for one in found.runs[0].run.unread if "liger" not in one.key)
    return found.runs[0].report


def _of_recipe(settings):
    """The settings of adapters with the checkpoints that their recipe has, as every file does."""
    return {"checkpointing": "full", **settings} if "method" in settings else settings


@pytest.mark.slow
@pytest.mark.parametrize("settings", TRAINED.values(), ids=TRAINED)
@pytest.mark.parametrize("kind", WHOLE)
def test_a_training_that_is_written_is_the_one_that_was_asked_for(kind, settings, tiny):
    if kind in ("axolotl", "trainer") and settings.get("offload") == "optimizer":
        settings = {**settings, "offload": None}
    given = {"gpu": "4090", **settings}
    made = weighbridge.emit(tiny, kind, **given)
    recipe = kind == "trl" and settings.get("method")  # of PEFT and TRL, which needs no name
    meant = given if recipe else {**_of_recipe(given), "framework": FRAMEWORK[kind]}
    if kind == "llama-factory" and settings.get("method"):
        ways = WAYS[kind] if settings["method"] == "qlora" else {"dtype": "bfloat16"}
        meant = {**meant, **ways}
    asked = weighbridge.train(tiny, **meant)
    again = answered(made, tiny, gpu=given["gpu"])
    assert again.peak == asked.peak == made.report.peak
    assert again.verdict.fits == asked.verdict.fits
    assert again.workload == asked.workload


RECIPES = [
    ("torchtitan", {"gpu": "h100:8"}),
    ("torchtitan", {"gpu": "h100:8", "checkpointing": "full", "batch_size": 2, "seq_len": 4096}),
    ("torchtitan", {"gpu": "h100:8", "checkpointing": "selective", "offload": "params"}),
    ("torchtitan", {"gpu": "h200", "precision": "bf16", "optimizer": "adamw_torch"}),
    ("torchtitan", {"gpu": "h200", "precision": "fp32", "compile": True}),
    ("torchtitan", {"gpu": "h100:8", "tensor_parallel_size": 2}),
    ("torchtitan", {"gpu": "h100:16", "shard": "hsdp"}),
    ("torchtitan", {"gpu": "h100:16", "shard": "hsdp", "ranks_per_machine": 4}),
    ("torchtitan", {"gpu": "h100:16", "shard": "hsdp", "data_parallel_replicas": 8}),
    ("axolotl", {"gpu": "h100:16", "shard": "hsdp", "data_parallel_replicas": 8}),
    ("torchtitan", {"gpu": "h100:32", "shard": "hsdp", "context_parallel_size": 2}),
    ("torchtune", {"gpu": "h100:8"}),
    ("torchtune", {"gpu": "h100:8", "offload": "params", "optimizer": "paged_adamw_8bit"}),
    ("torchtune", {"gpu": "h200", "optimizer_in_backward": True, "loss": "standard"}),
    ("torchtune", {"gpu": "4090", "method": "qlora", "lora_r": 16, "checkpointing": "full"}),
    ("torchtune", {"gpu": "h100", "method": "dora", "lora_targets": "q_proj,o_proj"}),
    (
        "torchtune",
        {"gpu": "h100", "method": "lora", "lora_targets": "q_proj,gate_proj,down_proj,up_proj"},
    ),
]


@pytest.mark.parametrize(("kind", "settings"), some(2, RECIPES))
def test_a_recipe_that_is_written_is_the_run_that_was_asked_for(kind, settings, tiny, tiny_shape):
    made = weighbridge.emit(tiny, kind, **settings)
    # The last that reads TOML, with the checkpoints that the newest makes by itself
    release = {"framework_version": "0.2.2", "checkpointing": "selective"}
    ways = release if kind == "torchtitan" else {}
    asked = weighbridge.train(tiny, framework=kind, **{**ways, **_of_recipe(settings)})
    again = answered(made, tiny, gpu=settings["gpu"])
    assert again.peak == asked.peak == made.report.peak
    assert again.verdict.fits == asked.verdict.fits


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "model", "said"),
    [
        ("torchtune", "qwen3-8b", "no builder of Qwen3-8B"),
        ("torchtitan", "gemma-3-4b", "no flavor of gemma-3-4b"),
    ],
)
def test_a_model_that_a_program_has_not_is_refused(kind, model, said):
    with pytest.raises(UsageError, match=said):
        weighbridge.emit(model, kind, gpu="h200")


@pytest.mark.parametrize("kind", ["deepspeed", "accelerate"])
@pytest.mark.parametrize("settings", [TRAINED["zero2"], TRAINED["zero3"], NVME])
def test_a_part_of_a_run_that_is_written_shares_it_out_as_it_was_asked_for(kind, settings, tiny):
    made = weighbridge.emit(tiny, kind, **settings)
    shares = {"shard", "offload"}
    others = {name: value for name, value in settings.items() if name not in shares}
    asked = weighbridge.train(tiny, **settings)
    own = {name: asked.workload[name] for name in ("framework", "dtype")}
    again = answered(made, tiny, **others, **own)
    assert again.peak == asked.peak == made.report.peak
    assert [again.workload[name] for name in shares] == [settings[name] for name in shares]


@pytest.mark.slow
def test_ranks_that_are_written_for_accelerate_are_launched(tiny):
    made = weighbridge.emit(tiny, "accelerate", gpu="h100:8", shard="fsdp2", framework="trl")
    assert "num_processes: 8\n" in made.text
    assert "fsdp_version: 2\n" in made.text
    again = answered(made, tiny, gpu="h100:8", framework="trl")
    assert again.workload["shard"] == "fsdp2"
    assert again.peak == made.report.peak


@pytest.mark.parametrize("settings", SERVED.values(), ids=SERVED)
@pytest.mark.parametrize("kind", ["vllm", "compose", "k8s"])
def test_a_server_that_is_written_is_the_one_that_was_asked_for(kind, settings):
    made = weighbridge.emit(SERVER, kind, **settings)
    asked = weighbridge.infer(SERVER, **settings)
    beside = {name: settings[name] for name in ("gpu", "engine_version") if name in settings}
    again = answered(made, **beside)
    assert again.peak == asked.peak == made.report.peak
    assert again.verdict.fits == asked.verdict.fits
    given = (
        {"ram": again.workload["ram"]} if kind == "k8s" else {}
    )  # of the host, which is asked for
    assert (again.workload["ram"] is not None) is (kind == "k8s")
    assert again.workload == {**asked.workload, **given}


@pytest.mark.slow
def test_containers_have_the_cards_and_the_release_that_were_asked_for():
    made = weighbridge.emit(MODEL, "compose", gpu="l40s:2", context=8000, engine="sglang")
    assert "count: 2\n" in made.text
    assert "- sglang.launch_server\n" in made.text
    assert answered(made, gpu="l40s:2").peak == made.report.peak
    made = weighbridge.emit(MODEL, "k8s", gpu="h100:2", context=8000, engine_version="0.19")
    assert "nvidia.com/gpu: 2\n" in made.text
    assert "image: vllm/vllm-openai:v0.19.0\n" in made.text
    longer = weighbridge.emit(MODEL, "compose", context=200_000)
    assert "VLLM_ALLOW_LONG_MAX_MODEL_LEN: '1'\n" in longer.text


@pytest.mark.slow
@pytest.mark.parametrize(
    ("version", "words"),
    [
        (None, ["meta-llama/Llama-3.1-8B", "--max-model-len"]),
        ("0.26", ["meta-llama/Llama-3.1-8B", "--max-model-len"]),
        ("0.25", ["--model", "meta-llama/Llama-3.1-8B"]),
    ],
)
@pytest.mark.parametrize("kind", ["compose", "k8s"])
def test_vllms_image_is_told_the_model_first_where_its_entry_point_takes_it_so(
    kind, version, words
):
    """Older images serve another model where they are told it without `--model`."""
    made = weighbridge.emit(MODEL, kind, gpu="h100", context=8000, engine_version=version)
    data = yaml.safe_load(made.text)
    if kind == "compose":
        told = data["services"]["vllm"]["command"]
    else:
        told = data["spec"]["template"]["spec"]["containers"][0]["args"]
    assert told[:2] == words
    assert answered(made, gpu="h100", engine_version=version).peak == made.report.peak


@pytest.mark.parametrize(
    "line",
    [
        "vllm serve org/model --port 9",
        "vllm serve --port 9 --model org/model",
        "vllm serve --model=org/model --port 9",
        "python3 -m vllm.entrypoints.openai.api_server --model org/model --port 9",
    ],
)
def test_a_launch_line_is_taken_apart_wherever_it_names_its_model(line):
    told = served(PlannedRun(task="infer", command=line))
    assert told.words == ("org/model", "--port", "9")
    old = served(PlannedRun(task="infer", command=line, settings={"engine_version": "v0.9.2"}))
    assert old.words == ("--model", "org/model", "--port", "9")
    assert old.image == "vllm/vllm-openai:v0.9.2"
    inside = f"docker run --gpus all vllm/vllm-openai:v0.9 {' '.join(old.words)}"
    told = served(PlannedRun(task="infer", command=inside))
    assert (told.image, told.words) == ("vllm/vllm-openai:v0.9.0", old.words)


@pytest.mark.slow
def test_a_modelfile_has_the_context_and_the_layers_that_were_asked_for():
    settings = {"gpu": "4090", "context": 8000, "n_gpu_layers": 20}
    made = weighbridge.emit("llama3.1:8b", "modelfile", **settings)
    words = ["FROM llama3.1:8b", "PARAMETER num_ctx 8000", "PARAMETER num_gpu 20"]
    assert made.text.splitlines()[1:] == words
    asked = weighbridge.infer("llama3.1:8b", engine="ollama", **settings)
    again = answered(made, gpu="4090")
    assert again.peak == asked.peak
    assert again.workload == asked.workload


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "settings", "said"),
    [
        ("axolotl", {"method": "vera"}, "no word for --method vera"),
        ("axolotl", {"dtype": "float32"}, "no word for --dtype float32"),
        ("axolotl", {"kbit_upcast": "peft", "method": "qlora"}, "no word for --kbit-upcast peft"),
        ("axolotl", {"shard": "fsdp2", "gpu": "h100:4", "optimizer": "adamw_8bit"}, "beside FSDP2"),
        ("axolotl", {"framework": "trl"}, "is not for --framework trl, but for axolotl"),
        ("trl", {"precision": "bf16"}, "no word for --precision bf16"),
        ("trl", {"shard": "zero3", "zero_sub_group_size": 9, "gpu": "h100:8"}, "--zero-sub-group"),
        ("deepspeed", {"shard": "fsdp2", "gpu": "h100:8"}, "no word for --shard fsdp2"),
        ("trainer", {"method": "oft"}, "scripts are written with LoRA's config"),
        ("vllm", {"engine": "sglang"}, "is not for --engine sglang, but for vllm"),
        ("vllm", {"context": 200_000}, "no word for the variable VLLM_ALLOW_LONG"),
        ("modelfile", {"kv_cache_dtype": "q8_0"}, "no word for --kv-cache-dtype q8_0"),
        ("nothing", {}, "--emit 'nothing' is no kind; known: axolotl, "),
    ],
)
def test_what_a_file_has_no_word_for_is_refused_by_its_name(kind, settings, said):
    model = "llama3.1:8b" if kind == "modelfile" else MODEL
    with pytest.raises(weighbridge.UsageError) as raised:
        weighbridge.emit(model, kind, **settings)
    assert said in str(raised.value)


def test_a_model_that_has_no_files_is_not_written():
    with pytest.raises(weighbridge.UsageError, match="is a size; name a model"):
        weighbridge.emit("7B", "vllm")
    with pytest.raises(weighbridge.UsageError, match="--model says it"):
        weighbridge.emit(None, "axolotl")


# Files of other kinds

AXOLOTL = """\
base_model: llama-3.1-8b
adapter: lora
sequence_len: 4096
micro_batch_size: 2
lora_r: 16
lora_target_linear: true
gradient_checkpointing: true
"""


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["llama-factory", "trl", "trainer"])
def test_a_file_of_another_kind_is_said_again(kind):
    made = weighbridge.emit(None, kind, file=AXOLOTL, gpu="4090")
    run = read(made.text, f"run{SUFFIXES[TARGETS[kind].syntax]}").runs[0]
    kept = {"method": "lora", "seq_len": 4096, "batch_size": 2, "lora_r": 16}
    assert {name: run.settings[name] for name in kept} == kept
    assert run.settings["lora_targets"] == "all-linear"
    assert run.settings["checkpointing"] == "full"
    assert run.settings["framework"] != "axolotl"
    assert made.report.verdict.fits == answered(made, MODEL, gpu="4090").verdict.fits


TWO_MACHINES = (
    "torchrun --nnodes 2 --nproc-per-node 8 train.py --model_name_or_path meta-llama/Llama-3.1-8B "
    "--per_device_train_batch_size 2 --bf16 --gradient_checkpointing --max_seq_length 4096 "
    "--fsdp 'full_shard auto_wrap'\n"
)


@pytest.mark.slow
def test_a_card_without_a_count_is_counted_as_the_file_counts_it():
    made = weighbridge.emit(None, "accelerate", file=TWO_MACHINES, gpu="h100")
    own = weighbridge.weigh(TWO_MACHINES, gpu="h100").runs[0].report
    assert made.report.verdict.count == own.verdict.count == 16
    assert made.report.verdict.fits == own.verdict.fits == "yes"
    assert made.weighs.endswith(" --gpu h100:16")
    typed = weighbridge.emit(None, "accelerate", file=TWO_MACHINES, gpu="h100:8")
    assert typed.report.verdict.count == 8


MACHINES = [
    ("axolotl", 16, "accelerate launch --num_machines 2 --num_processes 16 -m axolotl.cli.train"),
    ("axolotl", 8, "axolotl train run.yaml"),
    ("trl", 16, "trl sft --config run.yaml --num_machines 2 --num_processes 16"),
    ("trl", 8, "trl sft --config run.yaml --num_processes 8"),
    ("llama-factory", 16, "FORCE_TORCHRUN=1 NNODES=2 NPROC_PER_NODE=8 llamafactory-cli train run"),
    ("torchtune", 16, "tune run --nnodes 2 --nproc_per_node 8 full_finetune_distributed --config"),
    (
        "torchtitan",
        16,
        (
            "PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True torchrun --nnodes 2 "
            "--nproc-per-node 8 -m torchtitan.train --job.config_file run.toml"
        ),
    ),
]


@pytest.mark.parametrize(("kind", "cards", "starts"), MACHINES)
def test_what_starts_a_file_names_its_machines(kind, cards, starts, tiny, tiny_shape):
    made = weighbridge.emit(tiny, kind, gpu=f"h100:{cards}", shard="fsdp2")
    assert made.starts.startswith(starts)


def test_machines_of_other_sizes_are_counted_as_they_are():
    assert launching.by_machine(Ranks(data=16, per_machine=4)) == "--nnodes 4 --nproc-per-node 4"
    assert launching.by_machine(Ranks(data=8)) == "--nproc-per-node 8"


@pytest.mark.slow
def test_a_file_of_its_own_kind_keeps_its_ways():
    made = weighbridge.emit(None, "axolotl", file=AXOLOTL, batch_size=1)
    assert "micro_batch_size: 1\n" in made.text
    own = weighbridge.weigh(AXOLOTL, batch_size=1).runs[0].report
    assert made.report.peak == own.peak


@pytest.mark.slow
def test_a_launch_line_becomes_a_manifest():
    line = "vllm serve llama-3.1-8b --max-model-len 16384 -tp 2"
    made = weighbridge.emit(None, "k8s", file=line, name="serve.sh", gpu="l40s:2")
    assert made.report.peak == weighbridge.infer(command=line, gpu="l40s:2").peak
    assert "nvidia.com/gpu: 2\n" in made.text
    with pytest.raises(weighbridge.UsageError, match="is not for --engine vllm"):
        weighbridge.emit(None, "modelfile", file=line, name="serve.sh")


def test_of_several_runs_none_is_written():
    two = "services:\n" + "".join(
        f"  {name}:\n    image: vllm/vllm-openai\n    command: --model {MODEL}\n" for name in "ab"
    )
    with pytest.raises(weighbridge.UsageError, match=r"starts 2 runs \(a, b\): --emit writes one"):
        weighbridge.emit(None, "k8s", file=two, name="compose.yaml")
    with pytest.raises(weighbridge.UsageError, match="no kind"):
        weighbridge.emit(None, "x", file=two, name="compose.yaml")


# The command line


@pytest.mark.slow
def test_a_file_is_data_and_its_answer_is_talk(capsys):
    words = ["train", MODEL, "--method", "qlora", "--gpu", "4090", "--emit", "trl"]
    assert menu.run([*words, "--check"]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("# Start it with: trl sft --config run.yaml\nmodel_name_or_path: meta")
    assert out.endswith("output_dir: ./out\n")
    assert err.endswith("on each device: it fits; start it with: trl sft --config run.yaml\n")
    assert menu.run([*words, "-q"]) == 0
    assert capsys.readouterr().err == ""


def test_an_option_that_was_turned_off_is_in_the_file(capsys):
    words = ["infer", "llama-3.1-8b", "--engine", "vllm", "--no-enable-prefix-caching"]
    assert menu.run([*words, "--gpu", "h100", "--emit", "vllm"]) == 0
    assert "no-enable-prefix-caching: true" in capsys.readouterr().out


@pytest.mark.slow
def test_a_run_file_is_converted_at_the_command_line(tmp_path, capsys):
    path = tmp_path / "run.yaml"
    path.write_text(AXOLOTL)
    for words in ([str(path)], ["train", str(path)]):
        assert menu.run([*words, "--gpu", "4090", "--emit", "llama-factory", "--check"]) == 1
        out, err = capsys.readouterr()
        assert "cutoff_len: 4096\n" in out
        assert "it does not fit" in err
    line = "vllm serve llama-3.1-8b --max-model-len 4096"
    assert menu.run(["infer", "--command", line, "--emit", "compose"]) == 0
    assert "image: vllm/vllm-openai:latest\n" in capsys.readouterr().out


@pytest.mark.parametrize("words", [[], ["train"]])
def test_a_training_is_not_sent_to_serving_and_back(words, tmp_path, capsys):
    path = tmp_path / "run.yaml"
    path.write_text(AXOLOTL)
    assert menu.run([*words, str(path), "--emit", "k8s"]) == 2
    err = capsys.readouterr().err
    assert f"--emit k8s is for serving, and {path} is about training; for that are axolotl," in err
    assert "vllm" not in err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--emit", "axolotl", "--json"], "--emit prints a file and nothing else"),
        (["--emit", "axolotl", "--gpu", "4090", "--gpu", "3090"], "these are 2 questions"),
        (["--emit", "axolotl", "--save", "x.py"], "--save and --emit write two files"),
        (["--emit", "vllm"], "--emit vllm is about infer: weighbridge infer"),
    ],
)
def test_what_goes_with_no_file_is_refused(words, said, capsys):
    assert menu.run(["train", MODEL, *words]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert said in err
    assert err.count("\n") == 1


def test_emit_goes_with_neither_fix_nor_together(tmp_path, capsys):
    path = tmp_path / "run.yaml"
    path.write_text(AXOLOTL)
    assert menu.run([str(path), "--emit", "trl", "--fix"]) == 2
    assert "leave one of them out" in capsys.readouterr().err
    assert menu.run(["infer", MODEL, "bge-m3", "--together", "--emit", "vllm"]) == 2
    assert "leave --together out" in capsys.readouterr().err


@pytest.mark.slow
def test_a_script_that_is_written_is_python(tmp_path):
    made = weighbridge.emit(MODEL, "trainer", gpu="h100:4", method="lora", seq_len=512)
    path = Path(tmp_path, "train.py")
    path.write_text(made.text)
    assert made.starts == "torchrun --nproc-per-node 4 train.py"
    assert subprocess.run([sys.executable, "-m", "py_compile", str(path)]).returncode == 0


@pytest.mark.parametrize(
    ("syntax", "text"),
    [
        ("yaml", "# x\na: 1\nb:\n  c: 'yes'\n"),
        ("json", '{\n  "a": 1,\n  "b": {\n    "c": "yes"\n  }\n}\n'),
        ("toml", '# x\na = 1\n\n[b]\nc = "yes"\n'),
        ("modelfile", "# x\na 1\nb.c yes\n"),
    ],
)
def test_dotted_keys_are_written_as_each_syntax_has_them(syntax, text):
    assert dumped({"a": 1, "b.c": "yes"}, syntax, "x") == text


# A law: what is emitted is read again as what was answered, whichever program it is for

LAW = [
    ("torchtitan", "torchtitan"),
    ("torchtune", "torchtune"),
    ("axolotl", "axolotl"),
    ("llama-factory", "trainer"),
    ("trl", "trl"),
    ("trainer", "trainer"),
    ("accelerate", "accelerate"),
    ("accelerate", "trainer"),
    ("accelerate", "trl"),
    ("deepspeed", "deepspeed"),
    ("deepspeed", "trainer"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "framework"), some(4, LAW))
def test_what_is_emitted_is_read_again_as_what_was_answered(
    kind, framework, tmp_path, capsys, tiny, tiny_shape
):
    shard = {"shard": "zero2"} if kind == "deepspeed" else {"shard": "fsdp2"}
    asked = {"gpu": "h100-sxm:8", "framework": framework, **shard}
    meant = weighbridge.train(tiny, **asked)
    made = weighbridge.emit(tiny, kind, **asked)
    name = f"run{SUFFIXES[TARGETS[kind].syntax]}"
    line = ["weighbridge", name, "--model", tiny, "--gpu", "h100-sxm:8"]
    if made.weighs:  # a part of a run: the line has what no such file says
        line = shlex.split(made.weighs)
        name = line[1]
    path = tmp_path / name
    path.write_text(made.text)
    assert menu.run([str(path), *line[2:], "--json"]) == 0
    (run,) = json.loads(capsys.readouterr().out)["runs"]
    peak = run["report"]["devices"][0]["peak"]["driver"]["expected"]
    assert peak == made.report.peak.expected
    ways = {name: run["report"]["workload"][name] for name in ("framework", "checkpointing")}
    assert ways == {name: meant.workload[name] for name in ways}
    if kind == "torchtitan":  # its file is for a release, whose rules are not those of the newest
        assert made.before.peak == meant.peak != made.report.peak
    else:
        assert (peak, made.before) == (meant.peak.expected, None)


@pytest.mark.slow
def test_another_program_than_was_asked_is_told_with_what_that_takes(capsys):
    words = ["train", MODEL, "--gpu", "h100-sxm:8", "--emit"]
    assert menu.run([*words, "torchtitan"]) == 0
    takes = "warning: without --emit it is trained with trainer, and takes about 1"
    (line,) = [one for one in capsys.readouterr().err.splitlines() if one.startswith(takes)]
    assert line.endswith("it does not fit")
    assert menu.run([*words, "torchtitan", "--framework", "torchtitan"]) == 0
    takes = "warning: the newest torchtitan takes about "
    (line,) = [one for one in capsys.readouterr().err.splitlines() if one.startswith(takes)]
    assert line.endswith("; the file is for 0.2.2")


@pytest.mark.slow
def test_the_program_of_an_accelerate_file_is_told_to_be_assumed():
    text = "distributed_type: MULTI_GPU\nmixed_precision: bf16\nnum_processes: 2\n"
    found = weighbridge.weigh(text, name="ranks.yaml", model="qwen3-0.6b").runs[0].run
    ((setting, value, why),) = found.defaults
    assert (setting, value) == ("framework", "trainer")
    assert "--framework says what trains" in why
    named = weighbridge.weigh(text, name="r.yaml", model="qwen3-0.6b", framework="accelerate")
    assert named.runs[0].run.defaults == ()
    assert named.runs[0].report.workload["framework"] == "accelerate"
