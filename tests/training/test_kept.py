"""A second card has the run of the first where its kernels take the same, one of its own otherwise,
and one that is walked anew only where the card decides what is done."""

import pytest

import weighbridge
from tests.tiny import config
from weighbridge.answers.estimate.train import run as alone
from weighbridge.machines.accelerators.chips import Chip
from weighbridge.machines.kernels.workspaces import tensor_cores
from weighbridge.training import kept, run
from weighbridge.training.forward.machine import KernelFacts
from weighbridge.training.run import ENDED, StageRuns
from weighbridge.workload import Train

SMALL = config("llama", vocab_size=512, max_position_embeddings=4096, torch_dtype=None)


@pytest.fixture
def runs(monkeypatch):
    """The runs of the allocator so far, each by its capacity."""
    made, true = [], run.Heap

    def counted(capacity, *rest):
        made.append(capacity)
        return true(capacity, *rest)

    monkeypatch.setattr(run, "Heap", counted)
    return made


@pytest.fixture
def walks(monkeypatch):
    """The cards whose runs were walked so far."""
    made, true = [], run._run

    def counted(plan, *rest):
        made.append(plan.part.id)
        return true(plan, *rest)

    monkeypatch.setattr(run, "_run", counted)
    return made


@pytest.fixture
def model():
    return weighbridge.prepare(SMALL)


def ask(model, gpu, **settings):
    return model.train(gpu=gpu, seq_len=64, remedies=False, **settings)


def test_another_card_of_the_same_kernels_runs_nothing(model, runs):
    """An A100 and a 4090 have one workspace of cuBLAS, and attention by the same kernel."""
    first = ask(model, "4090", method="lora")
    assert len(runs) == 1
    for gpu in ("a100-80gb", "a6000", "l4", "4090"):
        ask(model, gpu, method="lora")
    for change in ({"headroom": "2GiB"}, {"gpu_memory": "7GiB"}, {"ram": "64GiB"}):
        ask(model, "4090", method="lora", **change)
    assert len(runs) == 1
    assert ask(model, "4090", method="lora") == first


def test_what_a_card_cannot_hold_is_shrunk_once(model, runs):
    """Tensors alone are more than either card: both are told of the same smallest one."""
    for room in ("300MiB", "200MiB"):
        report = ask(model, "4090", method="full", gpu_memory=room)
        assert report.verdict.fits == "no"
    assert runs.count(None) == 1
    assert len(runs) == len(set(runs))


@pytest.mark.parametrize(
    "change", [{"batch_size": 2}, {"method": "full"}, {"gpu": "4090:2", "shard": "fsdp2"}], ids=repr
)
def test_another_question_runs_anew(model, runs, change):
    ask(model, "4090", method="lora")
    before = len(runs)
    ask(model, **{"gpu": "4090", "method": "lora", **change})
    assert len(runs) > before


@pytest.mark.parametrize(
    "change",
    [
        {"cpu_ram_efficient_loading": True},
        {"dataloader_num_workers": 4},
        {"gather_on_save": True},
        {"zero_pin_memory": True},
    ],
    ids=lambda change: next(iter(change)),
)
def test_what_is_of_the_host_alone_runs_nothing(model, runs, change):
    shard = "zero3" if "zero_pin_memory" in change else "fsdp2"
    settings = {"method": "lora", "shard": shard}
    before = ask(model, "4090:2", **settings)
    made = len(runs)
    after = ask(model, "4090:2", **settings, **change)
    assert len(runs) == made
    assert after == fresh("4090:2", **settings, **change) != before


SHARDED = {"method": "lora", "shard": "fsdp2", "gpu": "4090:2", "seq_len": 64}


def test_what_was_counted_is_not_walked_again(model, walks):
    model.least(Train(**SHARDED))
    report = model.train(**SHARDED, remedies=False)
    assert len(walks) == 1
    assert report == weighbridge.prepare(SMALL).train(**SHARDED, remedies=False)


def test_a_run_within_so_many_bytes_is_made_once(model, runs):
    """Up to so many capacities: of one more than are kept the first is run anew."""
    stage = StageRuns(alone(model.model(), Train(method="full", seq_len=512)).plan)
    free = stage.within(None)
    least = max(peak.allocated for peak in free.moments.values())
    rooms = range(least, max(free.reserved.values()), 1 << 20)[: ENDED + 1]
    assert len(rooms) == ENDED + 1
    asked = [stage.within(n) for n in rooms]
    made = len(runs)
    assert [stage.within(n) for n in rooms[1:]] == asked[1:]
    assert len(runs) == made
    stage.within(rooms[0])
    assert len(runs) == made + 1


@pytest.mark.parametrize("gpu", ["h100", "t4", "gaudi-3"])
def test_another_card_of_other_kernels_has_a_run_of_its_own(model, runs, gpu):
    """A workspace of another size, an attention that the card has not, a library of its own."""
    ask(model, "4090", method="lora")
    before = len(runs)
    ask(model, gpu, method="lora")
    assert len(runs) > before


@pytest.mark.parametrize("method", ["full", "lora"])
def test_a_card_that_is_asked_for_the_same_is_not_walked_for(model, walks, method):
    """The H100's attention is cuDNN's, and its workspace four times as large: other bytes."""
    ask(model, "4090", method=method)
    ask(model, "h100", method=method)
    ask(model, "h100", method=method, gpu_memory="300MiB")  # nor for what it cannot hold
    assert len(walks) == 1
    ask(model, "t4", method=method)  # torch writes its attention out
    assert len(walks) == 2


def fresh(gpu, **settings):
    return ask(weighbridge.prepare(SMALL), gpu, **settings)


def test_other_bytes_are_those_of_the_card(model, monkeypatch):
    """Answers are those of a model that was asked nothing before; they would not be without the
    rules that are asked again."""
    ask(model, "4090", method="lora")
    assert ask(model, "h100", method="lora") == fresh("h100", method="lora")
    monkeypatch.setattr(KernelFacts, "size", lambda facts, nbytes: nbytes)
    model = weighbridge.prepare(SMALL)
    ask(model, "4090", method="lora")
    assert ask(model, "h100", method="lora") != fresh("h100", method="lora")


def test_what_decides_is_held_to_it(model, monkeypatch):
    """A T4 that took the walk of a 4090 would be answered wrongly."""
    monkeypatch.setattr(KernelFacts, "decide", lambda facts, chip: True)
    ask(model, "4090", method="lora")
    assert ask(model, "t4", method="lora") != fresh("t4", method="lora")


def test_walks_of_few_questions_are_kept(model, walks):
    for length in (64, 128, 256):
        model.train(gpu="4090", seq_len=length, remedies=False)
    model.train(gpu="h100", seq_len=128, remedies=False)
    assert len(walks) == 3
    model.train(gpu="h100", seq_len=64, remedies=False)  # asked for too long ago
    assert len(walks) == 4


CARDS = ("4090", "a100-80gb", "h100", "t4", "3090", "mi300x", "4090:2", "h200")


@pytest.mark.slow
@pytest.mark.parametrize("method", ["full", "lora", "qlora"])
@pytest.mark.parametrize("name", ["qwen3-0.6b", "gpt2", "gemma-2-2b", "lfm2-1.2b"])
def test_an_answer_is_that_of_a_model_that_was_asked_nothing_before(name, method):
    model = weighbridge.prepare(name)
    for gpu in CARDS:
        again = model.train(gpu=gpu, method=method, remedies=False)
        assert again == weighbridge.prepare(name).train(gpu=gpu, method=method, remedies=False), gpu


def test_facts_hold_where_every_rule_says_the_same():
    facts = KernelFacts()
    volta, turing, ampere = (Chip(version, 80) for version in ((7, 0), (7, 5), (8, 0)))
    assert facts.of(turing, tensor_cores, (), half=True, float16=True)
    assert facts.hold(volta)
    assert facts.hold(ampere)
    assert not facts.of(turing, tensor_cores, (), half=True, float16=False)
    assert facts.hold(volta)
    assert not facts.hold(ampere)


def test_no_more_is_kept_than_so_much(model, monkeypatch):
    monkeypatch.setattr(kept, "MOST", 2)
    runs = kept.KeptRuns()
    plan = run_plan(model)
    first = runs.of("a", plan)
    first[0].within(None)
    assert runs.of("a", plan)[0]._free is first[0]._free
    for asked in "bc":
        runs.of(asked, plan)
    assert runs.of("a", plan)[0]._free is None


def run_plan(model):
    from weighbridge.answers.estimate import train

    workload = Train(method="lora", seq_len=64)
    return train._planned(model.model(), workload, (5, 23), None)[1]
