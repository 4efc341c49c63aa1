"""The law of every pass over a run: what it does not name, it leaves."""

from dataclasses import fields

import pytest
from hypothesis import given
from hypothesis import settings as settings_of
from hypothesis import strategies as st
from tests.cases import all_of

import weighbridge
from weighbridge.files.runfiles import passes
from weighbridge.files.runfiles.passes import ANSWER_PASSES, PASSES, Typed, passed
from weighbridge.files.runfiles.record import (
    SEVERAL_CARDS,
    PlannedRun,
    RunFile,
    Understood,
    Unread,
)

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
        assert any(u.key == name or name in u.why for u in after.unread) or after.notes != run.notes


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
