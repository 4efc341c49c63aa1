"""What one answer says in several places is one story: rows and remedies, warnings and remedies."""

import json
import shlex

import pytest

import weighbridge
from tests.ask import typed as _asked
from weighbridge.answers.questions.requests import Requests
from weighbridge.base.errors import UsageError
from weighbridge.base.units import GIB
from weighbridge.faces.cli.menu import run


@pytest.fixture(scope="module")
def small():
    return weighbridge.prepare("qwen3-0.6b")


@pytest.mark.slow
def test_a_row_names_the_one_card_that_its_remedies_name(capsys):
    found = weighbridge.fit("llama-3.1-8b", gpu="3060", offload="none")
    full = found.question("train")
    named = full.replaced
    assert named is not None
    assert named in full.remedies
    assert ":" not in named.change["gpu"]
    assert full.elsewhere is None
    assert full.ways[0] is named
    _, out, _ = _asked(capsys, "fit", "llama-3.1-8b", "--gpu", "3060", "--offload", "none")
    assert f"--gpu {named.change['gpu']}" in out
    assert "nothing on one card" not in out


@pytest.mark.slow
def test_a_row_of_full_training_names_what_leaves_it_full():
    full = weighbridge.fit("llama-3.1-8b", gpu="3060", ram="512GiB").question("train")
    assert "method" in full.remedies[0].change
    assert full.ways[0] is full.help and "method" not in full.help.change
    assert {*map(id, full.ways)} == {*map(id, full.remedies)}


@pytest.mark.slow
@pytest.mark.parametrize("setting", ["optimizer", "optim_args", "lora_targets"])
def test_a_value_that_every_taker_refuses_is_wrong_whatever_the_exit_code_is_about(small, setting):
    flag = f"--{setting.replace('_', '-')}"
    with pytest.raises(UsageError, match=f"^{flag} '?banana"):
        small.fit(gpu="3060", remedies=False, **{setting: "banana"})


@pytest.mark.slow
def test_a_format_that_nobody_knows_is_wrong_though_full_training_does_not_take_it(small):
    with pytest.raises(UsageError, match="'banana' is not a format"):
        small.fit(gpu="3060", remedies=False, quantization="banana", for_="train")


@pytest.mark.slow
def test_a_value_that_one_question_takes_is_a_reason_of_the_others_alone(small):
    found = small.fit(gpu="3060", remedies=False, attention="flash", precision="fp32")
    assert found.fits == "yes"
    assert "--attention flash" in found.question("lora").reason
    partly = small.fit(gpu="h100", remedies=False, precision="fp8-mixed", for_="infer")
    assert partly.question("train").report is not None
    assert "fp8-mixed" in partly.question("lora").reason


# A command stands as it is; a name alone would be spread over both cards
COMMANDS = {
    "vllm": "vllm serve meta-llama/Llama-3.1-70B --max-model-len 4096",
    "sglang": "python -m sglang.launch_server --model-path meta-llama/Llama-3.1-70B",
}


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["vllm", "sglang"])
def test_a_warning_about_the_asked_layout_does_not_deny_its_remedies(engine, capsys):
    _, out, err = _asked(capsys, "infer", "--command", COMMANDS[engine], "--gpu", "a100-80gb:2")
    assert "each of the 2 has 79.3" in out
    offered = out.partition("What would make it fit")[2].partition("Run it")[0]
    assert any("-parallel-size 2" in line or "--tp-size 2" in line for line in offered.splitlines())
    assert "as asked, it is on 1 of 2 cards: use the others too" in err


@pytest.mark.slow
def test_experts_on_the_host_of_a_mac_need_room_in_the_same_memory():
    """gpt-oss-20b: the GPU may hold 10.7 of 16 GiB, the experts of a few layers stay in the same
    memory, and macOS swaps out what prompts take there with use. It ran so, with --n-cpu-moe 12, in
    13.05 GB (ml-explore/mlx-lm issue 644)."""
    found = weighbridge.infer("gpt-oss-20b", gpu="m4-16gb", engine="llama.cpp")
    host = found.verdict.host
    assert (found.verdict.fits, host.shared, host.swapped) == ("yes", True, 8 * GIB)
    assert found.peak.expected < host.needed.expected < 13.05e9 < host.room.low
    for r in found.remedies:
        assert not {"n_cpu_moe", "n_gpu_layers"} & r.change.keys()
    card = weighbridge.infer("gpt-oss-20b", gpu="3080", engine="llama.cpp", engine_version="7300")
    assert any("n_cpu_moe" in r.change for r in card.remedies)


@pytest.mark.slow
def test_a_launch_that_the_trainer_refuses_says_so_in_its_verdict_and_offers_the_way(capsys):
    found = weighbridge.train("qwen3-0.6b", gpu="t4", checkpointing="full", torch_version="2.3")
    assert found.verdict.fits == "yes"
    assert found.verdict.reason.startswith("only with --precision fp16-mixed: ")
    (way,) = found.remedies
    assert dict(way.change) == {"precision": "fp16-mixed"}
    then = weighbridge.train(
        "qwen3-0.6b", gpu="t4", checkpointing="full", torch_version="2.3", **way.change
    )
    assert (then.verdict.fits, then.remedies) == ("yes", ())
    assert not then.verdict.reason.startswith("only")
    _, out, _ = _asked(
        capsys,
        "train",
        "qwen3-0.6b",
        "--gpu",
        "t4",
        "--checkpointing",
        "full",
        "--torch-version",
        "2.3",
    )
    assert "only with --precision fp16-mixed" in out


@pytest.mark.slow
def test_what_does_not_fit_there_either_is_answered_with_both_changes():
    found = weighbridge.train("qwen3-0.6b", gpu="t4", torch_version="2.3")
    assert dict(found.remedies[0].change) == {"precision": "fp16-mixed", "checkpointing": "full"}


def test_cards_in_a_list_are_no_number_of_cards_in_a_request():
    def answered(gpu):
        asked = {"task": "load", "model": "qwen3-0.6b", "workload": {"gpu": gpu}}
        return Requests().answer(json.dumps(asked))

    error = answered("4090,3090")["error"]
    assert error["code"] == 2
    assert "4090+3090" in error["message"]
    assert answered("4090+3090")["verdict"]["count"] == 2
    assert "no accelerator" in answered("Intel(R) Arc(TM), 9")["error"]["message"]


@pytest.mark.slow
def test_what_is_to_be_tried_next_can_be_typed(capsys):
    _, out, _ = _asked(capsys, "fit", "qwen3-0.6b", "--gpu", "3060")
    assert "Try: --max context · --smallest gpu without --gpu ·" in out
    _, out, _ = _asked(capsys, "fit", "vit-base-patch16-224", "--gpu", "3060")
    assert "--max context" not in out


@pytest.mark.slow
def test_the_longest_context_names_the_flags_it_was_found_under(capsys):
    """44,432 tokens are cached by default, and a context of 57,616 needs another share."""
    found = weighbridge.infer("llama-3.1-8b", engine="vllm", gpu="4090", context=4096).derived
    length, flags = found["largest_context"], found["largest_context_flags"]
    assert "--enforce-eager" in flags
    line = "vllm serve meta-llama/Llama-3.1-8B --max-model-len"
    assert found["launch"] == f"{line} 4096"
    for more, fits in ((flags, "✓ fits"), ("", "✗ does not fit")):
        command = f"{line} {length} {more}"
        assert fits in _asked(capsys, "infer", "--gpu", "4090", "--command", command)[1]
    _, out, _ = _asked(capsys, "infer", "llama-3.1-8b", "--gpu", "4090", "--engine", "vllm")
    assert f"Longest context: {length:,} tokens for 1 request, with {flags}" in " ".join(
        out.split()
    )
    _, out, _ = _asked(
        capsys, "fit", "llama-3.1-8b", "--gpu", "4090", "--engine", "vllm", "--max", "context"
    )
    assert f"✓ longest context in tokens: {length:,}\n" in out
    assert f"--max-model-len {length} {flags}" in " ".join(out.split())
    roomy = weighbridge.infer("llama-3.1-8b", engine="vllm", gpu="h200", context=4096).derived
    assert (roomy["largest_context"], roomy["largest_context_flags"]) == (131_072, "")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("room", "told"),
    [
        ("4.75GiB", "No context surely fits, however short"),
        ("5GiB", "Longest context that surely fits: 256 tokens for 1 request"),
        ("6GiB", "Longest context: 8,192 tokens for 1 request"),
        ("4GiB", "Longest context: none, the weights alone are too big"),
    ],
)
def test_what_may_fit_is_not_denied_by_the_longest_context(capsys, room, told):
    words = ("--engine", "llama.cpp", "--quantization", "Q4_K_M", "--gpu-memory", room)
    words += ("--n-gpu-layers", "-1")  # else what is too much is divided
    _, out, _ = _asked(capsys, "infer", "llama-3.1-8b", *words, "--context", "1024")
    assert ("cannot say" in out) == ("surely" in told)
    assert told in out


@pytest.mark.slow
def test_the_range_of_ram_is_the_process_and_prompts_that_are_kept_are_told_apart(capsys):
    words = ("infer", "llama-3.1-8b", "--engine", "llama.cpp", "--quantization", "Q4_K_M")
    _, out, _ = _asked(capsys, *words, "--gpu", "4090")
    assert "RAM while serving: about 504 MiB (364 to 904); up to 8.0 GiB more with use\n" in out
    _, out, _ = _asked(capsys, *words, "--gpu", "4090", "--cache-ram", "0")
    assert "RAM while serving: about 504 MiB (364 to 904)\n" in out


@pytest.mark.slow
def test_the_range_of_ram_in_training_says_when_and_of_what(capsys):
    """Nothing is said of one process; what is read in a step is no serving."""
    guessed = "(4.0 to 32.0); what each process of Python takes is a guess"
    words = ("train", "llama-3.1-8b", "--framework", "torchtitan", "--gpu")
    assert guessed in " ".join(_asked(capsys, *words, "h100:8")[1].split())
    assert "a guess of what" not in " ".join(_asked(capsys, *words, "b200")[1].split())
    words = ("train", "llama-3.1-8b", "--framework", "unsloth", "--method", "qlora")
    assert "RAM in a step: about 2.0 GiB (1.0 to 4.5)\n" in _asked(capsys, *words)[1]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("flags", "title"),
    [
        (("--parallel", "4"), "1 request x 4,096 tokens, 4 slots\n"),
        (("--parallel", "4", "--batch-size", "4"), "4 requests x 4,096 tokens\n"),
        (("--parallel", "4", "--kv-unified"), "1 request x 4,096 tokens\n"),
        ((), "1 request x 4,096 tokens\n"),
    ],
)
def test_slots_with_a_cache_each_stand_in_the_first_line(capsys, flags, title):
    words = ("infer", "llama-3.1-8b", "--engine", "llama.cpp", "--quantization", "Q4_K_M")
    _, out, _ = _asked(capsys, *words, "--gpu", "4090", *flags)
    assert out.splitlines(keepends=True)[0].endswith(title)


@pytest.mark.slow
def test_a_change_to_a_format_whose_file_has_to_be_made_says_so(capsys):
    made = ("infer", "starcoder2-7b", "--gpu", "3060", "--engine", "llama.cpp")
    _, out, _ = _asked(capsys, *made)
    assert "--quantization Q8_0  (hardly any loss; file made first)" in out
    _, out, _ = _asked(capsys, *made, "--quantization", "Q8_0")
    assert (
        "  python convert_hf_to_gguf.py --remote bigcode/starcoder2-7b "
        "--outfile starcoder2-7b-Q8_0.gguf --outtype q8_0\n"
        "  llama-server -m starcoder2-7b-Q8_0.gguf -c 4096\n"
        "the lines before the last make starcoder2-7b-Q8_0.gguf, in a folder of llama.cpp\n"
    ) in out
    words = ("infer", "llama-3.1-8b", "--gpu", "3060", "--engine")
    _, out, _ = _asked(capsys, *words, "vllm")
    assert "--quantization awq-4bit-g128  (quality: small loss)" in out  # published by somebody
    assert "--quantization fp8 --kv-cache-dtype fp8  (quality: small loss)" in out


@pytest.mark.slow
def test_bfloat16_that_torch_emulates_is_one_story():
    """Since torch 2.4 the Trainer asks a torch that says yes; unsloth takes float16 by itself."""
    short = {"gpu": "t4", "method": "lora", "seq_len": 256}
    found = weighbridge.train("qwen3-0.6b", **short)
    assert found.verdict.fits == "yes"
    assert "only with" not in found.verdict.reason
    assert any("torch emulates it, which is slow" in w for w in found.warnings)
    own = weighbridge.train("qwen3-0.6b", framework="unsloth", **short).warnings
    assert any(w.endswith("unsloth takes float16 by itself") for w in own)
    older = weighbridge.train("qwen3-0.6b", torch_version="2.3", **short)
    assert older.verdict.reason.startswith("only with --precision fp16-mixed")
    assert not any("refuses" in w for w in (*found.warnings, *own))


@pytest.mark.slow
@pytest.mark.parametrize(
    "typed",
    [
        "--method lora --lora-r 64 --lora-targets all-linear",
        "--method qlora --kbit-upcast none --batch-size 2",
        "--method qlora --framework unsloth",
        "--method full --framework trl --gradient-accumulation 2",
    ],
)
def test_the_line_for_what_more_fits_asks_about_the_same_run(typed, capsys):
    asked = ["train", "qwen3-0.6b", "--gpu", "h100", *typed.split()]
    assert run(asked) == 0
    screen = capsys.readouterr().out
    (line,) = (text.strip() for text in screen.splitlines() if "weighbridge fit" in text)
    assert run([*asked, "--json"]) == 0
    workload = json.loads(capsys.readouterr().out)["workload"]
    assert run([*shlex.split(line)[1:], "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    method = typed.split()[1]
    (same,) = (
        q["report"]
        for q in told["questions"]
        if q["report"] and q["report"]["workload"].get("method") == method
    )
    assert same["workload"]["seq_len"] > workload["seq_len"]  # what was found
    other = {k for k, v in workload.items() if same["workload"].get(k) != v}
    assert other <= {"seq_len", "gpu"}  # the card by its full name


def test_the_next_question_quotes_a_name_with_a_blank():
    from weighbridge.faces.view.changes import asks

    report = weighbridge.infer("Qwen3 0.6B", gpu="4090", offline=True)
    asked = asks(report, "--max batch")
    assert shlex.split(asked)[1:] == ["fit", "Qwen3 0.6B", "--gpu", "4090", "--max", "batch"]
    assert asks(report, "--smallest gpu") == "weighbridge fit 'Qwen3 0.6B' --smallest gpu"
