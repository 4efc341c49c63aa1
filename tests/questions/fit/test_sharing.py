"""Layouts of a training run: each is the answer that its flags give, and none is beaten."""

import json
import shlex

import pytest

import weighbridge
from weighbridge.answers.estimate import layouts as estimate
from weighbridge.answers.estimate.train import subject_for
from weighbridge.base.errors import UsageError
from weighbridge.base.records import replace
from weighbridge.engines.table import usual, version
from weighbridge.faces.cli.menu import run
from weighbridge.faces.view.ranks import ranking
from weighbridge.training.megatron import answer
from weighbridge.training.megatron.stage import spare
from weighbridge.workload import Train

pytestmark = pytest.mark.slow
SMALL = {"gpu": "a100-40gb:4", "seq_len": 4096}
TOKENS = estimate.FEWEST_TOKENS, estimate.MOST_TOKENS
COSTS = ("computed_again", "bubble", "near_bytes", "far_bytes")


@pytest.fixture(scope="module")
def model():
    return weighbridge.prepare("llama-3.2-3b", offline=True)


@pytest.fixture(scope="module")
def rows(model):
    return model.layouts(every=True, **SMALL).rows


def test_each_row_is_the_answer_of_its_flags(capsys, rows):
    for row in rows[:: max(1, len(rows) // 4)]:
        assert run(["train", "llama-3.2-3b", *shlex.split(row["flags"]), "--json"]) == 0
        verdict = json.loads(capsys.readouterr().out)["verdict"]
        assert verdict["fits"] == row["fits"] == "yes"
        assert verdict["per_device"]["expected"] == row["peak_bytes"]


def test_all_ranks_are_used(rows):
    names = ("tensor", "pipeline", "context", "data")
    for row in rows:
        whole = 1
        for name in names:
            whole *= row[f"{name}_parallel_size"]
        assert whole == 4
    assert len({(row["id"]) for row in rows}) == len(rows)  # the least recompute of each


def test_nothing_that_fits_beats_what_is_told(model, rows):
    """Half a percent of a step and two digits of bytes are told apart."""
    told = model.layouts(**SMALL).rows
    assert {row["id"] for row in told} <= {row["id"] for row in rows}
    for row in told:
        for other in rows:
            work = (1 + row["computed_again"]) * (1 + row["bubble"])
            less = (1 + other["computed_again"]) * (1 + other["bubble"]) < work - 0.01
            near = other["near_bytes"] < 0.95 * row["near_bytes"]
            assert not (less and near and other["far_bytes"] <= row["far_bytes"])


def test_what_is_named_stays(model):
    rows = model.layouts(tensor_parallel_size=2, batch_size=2, checkpointing="full", **SMALL).rows
    assert rows
    for row in rows:
        assert row["tensor_parallel_size"] == 2
        assert row["recompute"] == "full"
        assert "--batch-size 2" in row["flags"]


def test_a_zero_that_is_named_is_read_as_one(model):
    rows = model.layouts(headroom=0, use_rslora=False, **SMALL).rows
    assert all("--headroom 0" in row["flags"] for row in rows)
    assert not any("rslora" in row["flags"] for row in rows)  # False is what it reads unsaid
    with pytest.raises(UsageError, match="--gradient-accumulation is at least 1, not 0"):
        model.layouts(gradient_accumulation=0, **SMALL)


RECIPES = [  # NVIDIA's for H100 in bf16: bridge.perf_recipes.llama.h100 of Megatron-Bridge's docs
    ("llama-3.1-8b", 8, {"tensor": 1, "pipeline": 1, "context": 2}, ()),
    ("llama-3.1-70b", 64, {"tensor": 4, "pipeline": 4, "context": 2}, ("5",)),
    ("llama-3.1-405b", 1024, {"tensor": 8, "pipeline": 8, "context": 2}, ()),
]


@pytest.mark.parametrize(("name", "count", "ranks", "chunks"), RECIPES)
def test_published_recipes_are_among_those_that_fit(name, count, ranks, chunks):
    found = weighbridge.prepare(name, offline=True).layouts(
        every=True,
        gpu=f"h100:{count}",
        seq_len=8192,
        megatron_args=[f"num_virtual_stages_per_pipeline_rank={n}" for n in chunks] or None,
        **{f"{kind}_parallel_size": n for kind, n in ranks.items()},
    )
    assert found.count == count
    assert found.fitting


def test_layers_that_stages_do_not_divide_leave_fewer_to_the_last():
    found = weighbridge.prepare("llama-3.1-405b", offline=True).layouts(
        gpu="h200:256", seq_len=8192, tensor_parallel_size=8, pipeline_parallel_size=16
    )
    assert found.fitting
    assert all("decoder_last_pipeline_num_layers=6" in row["flags"] for row in found.rows)


def test_memory_of_the_machine_is_judged_too(model):
    """What fits with all memory does not with a little: as the answer of its flags says."""
    assert model.layouts(ram="2TiB", **SMALL).fitting
    few = model.layouts(ram="8GiB", **SMALL)
    assert not few.fitting
    asked = {"framework": "megatron", "shard": "zero1", "tensor_parallel_size": 4, "ram": "8GiB"}
    host = model.train(**asked, **SMALL).verdict.host
    assert host.fits == "no"
    same = next(row for row in few.rows if row["id"] == "tp4")
    assert same["host_bytes"] == host.needed.expected
    assert same["host_usable_bytes"] == host.available


def test_where_nothing_fits_the_least_is_told(model):
    found = model.layouts(gpu="t4:2")
    assert found.rows
    assert not found.fitting
    assert all(row["peak_bytes"] > row["usable_bytes"] for row in found.rows)


def test_where_nothing_fits_the_three_ways_that_take_least_are_told(model):
    """All ways to share four cards out are weighed, each by its own answer."""
    told = model.layouts(gpu="t4:4").rows
    words = ["cross_entropy_loss_fusion", "cross_entropy_fusion_impl=te"]
    words.append("no_create_attention_mask_in_dataloader")
    needs = sorted(
        model.train(
            framework="megatron",
            shard="zero1",
            checkpointing="full",
            gradient_accumulation=64,
            gpu="t4:4",
            tensor_parallel_size=tensor,
            pipeline_parallel_size=pipeline,
            megatron_args=words + (["sequence_parallel"] if tensor > 1 else []),
        ).peak.expected
        for tensor, pipeline in [(1, 1), (1, 2), (1, 4), (2, 1), (2, 2), (4, 1)]
    )
    assert [row["peak_bytes"] for row in told] == needs[:3]
    assert len({row["id"] for row in told}) == 3


def searching(name, **asked):
    """Return a search of layouts of a training by Megatron on four cards."""
    model = weighbridge.prepare(name, offline=True).model()
    settings = {"gpu": "h100:4", "seq_len": 4096} | asked
    workload = Train(framework="megatron", method="full", **settings)
    number, _ = version(usual(), None)
    return estimate._Search(subject_for(model, workload, number), workload, workload.budget())


@pytest.mark.parametrize("name", ["llama-3.2-3b", "moonlight-16b-a3b"])
def test_what_a_layout_takes_at_least_is_no_more_than_it_takes(name):
    search = searching(name)
    stages = set()
    for each in search.candidates():
        stages.add(each.run.pipeline)
        peak = search.weighed(each, thorough=True).peak
        least = [search._at_least(each, each.keeps, tokens) for tokens in TOKENS]
        assert 0.8 * peak.low < least[0] <= peak.low
        assert least[1] <= peak.high
        assert least[0] <= search._bounded(each).peak.low <= peak.low
    assert stages >= {1, 2, 4}


LESS = [  # a rank may have less states than the one that is told
    {"megatron_args": ("use_precision_aware_optimizer",)},
    {"optimizer": "muon", "megatron_args": ("no_use_layer_wise_param_layout",)},
]


@pytest.mark.parametrize("asked", LESS, ids=["remainders", "Muon"])
def test_states_that_a_rank_may_not_have_are_not_counted_at_least(asked):
    search = searching("moonlight-16b-a3b", tensor_parallel_size=1, checkpointing="full", **asked)
    spared = set()
    for each in search.candidates():
        low = search.weighed(each, thorough=True).peak.low
        between = max(search._held(each, stage) for stage in search._stages(each.run))
        assert between <= search._bounded(each).peak.low <= low
        spared |= {spare(search.model, each.run, stage) > 0 for stage in range(each.run.pipeline)}
    assert True in spared


def test_the_nearest_are_those_that_take_least_where_states_may_be_less():
    """The one that has all states may take more than another, and surely less."""
    search = searching(
        "moonlight-16b-a3b",
        gpu="t4:8",
        context_parallel_size=1,
        checkpointing="full",
        megatron_args=("use_precision_aware_optimizer",),
    )
    every = [search.too_large(each) for each in search.candidates()]
    lows = [search.weighed(each, thorough=True).peak.low for each in every if each.run.chunks == 1]
    assert [each.peak.low for each in search.nearest(every)] == sorted(lows)[:3]


def test_what_experts_may_be_given_is_run_where_what_is_expected_fits(monkeypatch):
    """Both are told apart by one search: all of a stage's ends are looked at before it fits."""
    search = searching("moonlight-16b-a3b", gpu="h200:4", seq_len=18432, tensor_parallel_size=1)
    given = []
    for name in ("run_stage", "run_stages"):
        real = getattr(answer, name)
        monkeypatch.setattr(
            answer, name, lambda *a, real=real: given.append(a[1].uneven) or real(*a)
        )
    seen = set()
    for each in search.candidates():
        if each.run.expert == 1:
            continue
        whole = search.weighed(each, thorough=True)
        given.clear()
        found = search.weighed(each)
        assert (found.fits == "yes") == (whole.fits == "yes")
        if found.fits == "yes":
            assert found.peak == whole.peak
        seen.add((found.fits, bool(given)))
    assert seen == {("yes", True), ("unknown", False), ("unknown", True)}


def test_stages_that_hold_too_much_are_not_run(monkeypatch):
    """The first stage may have layers without experts: the second is the one that holds most."""
    search = searching("deepseek-v3", gpu="h100:64", pipeline_parallel_size=16)
    monkeypatch.setattr(estimate, "run_stage", None)
    shapes = set()
    for each in search.candidates():
        if each.run.expert == 4:
            first, second, *_ = (search._held(each, i) for i in search._stages(each.run))
            assert first < search.budget.usable.high < second
            assert search.too_large(each).fits == "no"
            shapes.add(each.shape)
    assert shapes


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"gpu": "h100:4", "megatron_args": ["foo"]}, "foo"),
        ({"gpu": "h100:4", "optimizer": "lion"}, "lion is not weighed with --framework megatron"),
        ({"gpu": "h100:4", "expert_parallel_size": 2}, "expert"),
        ({"gpu": "h100:4", "tensor_parallel_size": 3}, "no ranks that are named divide"),
        ({}, "--gpu names them"),
        ({"gpu": "h100"}, "shares 2 to"),
        ({"gpu": "h100:2", "framework": "unsloth"}, "unsloth shares no model out"),
        ({"gpu": "h100:2", "method": "lora"}, "about --method full, not lora"),
    ],
)
def test_what_is_no_such_question(model, asked, said):
    with pytest.raises(UsageError, match=said):
        model.layouts(**asked)


def test_the_command_line(capsys):
    asked = ["fit", "llama-3.2-3b", "--layouts", "--gpu", "a100-40gb:4", "--seq-len", "4096"]
    assert run([*asked, "-q"]) == 0
    names = capsys.readouterr().out.splitlines()
    assert run(asked) == 0
    screen = capsys.readouterr().out
    assert all(f"✓ {name}" in screen for name in names)
    assert "weighbridge train llama-3.2-3b --framework megatron --gpu a100-40gb:4" in screen
    assert run([*asked, "--for", "lora"]) == 2
    assert "--layouts is about --for train or --for infer" in capsys.readouterr().err
    assert run([*asked, "--gpu", "h100:2"]) == 2
    assert "give one --gpu" in capsys.readouterr().err
    assert run([*asked, "--megatron-args", "sequence_parallel,moe_grouped_gemm", "-q"]) == 0
    assert run([*asked, "--max", "seq-len"]) == 2
    assert "questions of their own" in capsys.readouterr().err
    assert run(["fit", "llama-3.2-3b", "--layouts", "--gpu", "t4:2"]) == 1
    assert run([*asked, "--lang", "zh"]) == 0
    assert "放得下的切分里" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("fits", "full", "said"),
    [
        (["yes", "yes"], False, "2 layouts that fit are worth a look"),
        (["yes", "no"], False, "1 layout that fits is worth a look"),
        (["yes", "yes"], True, "2 layouts fit"),
        (["yes"], True, "1 layout fits"),
        (["unknown", "no"], False, "no layout surely fits"),
        (["no"], True, "no layout fits"),
    ],
)
def test_a_screen_says_how_many_it_tells_of(model, fits, full, said):
    known = model.layouts(**SMALL)
    rows = tuple({**known.rows[0], "fits": each} for each in fits)
    title = ranking(replace(known, rows=rows), full=full).title
    assert title.endswith(f": {said}")


@pytest.mark.slow
def test_a_screen_says_what_a_machine_needs_of_its_memory(capsys):
    asked = ["fit", "llama-3.2-3b", "--layouts", "--gpu", "a100-40gb:4", "--seq-len", "4096"]
    assert run([*asked, "--ram", "8GiB"]) == 1
    lacking = capsys.readouterr().out
    assert "layout fits" in lacking
    assert "of the 8.0 GiB that it has" in lacking
    assert run([*asked, "--ram", "2TiB"]) == 0
    screen = capsys.readouterr().out
    told = [line.split(" GiB") for line in screen.splitlines() if "✓" in line]
    assert all(len(parts) >= 3 and float(parts[1]) > 8 for parts in told), "after what cards need"
    assert run(asked) == 0
    assert "RAM" not in capsys.readouterr().out, "nothing was judged"
