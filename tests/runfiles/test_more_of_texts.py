"""Texts around programs: what is said beside a run, and what of a text is looked at."""

import pytest
from tests.cases import all_of

import weighbridge
from weighbridge.files.runfiles import read
from weighbridge.files.runfiles.cards import card, several_cards
from weighbridge.files.runfiles.document import documents
from weighbridge.files.runfiles.pieces import cut_short

SWIFT = """\
swift sft \\
    --model Qwen/Qwen2.5-7B-Instruct \\
    --train_type lora \\
    # --target_modules all-linear \\
    --max_length 20480
"""


def test_a_comment_within_a_command_ends_it_and_is_told():
    assert [note.values for note in cut_short(SWIFT)] == [{"line": 4}]
    assert not list(cut_short(SWIFT.replace("    # --target_modules all-linear \\\n", "")))
    assert not list(cut_short("program --a 1\n# a comment\n--b 2\n"))
    (run,) = read(SWIFT, "a.sh").runs
    assert "line 4 is a comment within a command" in run.notes[-1]
    (run,) = read(f"Why does it die of memory?\n\n{SWIFT}").runs
    assert "line 6 is a comment within a command" in run.notes[-1]


@pytest.mark.parametrize("cut", [True, False])
def test_samples_of_swift_are_as_long_as_they_are_where_no_length_is_set(cut):
    text = SWIFT if cut else SWIFT.replace("    # --target_modules all-linear \\\n", "")
    (run,) = read(text, "a.sh").runs
    lengths = [one for one in run.unread if one.key == "max_length"]
    assert [(one.raises, one.lowers) for one in lengths] == ([(True, False)] if cut else [])


def test_a_base_that_swift_packs_is_packed_twice_and_else_kept_as_it_is():
    """ms-swift @ 3602360a swift/arguments/base_args/quant_args.py: bnb_4bit_use_double_quant."""
    packed = SWIFT.replace("    # --target_modules all-linear \\\n", "    --quant_bits {} \\\n")
    settings = [read(packed.format(bits), "a.sh").runs[0].settings for bits in (4, 8)]
    assert [s["quantization"] for s in settings] == ["nf4-dq", "bnb-int8"]
    assert [s["kbit_upcast"] for s in settings] == ["none", "none"]
    once = packed.format("4 --quant_method bnb --bnb_4bit_use_double_quant false")
    (run,) = read(once, "a.sh").runs
    assert run.settings["quantization"] == "nf4"
    assert "quant_method" not in {one.key for one in run.unread}


def test_a_script_that_is_pasted_from_its_middle_is_read():
    text = """\
My script dies of memory on a 3090:

model = AutoModelForCausalLM.from_pretrained("Qwen/Qwen3-8B", torch_dtype="bfloat16")
args = SFTConfig(per_device_train_batch_size=2, max_length=4096)
trainer = SFTTrainer(model=model, args=args)
trainer.train()
"""
    (run,) = read(text).runs
    assert (run.task, run.model) == ("train", "Qwen/Qwen3-8B")
    assert (run.settings["batch_size"], run.settings["seq_len"]) == (2, 4096)


@all_of(
    ("text", "value"),
    [
        ("libs tensorrt-llm v100rc1, 8 nvidia h200 141Gb", "h200 141Gb:8"),
        ("4x V100 32GB", "V100 32GB:4"),
        ("V100S 32GB", "V100S 32GB"),
    ],
)
def test_a_release_is_no_card(text, value):
    (document,) = documents(text, "text")
    named = card(document)
    assert not several_cards(document)
    assert named is not None
    assert named.value.lower().replace(" ", "") == value.lower().replace(" ", "")


TABLE = """\
| GPU  Name                 Persistence-M | Bus-Id          Disp.A | Volatile Uncorr. ECC |
|   0  NVIDIA GeForce RTX 3090        Off |   00000000:01:00.0 Off |                  N/A |
|   1  NVIDIA GeForce RTX {second}        Off |   00000000:02:00.0 Off |                  N/A |
"""


@all_of(
    ("text", "value"),
    [
        (TABLE.format(second="3090"), "GeForce RTX 3090:2"),
        (TABLE.format(second="3060"), "GeForce RTX 3090+GeForce RTX 3060"),
        (TABLE.format(second="3090") * 2, "GeForce RTX 3090:2"),
        ("GPU 0: NVIDIA H100 80GB HBM3 (UUID: GPU-aa)\nmy A100 is older", "H100 80GB HBM3"),
        ("| 0  NVIDIA A100-SXM4-80GB          On | 0\n", None),
        ("GPU 1: NVIDIA H100 80GB HBM3 (UUID: GPU-aa)", None),
    ],
)
def test_tables_of_nvidia_smi_list_the_cards(text, value):
    (document,) = documents(text, "text")
    named = card(document)
    if value is None:
        assert named is None or not named.listed
    else:
        assert (named.value, named.listed) == (value, True)


@pytest.mark.parametrize("words", ["8 张 A100 80G", "A100 80G", "8张A100 80G", "8 x A100 80G"])
def test_a_training_has_as_many_cards_as_it_starts_ranks_where_words_say_no_other_number(words):
    text = f"用 {words} 微调，显存不够：\n\ntorchrun --nproc_per_node 8 train.py --max_seq_length 512 \\\n"
    text += "  --model_name_or_path Qwen/Qwen3-8B --per_device_train_batch_size 1\n"
    (run,) = read(text).runs
    assert run.settings["gpu"].rpartition(":")[2] == "8"


def test_a_listed_card_gives_a_sure_answer_and_no_words():
    text = f"Memory?\n\nvllm serve Qwen/Qwen3-8B --max-model-len 4096 -tp 2\n\n{TABLE}"
    found = weighbridge.weigh(text.format(second="3090"), name="a", offline=True)
    assert (found.fits, found.runs[0].run.words) == ("yes", ())


PS = """\
$ ollama run llama3.3:70b
$ ollama ps
NAME            ID              SIZE     PROCESSOR          CONTEXT    UNTIL
llama3.3:70b    a6eb4748fd29    46 GB    {processor}    8192       4 minutes from now
"""


@pytest.mark.parametrize(
    ("processor", "fits"), [("100% GPU", "yes"), ("13%/87% CPU/GPU", "unknown")]
)
def test_what_ollama_keeps_on_the_cpu_is_not_said_to_fit(processor, fits):
    text = PS.format(processor=processor) + TABLE.format(second="3090")
    (weighed,) = weighbridge.weigh(text, name="a", offline=True).runs
    assert weighed.report.workload["context"] == 8192
    assert weighed.fits == fits


def test_a_command_of_a_notebook_is_one():
    text = "Out of memory on a T4:\n\n!accelerate launch --num_processes 2 sft.py --use_peft \\\n"
    text += "  --model_name_or_path google/gemma-3-4b-it --max_length 512\n\nThanks!\n"
    for pasted in (
        text,
        text.replace("!accelerate", "```\n!accelerate").replace("512", "512\n```"),
    ):
        (run,) = read(pasted).runs
        assert (run.task, run.model, run.settings["seq_len"]) == (
            "train",
            "google/gemma-3-4b-it",
            512,
        )


MESSAGE = (
    "To serve at least one request with the models's max seq len (32768), (4.50 GiB KV cache is "
    "needed, which is larger than the available KV cache memory (3.58 GiB). Based on the available "
    "memory, the estimated maximum model length is 26032"
)


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        (f"cpu-offload-gb 5:\n{MESSAGE}", ["weights_alone", "pinned.sized"]),
        (f"what now?\n{MESSAGE}", []),
        ("--cpu-offload-gb 5, memory?", ["pinned.sized"]),
    ],
)
def test_weights_that_are_moved_make_no_room_for_the_cache_beside_the_card(text, keys):
    weighed = weighbridge.weigh(text, name="a", offline=True)
    assert [finding.key for finding in weighed.findings] == keys


@pytest.mark.parametrize(
    ("text", "keys", "values"),
    [
        (
            "GRPO of qwen3-8b on a 3090",
            ["least.wide", "least.trained"],
            {"form": "bfloat16", "small_form": "nf4"},
        ),
        ("DeepSeek R1 with 256 GB of RAM?", ["least"], {"small_form": "Q4_K_M"}),
        ("GRPO of Qwen3-8B-bnb-4bit", ["least.packed", "least.trained"], {"form": "nf4"}),
        ("GRPO of gpt-oss-20b", ["least.packed", "least.trained"], {"form": "mxfp4"}),
        ("GRPO of an 8B model", [], {}),
        ("qwen3-8b with vLLM on a 3090", [], {}),
    ],
)
def test_of_a_model_that_is_named_and_not_weighed_the_weights_are_told(text, keys, values):
    weighed = weighbridge.weigh(text, name="a", offline=True)
    assert [finding.key for finding in weighed.findings] == keys
    assert not keys or values.items() <= weighed.findings[0].values.items()
    assert weighed.answered is not bool(keys or "8B model" in text)


def test_the_weights_are_those_of_load_and_adam_takes_sixteen_bytes():
    weighed = weighbridge.weigh("GRPO of qwen3-8b on a 3090", name="a", offline=True)
    plain, trained = weighed.findings
    parameters = 8_190_735_360  # of the model's card: 8.2 B
    assert plain.values["size_bytes"] == 2 * parameters
    assert trained.values["adam_bytes"] == 16 * parameters


def test_an_engine_that_is_named_beside_a_readable_command_does_not_refuse_it():
    text = "With lmdeploy it works.\n\nvllm serve Qwen/Qwen3-8B --max-model-len 4096\n"
    (run,) = read(text).runs
    assert (run.refused, run.model) == ("", "Qwen/Qwen3-8B")
    text = "For my GRPO rollouts on an H100:\n\nvllm serve Qwen/Qwen3-8B --max-model-len 4096\n"
    (run,) = read(text).runs
    assert (run.refused, run.model) == ("", "Qwen/Qwen3-8B")
    text = f"{text}\npython3 -m verl.trainer.main_ppo actor_rollout_ref.model.path=org/name\n"
    asked = {(run.task, run.model) for run in read(text).runs if not run.refused}
    assert asked == {("infer", "Qwen/Qwen3-8B"), ("train", "org/name")}


def test_one_tensor_is_held_against_the_card_that_the_text_names():
    text = "On a Colab A100 80G: CUDA out of memory. Tried to allocate 182.28 GiB\n"
    assert weighbridge.weigh(text, name="a").message.judged.cause == "activations"
    text = text.replace("A100 80G", "box").replace("182.28", "78.28")
    assert weighbridge.weigh(text, name="a").message.judged.cause is None


@pytest.mark.slow
@pytest.mark.parametrize(
    ("card", "cause", "figures"),
    [
        ("RTX 3060", "weights_too_big", {"model": 16_060_522_496}),  # 14.96 of 11.7 GiB
        ("A100 40GB", "utilization_set_too_high", {}),  # which has room for them
    ],
)
def test_weights_that_alone_exceed_the_card_are_what_a_message_is_about(card, cause, figures):
    text = (
        f"Llama 3.1 8B on my {card} with vLLM ends in\ntorch.OutOfMemoryError: CUDA out of memory. "
        "Tried to allocate 1002.00 MiB. GPU 0 has 250.00 MiB free.\nWhat can I change?"
    )
    judged = weighbridge.weigh(text, name="a").message.judged
    assert judged.cause == cause and figures.items() <= judged.figures.items()
