"""`--emit trl` and `--fix`, read by TRL's own parser: each value is the one that was asked for."""

import shlex

import pytest

pytest.importorskip("torch")
pytest.importorskip("trl")

import trl
from transformers import TrainingArguments
from trl.cli.main import main
from trl.scripts.sft import make_parser

import weighbridge
from tests.torch.emitted import on_a_card, same_adapters, same_arguments, same_packing, written
from weighbridge.files.runfiles.patching import patched
from weighbridge.training.launching import OPTIMIZERS

# transformers names the newer of two words, and TRL what it means by a default
pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")

ZEROS = {"zero1": "zero1.json", "zero2": "zero2.json", "zero3": "zero3.json"}
KEPT = {"zero2": "zero2_offload.json", "zero3": "zero3_offload.json"}
CASES = {
    "full": {"gpu": "h100"},
    "sizes": {"gpu": "h200", "batch_size": 3, "gradient_accumulation": 5, "seq_len": 4096},
    "fp16": {"gpu": "h100", "precision": "fp16-mixed", "dtype": "float32"},
    "fp32": {"gpu": "h200", "precision": "fp32", "attention": "eager"},
    "kept": {"gpu": "h200", "checkpointing": "none", "eval_batch_size": 2},
    "reentrant": {"gpu": "h200", "checkpointing": "full", "use_reentrant": True},
    "liger": {"gpu": "h100", "loss": "liger", "attention": "flash", "method": "lora"},
    "lora": {
        "gpu": "4090",
        "method": "lora",
        "lora_r": 32,
        "lora_alpha": 64,
        "lora_dropout": 0.05,
        "lora_targets": "all-linear",
        "use_rslora": True,
    },
    "saved": {"gpu": "h100", "method": "lora", "modules_to_save": "lm_head,embed_tokens"},
    "dora": {"gpu": "h100", "method": "dora", "lora_targets": "q_proj,down_proj"},
    "qlora": {"gpu": "4090", "method": "qlora"},
    "nested": {"gpu": "4090", "method": "qlora", "quantization": "nf4-dq", "lora_r": 4},
    "int8": {"gpu": "4090", "method": "lora", "quantization": "bnb-int8"},
    "ddp": {"gpu": "h100:8", "shard": "ddp", "method": "lora"},
    "fsdp2": {"gpu": "h100:8", "shard": "fsdp2"},
    "fsdp2-offload": {"gpu": "h100:8", "shard": "fsdp2", "offload": "params", "method": "lora"},
    "fsdp1": {"gpu": "h100:8", "shard": "fsdp1", "offload": "params"},
    "zero1": {"gpu": "h100:8", "shard": "zero1", "precision": "fp16-mixed"},
    "zero2": {"gpu": "h100:4", "shard": "zero2", "offload": "optimizer", "batch_size": 2},
    "zero3": {"gpu": "h100:8", "shard": "zero3", "gradient_accumulation": 4},
    "zero3-offload": {"gpu": "h100:8", "shard": "zero3", "offload": "params"},
}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    on_a_card(monkeypatch)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def parsed(path):
    """Return what `trl sft` makes of a config: the arguments of its step, and of its model."""
    script, args, model, _ = make_parser().parse_args_and_config(["--config", str(path)])
    assert script.dataset_name == "trl-lib/Capybara"
    return args, model


def same(args, model, asked, repo="meta-llama/Llama-3.1-8B"):
    same_arguments(args, asked)
    same_adapters(trl.get_peft_config(model), asked)
    same_packing(trl.get_quantization_config(model), asked)
    assert model.model_name_or_path == repo
    assert args.max_length == asked["seq_len"]
    assert model.dtype == asked["dtype"]
    kernels = {"flash": "flash_attention_2", "eager": "eager"}
    assert model.attn_implementation == kernels.get(asked["attention"])


@pytest.mark.parametrize("settings", CASES.values(), ids=CASES)
def test_trl_reads_what_was_asked_for(folder, settings):
    shard = settings.get("shard", "")
    if shard in ZEROS:
        name = KEPT[shard] if "offload" in settings else ZEROS[shard]
        written(folder, "deepspeed", name, settings)
    made = written(folder, "trl", "run.yaml", settings)
    args, model = parsed(folder / "run.yaml")
    same(args, model, made.report.workload)


@pytest.mark.parametrize(
    ("name", "repo"), [("qwen3-8b", "Qwen/Qwen3-8B"), ("gemma-3-4b", "google/gemma-3-4b-pt")]
)
def test_trl_reads_files_of_other_models(folder, name, repo):
    settings = {"gpu": "h100", "method": "lora", "lora_targets": "all-linear"}
    made = written(folder, "trl", "run.yaml", settings, name)
    args, model = parsed(folder / "run.yaml")
    same(args, model, made.report.workload, repo)


@pytest.mark.parametrize("count", [1, 8])
def test_the_command_hands_accelerate_the_ranks_and_nothing_else(folder, monkeypatch, count):
    """A key that TRL does not know goes to `accelerate launch`, which refuses it."""
    made = written(folder, "trl", "run.yaml", {"gpu": f"h100:{count}", "method": "lora"})
    launched = {}
    monkeypatch.setattr(
        "trl.cli.accelerate_launcher.launch_training_script", lambda **told: launched.update(told)
    )
    assert main(shlex.split(made.starts)[1:]) == 0
    ranks = ["--num_processes", "8"] if count > 1 else []
    assert launched["launch_args"] == ranks
    assert launched["training_script_args"] == ["--config", "run.yaml"]


def test_transformers_knows_each_optimizer_that_a_file_may_name(folder):
    for name in OPTIMIZERS:
        assert TrainingArguments(output_dir="out", optim=name).optim == name


# Files that were changed to fit

FULL = """\
model_name_or_path: meta-llama/Llama-3.1-8B
dtype: bfloat16
dataset_name: trl-lib/Capybara
per_device_train_batch_size: 8  # as large as it goes
max_length: 4096
gradient_checkpointing: false
learning_rate: 2.0e-5
output_dir: ./out
"""
ADAPTED = FULL + "use_peft: true\nlora_r: 64\nlora_alpha: 128\nlora_target_modules: all-linear\n"
CHANGED = {
    "a smaller batch": (FULL, {"gpu": "h200"}),
    "adapters": (ADAPTED, {"gpu": "a100-80gb"}),
    "a packed base": (ADAPTED + "load_in_4bit: true\n", {"gpu": "4090"}),
}


@pytest.mark.parametrize(("text", "where"), CHANGED.values(), ids=CHANGED)
def test_trl_reads_a_file_that_was_changed_to_fit(folder, text, where):
    path = folder / "run.yaml"
    found = weighbridge.weigh(text, name="run.yaml", **where)
    assert found.fits == "no"
    patch = patched(found)
    assert patch.after != text
    path.write_text(patch.after)
    args, model = parsed(path)
    asked = weighbridge.weigh(patch.after, name="run.yaml", **where)
    assert asked.fits == "yes"
    workload = asked.runs[0].report.workload
    changed = {name: workload[name] for name in patch.remedies[0].change}
    assert changed  # what was proposed is among what is compared
    same(args, model, workload)
