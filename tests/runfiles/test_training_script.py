"""Python scripts that train: what their calls say, and that nothing of them is run."""

import pytest

import weighbridge
from weighbridge.files.runfiles import read

PEFT = """
from transformers import AutoModelForCausalLM, BitsAndBytesConfig
name = "org/name"
packing = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_use_double_quant=True)
tokenizer = AutoTokenizer.from_pretrained(name)
model = AutoModelForCausalLM.from_pretrained(name, quantization_config=packing)
config = LoraConfig(r=16, target_modules=["q_proj"])
args = SFTConfig(per_device_train_batch_size=4, max_length=512, bf16=True)
SFTTrainer(model=model, args=args, peft_config=config)
"""
FAST = """
model, tokenizer = FastLanguageModel.from_pretrained("org/name"{load})
model = FastLanguageModel.get_peft_model(model, r=16{more})
SFTTrainer(model=model, args=SFTConfig(per_device_train_batch_size=2, bf16=supported()))
"""


def run(text: str):
    return read(text, "train.py").runs[0]


def fast(load: str = "", more: str = "") -> dict:
    return dict(run(FAST.format(load=load, more=more)).settings)


@pytest.mark.parametrize("key", ["unsloth_tiled_mlp=True", "offload_embedding=True"])
def test_what_its_loader_saves_besides_is_told(key):
    unread = run(FAST.format(load=f", {key}", more="")).unread
    (found,) = (one for one in unread if one.key == key.partition("=")[0])
    assert (found.lowers, found.raises) == (True, False)


def test_calls_say_the_run_and_a_name_is_the_literal_that_it_is_given():
    found = run(PEFT)
    assert found.model == "org/name"
    settings = found.settings
    assert (settings["method"], settings["quantization"]) == ("qlora", "nf4-dq")
    assert (settings["lora_r"], settings["lora_targets"]) == (16, ["q_proj"])
    assert (settings["batch_size"], settings["seq_len"]) == (4, 512)
    assert (settings["framework"], settings["precision"]) == ("trl", "bf16-mixed")


def test_what_was_understood_stands_in_the_text():
    for one in run(PEFT).understood:
        if one.end:
            assert str(one.value) in PEFT[one.start : one.end]
            assert one.line == PEFT.count("\n", 0, one.start) + 1


def test_a_packed_base_is_as_it_was_loaded_where_nothing_prepares_it():
    """The Trainer itself calls nothing of PEFT's; TRL's trainers have a rule by release."""
    plain = PEFT.replace("SFTConfig", "TrainingArguments").replace("SFTTrainer", "Trainer")
    prepared = plain.replace(
        "config = Lora", "prepare_model_for_kbit_training(model)\nconfig = Lora"
    )
    assert run(plain).settings["kbit_upcast"] == "none"
    assert "kbit_upcast" not in run(prepared).settings
    assert "kbit_upcast" not in run(PEFT).settings


def test_unsloth_has_its_own_defaults():
    settings = fast()
    assert (settings["framework"], settings["method"]) == ("unsloth", "qlora")
    assert (settings["seq_len"], settings["checkpointing"]) == (2048, "offload")
    assert settings["precision"] == "bf16-mixed"
    assert fast(load=", load_in_4bit=False")["method"] == "lora"
    assert fast(more=", use_gradient_checkpointing=True")["checkpointing"] == "full"
    assert fast(more=", use_gradient_checkpointing=False")["checkpointing"] == "none"
    assert fast(load=", full_finetuning=True")["method"] == "full"


def test_what_a_script_computes_is_told_and_not_followed():
    found = run(PEFT.replace("r=16", "r=rank()"))
    assert [one.key for one in found.unread] == ["lora_r"]
    assert run(PEFT.replace('name = "org/name"', "name = pick()")).model == ""


def test_the_first_load_counts_and_not_that_of_what_was_trained():
    again = 'model = FastLanguageModel.from_pretrained("lora_model")\n'
    assert run(FAST.format(load="", more="") + again).model == "org/name"


def test_a_trainer_says_what_is_learned():
    settings = run(PEFT.replace("SFTTrainer", "GRPOTrainer")).settings
    assert (settings["method"], settings["tuner"]) == ("grpo", "qlora")


def test_numbers_of_names_are_counted():
    text = "rank = 8\n" + PEFT.replace("LoraConfig(", "LoraConfig(lora_alpha=rank * 2, ")
    assert run(text).settings["lora_alpha"] == 16


def test_nothing_is_run():
    assert run(PEFT + "\nraise SystemExit(1)\nopen('/nowhere/at/all')\n").model == "org/name"


def test_a_patch_of_the_loss_is_read():
    script = PEFT.replace("SFTConfig", "TrainingArguments").replace("SFTTrainer", "Trainer")

    def patched(call: str, text: str = script):
        return run(text.replace("config = Lora", f"{call}\nconfig = Lora"))

    plain = run(script)
    for call in ("model = cce_patch(model)", 'cce_patch("llama", "cce", reduction="mean")'):
        found = patched(call)
        assert found.settings == {**plain.settings, "loss": "cce"}
        (one,) = (u for u in found.understood if u.setting == "loss")
        assert (one.key, one.line, one.end) == ("cce_patch", 7, 0)
    others = ('cce_patch(model, "torch_compile")', "cce_patch(model, impl=chosen())")
    for found in (*map(patched, others), patched("cce_patch(model)", PEFT)):
        assert "loss" not in found.settings
        assert [(u.line, u.lowers) for u in found.unread if u.key == "cce_patch"] == [(7, True)]


def test_the_loss_of_unsloth_stays_its_own():
    assert "loss" not in run(FAST.format(load="", more="") + "cce_patch(model)").settings


LOADED = """
import torch
from transformers import AutoModelForCausalLM, Trainer, TrainingArguments
model = AutoModelForCausalLM.from_pretrained("qwen3-0.6b"{dtype})
args = TrainingArguments("out", per_device_train_batch_size=1, bf16=True)
Trainer(model=model, args=args).train()
"""


def test_a_model_that_is_loaded_without_a_dtype_is_in_its_own():
    """transformers 5.23 modeling_utils.py (from_pretrained: no dtype is "auto")."""
    found = run(LOADED.format(dtype=""))
    assert found.settings["dtype"] == "auto"
    assert [name for name, _, _ in found.defaults if name == "dtype"] == ["dtype"]
    said = run(LOADED.format(dtype=", dtype=torch.float32"))
    assert said.settings["dtype"] == "float32"
    computed = run(LOADED.format(dtype=", dtype=best()"))
    assert "dtype" not in computed.settings


@pytest.mark.slow
def test_its_own_dtype_is_that_of_the_checkpoint():
    sizes = {}
    for name, dtype in (
        ("own", ""),
        ("half", ", dtype=torch.bfloat16"),
        ("whole", ", dtype=torch.float32"),
    ):
        (weighed,) = weighbridge.weigh(LOADED.format(dtype=dtype), name="train.py").runs
        sizes[name] = weighed.report.peak
    assert sizes["own"] == sizes["half"] < sizes["whole"]


def test_a_trainer_of_preferences_has_trls_defaults():
    text = 'AutoModelForCausalLM.from_pretrained("a/b")\nDPOTrainer(args=DPOConfig(beta=0.1))\n'
    found = run(text)
    assert (found.refused, found.settings["method"], found.settings["seq_len"]) == ("", "dpo", 1024)


@pytest.mark.parametrize("model", ['"org/name"', 'model="org/name"'])
@pytest.mark.parametrize(
    ("said", "settings"),
    [
        ("", {}),
        ('model_init_kwargs={"dtype": torch.bfloat16}', {"dtype": "bfloat16"}),
        ('model_init_kwargs=dict(torch_dtype="bfloat16")', {"dtype": "bfloat16"}),
        (
            "model_init_kwargs=loading",
            {"dtype": "bfloat16", "attention": "flash"},
        ),
    ],
)
def test_a_trainer_that_loads_the_model_itself(model, said, settings):
    """TRL's SFTTrainer takes a name, and hands from_pretrained what model_init_kwargs hold."""
    text = f"""import torch
from trl import SFTConfig, SFTTrainer
loading = {{"dtype": torch.bfloat16, "attn_implementation": "flash_attention_2"}}
args = SFTConfig(per_device_train_batch_size=2, max_length=1024, {said})
SFTTrainer({model}, args=args, train_dataset=data).train()
"""
    found = read(text, "train.py")
    assert found.kind == "training-script"
    (run,) = found.runs
    assert (run.model, run.settings["framework"]) == ("org/name", "trl")
    assert {name: run.settings.get(name) for name in settings} == settings
    assert ("dtype" in run.settings) is bool(settings)


QUICKSTART = """\
import torch
from peft import LoraConfig, get_peft_model, prepare_model_for_int8_training
from transformers import LlamaForCausalLM, Trainer, TrainingArguments

name = "meta-llama/Llama-2-7b-hf"
model = LlamaForCausalLM.from_pretrained(name, load_in_8bit=True, device_map="auto", torch_dtype=torch.float16)

def adapted(model):
    lora = LoraConfig(r=8, lora_alpha=32, lora_dropout=0.05, target_modules=["q_proj", "v_proj"])
    return get_peft_model(prepare_model_for_int8_training(model), lora), lora

model, lora = adapted(model)
config = {
    "lora": lora,
    "gradient_accumulation_steps": 2,
    "per_device_train_batch_size": 2,
    "gradient_checkpointing": False,
}
args = TrainingArguments("out", bf16=True, **{k: v for k, v in config.items() if k != "lora"})
Trainer(model=model, args=args, train_dataset=rows).train()
"""
HALF = (
    QUICKSTART.replace(", load_in_8bit=True", "")
    .replace("prepare_model_for_int8_training(model)", "model")
    .replace('batch_size": 2', 'batch_size": 1')
)
GB = 1e9


@pytest.mark.slow
@pytest.mark.parametrize(("script", "seen"), [(QUICKSTART, 14), (HALF, 40)])
def test_llama_recipes_quickstart_is_one_command_that_says_what_was_seen(script, seen):
    """On an A100 40 GB, batch 2 in int8 and batch 1 in fp16: llama-cookbook issue 374."""
    (run,) = weighbridge.weigh(script, name="quickstart.py", gpu="a100-40gb", offline=True).runs
    peak = run.report.peak
    assert peak.low <= seen * GB <= peak.high
    assert peak.expected == pytest.approx(seen * GB, rel=0.04)
    assert run.report.verdict.fits == "yes"


def settings(script):
    (run,) = read(script, "a.py").runs
    return run.settings


def test_a_call_that_peft_has_no_longer_dates_the_script():
    assert settings(QUICKSTART)["engine_version"] == "4.38"
    newer = settings(QUICKSTART.replace("int8_training", "kbit_training"))
    assert "engine_version" not in newer
    assert newer["checkpointing"] == settings(QUICKSTART)["checkpointing"] == "full"


@pytest.mark.parametrize(
    ("old", "new", "checkpointing"),
    [
        ("training(model)", "training(model, use_gradient_checkpointing=False)", "none"),
        (", load_in_8bit=True", "", "none"),  # it checkpoints packed models alone
        ("prepare_model_for_int8_training(model)", "model", "none"),
    ],
)
def test_peft_checkpoints_packed_models_unless_it_is_told_not_to(old, new, checkpointing):
    assert settings(QUICKSTART.replace(old, new))["checkpointing"] == checkpointing


@pytest.mark.parametrize(
    ("spread", "size"),
    [
        ("**config", 2),
        ("**{k: v for k, v in config.items()}", 2),
        (
            "**{k: v for k, v in config.items() if k not in ('lora', 'per_device_train_batch_size')}",
            8,
        ),
        ("**{k: v for k, v in config.items() if k == 'lora'}", 8),
        ("**{k: v for k, v in other.items()}", 8),
        ("**dict(per_device_train_batch_size=3)", 3),
        ('**{"per_device_train_batch_size": 4}', 4),
        ("**made()", 8),
    ],
)
def test_arguments_of_a_mapping_are_those_of_the_call(spread, size):
    written = '**{k: v for k, v in config.items() if k != "lora"}'
    assert written in QUICKSTART
    assert settings(QUICKSTART.replace(written, spread))["batch_size"] == size


ADAPTED = """
from peft import IA3Config, LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, Trainer, TrainingArguments
model = AutoModelForCausalLM.from_pretrained("qwen3-4b", dtype="bfloat16")
{adapted}
args = TrainingArguments("out", per_device_train_batch_size=1, bf16=True)
Trainer(model=model, args=args).train()
"""
MADE = "LoraConfig(r=128, lora_alpha=256, target_modules='all-linear')"
WAYS = (
    f"model = get_peft_model(model, {MADE})",
    f"config = {MADE}\nmodel = get_peft_model(model, config)",
    f"model = get_peft_model(model, peft_config={MADE})",
    f"model.add_adapter({MADE})",
)


@pytest.mark.parametrize("way", WAYS)
def test_adapters_are_those_of_their_config_wherever_it_is_made(way):
    settings = run(ADAPTED.format(adapted=way)).settings
    assert (settings["method"], settings["lora_r"]) == ("lora", 128)
    assert settings["lora_targets"] == "all-linear"


def test_a_rank_that_nobody_says_is_pefts_own():
    found = run(ADAPTED.format(adapted="model = get_peft_model(model, LoraConfig())"))
    assert [d[1:] for d in found.defaults if d[0] == "lora_r"] == [(8, "r of PEFT's LoraConfig")]


def test_adapters_of_another_kind_leave_the_answer_open():
    adapted = "model = get_peft_model(model, IA3Config())"
    weighed = weighbridge.weigh(ADAPTED.format(adapted=adapted), name="t.py", gpu="h200").runs[0]
    assert weighed.fits == "unknown" and "IA3Config" in weighed.report.verdict.reason
