"""What files leave out is what their programs take: transformers 5.23 training_args.py (with torch 2.8
and later), trl 1.16 trainer/model_config.py."""

import pytest
from tests.cases import all_of

from weighbridge.files.runfiles import read

TRL = "model_name_or_path: a/b\nlearning_rate: 1.0e-4\noutput_dir: x\n"
FACTORY = "model_name_or_path: a/b\nstage: sft\nfinetuning_type: lora\ncutoff_len: 512\n"
SCRIPT = """\
model = AutoModelForCausalLM.from_pretrained("a/b")
model = get_peft_model(model, LoraConfig(r=8))
args = TrainingArguments(output_dir="x")
"""


@pytest.mark.parametrize(
    ("text", "name"), [(TRL, "run.yaml"), (FACTORY, "run.yaml"), (SCRIPT, "train.py")]
)
def test_adamw_is_one_kernel_where_no_optimizer_is_named(text, name):
    (run,) = read(text, name).runs
    assert run.settings["optimizer"] == "adamw_torch_fused"
    assert "optimizer" in [said[0] for said in run.defaults]


def test_an_optimizer_that_is_named_stays():
    assert read(TRL + "optim: sgd\n", "run.yaml").runs[0].settings["optimizer"] == "sgd"
    muon = read(FACTORY + "use_muon: true\n", "run.yaml").runs[0]
    assert muon.settings["optimizer"] == "muon"


def test_programs_with_ways_of_their_own_have_no_optimizer_of_the_trainers():
    assert "optimizer" not in read(TRL + "with_tracking: true\n", "run.yaml").runs[0].settings


@all_of(
    ("text", "name", "dropout"),
    [
        (TRL + "use_peft: true\n", "run.yaml", 0.05),
        (TRL + "use_peft: true\nlora_dropout: 0.1\n", "run.yaml", 0.1),
        (TRL + "use_peft: true\nlora_dropout: 0\n", "run.yaml", 0),
        (TRL, "run.yaml", None),
        ("trl sft --model_name_or_path a/b --use_peft\n", "run.sh", 0.05),
        (SCRIPT, "train.py", None),
    ],
)
def test_adapters_of_trl_have_its_dropout(text, name, dropout):
    assert read(text, name).runs[0].settings.get("lora_dropout") == dropout
