"""A plan that comes after another asks what is new in it, and nothing else."""

import json

import pytest

from tests.scan import small
from tests.scan.conftest import files, make
from tests.scan.test_running import run
from weighbridge.base.errors import BadFileError
from weighbridge.faces.scan import asking, earlier, planning, registry, running
from weighbridge.faces.scan.checking import check
from weighbridge.faces.scan.dataset import plan_of
from weighbridge.faces.scan.packing import pack
from weighbridge.faces.scan.weigher import ScanLimits, Weigher

pytestmark = pytest.mark.slow
REAL = running.rules


class Counting(Weigher):
    """Answers in this process, and notes of how many layers the models were that it was asked."""

    def __init__(self):
        super().__init__(ScanLimits())
        self.asked = []

    def ask(self, config, questions):
        self.asked.append(
            (json.loads(config).get("num_hidden_layers"), [q.name for q in questions])
        )
        return running.Weigher.ask(self, config, questions)


@pytest.fixture
def whole(folder, tmp_path):
    """A dataset that is answered, in four parts."""
    out, plan = make(folder, tmp_path / "out")
    run(out, plan)
    pack(out, plan)
    return out, plan


def add(folder, layers):
    place = folder / f"llama-{layers}"
    place.mkdir()
    (place / "config.json").write_text(json.dumps({**small.LLAMA, "num_hidden_layers": layers}))


def done(out, plan):
    """What was asked until nothing was left."""
    with Counting() as weigher:
        for part in running.todo(out, plan):
            running.do_part(out, plan, part, weigher)
        return weigher.asked


@pytest.mark.parametrize("parts", [4, 3])
def test_only_a_new_key_is_asked(whole, folder, tmp_path, parts):
    """Whatever parts there are now; and the files are those of a dataset that is asked anew."""
    add(folder, 30)
    out, plan = make(folder, whole[0], parts=parts)
    names = ["load/4090", "serve/512/4090", "serve/1024/4090", "tune/4090"]
    assert done(out, plan) == [(30, names)]
    assert check(out, plan).code == 0
    other, again = make(folder, tmp_path / "anew", parts=parts)
    run(other, again)
    assert {name: files(out)[name] for name in files(other)} == files(other)


def test_a_plan_over_a_plan_keeps_what_was_answered(whole, folder):
    """Also where nothing was run between them, or a run was killed."""
    add(folder, 30)
    make(folder, whole[0])
    add(folder, 31)
    out, plan = make(folder, whole[0])
    assert sorted(layers for layers, _ in done(out, plan)) == [30, 31]


def test_other_questions_are_asked_of_all(whole, folder):
    asked = asking.read(
        b"questions: [{name: load, task: load}, {name: tune, task: train, workload: "
        b"{method: lora, seq_len: 128}}]",
        "questions",
        ["4090"],
    )
    out = whole[0]
    plan = planning.plan(registry.models(folder), out, asked, source="models", parts=4)
    told = done(out, plan)
    assert len(told) == small.KEYS - small.REFUSED
    assert {tuple(names) for _, names in told} == {("tune/4090",)}


def test_other_rules_are_asked_again(whole, folder, monkeypatch):
    add(folder, 30)
    out, plan = make(folder, whole[0])
    other = {"train": "other"}
    for module in (running, earlier):
        monkeypatch.setattr(module, "rules", lambda family: other.get(family) or REAL(family))
    told = done(out, plan)
    assert [names for layers, names in told if layers != 30] == [["tune/4090"]] * (
        small.KEYS - small.REFUSED
    )
    assert check(out, plan_of(out)).code == 0


@pytest.mark.parametrize("raw", [b"", b"hello"])
def test_damaged_answers_of_before_are_named(whole, folder, raw):
    add(folder, 30)
    out, plan = make(folder, whole[0], parts=1)
    (out / earlier.EARLIER).write_bytes(raw)
    with pytest.raises(BadFileError, match=r"earlier\.parquet: .* delete it, and run again"):
        done(out, plan)
    (out / earlier.EARLIER).unlink()
    assert len(done(out, plan)) == small.KEYS + 1


def test_damaged_answers_do_not_take_the_place_of_those_before(whole, folder):
    (whole[0] / "answers.parquet").write_bytes(b"hello")
    make(folder, whole[0])
    assert not (whole[0] / earlier.EARLIER).exists()


def test_answers_that_no_list_of_questions_stands_beside_count_for_nothing(whole, folder):
    add(folder, 30)
    out, plan = make(folder, whole[0], parts=1)
    (out / earlier.NOTE).unlink()
    assert len(done(out, plan)) == small.KEYS + 1
