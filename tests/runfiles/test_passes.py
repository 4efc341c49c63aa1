"""The law of every pass over a run: what it does not name, it leaves."""

from dataclasses import fields
from functools import cache

import pytest
from hypothesis import given
from hypothesis import settings as settings_of
from hypothesis import strategies as st
from tests.cases import all_of
from tests.charts.made import answering

import weighbridge
from weighbridge.base.records import replace
from weighbridge.base.sentences import sentence
from weighbridge.engines.format_choice import ASKED
from weighbridge.files.runfiles import kinds, passes
from weighbridge.files.runfiles.beside import NOT_HERE
from weighbridge.files.runfiles.passes import (
    ANSWER_PASSES,
    BY_FILE,
    ELSEWHERE,
    LENGTHS,
    PASSES,
    Typed,
    by_the_file,
    doubted,
    of_larger_cards,
    passed,
    together,
)
from weighbridge.files.runfiles.record import (
    FEW_CARDS,
    SEVERAL_CARDS,
    PlannedRun,
    RunFile,
    Understood,
    Unread,
)
from weighbridge.files.runfiles.weighing import WeighedRun

SEVERAL = {"kind": "a100", "cards": "A100 40GB or A100 80GB"}
NAMES = ("shard", "offload", "zero_reduce_bucket_size", "batch_size", "gpu", "seq_len")
SETTINGS = {
    "shard": st.sampled_from(("zero3", "ddp", "fsdp2", "none")),
    "offload": st.just("optimizer"),
    "zero_reduce_bucket_size": st.just(100_000_000),
    "batch_size": st.integers(1, 9),
    "gpu": st.sampled_from(("4090", "a100")),
    "seq_len": st.just(512),
}
KEYS = st.sampled_from(NAMES)
RUNS = st.builds(
    PlannedRun,
    task=st.sampled_from(("train", "infer")),
    model=st.just("org/name"),
    settings=st.fixed_dictionaries({}, optional=SETTINGS),
    understood=st.lists(st.builds(Understood, key=KEYS, value=st.just(1), setting=KEYS)).map(tuple),
    unread=st.lists(
        st.builds(Unread, key=KEYS | st.just(SEVERAL_CARDS), line=st.just(1), why=st.just("odd"))
    ).map(tuple),
    defaults=st.lists(st.tuples(KEYS, st.just(1), st.just("its own"))).map(tuple),
    notes=st.just(("a note",)),
    larger=st.lists(st.just("a100-80gb"), max_size=1).map(tuple),
    cards=st.integers(0, 8),
)
TYPED = st.fixed_dictionaries({}, optional=SETTINGS)


def asked(run, settings):
    return Typed(RunFile(kind="axolotl", title="axolotl config", name="f", runs=(run,)), settings)


def changed(before, after):
    return {f.name for f in fields(before) if getattr(before, f.name) != getattr(after, f.name)}


@settings_of(max_examples=25)
@given(run=RUNS, settings=TYPED)
def test_a_pass_leaves_what_it_does_not_name(run, settings):
    typed = asked(run, settings)
    for each in PASSES:
        assert changed(run, each.change(run, typed)) <= {*each.fields}


@settings_of(max_examples=25)
@given(run=RUNS, settings=TYPED)
def test_a_second_time_the_passes_change_nothing(run, settings):
    typed = asked(run, settings)
    once = passed(run, typed)
    assert passed(once, typed) == once
    assert not {one[0] for one in once.defaults} & settings.keys()
    assert not settings.keys() & {"gpu"} or not once.larger


@settings_of(max_examples=25)
@given(run=RUNS)
def test_without_anything_typed_a_run_is_what_its_file_says(run):
    assert passed(run, asked(run, {})) == run


@settings_of(max_examples=25)
@given(run=RUNS, settings=TYPED)
def test_a_setting_goes_only_with_a_word_about_it(run, settings):
    after = passed(run, asked(run, settings))
    for name in run.settings.keys() - after.settings.keys():
        keys = {name, *(u.key for u in run.understood if u.setting == name)}  # of the file
        told = any(u.key in keys or name in u.why for u in after.unread)
        assert told or after.notes != run.notes


@cache
def report():
    """An answer about two cards, whose numbers no pass looks at."""
    return weighbridge.infer("qwen3-0.6b", gpu="4090:2", engine="vllm", context=4096)


def weighed(run, fits="no", count=2):
    verdict = answering(report().verdict, fits, count=count)
    return WeighedRun(run=run, report=replace(report(), verdict=verdict))


def run(**said):
    return PlannedRun(task="train", **said)


def unread(key="k", **said):
    return Unread(key=key, line=1, why=f"{key} is odd", **said)


WORDS = {
    "words": ("gpu",),
    "missing": ("a length",),
    "understood": (Understood(key="the card", value="2 x 4090", setting="gpu"),),
}
SURELY = {**WORDS, "missing": (), "settings": {"gpu": "2 x 4090"}}
AS_FAR = "this is as far as the text says (in words: 2 x 4090)"
ELSE = unread("m", missing="zero.json", lowers=True)
REASONS = [
    ({}, "axolotl", "no", 2, {}, ""),
    (WORDS, "axolotl", "no", 2, {}, f"{AS_FAR}; not taken from words: a"),
    (SURELY, "axolotl", "no", 2, {}, f"{AS_FAR}; --gpu '2 x 4090', typed beside it, makes it sure"),
    (WORDS, "axolotl", "no", 2, {"gpu": "4090"}, ""),
    (WORDS, "axolotl", "no", 2, {"gpu_memory": "24GiB"}, ""),
    ({"unread": (ELSE,)}, "axolotl", "yes", 2, {}, NOT_HERE.format("zero.json")),
    (
        {"unread": (unread(lowers=True),)},
        "axolotl",
        "no",
        2,
        {},
        "counted without k, which takes l",
    ),
    ({"unread": (unread(lowers=True),)}, "axolotl", "yes", 2, {}, ""),
    ({"unread": (unread(raises=True),)}, "axolotl", "yes", 2, {}, "without k, which takes more"),
    ({"unread": (unread(raises=True),)}, "axolotl", "no", 2, {}, ""),
    (
        {"unread": (unread(raises=True, lowers=True),)},
        "trl",
        "no",
        2,
        {},
        "it is not known what k takes",
    ),
    ({"unread": (unread(FEW_CARDS, raises=True),)}, "compose", "yes", 2, {}, f"{FEW_CARDS} is odd"),
    ({"unread": (unread(SEVERAL_CARDS, lowers=True),)}, "axolotl", "no", 1, {}, "card is odd"),
    ({}, "trl", "no", 2, {}, ELSEWHERE),
    ({}, "trl", "no", 1, {}, ""),
    ({}, "trl", "yes", 2, {}, ""),
    ({}, "trl", "no", 2, {"shard": "ddp"}, ""),
    ({"settings": {"shard": "zero3"}}, "trl", "no", 2, {}, ""),
    ({"unread": (unread(raises=True, lowers=True),)}, "axolotl", "unknown", 2, {}, ""),
]


@all_of(("said", "kind", "fits", "count", "settings", "reason"), REASONS)
def test_what_leaves_an_answer_open_is_its_reason(said, kind, fits, count, settings, reason):
    before = weighed(run(**said), fits, count)
    file = RunFile(kind=kind, title="a file", name="f", runs=(before.run,))
    after = doubted(before, before.report, Typed(file, settings))
    if not reason:
        assert after is before
    else:
        assert after.fits == "unknown"
        assert reason in after.report.verdict.reason


def test_a_model_that_is_typed_is_no_longer_of_words():
    before = weighed(run(words=("model",)))
    assert doubted(before, before.report, asked(before.run, {})).fits == "unknown"
    typed = asked(before.run, {})._replace(model="org/name")
    assert doubted(before, before.report, typed).fits == "no"


@all_of(
    ("small", "large", "fits", "lowers"),
    [("no", "no", "no", False), ("no", "yes", "no", True), ("yes", "no", "yes", True)],
)
def test_a_no_is_sure_where_larger_cards_of_the_name_say_so_too(small, large, fits, lowers):
    several = replace(unread(SEVERAL_CARDS, lowers=True), why=sentence("which_card", **SEVERAL))
    other = unread(lowers=True)
    both = run(settings={"gpu": "a"}, larger=("b",), unread=(several, other))
    answers = {"a": weighed(both, small), "b": weighed(both, large)}
    after = of_larger_cards(both, lambda one: answers[one.settings["gpu"]])
    card, rest = after.run.unread
    assert (after.fits, card.lowers) == (fits, lowers)
    assert card.why == (several.why if lowers else sentence("which_card.same", **SEVERAL))
    assert rest == other


@all_of(
    ("key", "names"),
    [("dtype_from", ("dtype", "quantization")), ("context_from", LENGTHS)],
)
def test_what_the_file_asks_for_is_told_as_such_unless_it_is_typed(key, names):
    for value, settings, told in [
        (ASKED, {}, BY_FILE),
        ("its own", {}, "its own"),
        *((ASKED, {name: 1}, ASKED) for name in names),
    ]:
        before = replace(report(), derived={**report().derived, key: value})
        one = WeighedRun(run=run(), report=before)
        after = by_the_file(one, before, asked(one.run, settings))
        assert after.report.derived[key] == told


def test_a_card_of_one_service_is_judged_by_itself():
    alone = of_a_card("a", usable=1)
    assert together((alone,)) == (alone,)
    assert together((alone, weighed(run(name="b", devices=("1",)), "yes")))[0] == alone


def of_a_card(name, fits="yes", usable=2**50):
    one = weighed(run(name=name, devices=("0",)), fits)
    verdict = replace(one.report.verdict, usable_bytes=usable)
    return replace(one, report=replace(one.report, verdict=verdict))


def test_services_of_one_card_are_judged_by_what_they_take_together():
    a, b = of_a_card("a"), of_a_card("b")
    assert [one.fits for one in together((a, b))] == ["yes", "yes"]
    small = together((of_a_card("a", usable=1), of_a_card("b", usable=1)))
    assert [one.fits for one in small] == ["no", "no"]
    assert "a and b share card 0" in small[1].report.verdict.reason
    unsure = of_a_card("a", "unknown", 1)
    assert together((unsure, b))[0].fits == "no"


def test_a_service_without_an_answer_leaves_a_yes_open_and_a_no_as_it_is():
    silent = WeighedRun(run=run(name="b", devices=("0",)), why="nobody knows it")
    (first, second) = together((of_a_card("a"), silent))
    assert (first.fits, second) == ("unknown", silent)
    assert first.report.verdict.reason == "b takes memory of the same card, too"
    (first, _) = together((of_a_card("a", usable=1), silent))
    assert first.fits == "no"
    no = of_a_card("a", "no", 1)
    (first, _) = together((no, silent))
    assert (first.fits, first.report.verdict.reason) == ("no", no.report.verdict.reason)


TEXTS = {
    "run.yaml": "base_model: Qwen/Qwen3-8B\nadapter: lora\nlora_r: 8\nsequence_len: 512\n"
    "micro_batch_size: 1\nunfrozen_parameters: [a]\n",
    "args.yaml": "model_name_or_path: Qwen/Qwen3-8B\nper_device_train_batch_size: 4\nbf16: true\n"
    "max_length: 4096\n",
    "Modelfile": "FROM qwen3:8b\nPARAMETER num_ctx 40960\n",
    "serve.sh": "llama-server -hf unsloth/Qwen3-8B-GGUF:Q4_K_M -c 8192 --jinja\n",
    "a.txt": "will vllm with qwen3-8b do?",
}


@pytest.mark.slow
@all_of("gpu", ["4090", "a100-80gb", "rtx 3060", None])
def test_a_pass_over_an_answer_leaves_what_it_does_not_name(monkeypatch, gpu):
    seen = set()

    def held(each):
        def change(before, report, typed):
            after = each.change(before, report, typed)
            moved = changed(before, after)
            assert moved <= {"run", "report"}
            assert changed(before.run, after.run) <= {*each.run}
            assert changed(before.report, after.report) <= {*each.report}
            seen.update({each.change.__name__} if moved else ())
            return after

        return each._replace(change=change)

    monkeypatch.setattr(passes, "ANSWER_PASSES", tuple(map(held, ANSWER_PASSES)))
    for name, text in TEXTS.items():
        weighbridge.weigh(text, name=name, offline=True, **({"gpu": gpu} if gpu else {}))
    assert {"by_the_file", "as_own_modelfile", "by_own_line"} <= seen
    assert ("doubted" in seen) is (gpu is not None)


AXOLOTL = """base_model: qwen3-30b-a3b
adapter: lora
lora_r: {rank}
lora_target_modules: [q_proj]
lora_target_parameters: [mlp.experts.gate_up_proj]
sequence_len: 512
micro_batch_size: 1
"""


@pytest.mark.parametrize(("gpu", "rank", "fits"), [("h200", 8, "yes"), ("h200", 256, "unknown")])
def test_a_doubt_is_no_larger_than_its_cause(gpu, rank, fits):
    """What a key adds at most is bounded by the rank: where more is to spare, it opens nothing."""
    weighed = weighbridge.weigh(AXOLOTL.format(rank=rank), name="a.yml", gpu=gpu).runs[0]
    assert weighed.fits == fits
    assert weighed.run.unread


KOHYA = (
    "accelerate launch flux_train_network.py --pretrained_model_name_or_path flux1-dev.safetensors "
    "--fp8_base --cache_latents --cache_text_encoder_outputs --network_module networks.lora_flux "
    "--train_batch_size 2 --resolution 768,768 --gradient_checkpointing --mixed_precision bf16 {}\n"
)


@pytest.mark.parametrize(
    ("more", "open_"),
    [
        ("--optimizer_type AdamW", False),
        ("--optimizer_type pytorch_optimizer.Adan", True),
        ("--network_args train_double_block_indices=none", True),
    ],
)
def test_what_is_not_known_is_not_taken_for_the_usual(more, open_):
    """An optimizer that no table has, or a key that names blocks, may take less: no sure no."""
    (run,) = kinds.read(KOHYA.format(more), "k.sh").runs
    assert any(u.lowers and u.raises for u in run.unread) == open_
