"""Scripts that train as was sized: whole, read back by another reader, and short on a screen."""

import pytest

import weighbridge
from tests import trainer_lines
from tests.cases import all_of
from weighbridge.base.words import words_in
from weighbridge.faces.view.records import Note, Paste
from weighbridge.faces.view.scripts import shown, telling
from weighbridge.faces.view.scripts import start as started
from weighbridge.training.launching import TrainerRun, start, unwritten
from weighbridge.training.scripts import WIDE, line
from weighbridge.workload import Train

TINY = {
    "architectures": ["Qwen3ForCausalLM"],
    "model_type": "qwen3",
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "vocab_size": 512,
    "max_position_embeddings": 4096,
}
PLAIN = weighbridge.train(TINY, seq_len=256).workload
LORA = weighbridge.train(TINY, method="lora", seq_len=256).workload


def written(cls="Qwen3ForCausalLM", **changed):
    base = LORA if changed.get("method", "full") != "full" else PLAIN
    told = {**base, "method": "full", **changed}
    run = TrainerRun(told, Train(), "org/name", cls)
    return run, line(run).text


TRL = {"framework": "trl", "loss": "trl", "checkpointing": "full", "method": "lora"}


@all_of(
    "changed",
    [
        {},
        {"batch_size": 4, "gradient_accumulation": 8, "optimizer": "adamw_8bit"},
        {"precision": "fp16-mixed", "checkpointing": "full", "loss": "liger"},
        {"precision": "bf16", "dtype": "bfloat16", "attention": "efficient"},
        {"shard": "fsdp2", "offload": "params", "data_parallel_size": 8},
        {"shard": "zero3", "offload": "params", "data_parallel_size": 16},
        {"shard": "zero2", "offload": "optimizer", "data_parallel_size": 2},
        {"method": "lora", "framework": "trainer", "loss": "standard", "eval_batch_size": 2},
        {**TRL},
        {**TRL, "quantization": "nf4-dq", "attention": "flash"},
        {**TRL, "method": "dora", "lora_dropout": 0.1, "lora_targets": ["all-linear"]},
    ],
    ids=str,
)
def test_a_script_says_what_was_sized(changed):
    run, text = written(**changed)
    compile(text, "train.py", "exec")
    assert max(map(len, text.splitlines())) <= WIDE
    assert ";" not in text
    told = trainer_lines.settings(text)
    assert trainer_lines.model(text) == "org/name"
    for name, value in told.items():
        assert value == run.settings[name], name
    assert set(changed) - {"data_parallel_size", "dtype"} <= set(told) | {"offload", "shard"}


@pytest.mark.parametrize(
    ("count", "said"),
    [
        (1, "python train.py"),
        (8, "torchrun --nproc-per-node 8 train.py"),
        (16, "torchrun --nnodes 2 --nproc-per-node 8 train.py"),
    ],
)
def test_what_starts_a_script(count, said):
    assert start(count) == said
    assert started(written(data_parallel_size=count)[1]) == said


def test_rows_stand_in_for_data_as_many_as_eight_steps_take():
    _, text = written(batch_size=2, gradient_accumulation=3, data_parallel_size=4)
    assert "[row] * 192" in text
    assert "[[1] * args.max_length] * 8" in written(**TRL)[1]


@pytest.mark.parametrize(
    ("cls", "row", "reads"),
    [
        ("Qwen3ForCausalLM", '"input_ids": ids', "mlm=False"),
        ("BertForMaskedLM", '"input_ids": ids', "mlm=True"),
        ("T5ForConditionalGeneration", '"input_ids": ids', ""),
        ("ViTForImageClassification", '"pixel_values": torch.zeros(3, side, side)', ""),
    ],
)
def test_rows_are_those_of_the_class(cls, row, reads):
    _, text = written(cls)
    assert row in text
    assert ("DataCollatorForLanguageModeling" in text) == bool(reads)
    assert reads in text


def test_a_class_without_a_loss_has_no_script():
    run = TrainerRun(PLAIN, Train(), "org/name", "BertModel")
    assert unwritten(run) == "BertModel has no loss of its own, or rows that we do not know"
    assert line(run).why.startswith("no script: BertModel")


def test_a_screen_has_three_lines_of_it():
    shown = telling(written(**TRL, quantization="nf4", batch_size=2)[1])
    assert shown == (
        'packed = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", ...)',
        'lora = LoraConfig(r=8, lora_alpha=8, target_modules=["q_proj", "v_proj"])',
        "args = SFTConfig(per_device_train_batch_size=2, max_length=256, ...)",
    )
    whole = telling(written(shard="zero3", attention="efficient")[1])
    assert whole == (
        "args = TrainingArguments(per_device_train_batch_size=1, ...)",
        'model = Qwen3ForCausalLM.from_pretrained("org/name", dtype=torch.float32)',
    )


def test_an_argument_a_line_is_joined_where_there_is_room():
    text = '"""x\n\n    python train.py\n"""\n\n# What decides\nx = f(\n    a=1,\n    b=2,\n)\n\n# More\n'
    assert telling(text) == ("x = f(a=1, b=2)",)


@pytest.mark.parametrize(
    ("command", "flags", "kind", "told"),
    [
        ("python train.py", "", Note, "then: python train.py"),
        ("torchrun --nproc-per-node 4 train.py", "", Paste, "torchrun --nproc-per-node 4 train.py"),
        ("python train.py", "--optimizer paged_adamw_8bit", Paste, "python train.py"),
    ],
)
def test_what_starts_a_script_is_not_broken_in_two(command, flags, kind, told):
    script = f'"""Train.\n\n    {command}\n"""\n\n# What decides\nx = f(\n    a=1,\n)\n'
    _, last = shown(words_in("en"), "Run", script, flags)
    assert isinstance(last, kind)
    assert last.text.endswith(told)
    assert kind is Note or last.text == told


def test_rows_of_a_reward_model_are_not_left_out():
    """TRL drops rows that are longer than max_length once they are tokens."""
    reward = weighbridge.train(TINY, method="reward", seq_len=256).workload
    text = line(TrainerRun(reward, Train(), "org/name", "Qwen3ForCausalLM")).text
    assert '" a" * (args.max_length - 8)' in text


def test_a_class_without_num_experts_is_trained_without_their_balance():
    """AttributeError of GraniteMoeHybridConfig otherwise, in TRL's fused loss."""
    for cls, told in (("GraniteMoeHybridForCausalLM", True), ("Qwen3MoeForCausalLM", False)):
        assert ("router_aux_loss_coef=0.0" in written(cls, **TRL)[1]) is told
    assert "router_aux" not in written("GraniteMoeHybridForCausalLM", framework="trainer")[1]
