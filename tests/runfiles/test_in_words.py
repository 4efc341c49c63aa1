"""Names in words: what is taken of them, that nothing rests on them alone, and what is asked for."""

import pytest
from tests.cases import all_of

import weighbridge
from weighbridge.files.runfiles import read
from weighbridge.files.runfiles.document import documents
from weighbridge.files.runfiles.in_words import programs


def of(text):
    (document,) = documents(text, "text")
    return document


@all_of(
    ("text", "named"),
    [
        ("vLLM 0.9.2 on a 3090", [("vllm", "0.9.2")]),
        ("vllm==0.10.2, RTX 3090", [("vllm", "0.10.2")]),
        ("vLLM: 0.10.2", [("vllm", "0.10.2")]),
        ("with llama.cpp, or ollama?", [("ollama", ""), ("llama.cpp", "")]),
        ("TRL and axolotl", [("axolotl", ""), ("trl", "")]),
        ("with the HF Trainer", [("trainer", "")]),
        ("mlx-community/x", []),
        ("nothing", []),
    ],
)
def test_programs_are_named_with_their_release(text, named):
    assert [(each.program.name, each.release) for each in programs(of(text))] == named


def test_words_alone_give_no_sure_verdict():
    found = weighbridge.weigh("qwen3-0.6b with vLLM on an H100", name="mail", offline=True)
    (weighed,) = found.runs
    verdict = weighed.report.verdict
    assert verdict.fits == "unknown"
    assert verdict.reason.startswith(
        "this is as far as the text says (in words: qwen3-0.6b, H100, vLLM); not taken from words"
    )
    assert (
        "to ask for sure, fill in --context, --batch-size and type: weighbridge infer qwen3-0.6b "
        "--engine vllm --context N --batch-size N --gpu H100" in weighed.run.notes
    )
    assert weighed.to_dict()["in_words"] == ["model", "gpu", "engine"]
    assert weighed.to_dict()["missing"] == ["context", "requests at once"]


def test_a_card_of_words_beside_a_command_gives_none_and_a_typed_one_does():
    text = "On my H100:\n\nvllm serve qwen3-0.6b --max-model-len 4096\n"
    assert weighbridge.weigh(text, name="mail", offline=True).fits == "unknown"
    assert weighbridge.weigh(text, name="mail", offline=True, gpu="h100").fits == "yes"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (
            "A colleague has an A100, I have a 4090 and want QLoRA of llama 3.1 8B at 4k, batch 2",
            "to ask for sure, fill in --gpu and type: weighbridge fit 'llama 3.1 8B' --gpu NAME",
        ),
        (
            "QLoRA of qwen3-8b with axolotl on a 3090",
            "--framework axolotl --method qlora --seq-len N",
        ),
        ("qwen3-8b, axolotl or TRL, memory?", "(axolotl, trl): none of them is taken"),
        ("How much memory for an 8B model?", "its words name no engine and no trainer"),
    ],
)
def test_words_that_decide_too_little_say_what_to_paste_or_to_type(text, why):
    found = weighbridge.weigh(text, name="mail", offline=True)
    (weighed,) = found.runs
    assert weighed.report is None
    assert why in weighed.why
    assert weighed.code == 4


def test_no_number_is_taken_of_a_sentence():
    (run,) = read("qwen3-8b with vLLM, context 32768, batch size 4, in AWQ, 64 GB RAM").runs
    assert run.settings == {"engine": "vllm"}


def test_the_command_to_type_is_one_that_the_program_takes():
    """LLaMA-Factory is a framework of ours, whose defaults are not the Trainer's."""
    text = "LLaMA-Factory runs out of memory with qwen3-8b on 8x H100 80GB.\nWhat can I do?\n"
    weighed = weighbridge.weigh(text, offline=True).runs[0]
    assert "weighbridge train qwen3-8b --framework llama-factory --method" in weighed.why


CODE = """It does not load on an RTX 4090:

model, tokenizer = FastModel.from_pretrained( {comment}
    model_name = "unsloth/Qwen3-14B", # {other}
    load_in_4bit = True,
)
"""


@pytest.mark.parametrize("comment", ["", "#unsloth/Qwen2.5-32B-Instruct", "# or Qwen/Qwen3-32B"])
def test_what_stands_behind_a_comment_of_code_is_no_model(comment):
    text = CODE.format(comment=comment, other='"unsloth/Mistral-7B-v0.3",')
    (found,) = read(text).runs
    assert found.model == "unsloth/Qwen3-14B"
    assert "--framework unsloth --method qlora" in found.refused
    assert read("# Qwen/Qwen3-32B on a 4090\n\nwith vLLM").runs[0].model == "Qwen/Qwen3-32B"


def test_a_word_within_a_name_is_that_name():
    """A publisher before a file's name trains nothing, and a method in a name is none."""
    (found,) = read("unsloth Qwen3-14B-UD-Q4_K_XL dies on the first token on an RX 7900 XTX").runs
    assert (found.model, found.task) == ("Qwen3-14B-UD-Q4_K_XL", "infer")
    (found,) = read("Tulu-2-DPO-7B and Qwen/Qwen3-8B on a 4090 with vLLM").runs
    assert found.task == "infer"
    assert read("DPO of Qwen/Qwen3-8B on a 4090").runs[0].task == "train"
