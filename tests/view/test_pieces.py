"""Pieces of a screen: units, parts of a bar, what is compared and what is said: by hand."""

from types import SimpleNamespace

import pytest

from tests.cases import all_of
from weighbridge.base.memory import Bytes, Component, Instant, exactly
from weighbridge.base.units import GIB, KIB, MIB
from weighbridge.base.words import words_in
from weighbridge.faces.view import _footer, answer, beside, changes, fit, infer, ladder, train
from weighbridge.faces.view import parts as of_parts
from weighbridge.faces.view.parts import parts
from weighbridge.faces.view.shown import SizeFormat, apart, deciding, sizes
from weighbridge.memory.report.fit import Question
from weighbridge.memory.report.plan import Rung, as_asked, chosen

SAY = words_in("en")
GIBS = SizeFormat("GiB")


@all_of(
    ("nbytes", "shown"),
    [
        (0, "0 B"),
        (KIB - 1, "1,023 B"),
        (KIB, "1.0 KiB"),
        (MIB - 1, "1,024.0 KiB"),
        (MIB, "1.0 MiB"),
        (10 * MIB - 1, "10.0 MiB"),
        (10 * MIB, "10 MiB"),
        (GIB - 1, "1,024 MiB"),
        (GIB, "1.0 GiB"),
        (1234 * GIB, "1,234.0 GiB"),
    ],
)
def test_the_unit_of_a_size(nbytes, shown):
    assert sizes(nbytes).of(nbytes) == shown


def test_who_names_a_unit_has_two_decimals():
    assert sizes(1, "GB").of(1_234_000_000) == "1.23 GB"
    assert GIBS.bare(-1) == "0.0"  # no sign before nothing
    assert GIBS.bare(-GIB) == "-1.0"


@all_of(
    ("difference", "decimals"),
    [(0.0501, 1), (-0.0501, 1), (0.0499, 2), (0.005, 2), (0.001, 2), (0, 2)],
)
def test_decimals_by_which_two_numbers_are_told_apart(difference, decimals):
    """One shows a twentieth of a GiB; two are the most."""
    assert apart(GIBS, round(difference * GIB)).decimals == decimals


@pytest.mark.parametrize(
    ("nbytes", "signed"),
    [(0, "+0.00 GiB"), (GIB, "+1.0 GiB"), (-GIB, "-1.0 GiB"), (-1, "-0.00 GiB")],
)
def test_a_margin_has_a_sign(nbytes, signed):
    assert beside._signed(nbytes, GIBS) == signed


def phase(**components):
    return Instant(
        "step",
        tuple(Component(name=n, bytes=exactly(b), basis="computed") for n, b in components.items()),
    )


@all_of(
    ("components", "most", "shown"),
    [
        ({"weights": 60, "kv_cache": 40}, 5, [("weights", 60), ("kv_cache", 40)]),
        ({"kv_cache": 40, "weights": 60}, 5, [("weights", 60), ("kv_cache", 40)]),
        # the same name to a reader
        ({"buffers": 20, "rounding": 10, "fragmentation": 30}, 5, [("allocator", 60)]),
        # a hundredth of the whole has a part of its own, less has not
        ({"weights": 99, "logits": 1}, 5, [("weights", 99), ("logits", 1)]),
        ({"weights": 100, "logits": 1}, 5, [("weights", 100), ("other", 1)]),
        ({"weights": 50, "other": 50}, 5, [("weights", 50), ("other", 50)]),
        ({"weights": 50, "logits": 0}, 5, [("weights", 50)]),
        # at most so many, the last of them all others
        ({"weights": 4, "logits": 3, "context": 2, "gradients": 1}, 4, None),
        ({"weights": 4, "logits": 3, "context": 2, "gradients": 1}, 3, [("weights", 4), ("logits", 3), ("other", 3)]),
        ({"weights": 4, "logits": 3, "other": 2}, 3, [("weights", 4), ("logits", 3), ("other", 2)]),
        ({"weights": 4, "logits": 3, "other": 2}, 2, [("weights", 4), ("other", 5)]),
        # activations stand beside as many as there is room for
        ({"weights": 500, "activations": 1}, 5, [("weights", 500), ("activations", 1)]),
        ({"weights": 4, "logits": 3, "activations": 1, "context": 2}, 3, [("weights", 4), ("logits", 3), ("activations", 1), ("other", 2)]),
        ({"weights": 4, "activations": 3, "logits": 2, "context": 1}, 3, [("weights", 4), ("activations", 3), ("other", 3)]),
        ({"weights": 0, "activations": 0}, 5, []),
        ({"weights": 0}, 5, []),
    ],
)  # fmt: skip
def test_parts_of_a_bar_add_up(components, most, shown):
    found = [(p.key.removeprefix("part."), p.nbytes) for p in parts(phase(**components), most)]
    assert sum(nbytes for _, nbytes in found) == sum(components.values())
    assert len(found) <= most + any(name == "activations" for name, _ in found)
    assert shown is None or found == shown
    assert shown is not None or [name for name, _ in found] == [*components]


@pytest.mark.parametrize(
    ("components", "most", "named"),
    [
        ({"weights": 80, "logits": 10, "gradients": 9}, 2, False),  # a tenth has a name
        ({"weights": 81, "logits": 9, "gradients": 9}, 2, True),
        ({"weights": 80, "logits": 10, "gradients": 9}, 5, True),
        ({"weights": 50, "other": 50}, 5, True),
    ],
)
def test_what_is_large_has_a_name_of_its_own(components, most, named):
    answered = SimpleNamespace(phase=phase(**components))
    assert of_parts._named(answered, most) == named


def test_chinese_signs_take_two_columns():
    assert [of_parts._columns(text) for text in ("KV 1", "权重 1", "a·b，")] == [4, 6, 5]


def at(name, allocated, low, high):
    sizes_at = {"allocated": exactly(allocated), "driver": Bytes(low, (low + high) // 2, high)}
    return SimpleNamespace(name=name, at=sizes_at.__getitem__)


@pytest.mark.parametrize(
    ("phases", "told"),
    [
        # most allocated, of those that show the same number
        ([at("loss", 9, 7 * GIB, 9 * GIB), at("step", 8, 7 * GIB, 9 * GIB)], "loss"),
        ([at("loss", 9, 7 * GIB, 9 * GIB), at("step", 8, 7 * GIB, 10 * GIB)], "step"),
        ([at("loss", 9, 7 * GIB, 9 * GIB), at("step", 9, 7 * GIB - MIB, 9 * GIB + MIB)], "step"),
    ],
)
def test_the_phase_of_the_bar_shows_the_largest_number(phases, told):
    device = SimpleNamespace(
        phases=phases,
        peak=lambda _: Bytes(
            *(max(v) for v in zip(*(p.at("driver") for p in phases), strict=True))
        ),
    )
    assert deciding(SimpleNamespace(verdict=None), device).name == told


@pytest.mark.parametrize(
    ("end", "told"), [(None, False), (4096, False), (2048, True), (8192, True)]
)
def test_the_model_s_end_is_told_where_it_is_another_than_what_was_asked(end, told):
    facts = {} if end is None else {"longest_context": end}
    model = SimpleNamespace(read_from=(), rough=False)
    workload = {"context": 4096, "seq_len": None}
    report = SimpleNamespace(workload=workload, derived=facts, model=model)
    task = SimpleNamespace(assumes=lambda _: [])
    footer = _footer(SimpleNamespace(report=report, say=SAY, full=True), task)
    assert ("tokens" in footer) == told


@pytest.mark.parametrize(("kind", "told"), [("none", False), ("full", True)])
def test_checkpointing_is_among_what_was_assumed(kind, told):
    w = {"framework": "trl", "optimizer": "adamw", "precision": "bf16", "checkpointing": kind}
    w |= {"data_parallel_size": 1, "context_parallel_size": 1, "shard": "none"}
    facts = SimpleNamespace(parameters=1)
    report = SimpleNamespace(workload=w, derived={"trainable_parameters": 1}, model=facts)
    assumed = [*train.assumes(SimpleNamespace(report=report, say=SAY))]
    assert ("checkpointing full" in assumed) == told


def verdict(fits="yes", each=(5, 6, 7), usable=10, margin=4, share=1.0, count=1, used=1):
    return SimpleNamespace(
        fits=fits,
        per_device=Bytes(*(round(n * GIB) for n in each)),
        usable=exactly(round(usable * GIB)),
        usable_bytes=round(usable * GIB),
        margin_bytes=round(margin * GIB),
        share_that_fits=share,
        count=count,
        devices_used=used,
        usable_each=(),
    )


def shown(v, **components):
    report = SimpleNamespace(verdict=v, pictures=False)
    return SimpleNamespace(report=report, say=SAY, sizes=GIBS, unit=None, phase=phase(**components))


@pytest.mark.parametrize(
    ("each", "usable", "compared"),
    [((5, 6, 7), 7, "yes"), ((5, 6, 8), 7, "unknown"), ((7, 8, 9), 7, "unknown"), ((8, 9, 9), 7, "no")],
)  # fmt: skip
def test_what_numbers_alone_say(each, usable, compared):
    assert answer.compared(verdict(each=each, usable=usable)) == compared


@all_of(
    ("v", "said"),
    [
        (verdict(), "4.0 GiB to spare"),
        (verdict(margin=0), "0.00 GiB to spare"),
        (verdict(margin=0.02), "0.02 GiB to spare"),
        (verdict("no", (11, 12, 13), margin=-2), "short by 2.0 GiB"),
        (verdict("unknown", (9, 10, 11), share=0.5), "50"),
        (verdict("unknown", (9, 10, 11), share=0.0), "50"),  # the host's share is not the card's
        (verdict("unknown", (5, 6, 11), usable=10.99), "99"),  # it is not all
        (verdict("unknown", (9.99, 20, 30)), "1"),
        (verdict(count=2, used=3), ""),
        (verdict(count=0), ""),
        (None, ""),
    ],
)
def test_what_is_left_in_words(v, said):
    told = answer.margin(shown(v))
    assert said in told if said else told == ""


@pytest.mark.parametrize(("held", "too_big"), [(10, False), (11, True)])
def test_weights_alone_are_more_than_a_card_has(held, too_big):
    assert answer.weights_too_big(shown(verdict(), weights=held * GIB, logits=9 * GIB)) is too_big
    assert answer.weights_too_big(shown(None, weights=held * GIB)) is False


@pytest.mark.parametrize(
    ("used", "count", "margin", "few"), [(2, 2, 0, False), (3, 2, 0, True), (3, 2, -1, False)]
)
def test_fewer_devices_than_it_takes(used, count, margin, few):
    assert answer._too_few(verdict(used=used, count=count, margin=margin)) is few


@all_of(
    ("asked", "slots", "cells", "own"),
    [(1, 4, 400, 4), (4, 4, 400, 0), (1, 4, 399, 0), (1, 4, 100, 0), (1, None, 100, 0)],
)
def test_slots_that_each_have_a_cache_of_the_whole_context(asked, slots, cells, own):
    report = SimpleNamespace(
        workload={"batch_size": asked, "context": 100},
        setting=lambda name: {"parallel": slots, "n_ctx": cells}[name],
    )
    assert infer._own_slots(report) == own


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("vllm serve x --max-model-len 9", "sh"),
        ("import torch", "python"),
        ("Model.load(x)", "python"),
        ("trl sft --x (y)", "sh"),
    ],
)
def test_a_line_to_paste_is_of_its_language(text, language):
    way = SimpleNamespace(paste=text, flags="", change={})
    asked = SimpleNamespace(ways=(way,), report=None, help=None, fits="no")
    answered = SimpleNamespace(asked=asked, solved=None, fits="no", plan=as_asked(None))
    (pasted,) = fit._paste(answered, SAY)
    assert (pasted.text, pasted.language) == (text, language)


def rung(fits="yes", bits=4, kept=None, by="layers", gpu=None, sized=0):
    verdict = SimpleNamespace(
        fits=fits,
        count=1,
        tight=False,
        accelerator="NVIDIA H200",
        times="",
        margin_bytes=9 * GIB,
        usable_bytes=10 * GIB,
        per_device=exactly(GIB),
        host=None,
    )
    derived = {} if kept is None else {"layers_on_card": [kept, 10], "divided_by": by}
    w = {"engine": "ollama", "quantization": "Q4_K_M", "dtype": None}
    report = SimpleNamespace(verdict=verdict, derived=derived, workload=w, said={})
    if sized:
        report.said, report.setting = {"context": 128_000}, {"context": sized}.get
    return Rung(change={"gpu": gpu} if gpu else {}, report=report, bits=bits)


@all_of(
    ("rungs", "text", "sign"),
    [
        ([rung()], "4 bit, Ollama", "yes"),
        ([rung("no"), rung(bits=0)], "as published, Ollama", "yes"),
        ([rung(kept=6)], "4 bit, Ollama", "tight"),
        ([rung("no"), rung(gpu="h200")], "only on H200", "no"),
        ([rung("no")], "", "no"),
    ],
)
def test_the_answer_of_a_card_beside_others(rungs, text, sign):
    found = SimpleNamespace(ladder=tuple(rungs), plan=chosen(tuple(rungs)), pictures=False)
    cell = ladder.brief(found, SAY)
    assert (cell.text, cell.mark) == (text, sign)


@pytest.mark.parametrize(
    ("by", "told"), [("layers", "4 layers in RAM"), ("experts", "experts of 4 layers in RAM")]
)
def test_what_a_divided_rung_costs(by, told):
    assert ladder._remark(rung(kept=6, by=by), SAY) == told


def test_a_rung_of_fewer_tokens_than_were_asked_for_says_how_many():
    ladder_of_one = (rung(sized=40_960, kept=6),)
    found = SimpleNamespace(ladder=ladder_of_one, plan=chosen(()), workload={})
    size, reach = ladder.grid(found, "", SAY, None).rows[0][2:4]
    assert (size.mark, reach.text) == ("no", "40,960")
    said = ladder.sentence(found, SAY, None)
    assert said.mark == "no"
    assert said.text == (
        "No: Ollama goes to 40,960 tokens with this model, and 128,000 were asked for"
    )


@all_of(
    ("change", "then", "told"),
    [
        ({"offload": "params"}, 10, "10.0 GiB of RAM"),  # as much as loading takes anyway
        ({"offload": "none"}, 10, ""),
        ({"n_cpu_moe": None}, 10, ""),
        ({"seq_len": 512}, 10, ""),
        ({"seq_len": 512}, 11, "11.0 GiB of RAM"),
    ],
)
def test_the_ram_of_what_moves_memory_there_is_said(change, then, told):
    verdict = SimpleNamespace(host=SimpleNamespace(needed=exactly(10 * GIB)))
    remedy = SimpleNamespace(change=change, host=exactly(then * GIB))
    assert changes.moved(SAY, verdict, remedy) == told


@all_of(
    ("name", "fits", "margin", "offered"),
    [
        ("lora", "unknown", -1, False),  # deepseek-v3: 115 GiB on a card of 79
        ("lora", "unknown", 0, True),
        ("train", "unknown", None, True),
        ("lora", "yes", -1, True),
        ("infer", "unknown", -1, True),
    ],
)
def test_no_row_of_training_offers_more_than_the_card_has(name, fits, margin, offered):
    way = SimpleNamespace(
        fits=fits, margin_bytes=margin, change={}, kind="offload", price=None, paste=""
    )
    question = Question(name=name, report=SimpleNamespace(remedies=(way,), verdict=None))
    assert question.ways == ((way,) if offered else ())


def test_the_footer_names_frameworks_that_train_alike_once():
    def question(task, **workload):
        return SimpleNamespace(task=task, report=SimpleNamespace(workload=workload))

    alike = {"optimizer": "adamw", "precision": "bf16"}
    asked = SimpleNamespace(
        model=SimpleNamespace(read_from=["built-in catalogue"]),
        questions=[
            question("infer", engine="vllm", engine_version="0.11"),
            question("train", framework="trl", **alike),
            question("train", framework="trl", **alike),
            question("train", framework="trainer", **alike),
            question("train", framework="other", **alike | {"precision": "fp32"}),
        ],
    )
    told = ["vllm 0.11", "trl/trainer adamw bf16", "other adamw fp32", "catalogue"]
    assert list(fit._assumed(asked, SAY)) == told


@pytest.mark.parametrize(
    ("each", "words"),
    [
        ((9, 10, 11), "may or may not fit"),
        ((5, 6, 10.1), "likely fits"),
        ((9.9, 12, 14), "unlikely"),
    ],
)
def test_pictures_say_in_words_how_likely_they_fit(each, words):
    asked = shown(verdict("unknown", each, share=0.5))
    asked.report.pictures = True
    assert words in answer.margin(asked)
