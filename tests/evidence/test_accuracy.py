"""The evidence is sound, the figures of `weighbridge accuracy` are right, and none gets worse."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.evidence import lists
from weighbridge.answers import bounds
from weighbridge.answers.bounds.margin import PATH, written
from weighbridge.base.memory import Bytes
from weighbridge.machines.accelerators.parts import parts
from weighbridge.models import catalogue
from weighbridge.models.checkpoint.gather import gather_config
from weighbridge.models.checkpoint.model import resolve
from weighbridge.workload import read
from weighbridge_lab.evidence import margins, traced
from weighbridge_lab.evidence import records as evidence
from weighbridge_lab.evidence.accuracy import (
    coverage,
    percentile,
    rows,
    skipped,
    to_dict,
    worst,
)
from weighbridge_lab.evidence.dates import month
from weighbridge_lab.evidence.outcomes import cases
from weighbridge_lab.evidence.predict import GIVEN, TASKS, outcomes
from weighbridge_lab.evidence.programs import PROGRAMS
from weighbridge_lab.evidence.records import (
    Prediction,
    PublishedFigure,
    Skip,
    chosen,
    cited,
    config,
    origins,
    records,
    sources,
)
from weighbridge_lab.evidence.traced import Peaks, TracedRun, runs

pytestmark = pytest.mark.slow

PINS = json.loads((Path(__file__).parents[1] / "accuracy.json").read_text())
TRACED = str(Path(__file__).parents[1] / "traced.jsonl")  # what re-run programs gave
SLACK = 0.0005  # pins are rounded; less than this is not a regression


# ---- the evidence


def test_every_figure_has_an_id_of_its_own():
    ids = [r.id for r in records()]
    assert ids
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize("source", evidence.sources())
def test_every_figure_is_of_the_closed_lists(source):
    for r in chosen(source=source):
        assert r.quantity in lists.QUANTITIES, r.id
        assert r.level in evidence.LEVELS, r.id
        assert r.device in lists.DEVICES or re.fullmatch(r"rank \d+", r.device), r.id
        assert r.unit in lists.UNITS, r.id
        assert r.skip is None or r.skip in lists.REASONS, r.id
        assert r.confidence in ("high", "medium", "low"), r.id
        assert r.task in TASKS, r.id
        assert abs(r.measured) > r.resolution >= 0, r.id
        assert r.measured > 0 or r.quantity == "increment", r.id
        assert r.accelerator is None or r.accelerator in parts(), r.id
        assert set(r.given.values()) <= {v for v in r.given.values() if v > 0}, r.id
        assert len(r.given) <= 1, r.id


# Logs whose owners did not name a repository, and a card that we measured ourselves
UNNAMED = ("serving_2026b", "serving_2026c", "h100_2026")


@pytest.mark.parametrize("source", evidence.sources())
def test_every_figure_can_be_looked_up(source):
    for r in chosen(source=source):
        c = r.citation
        if set(c) == {"unnamed"}:
            assert source in UNNAMED and cited(r) == c["unnamed"], r.id
            continue
        assert re.fullmatch(r"[\w.-]+/[\w.-]+", c["repo"]), r.id
        exact = re.fullmatch(r"[0-9a-f]{8,40}", str(c.get("commit", "")))
        assert exact or isinstance(c.get("issue", c.get("pull")), int), r.id
        assert cited(r).startswith("github.com/"), r.id


def test_figures_are_copied_and_sentences_are_not():
    fields = {"repo", "commit", "path", "line", "index", "issue", "pull", "unnamed"}
    for r in records():
        assert set(r.citation) <= fields, r.id
        assert len(r.caveat) < 300, r.id


@pytest.mark.parametrize("source", evidence.sources())
def test_every_setting_is_one_of_ours(source):
    for r in chosen(source=source):
        if r.skip is None and r.task == "train":
            read("train", r.setting)
        elif r.skip is None and r.task != "trace":
            read("infer", {**r.setting, **r.given})


@pytest.mark.parametrize("source", evidence.sources())
def test_every_program_is_at_hand_and_every_difference_is_one(source):
    for r in chosen(source=source):
        if r.task == "trace" and r.skip is None:
            assert r.program in PROGRAMS, r.id
            assert (r.quantity == "increment") == bool(r.less), r.id
            assert len(set(runs(r))) == 1 + bool(r.less), r.id


def test_every_figure_that_is_predicted_has_a_month(found):
    for o in found:
        if isinstance(o, Prediction):
            assert re.fullmatch(r"20[12]\d-(0[1-9]|1[0-2])", month(o.record)), o.record.id


def test_a_month_is_the_sources_or_the_releases_by_hand():
    """vLLM 0.19 is of 2026-04 at pypi.org; a build has the month of the last that is listed."""

    def of(engine, version, **more):
        known = {"id": "x", "source": "s", "model": "m", "quantity": "peak", "level": "driver"}
        return month(
            PublishedFigure(
                **known, measured=1, citation={}, engine=engine, version=version, **more
            )
        )

    assert of("vllm", "0.19.1") == "2026-04"
    assert of("sglang", "0.5.12") == "2026-05"
    assert of("plain", "4.38.2") == "2024-02"
    assert of("torchtitan", "2025-02-05") == "2025-02"
    assert (of("llama.cpp", "9000"), of("llama.cpp", "8999")) == ("2026-05", "2026-04")
    assert of("vllm", "0.19.1", date="2026-09") == "2026-09"
    with pytest.raises(LookupError):
        of("vllm", "9.9")


def test_every_model_is_at_hand_or_its_figures_say_why_not():
    for r in records():
        known = r.model in origins() or r.skip or r.task == "trace"
        assert known or _reason(r) == "model not at hand", r.id
    told = {r.model for r in records()} | {c.model for c in cases()}
    assert set(origins()) <= told, "models without a figure or an outcome"


@pytest.mark.parametrize("name", origins())
def test_every_model_resolves_without_torch(name):
    origin = origins()[name]
    assert origin.catalogue is None or catalogue.has(origin.catalogue)
    assert origin.catalogue or origin.source
    assert resolve(gather_config(config(origin))).parameters > 0


def test_a_sibling_is_named():
    """Another fine-tune stands in: whose config it is, is said."""
    for origin in origins().values():
        if origin.catalogue and catalogue.find(origin.catalogue).repo_id != origin.id:
            own = catalogue.find(origin.catalogue).repo_id
            assert origin.sibling_of in (own, None), origin.id
            assert origin.sibling_of or origin.source, origin.id


# ---- the figures about figures, by hand


def figure(measured, low, expected, high, **more):
    known = {"resolution": 0, "engine": "vllm", "quantity": "peak", "level": "driver", **more}
    r = PublishedFigure(
        id="x", source="s", model="m", measured=measured, citation={"repo": "a/b"}, **known
    )
    kind = bounds.kind(bounds.RunForm("serve", r.engine), r.quantity, r.level, several=False)
    return Prediction(r, r.quantity, Bytes(low, expected, high), r.resolution, kind)


def test_percentiles_lie_between_the_two_nearest():
    assert percentile([3.0], 95) == 3.0
    assert percentile([1.0, 2.0, 3.0, 4.0], 50) == 2.5
    assert percentile([0.0, 10.0], 95) == 9.5


def test_a_row_by_hand():
    """100 measured each: 90 (under, outside), 100 (exact), 104 (inside 98 to 110), 130 (outside)."""
    found = [
        figure(100, 85, 90, 95),
        figure(100, 100, 100, 100),
        figure(100, 98, 104, 110),
        figure(100, 120, 130, 140),
    ]
    (row,) = rows(found)
    assert (row.n, row.under, row.inside, row.exact) == (4, 0.25, 0.5, 0.25)
    assert row.above == 0.25  # 95 and a hundredth are less than 100
    assert row.p50 == pytest.approx(0.07)  # of 0, 0.04, 0.10, 0.30
    assert row.p95 == pytest.approx(0.27)
    assert row.signed == pytest.approx(0.02)
    assert row.worst == pytest.approx(0.30)
    assert row.width == pytest.approx((10 / 90 + 12 / 104) / 2)  # of 0, 0.11, 0.12, 0.15


def test_printed_digits_are_allowed_for():
    """12.56 GiB is 12.555 to 12.565."""
    near = figure(1256, 1252, 1252, 1252, resolution=5)
    assert (near.exact, near.inside, near.under) == (True, True, False)
    off = figure(1256, 1250, 1250, 1250, resolution=5)
    assert (off.exact, off.inside, off.under) == (False, False, True)


def test_rows_and_skips_by_hand():
    predicted = figure(100, 100, 100, 100)
    missed = Skip(predicted.record, "peak", "model not at hand")
    unsaid = Skip(predicted.record, "peak", "setting incomplete")
    found = [predicted, missed, unsaid]
    assert skipped(found) == {"s": {"model not at hand": 1, "setting incomplete": 1}}
    assert lists.share_skipped(found, "s") == 0.5  # of the two whose setting is complete
    assert [row.source for row in rows(found, by_source=True)] == ["s"]
    assert worst([figure(100, 1, 99, 100), figure(100, 1, 50, 100)], 1)[0].error == -0.5


def _reason(r):
    return next(o.reason for o in outcomes((r,)) if isinstance(o, Skip))


# ---- programs that were re-run, by hand


def rerun(quantity, level="driver", **more):
    r = PublishedFigure(
        id="x",
        source="s",
        engine="torch",
        model="m",
        task="trace",
        program="gpumemnet_mlp",
        setting={"batch": 8},
        accelerator="a100",
        citation={"repo": "a/b"},
        **{"measured": 100, "quantity": quantity, "level": level, **more},
    )
    one, *less = runs(r)
    context = Bytes(40, 50, 60)
    peaks = {one: Peaks(100, 132, context)} | {k: Peaks(20, 25, context) for k in less}
    (outcome,) = outcomes((r,), peaks, table=bounds.NOTHING)
    return outcome.bytes


def test_levels_of_a_run_by_hand():
    """100 allocated in 132 reserved: free room of 32 may be 24, or 40; the context is 40 to 60."""
    assert rerun("peak", "allocated") == (100, 100, 100)
    assert rerun("peak", "reserved") == (124, 132, 140)
    assert rerun("peak", "driver") == (164, 182, 200)
    assert rerun("growth") == (124, 132, 200)  # without the context, or with all of it


def test_a_difference_of_two_runs_by_hand():
    """The context cancels, and what the smaller run leaves open: 132 - 25, 8 less or more."""
    less = {"batch": 4}
    assert rerun("increment", less=less) == (99, 107, 115)
    assert rerun("increment", "allocated", less=less) == (80, 80, 80)


def test_programs_wait_for_the_flag():
    r = chosen(source="xmem")[0]
    (outcome,) = outcomes((r,))
    assert outcome.reason == "needs torch: --trace"


def test_kept_peaks_come_back(tmp_path):
    """What is written is read, and runs that are not in the file say so."""
    (one,) = runs(chosen(source="xmem")[0])
    found = {one: Peaks(1, 2, traced.read(TRACED)[one].context)}
    traced.write(str(tmp_path / "f"), found)
    assert traced.read(str(tmp_path / "f")) == found
    assert isinstance(one, TracedRun)
    assert traced.complete({}, chosen(source="xmem")[:1]) == {one: traced.UNKNOWN}


# ---- the command


def weighbridge(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "weighbridge", "accuracy", *arguments],
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_the_command_prints_rows_and_reasons():
    done = weighbridge("--source", "agilerl_snapshots", "--worst", "1")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0].split()[:4] == ["engine", "quantity", "level", "n"]
    assert "our constant was read here" in done.stdout
    assert "github.com/AgileRL/AgileRL at 0151c6601f99" in done.stdout


def test_the_json_is_documented():
    done = weighbridge("--source", "agilerl_snapshots", "--records", "--json")
    body = json.loads(done.stdout)
    assert body["schema"] == "weighbridge.accuracy/1"
    docs = (Path(__file__).parents[2] / "docs" / "accuracy.md").read_text()
    keys = {*body, *body["rows"][0], *(k for r in body["records"] for k in r)}
    assert [k for k in keys if f'"{k}"' not in docs and f"`{k}`" not in docs] == []
    for name in (*lists.QUANTITIES, *evidence.LEVELS, *lists.DEVICES):
        assert f"`{name}`" in docs


def test_an_unknown_source_is_refused_with_the_known_ones():
    done = weighbridge("--source", "nowhere")
    assert done.returncode == 2
    assert "training_fms_fsdp" in done.stderr


# ---- how near we come


@pytest.fixture(scope="module")
def found():
    return outcomes(records(), traced.complete(traced.read(TRACED), records()))


@pytest.fixture(scope="module")
def table(found):
    return {
        f"{r.source} | {r.engine} | {r.quantity} | {r.level}": r.to_dict()
        for r in rows(found, by_source=True)
    }


def test_nothing_is_predicted_or_left_out_in_silence(table):
    assert {name: row["n"] for name, row in table.items()} == {
        name: row["n"] for name, row in PINS.items()
    }


@pytest.mark.parametrize("name", PINS)
def test_no_figure_got_worse(table, name):
    row, pin = table[name], PINS[name]
    for key in ("p50", "p95", "under", "width_median"):
        assert row[key] <= pin[key] + SLACK, key
    for key in ("inside", "exact"):
        assert row[key] >= pin[key] - SLACK, key
    assert abs(row["max"]) <= abs(pin["max"]) + SLACK


@pytest.mark.parametrize("source", evidence.sources())
def test_few_figures_are_left_out(found, source):
    """Sources are those that an engine of ours measured."""
    assert lists.share_skipped(found, source) < 0.15 or source in OTHERS | NOT_YET


NOT_YET = {"agilerl_allocated_pairs", "peft"}  # half an hour to an hour a program: not traced yet
OTHERS = {  # engines and pipelines that we do not model; a source of the first vLLM
    "host",  # trainers that we do not model, and models that are not named
    "megatron",  # a quarter is T5, BERT, fp16, Muon and Megatron-FSDP
    "training_2026c",  # a fifth: Megatron with encoders of pictures or states, experts in NVFP4
    "training_fms_fsdp",  # a third of it is of kernels of its own
    "diffusers",
    "hf_docs",
    "litgpt",
    "llamacpp_misc",
    "model_cards_misc",
    "torchtune",
    "agilerl_snapshots",
    "axolotl",
    "engine_issues",
    "experts4bit",
    "torchtitan",
}


def test_to_dict_has_everything(found):
    body = to_dict(found, by_source=True, worst_count=3, all_records=True)
    assert len(body["worst"]) == 3
    assert len(body["records"]) == len(found)
    assert sum(GIVEN in o.quantity for o in found) == sum(bool(r.given) for r in records())


# What must be shown: row -> {column: at most; of `exact`, at least}. A row that does not reach it is
# pinned like the others, and SHORT says why.
MUST = {
    "vllm_llmd_planner | vllm | kv_tokens, given | component": {"max": 0.001},
    "vllm_llmd_planner | vllm | weights | component": {"max": 0.01},
    "vllm_llmd_planner | vllm | kv_tokens | component": {"p50": 0.05, "p95": 0.15},
    "agilerl_grpo | vllm | peak | driver": {"p50": 0.05, "p95": 0.15},
    "sglang_repo_logs | sglang | kv_tokens | component": {"max": 0.02},
    "sglang_repo_logs | sglang | kv_tokens_sliding | component": {"max": 0.02},
    "sglang_repo_logs | sglang | kv_bytes, given | component": {"exact": 1.0},
    "llamacpp_ik | llama.cpp | kv_bytes | component": {"exact": 1.0},
    "llamacpp_ik | llama.cpp | output | component": {"exact": 1.0},
    "llamacpp_ik | llama.cpp | compute | component": {"p50": 0.10},
    "llamacpp_ik | llama.cpp | weights | component": {"max": 0.005},
    "llamacpp_ik | ik_llama.cpp | kv_bytes | component": {"exact": 1.0},
    "llamacpp_ik | ik_llama.cpp | output | component": {"exact": 1.0},
    "llamacpp_ik | ik_llama.cpp | compute | component": {"p50": 0.10},
    "llamacpp_ik | ik_llama.cpp | weights | component": {"max": 0.005},
    "xmem | torch | growth | driver": {"p50": 0.04},
    "gpumemnet_cnn_test | torch | increment | driver": {"p50": 0.04},
    "gpumemnet_timm | torch | increment | driver": {"p50": 0.05, "p95": 0.10},
    "gpumemnet_mlp | torch | increment | driver": {"p50": 0.05, "p95": 0.10},
    "qwen_docs | transformers | peak | allocated": {"p50": 0.04, "p95": 0.10},
    "qwen_docs | transformers | decode | allocated": {"p50": 0.04, "p95": 0.10},
    "hf_docs | transformers | peak | allocated": {"p50": 0.04, "p95": 0.10},
    "hf_docs | transformers | peak, given | driver": {"p50": 0.05, "p95": 0.15},
    "litgpt | litgpt | peak | allocated": {"p50": 0.05, "p95": 0.15},
    "litgpt | litgpt | first | allocated": {"max": 0.005, "exact": 0.8},
    "model_cards_misc | transformers | peak | allocated": {"p50": 0.04, "p95": 0.10},
}
MATRIX = "with an importance matrix IQ4_XS gives ffn_down fewer bits than we do"
SHORT = {
    ("llamacpp_ik | llama.cpp | weights | component", "max"): MATRIX,
    ("llamacpp_ik | ik_llama.cpp | weights | component", "max"): MATRIX,
    ("gpumemnet_timm | torch | increment | driver", "p95"): "which algorithm cuDNN's search finds "
    "the fastest, and its workspace: VGG and wide ResNets",
}


@pytest.mark.parametrize(("name", "column"), [(n, c) for n, m in MUST.items() for c in m])
def test_what_must_be_shown(table, name, column):
    value, bound = abs(table[name][column]), MUST[name][column]
    reached = value >= bound if column == "exact" else value <= bound
    reason = SHORT.get((name, column))
    assert reached or reason, table[name]
    assert not (reached and reason), f"{name} reaches it: take it out of SHORT"


def test_training_runs_of_high_confidence_are_near(found):
    """5 % in the middle and 15 % at the 95th of a hundred; few above our upper bound."""
    steps = [o for o in found if isinstance(o, Prediction) and o.record.task == "train"]
    sure = [o for o in steps if o.record.confidence == "high"]
    errors = sorted(abs(o.error) for o in sure)
    above = [o for o in sure if o.bytes.high + o.resolution < o.record.measured]
    assert sure
    assert percentile(errors, 50) <= 0.05
    assert percentile(errors, 95) <= 0.15
    assert len(above) <= 0.06 * len(sure), [o.record.id for o in above]


def test_the_upper_bound_covers_what_programs_took(found):
    """Programs that were re-run are seldom above it by more than a hundredth."""
    told = [o for o in found if isinstance(o, Prediction) and o.record.task == "trace"]
    at_driver = [o for o in told if o.record.level == "driver"]
    above = [o for o in at_driver if 1.01 * o.bytes.high + o.resolution < o.record.measured]
    assert at_driver
    assert len(above) <= 0.02 * len(at_driver), [o.record.id for o in above]


# ---- how intervals hold: here, where the same process has asked all of it

HELD = {
    "component": None,
    "reserved": None,
    "allocated": 0.06,
    "driver": 0.14,  # of one source in three no margin narrows
}  # level -> median width at most


@pytest.fixture(scope="module")
def ask():
    found = traced.complete(traced.read(TRACED), records())
    return lambda rows: outcomes(records(), found, table=rows)


@pytest.fixture(scope="module")
def whole(ask):
    return margins.fit(ask)


def test_the_margins_are_those_of_the_evidence(whole):
    """Stale: run tools/fit_intervals.py."""
    assert "".join(written(whole)) == Path(PATH).read_text()


def test_intervals_hold(ask, whole):
    for one in coverage(ask(whole)):
        if one.level == evidence.HOST:
            continue  # no margin: a few figures, each told by --host
        assert one.inside >= 0.90, one
        assert one.above <= 0.02, one
        assert one.width <= (HELD[one.level] or 1), one


APART = ("reserved", evidence.HOST)  # levels of one source, and of none that has a margin


@pytest.mark.nightly  # four minutes
def test_intervals_hold_for_a_source_that_they_were_not_fitted_to(ask):
    apart = [one for one in coverage(margins.left_out(ask, sources())) if one.level not in APART]
    for one in apart:  # what was reserved one source alone printed: it has no other
        assert one.inside >= 0.87, one
        assert one.above <= 0.05, one
        assert one.width <= (HELD[one.level] or 1) + 0.03, one
