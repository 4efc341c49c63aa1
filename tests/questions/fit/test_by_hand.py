"""Searches and choices of `fit`, over answers that are made by hand."""

from itertools import product
from types import SimpleNamespace

import pytest

from tests.cases import all_of
from weighbridge.answers.estimate.limits import between
from weighbridge.answers.questions.fit import hardware, ranking
from weighbridge.answers.questions.fit.elsewhere import (
    SHARED,
    sharded,
)
from weighbridge.answers.questions.fit.hardware import COUNTS, ranks
from weighbridge.answers.questions.fit.ladder import weights
from weighbridge.answers.questions.fit.ranking import purpose
from weighbridge.answers.questions.fit.request import MAX, FitRequest
from weighbridge.answers.questions.fit.search import (
    LARGEST,
    SearchBounds,
    bare,
    largest,
    margin_of,
    solved,
)
from weighbridge.base.memory import Bytes, Component, Device, Instant, exactly
from weighbridge.base.units import GIB
from weighbridge.machines.accelerators.budget import budget
from weighbridge.memory.report.plan import as_asked
from weighbridge.workload import read


def up_to(n, calls=None):
    """Bytes to spare of a number: ten for each below n, none at it."""

    def margin(k):
        if calls is not None:
            calls.append(k)
        return 10 * (n - k) if k <= n else -10 * (k - n)

    return margin


# Numbers


@all_of(("n", "near"), product([0, 1, 2, 3, 7, 8, 9, 63, 64, 65, 99, 100, 101], [1, 8, 64, 100]))
def test_the_largest_that_fits(n, near):
    assert largest(up_to(n), SearchBounds(most=100, near=near)) == min(n, 100)


def test_a_guess_that_stands_is_asked_with_its_neighbour_alone():
    calls = []
    assert largest(up_to(42, calls), SearchBounds(most=100, guess=42)) == 42
    assert calls == [42, 43]
    assert largest(up_to(42), SearchBounds(most=100, guess=41)) == 42
    assert largest(up_to(42), SearchBounds(most=100, guess=43)) == 42
    assert largest(up_to(200), SearchBounds(most=100, guess=100)) == 100


def test_the_straight_line_through_both_ends():
    """30 to spare at 10, 10 lacking at 50: none at 40. Never an end itself, and no guess without
    numbers."""
    assert between({10: 30, 50: -10}.get, 10, 50) == 40
    assert between({10: 0, 50: -10}.get, 10, 50) == 11
    assert between({10: 1000, 50: -1}.get, 10, 50) == 49
    assert between({50: -10}.get, 0, 50) is None
    assert between({10: 30}.get, 10, 51) is None


def test_a_search_never_creeps():
    """Where all but the last step has the same bytes to spare, halves bound the questions."""
    calls = []

    def margin(n):
        calls.append(n)
        return 1 if n <= 777 else -(10**9)

    assert largest(margin, SearchBounds(most=1 << 20)) == 777
    assert len(set(calls)) <= 2 * 20 + 2  # two for each half, and both ends


@all_of(
    ("fits", "low", "high", "margin"),
    [
        ("yes", 100, 90, 10),
        ("yes", 100, 110, 0),
        ("unknown", 100, 90, -1),
        ("unknown", 100, 100, -1),
        ("no", 100, 110, -10),
    ],
)
def test_bytes_to_spare(fits, low, high, margin):
    """Room by the least that can be used and the most that may be held; below 0 where it is no yes."""
    verdict = SimpleNamespace(fits=fits, usable=Bytes(low, 200, 200), per_device=Bytes(1, 2, high))
    assert margin_of(SimpleNamespace(verdict=verdict)) == margin
    assert margin_of(SimpleNamespace(verdict=None)) is margin_of(None) is None


def told(**derived):
    return SimpleNamespace(derived=derived, setting=lambda name: {"batch_size": 4}.get(name))


def sparing(nbytes):
    """A report of a card on which so many bytes are to spare, or are lacking."""
    verdict = SimpleNamespace(
        fits="yes" if nbytes >= 0 else "no",
        usable=exactly(10**9),
        per_device=exactly(10**9 - nbytes),
    )
    return SimpleNamespace(verdict=verdict, derived={})


def request(**settings):
    about = settings.pop("about", "infer")
    return FitRequest(settings=settings, about=about)


TEXT = SimpleNamespace(parts=(), rough=False)  # a model without a config that says otherwise


def solving(most, about, report, last, **settings):
    """(the answer, the numbers that were asked) where numbers up to the last fit."""
    setting, numbers = MAX[most][0], []

    def asked(w, **options):
        numbers.append(getattr(w, setting))
        return sparing(up_to(last)(numbers[-1]))

    asker = SimpleNamespace(model=lambda: TEXT, briefly=asked, train=asked)
    question = SimpleNamespace(name=about, report=report)
    plan = SimpleNamespace(here=False, report=None, settings={})
    answer = SimpleNamespace(asked=question, plan=plan)
    sought = FitRequest(settings=settings, about=about, most=most, inference="vllm")
    return solved(asker, sought, answer, None), numbers


@pytest.mark.parametrize(
    ("most", "about", "derived", "settings", "end"),
    [
        ("context", "infer", {}, {}, 1 << 20),
        ("context", "infer", {"longest_context": 512}, {}, 512),
        ("context", "infer", {"searched_to": {"context": 77}}, {}, 77),
        ("seq-len", "train", {"longest_context": 512}, {}, 512),
        ("users", "infer", {}, {}, 1 << 16),
        ("users", "infer", {}, {"max_num_seqs": 3}, 3),
        ("lora-r", "lora", {}, {}, 4096),
    ],
)
def test_where_a_search_ends(most, about, derived, settings, end):
    found, numbers = solving(most, about, told(**derived), 10**9, **settings)
    assert (found.value, found.searched_to, max(numbers)) == (end, end, end)


def test_a_search_begins_at_what_was_asked_or_at_the_limit_of_the_report():
    found, numbers = solving("users", "infer", told(largest_batch_size=9), 9)
    assert (found.value, numbers) == (9, [9, 10])
    found, numbers = solving("users", "infer", told(), 5)
    assert (found.value, numbers[:2]) == (5, [1 << 16, 4])


@all_of(
    ("tenths", "name"),
    [(1, "0.1B"), (70, "7B"), (135, "13.5B"), (10**5, "10000B"), (10**6, "100000B")],
)
def test_bare_sizes(tenths, name):
    assert bare(tenths) == name


def test_sizes_are_found_to_a_tenth_of_a_billion():
    """Up to 10,000 B; what fits is asked of by its name."""
    sought = FitRequest(settings={}, about="infer", most="model-size", inference="vllm")

    def sized(name):
        return SimpleNamespace(
            briefly=lambda w: sparing(up_to(83)(round(float(name[:-1]) * 10))), model=lambda: TEXT
        )

    found = solved(None, sought, None, sized)
    assert (found.value, found.searched_to) == (8_300_000_000, 10**13)
    assert found.note.startswith("8.3B, rough")
    assert LARGEST == 100_000


# Hardware


def on_devices(*phases_of_devices, kind="gpu"):
    return tuple(
        Device(
            index=n,
            kind=kind,
            phases=tuple(
                Instant(
                    f"p{k}",
                    tuple(
                        Component(name=name, bytes=size, basis="computed")
                        for name, size in components.items()
                    ),
                )
                for k, components in enumerate(phases)
            ),
        )
        for n, phases in enumerate(phases_of_devices)
    )


def test_counts_are_all_of_a_machine_and_then_whole_machines():
    assert COUNTS[:8] == (1, 2, 3, 4, 5, 6, 7, 8)
    assert COUNTS[8:] == (16, 24, 32, 48, 64, 96, 128, 192, 256, 512, 1024)


def test_weights_at_least_over_phases():
    parts = on_devices(
        [{"weights": Bytes(5, 6, 7), "logits": exactly(90)}, {"weights": Bytes(3, 6, 7)}]
    )
    hosts = on_devices([{"weights": exactly(1)}], kind="host")
    assert weights(SimpleNamespace(devices=(*parts, *hosts))) == 3
    assert weights(SimpleNamespace(devices=hosts)) == 0


@all_of(
    ("about", "engine", "count", "settings"),
    [
        ("infer", "vllm", 1, {}),
        ("infer", "vllm", 2, {"tensor_parallel_size": 2}),
        ("infer", "vllm", 8, {"tensor_parallel_size": 8}),
        ("infer", "vllm", 24, {"tensor_parallel_size": 8, "pipeline_parallel_size": 3}),
        ("infer", "vllm", 12, {"tensor_parallel_size": 12}),
        ("infer", "transformers", 2, {}),
        ("load", "vllm", 2, {}),
        ("train", "transformers", 2, {"shard": "fsdp2"}),
        ("lora", "transformers", 2, {"shard": "fsdp2"}),
        ("qlora", "transformers", 2, {"shard": "fsdp2", "bnb_4bit_quant_storage": "bfloat16"}),
        ("train", "transformers", 1, {}),
    ],
)
def test_how_cards_share_a_model(about, engine, count, settings):
    asked = FitRequest(settings={}, about=about, inference=engine)
    assert ranks(None, asked, count) == settings
    said = FitRequest(settings={"shard": "zero2"}, about=about, inference=engine)
    assert ranks(None, said, count) == {}


def fake_part(name, gib, kind="gpu"):
    return SimpleNamespace(id=name, name=name, kind=kind, room=exactly(gib * GIB), marketed_gb=gib)


def test_the_first_that_fits_is_chosen_and_what_weights_rule_out_is_not_asked(monkeypatch):
    """20 GiB of weights: 16 GiB are not asked, 20 may do and do not, 24 do."""
    asked = []

    def answer(gpu):
        asked.append(gpu)
        held = on_devices([{"weights": exactly(20 * GIB)}])
        fits = "yes" if gpu in ("c", "d") else "no"
        return SimpleNamespace(
            devices=held,
            verdict=SimpleNamespace(fits=fits, host=None),
            peak=exactly(21 * GIB),
            derived={},
            said={},
            model=SimpleNamespace(parameters=40 * GIB),
        )

    parts = {n: fake_part(n, g) for n, g in (("d", 80), ("c", 24), ("b", 20), ("a", 16))}
    monkeypatch.setattr(hardware, "judged", lambda asker, w: answer(w.gpu))
    monkeypatch.setattr(
        hardware, "planned_or_none", lambda asker, a: as_asked(answer(a.settings["gpu"]))
    )
    monkeypatch.setattr("weighbridge.machines.accelerators.parts.parts", lambda: parts)
    found = hardware.smallest(None, FitRequest(settings={}, smallest="gpu", inference="vllm"))
    assert asked == [None, "b", "c"]
    assert (found.solved.value, found.solved.note) == ("c", "1 x c")
    assert found.solved.peak_bytes == 21 * GIB
    parts.pop("c")
    parts.pop("d")
    assert hardware.smallest(
        None, FitRequest(settings={}, smallest="gpu", inference="vllm")
    ).solved.note == ("no card of the catalogue surely fits it as asked")


@pytest.mark.parametrize(
    ("host", "needs", "named"),
    [("unknown", 1, True), ("no", 2, True), ("yes", 1, False), ("no", 3, False)],
)
def test_ram_that_decides_on_the_largest_card_is_the_reason(monkeypatch, host, needs, named):
    """A card of which 2 bytes can be used, in a machine whose RAM is enough, is not or may be."""
    fits = "no" if host == "yes" else host
    about = {"per_device": Bytes(1, 1, needs), "usable": Bytes(2, 2, 2)}
    verdict = SimpleNamespace(fits=fits, host=SimpleNamespace(fits=host), **about)
    largest = SimpleNamespace(
        verdict=verdict, derived={}, peak=exactly(1), said={}, devices=(), model=None
    )
    monkeypatch.setattr(hardware, "judged", lambda asker, w: None)
    monkeypatch.setattr(hardware, "planned_or_none", lambda asker, a: as_asked(largest))
    monkeypatch.setattr(
        "weighbridge.machines.accelerators.parts.parts", lambda: {"a": fake_part("a", 16)}
    )
    sought = FitRequest(settings={}, smallest="gpu", inference="vllm")
    note = hardware.smallest(None, sought).solved.note
    assert note.startswith("no card of the catalogue surely fits it as asked")
    assert ("more of it (--ram) helps" in note) is named


def test_cards_that_are_sold_as_such():
    kinds = [("a", "gpu"), ("b modified", "gpu"), ("c", "soc")]
    assert [p.id for p in hardware.cards(fake_part(n, 1, k) for n, k in kinds)] == ["a"]


# Large cards that share everything out


def trained(shared, rest):
    """A report of one phase: bytes that ranks share out, and all others."""
    half = shared // 2
    parts = {"weights": exactly(half), "gradients": exactly(shared - half)}
    devices = on_devices([{**parts, "context": exactly(rest)}])
    return SimpleNamespace(devices=devices, fullest=devices[0])


def test_what_ranks_share_out():
    assert {"weights", "gradients", "optimizer_states", "master_weights"} <= SHARED


class Trains:
    """Answers for cards of 80 GB: `shared` bytes by rank, and the same `rest` on each."""

    def __init__(self, shared, rest, least=0):
        self.shared, self.rest = shared, rest
        self.asked, self.counted, self.less = [], [], least

    def least(self, w):
        """A count has so much less."""
        whole, self.rest = self.rest, self.rest - self.less
        found = self._answer(w, self.counted)
        self.rest = whole
        return found

    def train(self, w, **options):
        return self._answer(w, self.asked)

    def _answer(self, w, noted):
        count = int(w.gpu.partition(":")[2] or 1)
        noted.append(count)
        found = trained(self.shared // count, self.rest)
        held = self.shared // count + self.rest
        found.verdict = SimpleNamespace(
            fits="yes" if held <= ROOM else "no",
            cards=f"{count} x H100",
            per_device=exactly(held),
            margin_bytes=ROOM - held,
        )
        return found


ROOM = budget("h100-sxm", None, None).usable.low  # bytes: 79.2 GiB


def large(shared, rest, first=None, pinned=()):
    """(who was asked, the answer) for so many GiB; the run on one card has `first` bytes that ranks
    would share out."""
    asker = Trains(shared * GIB, rest * GIB)
    w = read("train", {"gpu": "3060"})
    start = trained(first or shared * GIB, rest * GIB)
    return asker, sharded(asker, w, start, frozenset(pinned))


@pytest.mark.parametrize(
    ("tenths", "first"),
    [
        (1, 1),
        (80, 10),  # 8 cards of shared bytes: four fifths of a card are for them
        (84, 10),  # 10.5 to the even one
        (85, 11),
        (8192, 1024),
        (8200, None),  # 1,025 are not asked
    ],
)
def test_a_first_number_of_cards(tenths, first):
    """Of shared bytes of so many tenths of a card."""
    asker, _ = large(1000, 10, first=ROOM * tenths // 10)
    assert asker.counted[:1] == ([] if first is None else [first])


@pytest.mark.parametrize(
    ("number", "pinned", "change"),
    [
        (1, (), {"gpu": "h100-sxm", "checkpointing": "full"}),
        (4, (), {"gpu": "h100-sxm:4", "shard": "fsdp2", "checkpointing": "full"}),
        (4, ("checkpointing",), {"gpu": "h100-sxm:4", "shard": "fsdp2"}),
    ],
)
def test_one_card_shares_nothing(number, pinned, change):
    """Three and a half cards of 60 GiB are four with all that each holds besides."""
    _, found = large(60 * number, 10, pinned=pinned)
    assert found.change == change


def test_the_fewest_large_cards_by_hand():
    """1,000 GiB in rooms of 79.2 less 10 are 15 cards; 0.8 of 79.2 for them gives 16 first."""
    asker, found = large(1000, 10)
    assert asker.asked == [16, 15]
    assert found.change["gpu"] == "h100-sxm:15"
    assert found.fits == "yes"


def test_where_a_first_number_is_too_few():
    asker, found = large(1000, 40)
    assert (asker.counted, asker.asked) == ([16, 26], [26]), "16 are too few by count"
    assert found.change["gpu"] == "h100-sxm:26"


def test_numbers_that_do_not_fit_by_count_are_not_asked_in_full():
    """15 cards by a count, which has four GiB less of each; 16 in full."""
    asker = Trains(1000 * GIB, 14 * GIB, least=4 * GIB)
    start = trained(900 * GIB, 14 * GIB)
    found = sharded(asker, read("train", {"gpu": "3060"}), start, frozenset())
    assert (asker.counted, asker.asked) == ([14, 15, 16], [15, 16])
    assert found.change["gpu"] == "h100-sxm:16"


def test_no_number_is_enough_for_what_is_not_shared():
    asker, found = large(1000, 81)
    assert found is None
    assert (len(asker.counted), asker.asked) == (1, [])
    asker = Trains(1000 * GIB, ROOM)
    start = trained(1000 * GIB, ROOM)
    assert sharded(asker, read("train", {"gpu": "3060"}), start, frozenset()) is None
    assert len(asker.counted) == 1, "nothing is left"


def test_more_than_1024_cards_are_not_asked():
    asker, found = large(100 * 1024, 1)
    assert found is None
    assert asker.asked == []


# Ranks


@pytest.mark.parametrize(
    ("cls", "said"), [("LlamaForCausalLM", "text"), ("ViTForImageClassification", "images")]
)
def test_what_a_class_is_for(cls, said):
    assert purpose(cls) == said


IMAGES = SimpleNamespace(
    name="images", rough=False, parts=(SimpleNamespace(config={"size": 1}, library="timm"),)
)


@pytest.mark.parametrize(
    ("about", "of_text", "largest_context", "told"),
    [
        ("infer", True, 5000, 5000),
        ("infer", True, 0, None),  # 0 tokens are none
        ("load", True, 5000, None),
        ("infer", False, 5000, None),  # no question about text
    ],
)
def test_the_context_of_a_rank_is_the_largest_on_the_card(
    monkeypatch, about, of_text, largest_context, told
):
    """Asked for beside the same workload, which fits."""
    asked = []
    report = SimpleNamespace(
        verdict=SimpleNamespace(fits="yes", usable_bytes=9, per_device=exactly(5), margin_bytes=4)
    )
    rung = SimpleNamespace(format="bfloat16", engine="transformers")
    plan = SimpleNamespace(fits="yes", why="", rung=rung, report=report, settings={})
    monkeypatch.setattr(ranking, "judged", lambda asker, w: None)
    monkeypatch.setattr(ranking, "planned_or_none", lambda asker, a: plan)
    monkeypatch.setattr(
        "weighbridge.machines.accelerators.parts.parts", lambda: {"a": fake_part("t4", 16)}
    )

    def briefly(w, *limits):
        asked.append((w.gpu, limits))
        return SimpleNamespace(derived={"largest_context": largest_context})

    text = SimpleNamespace(name="text", rough=False, parts=())
    asker = SimpleNamespace(model=lambda: text if of_text else IMAGES, briefly=briefly)
    sought = FitRequest(settings={}, about=about, inference="transformers")
    (row,) = ranking.gpus(asker, sought).rows
    assert row["context"] == told
    assert asked == ([("t4", ("context",))] if about == "infer" and of_text else [])


def room(usable, count=1):
    part = SimpleNamespace(vendor="NVIDIA", stack="cuda", name="any")
    choice = SimpleNamespace(part=part, count=count)
    return SimpleNamespace(usable=exactly(usable), choice=choice)


@pytest.mark.parametrize(
    ("about", "usable", "count", "formats"),
    [
        ("infer", 1000, 1, [8, 4]),
        ("infer", 999, 1, [4]),
        ("infer", 500, 1, [4]),
        ("infer", 499, 1, []),
        ("infer", 500, 2, [8, 4]),
        ("lora", 2000, 1, []),
        ("lora", 1999, 1, None),
        ("train", 8000, 1, []),
        ("train", 7999, 1, None),
    ],
)
def test_formats_whose_bare_bits_a_card_has(tried, about, usable, count, formats):
    """1,000 parameters in 8 and 4 bits; adapters beside 16, and 64 with gradients and Adam's
    states."""
    bits = {"bnb-int8": 8, "nf4": 4}
    found = tried(("bnb-int8", "nf4"), room(usable, count), about=about)
    if formats is None:
        assert found == []
        return
    assert found[0] == {}
    assert [bits[f["quantization"]] for f in found[1:]] == formats


@pytest.fixture
def tried(monkeypatch):
    """A function that ranks one model of 1,000 parameters, which fits in no format, and returns the
    settings of each format that was asked about, in turn."""
    asked = []
    report = SimpleNamespace(verdict=None, derived={"longest_context": 9}, workload=OF_A_ROW)
    monkeypatch.setattr(ranking, "judged", lambda asker, w: report)
    monkeypatch.setattr(ranking, "loss", lambda report: None)
    monkeypatch.setattr(ranking, "beside_weights", lambda model: "")

    def workload(about, request, engine):
        asked.append({name: request.settings[name] for name in FORM if name in request.settings})
        if request.inference not in (None, "transformers"):
            asked[-1]["engine"] = request.inference

    monkeypatch.setattr(ranking, "workload", workload)
    monkeypatch.setattr(ranking, "inference", lambda asker, a: a.inference or "transformers")

    def rank(offered, room, *, packed=False, shown=None, inference="transformers", **settings):
        monkeypatch.setattr(ranking, "offered", lambda *a: offered)
        monkeypatch.setattr("weighbridge.machines.accelerators.budget.budget", lambda *a: room)
        blueprint = SimpleNamespace(parameters=1000, cls="ViTForImageClassification")
        part = SimpleNamespace(blueprint=blueprint, packed=packed, library="transformers")
        model = SimpleNamespace(parts=(part,), name="x", rough=False, reference="x")
        about = settings.pop("about", "infer")
        sought = FitRequest(settings=settings, about=about, inference=inference)
        ranking.models(
            ["x"], lambda name: SimpleNamespace(model=lambda: model), sought, shown=shown
        )
        return asked

    return rank


FORM = ("quantization",)
OF_A_ROW = {"quantization": None, "dtype": "bfloat16", "engine": "transformers"}


@pytest.mark.parametrize(
    ("settings", "packed", "usable", "holds"),
    [
        ({}, False, 2000, True),
        ({}, False, 1999, False),
        ({}, True, 250, True),
        ({}, True, 249, False),
        ({"inference": "ollama"}, False, 1999, True),  # which has files of its own
        ({"context": 8, "headroom": "1GiB"}, False, 1999, False),
        ({"cpu_offload_gb": 8}, False, 1999, True),
        ({"about": "qlora"}, False, 1999, True),
    ],
)
def test_weights_that_a_card_cannot_hold(tried, settings, packed, usable, holds):
    """1,000 parameters: in no fewer than 16 bits as they are, packed in no fewer than 2. Of a screen
    of rows no such question is asked; one about a format that packs them is."""
    found = tried(("nf4",), room(usable), packed=packed, shown=20, **settings)
    plain = {"engine": "ollama"} if "inference" in settings else {}
    assert (plain in found) is holds
    if settings.get("about") != "qlora":
        packs = plain | {"quantization": "nf4"}
        assert (packs in found) is (usable >= 500)


def test_formats_for_a_mac_are_files(tried):
    mac = room(10_000)
    mac.choice.part.vendor, mac.choice.part.stack = "Apple", "own"
    offered = ("Q8_0", "mlx-4bit-g64", "Q4_K_M")
    files = [{"quantization": "Q8_0"}, {"quantization": "Q4_K_M"}]
    assert tried(offered, mac, inference=None)[1:] == [
        one | {"engine": "llama.cpp"} for one in files
    ]


def test_formats_for_a_mac_are_those_of_the_engine_that_was_named(tried):
    mac = room(10_000)
    mac.choice.part.vendor, mac.choice.part.stack = "Apple", "own"
    found = tried(("Q8_0", "mlx-4bit-g64", "Q4_K_M"), mac, inference="ik_llama.cpp")
    assert [one.get("quantization") for one in found] == [None, "Q8_0", "Q4_K_M"]
    assert {one["engine"] for one in found} == {"ik_llama.cpp"}


def test_a_dtype_that_was_named_leaves_no_format(tried):
    assert tried(("nf4",), room(10_000), dtype="bfloat16") == [{}]


def test_what_fits_comes_first_then_what_may(monkeypatch):
    """First of a family its largest model, of cards those with the least memory; by name then."""
    rows = {
        "a": ("no", 9),
        "b": ("yes", 1),
        "c": ("unknown", 5),
        "d": ("yes", 3),
        "e": ("yes", 3),
    }

    def row(shelf, name):
        fits, parameters = rows[name]
        kind = {"family": "one", "task": "text"}
        return {"name": name, "fits": fits, "parameters": parameters, **kind}

    monkeypatch.setattr(ranking._Shelf, "row", row)
    asked = FitRequest(settings={"gpu": "4090"}, about="infer")
    found = ranking.models(list("edcba"), lambda name: None, asked)
    assert [r["name"] for r in found.rows] == ["d", "e", "b", "c", "a"]
    assert found.count == 1


# Questions


def test_each_workload_is_asked_its_own_way():
    from weighbridge.answers.questions.fit.answers import answered, judged

    class Asker:
        def __getattr__(self, name):
            return lambda w, **options: (name, options)

    asker = Asker()
    works = {
        "load": read("load", {}),
        "infer": read("infer", {}),
        "train": read("train", {}),
    }
    for task, w in works.items():
        assert answered(asker, w) == (task, {"remedies": False})
        assert answered(asker, w, remedies=True, pinned=()) == (
            task,
            {"remedies": True, "pinned": ()},
        )
        own = ("briefly", {}) if task == "infer" else (task, {"remedies": False})
        assert judged(asker, w) == own


@pytest.mark.parametrize(
    ("settings", "refused", "plainly", "asked"),
    [
        ({"gpu": "4090"}, False, False, []),  # nothing but the device is set
        ({"gpu": "4090", "context": 9}, False, True, [{"gpu": "4090"}]),
        ({"gpu": "4090", "context": 9}, True, False, [{"gpu": "4090"}]),
        ({"context": 9}, False, True, [{}]),
    ],
)
def test_whether_settings_are_wrong_or_the_model(monkeypatch, settings, refused, plainly, asked):
    from weighbridge.answers.questions.fit import answers
    from weighbridge.base.errors import UnsupportedError

    found = []

    def answered(asker, w):
        found.append(w)
        if refused:
            raise UnsupportedError("no engine reads it")

    monkeypatch.setattr(answers, "answered", answered)
    monkeypatch.setattr(answers, "inference", lambda asker, a: a.inference)
    monkeypatch.setattr(answers, "workload", lambda name, a, engine: dict(a.settings))
    a = FitRequest(settings=settings, about="infer", inference="vllm")
    assert answers._answers_plainly(None, a, "infer") is plainly
    assert found == asked


class Stubborn(Trains):
    """Says no to fewer than `least` cards, though bytes say yes: only a number more is left."""

    def __init__(self, least):
        super().__init__(1000 * GIB, 10 * GIB)
        self.fewest = least

    def train(self, w, **options):
        found = super().train(w, **options)
        if self.asked[-1] < self.fewest:
            found.verdict.fits = "no"
        return found


def test_after_a_no_the_next_number_is_larger():
    asker = Stubborn(18)
    w = read("train", {"gpu": "3060"})
    found = sharded(asker, w, trained(1000 * GIB, 10 * GIB), frozenset())
    assert asker.asked == [16, 17, 18]
    assert found.change["gpu"] == "h100-sxm:18"
