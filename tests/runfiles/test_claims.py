"""What a writer says of a run, denies, and asks about in place of it."""

import pytest

from weighbridge.runfiles import read
from weighbridge.runfiles.claims import claims

START = "I fine-tune qwen3-8b on a 3090 "


@pytest.mark.parametrize(
    ("text", "ways"),
    [
        ("it runs with LoRA", ["said"]),
        ("no LoRA", ["denied"]),
        ("without using any LoRA", ["denied"]),
        ("it is not LoRA, and not enough memory with LoRA", ["denied", "said"]),
        ("LoRA is turned off", ["denied"]),
        ("LoRA: false", ["denied"]),
        ("没有用LoRA", ["denied"]),
        ("LoRA没有开", ["denied"]),
        ("It fails. Does LoRA fit?", ["asked"]),
        ("It fails. Would LoRA help?", ["another"]),
        ("It fails. LoRA would help?", ["another"]),
        ("It fails. How much would LoRA take?", ["asked"]),
        ("Should I take LoRA?", ["asked"]),
        ("It fails. I think we should switch to LoRA.", ["another"]),
        ("I run LoRA, should I switch to LoRA?", ["said", "another"]),
        ("Why does LoRA fail?", ["said"]),
        ("I would like to run LoRA", ["said"]),
        ("显存不足。换成LoRA可以吗？", ["another"]),
        ("显存不足，LoRA可以吗？", ["asked"]),
    ],
)
def test_what_is_done_with_a_word(text, ways):
    assert [claim.way for claim in claims("LoRA", text)] == ways


@pytest.mark.parametrize(
    ("words", "settings"),
    [
        (
            "with full fine-tuning (not LoRA, not QLoRA), no gradient checkpointing. Would QLoRA help?",
            {"method": "full", "checkpointing": "none"},
        ),
        (
            "with LoRA r=16, gradient checkpointing enabled. Should I take QLoRA or full fine-tuning?",
            {"method": "lora", "checkpointing": "full", "lora_r": 16},
        ),
        ("做LoRA微调，没有开梯度检查点，显存不足。换成QLoRA可以吗？", {"method": "lora", "checkpointing": "none"}),
        ("in full fine-tuning, gradient checkpointing on", {"method": "full", "checkpointing": "full"}),
        ("with gradient_checkpointing=False", {"checkpointing": "none"}),
        ("with QLoRA, LoRA rank 8", {"method": "qlora", "lora_r": 8}),
        ("with batch size 2. Would batch size 4 fit?", {"batch_size": 2}),
        ("with batch size 2. My colleague has batch size 16.", {"batch_size": 2}),
        ("and it fails. Would LoRA help?", {}),
    ],
)  # fmt: skip
def test_the_run_is_what_is_said_of_it(words, settings):
    (run,) = read(START + words).runs
    assert run.settings == {"gpu": "3090", **settings}


def test_another_way_that_is_asked_about_is_named():
    (run,) = read(START + "with LoRA. Should I switch to QLoRA?").runs
    assert any("asks about method qlora" in note for note in run.notes)


def test_what_another_card_would_do_for_is_the_run():
    text = "I have a T4. Would an A100 be enough for QLoRA of qwen3-8b at 4096 tokens?"
    (run,) = read(text).runs
    assert run.settings == {"gpu": "A100", "method": "qlora", "seq_len": 4096}


def test_what_another_card_would_do_for_gives_way_to_what_is_said():
    (run,) = read("Full fine-tuning of qwen3-8b fails. Would it do for LoRA?").runs
    assert run.settings["method"] == "full"


def test_several_ways_of_a_text_are_named_and_none_is_taken():
    (run,) = read("I ran qwen3-8b on a 3090 with LoRA. I ran it with full fine-tuning, too.").runs
    assert "method" not in run.settings
    assert any("several values for method (lora, full)" in note for note in run.notes)


def test_what_is_asked_about_counts_where_nothing_is_said():
    (run,) = read("Can I fine-tune qwen3-8b with QLoRA on a 3090?").runs
    assert run.settings["method"] == "qlora"


def test_what_is_read_of_prose_is_told_in_chinese_too():
    from weighbridge import weigh
    from weighbridge.render import RenderOptions, draw
    from weighbridge.runfiles.screen import view

    found = weigh(START + "with LoRA, sequence length 512. Would QLoRA help?", name="mail")
    page = view(found, RenderOptions(lang="zh"))
    told = " ".join(draw(page, "human", RenderOptions(lang="zh")).split())
    assert "帖子、邮件或日志" in told
    assert "模型 qwen3-8b" in told
    assert "显卡 3090" in told
    assert any("文中只是询问 method qlora" in line for line in page.warnings)
    assert any("取自文字描述" in line for line in page.warnings)
