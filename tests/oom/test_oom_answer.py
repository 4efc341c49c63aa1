"""The rules, the changes, the model beside the message, and what a person sees."""

import ast
import json
import re
from pathlib import Path

import pytest

import weighbridge
from tests.cases import all_of, some
from tests.oom.messages import messages, saying
from weighbridge.base.units import GIB, MIB
from weighbridge.base.words import entries, words_in
from weighbridge.faces.cli.menu import run
from weighbridge.faces.texts.oom import view
from weighbridge.faces.view.records import RenderOptions
from weighbridge.files.oom import causes
from weighbridge.files.oom.causes import conclusions, judge
from weighbridge.files.oom.changes import changes, figures, rows
from weighbridge.files.oom.figures import contradictions, own_process, share_between
from weighbridge.files.oom.reading import read, wording_figures, wordings

TORCH = (
    "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate {requested}. GPU 0 has a total "
    "capacity of {capacity} GiB of which {free} is free. Of the allocated memory {allocated} GiB is "
    "allocated by PyTorch, and {unallocated} GiB is reserved by PyTorch but unallocated."
)


def printed(requested, *, capacity="24.00", free="1.00 GiB", allocated="20.00", unallocated="0.50"):
    return TORCH.format(
        requested=requested,
        capacity=capacity,
        free=free,
        allocated=allocated,
        unallocated=unallocated,
    )


def cause(text, **settings):
    return judge(read(text), settings).cause


# The rules


def test_fragmentation_is_a_tenth_of_the_card_and_the_whole_request():
    def full(asked, cached):
        allocated = f"{22.5 - float(cached):.2f}"
        return cause(printed(asked, allocated=allocated, unallocated=cached))

    assert full("2.00 GiB", "2.50") == "fragmentation"
    assert full("2.60 GiB", "2.50") != "fragmentation"  # it would not have held it
    assert full("2.00 GiB", "2.30") != "fragmentation"  # less than a tenth


def test_one_request_above_the_card_is_one_tensor():
    found = judge(read(printed("24.50 GiB")), {})
    assert (found.cause, found.sure) == ("activations", "computed")
    assert "weights_too_big" not in (found.cause, *found.others)


def test_a_first_allocation_is_refused_by_the_driver():
    text = printed("16.00 GiB", free="23.00 GiB", allocated="0.00", unallocated="0.00")
    assert cause(text) == "device_limit"


def test_others_on_the_card_come_before_the_line_that_asked_last():
    text = printed("2.00 GiB", allocated="8.00") + "\n    exp_avg_sq_sqrt = ..."
    assert cause(text) == "other_process"
    assert cause(printed("2.00 GiB") + "\n    exp_avg_sq_sqrt = ...") == "optimizer_states"


def test_a_round_share_looks_like_a_limit():
    text = printed("1.00 GiB", free="12.00 GiB", allocated="11.00", unallocated="0.50")
    assert share_between(read(text)) == 50
    assert cause(text) == "memory_fraction_cap"


def test_vllm_gives_opposite_advice_for_opposite_failures():
    no_room_for_a_cache = changes_of(needs("4.26", "4.25"))
    assert {"gpu_memory_utilization": "0.95"} in [c.change for c in no_room_for_a_cache]
    text = "vllm/worker.py\nRuntimeError: CUDA error: out of memory"
    no_room_beside_it = changes_of(text, gpu_memory_utilization=0.97)
    assert no_room_beside_it[0].change == {"gpu_memory_utilization": "0.92"}


def test_a_listed_process_is_this_one_where_no_other_line_is_about_it():
    text = next(r["message"] for r in messages() if "Process 734147" in r["message"])
    assert own_process(read(text)) == round(29.07 * GIB)


@pytest.mark.parametrize(
    ("share", "expected"), [(None, "logits"), (0.95, "utilization_set_too_high")]
)
def test_settings_decide_where_the_wording_is_the_same(share, expected):
    settings = {} if share is None else {"gpu_memory_utilization": share}
    assert cause(saying("vllm-sampler"), **settings) == expected


# What to change


def changes_of(text, **settings):
    found = read(text)
    return changes(found, judge(found, settings), settings)


@all_of("row", messages(), ids=lambda r: r["source"][19:])
def test_every_cause_has_something_to_change(row):
    found = read(row["message"])
    told = changes(found, judge(found, {}), {})
    assert told
    assert all(
        "{" not in c.paste.replace("{{", "") or c.paste.count("{") == c.paste.count("}")
        for c in told
    )


def test_an_old_pytorch_is_not_told_of_expandable_segments():
    by_wording = {
        wording: " ".join(c.paste for c in changes_of(text))
        for wording, text in {
            "torch-1.4..1.9": next(
                r["message"] for r in messages() if "14.80 GiB reserved" in r["message"]
            ),
            "torch-2.4..": printed("2.00 GiB", allocated="19.00", unallocated="2.50"),
        }.items()
    }
    assert "expandable" in by_wording["torch-2.4.."]
    assert "expandable" not in by_wording["torch-1.4..1.9"]


def test_the_variable_is_the_one_that_the_message_names():
    text = printed("2.00 GiB", allocated="19.00", unallocated="2.50").replace("CUDA", "HIP")
    named = f"{text} try setting PYTORCH_HIP_ALLOC_CONF=expandable_segments:True"
    assert changes_of(named)[0].paste == "export PYTORCH_HIP_ALLOC_CONF=expandable_segments:True"


def test_a_length_that_the_cache_holds():
    text = saying("vllm-kv-bytes").replace("24.00 GiB KV", "24.00 GiB KV")
    found = read(text)
    length = figures(found, {})["length"]
    assert length == 1048576 * round(9.97 * GIB) // (24 * GIB) // 16 * 16
    assert changes_of(text)[0].paste == f"--max-model-len {length}"


def test_the_largest_share_that_is_free():
    text = next(r["message"] for r in messages() if "19.77/22.05" in r["message"])
    assert changes_of(text)[0].paste == "--gpu-memory-utilization 0.89"


# Sentences


OWN = entries("oom")


def keys(kind):
    return {key.removeprefix(f"{kind}.") for key in OWN if key.startswith(f"{kind}.")}


def test_every_conclusion_has_a_cause_and_a_sentence_and_is_reached():
    source = ast.parse(Path(causes.__file__).read_text())
    texts = {n.value for n in ast.walk(source) if isinstance(n, ast.Constant)}
    means = {wording.means for wording in wordings()}
    for name, judged in conclusions().items():
        assert {judged.cause or "none", *judged.others} <= keys("cause"), name
        assert judged.why in keys("why"), name
        assert name in texts | means or name.startswith("one_tensor."), name
    assert means - {""} <= conclusions().keys()
    said = {judged.why for judged in conclusions().values()} | {"unknown"}
    each = {why for why in keys("why") if why.endswith(".each")}  # with the bytes of a token
    assert {why.removesuffix(".each") for why in each} <= said
    unused = {why for why in keys("why") if not why.startswith(("place.", "model."))} - said - each
    assert unused == set()
    assert {f"place.{place}" for place in causes.CAUSES} <= keys("why")
    assert causes.RULES.keys() <= {wording.name for wording in wordings()}


def test_every_change_has_a_cause_a_cost_and_its_words():
    for row in rows():
        assert row.cause in keys("cause")
        assert next(iter(row.change)) in keys("do")
    assert {row.cost for row in rows()} == keys("cost")


def test_every_group_of_figures_is_read_and_is_there():
    read_by = {group for wording in wordings() for group in wording.reads}
    assert read_by == {figure.group for figure in wording_figures()}


@pytest.mark.slow
def test_the_reason_of_every_message_has_its_words():
    for row in messages():
        assert judge(read(row["message"]), {}).why in keys("why")


# With a model


def needs(gib, available, length=131072):
    return (
        f"ValueError: To serve at least one request with the models's max seq len ({length}), ({gib} "
        f"GiB KV cache is needed, which is larger than the available KV cache memory ({available} "
        "GiB)."
    )


@pytest.mark.slow
def test_the_cache_that_vllm_names_is_the_models():
    found = weighbridge.explain_oom(needs("16.00", "5.32"), "llama-3.1-8b", gpu="4090")
    assert found.estimate is not None
    assert found.estimate.workload["context"] == 131072
    assert found.explained[0].component == "kv_cache"
    assert found.explained[0].nbytes == 16 * GIB
    assert any(c.fits == "yes" and c.peak_bytes for c in found.remedies)
    assert found.remedies[0].paste == f"--max-model-len {131072 * 532 // 1600 // 16 * 16}"


@pytest.mark.slow
def test_the_logits_of_the_batch_have_the_size_of_the_request():
    nbytes = 2 * 4096 * 128256 * 4
    text = printed(f"{nbytes / GIB:.2f} GiB", allocated="21.50")
    assert cause(text) == "activations"
    found = weighbridge.explain_oom(text, "llama-3.1-8b", method="lora", batch_size=2, seq_len=4096)
    assert found.cause == "logits"
    assert found.explained[0].nbytes == nbytes
    assert "2 x 4,096 tokens x 128,256 x 4 B" in str(found)
    other = weighbridge.explain_oom(text, "llama-3.1-8b", method="lora", batch_size=1, seq_len=4096)
    assert other.cause != "logits"


@pytest.mark.slow
def test_the_scores_of_unfused_attention_have_the_size_of_the_request():
    nbytes = 32 * 16384 * 16384 * 2
    text = printed(f"{nbytes / GIB:.2f} GiB", allocated="17.00", free="6.00 GiB")
    found = weighbridge.explain_oom(text, "llama-3.1-8b", context=16384)
    assert found.cause == "attention_matrix"
    assert "32 heads x 16,384 x 16,384" in found.explained[0].formula


@pytest.mark.slow
def test_weights_that_fill_the_card():
    found = weighbridge.explain_oom(saying("vllm-no-blocks"), "llama-3.1-70b", gpu="a100-80gb")
    assert (found.cause, found.judged.sure) == ("weights_too_big", "computed")


def test_what_the_log_states_is_asked_and_what_is_said_rules():
    text = f"config: max_model_len=8192, tensor_parallel_size=2\n{saying('vllm-no-blocks')}"
    stated = weighbridge.explain_oom(text, "llama-3.1-8b", gpu="h100:2").estimate
    assert stated.workload["context"] == 8192
    assert stated.workload["tensor_parallel_size"] == 2
    said = weighbridge.explain_oom(text, "llama-3.1-8b", gpu="h100:2", context=4096).estimate
    assert said.workload["context"] == 4096


def test_a_prepared_model_and_a_log_on_disk(tmp_path):
    log = tmp_path / "serve.log"
    log.write_text(needs("16.00", "5.32"))
    model = weighbridge.prepare("llama-3.1-8b")
    assert weighbridge.explain_oom(log, model).estimate.model.name == "llama-3.1-8b"


def test_room_that_was_there_is_not_explained_away_by_a_large_model():
    text = printed("512.00 MiB", free="12.00 GiB", allocated="10.10", unallocated="0.10")
    assert cause(text) == "device_limit"
    assert weighbridge.explain_oom(text, "llama-3.1-70b").cause == "device_limit"


def one_of_each_wording():
    return list({row["wording"]: row for row in messages()}.values())


@pytest.mark.parametrize("row", some(6, one_of_each_wording()), ids=lambda r: r["wording"])
def test_every_wording_beside_a_model(row, prepared):
    found = weighbridge.explain_oom(row["message"], prepared)
    assert found.estimate is not None
    told = str(found)
    assert "read as a message of " in told and ".." not in told.partition("read as")[2]
    assert json.loads(json.dumps(found.to_dict()))["estimate"]["model"]["name"] == "qwen3-0.6b"


@pytest.fixture(scope="module")
def prepared():
    return weighbridge.prepare("qwen3-0.6b")


def test_a_setting_that_there_is_not_is_refused():
    with pytest.raises(weighbridge.UsageError, match="no setting"):
        weighbridge.explain_oom(needs("16.00", "5.32"), "llama-3.1-8b", bath_size=2)


# The command


def asked(capfd, tmp_path, text, *arguments):
    log = tmp_path / "run.log"
    log.write_text(text)
    code = run(["fit", *arguments, "--explain-oom", str(log)])
    return code, *capfd.readouterr()


@pytest.mark.parametrize("form", ["markdown", "html"])
def test_other_forms_and_languages(capfd, tmp_path, form):
    code, out, _ = asked(capfd, tmp_path, saying("torch-2.1"), "--format", form, "--lang", "zh")
    assert code == 0
    assert words_in("zh", "oom")("cause.activations") in out
    assert "55.57 GiB" in out
    assert "\x1b" not in out


def test_a_notebook_shows_it():
    found = weighbridge.explain_oom(saying("vllm-kv-bytes"))
    assert "KV cache" in found._repr_html_()
    assert "KV cache" in found._repr_markdown_()


def test_details_have_every_figure(capfd, tmp_path):
    text = saying("torch-2.1")
    _, out, _ = asked(capfd, tmp_path, text, "--details")
    for name, value in read(text).parsed.items():
        assert value is None or f"{name}  " in out


def test_json(capfd, tmp_path):
    code, out, err = asked(capfd, tmp_path, saying("torch-2.1"), "--json")
    told = json.loads(out)
    assert code == 0
    assert err == ""
    assert told["schema"] == "weighbridge.oom/1"
    assert told.keys() >= {"wording", "parsed", "cause", "causes", "estimate", "remedies"}
    assert told["estimate"] is None
    assert told["parsed"]["requested_bytes"] == round(55.57 * GIB)
    assert told["parsed"]["max_tokens"] is None
    assert told["remedies"][0].keys() >= {"change", "peak_bytes", "fits", "cost"}


def test_json_with_a_model(capfd, tmp_path):
    code, out, _ = asked(capfd, tmp_path, needs("16.00", "5.32"), "llama-3.1-8b", "--json")
    assert code == 0
    assert json.loads(out)["estimate"]["schema"] == "weighbridge.report/1"


@pytest.mark.slow
@all_of("row", messages(), ids=lambda r: r["source"][19:])
def test_a_screen_answers_first_and_is_80_columns_wide(row):
    lines = str(weighbridge.explain_oom(row["message"])).splitlines()
    assert lines[2][0] in "✗?"
    pasted = {
        line
        for c in weighbridge.explain_oom(row["message"]).remedies
        for line in c.paste.split("\n")
    }
    for line in lines:
        assert len(line) <= 80 or line.strip() in pasted
    assert not re.search(r"\{\w*\}|None|\bnan\b", "\n".join(lines[:8]))


@pytest.mark.slow
def test_the_size_of_the_smallest_segment_says_nothing_of_a_model():
    found = weighbridge.explain_oom(printed("20.00 MiB"), "llama-3.1-8b")
    assert all(m.matches != "request" for m in found.explained)
    assert found.reading.size("requested") == 20 * MIB


@pytest.mark.slow
def test_several_ranks_are_not_judged_as_one_device():
    text = f"tensor_parallel_size=2\nvllm/worker.py\n{printed('1.00 GiB', allocated='22.50')}"
    found = weighbridge.explain_oom(text, "llama-3.1-8b")
    assert found.estimate.workload["tensor_parallel_size"] == 2
    assert found.estimate.verdict is None
    named = weighbridge.explain_oom(text, "llama-3.1-8b", gpu="4090:2").estimate.verdict
    assert (named.count, named.fits) == (2, "yes")


@pytest.mark.slow
def test_weights_that_the_settings_would_not_have_loaded_are_a_warning():
    text = (
        f"transformers/trainer.py\nin fixed_cross_entropy\n{printed('3.91 GiB', allocated='21.50')}"
    )
    found = weighbridge.explain_oom(text, "llama-3.1-8b")
    assert found.cause == "logits"
    assert "say what ran" in found.warnings[0]
    assert weighbridge.explain_oom(text, "llama-3.1-8b", method="lora").warnings == ()


@pytest.mark.slow
def test_one_run_and_one_model(capfd, tmp_path):
    text = saying("torch-2.1")
    assert asked(capfd, tmp_path, text, "llama-3.1-8b", "--gpu", "4090", "--gpu", "3060")[0] == 2
    assert asked(capfd, tmp_path, text, "llama-3.1-8b", "qwen3-8b")[0] == 2
    assert asked(capfd, tmp_path, text, "qwen3-0.6b", "--gpu", "4090")[0] == 0


@pytest.mark.parametrize(
    ("figures", "said"),
    [
        (
            {"capacity": "10.00", "free": "50.00 GiB", "allocated": "8.00"},
            "50.00 GiB free of 10.00 GiB",
        ),
        ({"free": "9.00 GiB"}, "9.00 GiB free and 20.50 GiB held of 24.00"),
        ({"free": "4.00 GiB"}, ""),  # rounded figures may come to a little more
    ],
)
def test_figures_that_cannot_be_are_doubted(figures, said):
    warnings = weighbridge.explain_oom(printed("2.00 GiB", **figures)).warnings
    assert [said in w and "which cannot be" in w for w in warnings] == [True] * bool(said)


def test_more_held_than_there_is_may_be_moved_to_the_host():
    """Windows does, and counts it as the device's."""
    found = weighbridge.explain_oom(printed("2.00 GiB", allocated="26.00", free="1.00 GiB"))
    assert found.warnings == ()


@pytest.mark.slow
def test_no_message_that_people_posted_contradicts_itself():
    assert not [m for m in messages() if contradictions(read(m["message"]))]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("line", "asked", "named"),
    [
        ("vllm serve meta-llama/Llama-3.1-70B-Instruct --max-model-len 8192", "qwen3-0.6b", True),
        ("non-default args: {'model': 'x'}, --model=meta-llama/Llama-3.1-70B", "qwen3-0.6b", True),
        ('AutoModel.from_pretrained("Qwen/Qwen3-8B")', "qwen3-0.6b", True),
        ("sglang.launch_server --model-path Qwen/Qwen3-0.6B-GPTQ-Int4", "qwen3-0.6b", False),
        ("vllm serve /data/models/mine", "qwen3-0.6b", False),  # a folder may be of any model
        ("vllm serve Qwen/Qwen3-8B\nvllm serve Qwen/Qwen3-4B", "qwen3-0.6b", False),
        ("an earlier model=of/others", "qwen3-0.6b", True),
        ("failed to load model '/models/Qwen3-8B-Q4_K_M.gguf'", "qwen3-0.6b", True),
        ("llama-server -m Qwen3-8B-Q4_K_M.gguf -c 4096", "qwen3-0.6b", True),
        ("9 tensors from C:\\m\\Qwen3-0.6B-Q8_0.gguf (version GGUF V3)", "qwen3-0.6b", False),
    ],
)
def test_a_log_of_another_model_is_named(line, asked, named):
    text = f"{line}\n{printed('2.00 GiB')}"
    found = weighbridge.explain_oom(text, asked)
    assert any(
        "the log is of" in w and "Qwen/Qwen3-0.6B was asked" in w for w in found.warnings
    ) is (named)
    unnamed = weighbridge.explain_oom(text)
    assert unnamed.warnings == ()
    told = view(found, RenderOptions(lang="zh")).warnings
    assert any("问的却是 Qwen/Qwen3-0.6B" in line for line in told) is named
    footer = view(unnamed, RenderOptions()).footer[0]
    assert ("which the log names" in footer) is bool(unnamed.reading.model)
    assert ("name the MODEL" in footer) is not bool(unnamed.reading.model)


@pytest.mark.slow
@pytest.mark.parametrize(("asked", "cached"), [({}, True), ({"method": "lora"}, False)])
def test_a_step_of_training_has_no_cache_to_blame(asked, cached):
    message = (
        "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 1.10 GiB. GPU 0 has a total "
        "capacity of 23.64 GiB of which 1.00 GiB is free. Of the allocated memory 21.30 GiB is "
        "allocated by PyTorch, and 650.00 MiB is reserved by PyTorch but unallocated."
    )
    told = weighbridge.explain_oom(message, "qwen3-4b", **asked)
    assert ("kv_cache_too_big" in told.judged.others) == cached


@pytest.mark.parametrize(
    ("requested", "first"),
    [("2.00 GiB", "expandable_segments"), ("2.50 GiB", "half")],  # 1.20 free and 0.88 held unused
)
def test_pieces_that_are_together_enough_are_joined_first(requested, first):
    text = (
        f"torch.OutOfMemoryError: CUDA out of memory. Tried to allocate {requested}. GPU 0 has a "
        "total capacity of 23.64 GiB of which 1.20 GiB is free. Including non-PyTorch memory, this "
        "process has 22.43 GiB memory in use. Of the allocated memory 21.10 GiB is allocated by "
        "PyTorch, and 900.00 MiB is reserved by PyTorch but unallocated."
    )
    change, *_ = weighbridge.explain_oom(text).remedies
    assert first in change.change.values()
