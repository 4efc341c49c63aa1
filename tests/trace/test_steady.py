"""Loops that train end when their rounds are alike. No torch: `train(n)` asks the tape for n
bytes, gives them back, and counts as one backward and a step of an optimizer; `loss(n)` has no
step."""

import types
from textwrap import dedent

import pytest

from weighbridge_lab.trace.places import Turns
from weighbridge_lab.trace.program import Request, execute, following
from weighbridge_lab.trace.steady import ALIKE, MOVED, STILL, TURNS, Loops
from weighbridge_lab.trace.tape import Tape


class Program:
    """What a script does to one device."""

    def __init__(self, tmp_path, text, most=None, names=()):
        self.tape, self.passes, self.steps, self.rounds, self.held = Tape(), 0, 0, [], []
        path = tmp_path / "s.py"
        path.write_text(dedent(text).lstrip())
        main = types.ModuleType("__main__")
        main.__file__ = str(path)
        main.__dict__.update(train=self.train, loss=self.loss, use=self.use, keep=self.keep)
        main.__dict__.update(names, hold=self.hold)
        self.loops = Loops([self.tape], lambda: (self.passes, self.steps), most)
        with following(self.loops):
            execute(Request(script=str(path)), main, Turns(), self.loops)
        self.main = vars(main)

    def use(self, nbytes):
        self.tape.free(self.tape.malloc(nbytes, op="use"))

    def train(self, nbytes=512):
        self.loss(nbytes)
        self.steps += 1

    def loss(self, nbytes=512):
        self.use(nbytes)
        self.passes += 1
        self.rounds.append(nbytes)

    def keep(self, nbytes):
        self.held.append(self.tape.malloc(nbytes, op="keep"))

    def hold(self, turn):
        """Hold 512 bytes of each round until the collector comes: now and then."""
        self.keep(512)
        if turn in (5, 8, 12, 13, 17, 19, 24, 27, 28, 32):
            for number in self.held:
                self.tape.free(number)
            self.held.clear()


FOR = "for i in range(100):\n    train()\nend = i"
WHILE = "i = 0\nwhile i < 100:\n    train()\n    i += 1\nend = i - 1"


@pytest.mark.parametrize("text", [FOR, WHILE])
def test_a_loop_is_left_when_its_rounds_are_alike(tmp_path, text):
    ran = Program(tmp_path, text)
    assert len(ran.rounds) == ALIKE and ran.main["end"] == ALIKE - 1
    (left,) = ran.loops.left.values()
    assert (left.place, left.rounds, left.times, left.untaken) == (
        f"s.py:{1 if text is FOR else 2}",
        ALIKE,
        1,
        (),
    )


@pytest.mark.parametrize(
    ("text", "rounds"),
    [
        ("for i in range(3):\n    train()", 3),  # is over before
        ("for i in range(30):\n    train(512 * (i + 1))", 30),  # the peak moves
        ("for i in range(30):\n    train()\n    keep(512)", 30),  # something stays
        ("for i in range(30):\n    train()\n    keep(0 if i else 512)", 1 + ALIKE),
        ("for i in range(90):\n    train(512 * (1 + i % 2))", 5),  # in turns of two
        ("for i in range(90):\n    [loss, train][i % 8 == 7]()", 16),  # the last of eight steps
        ("for i in range(200):\n    [loss, train][i % 50 == 49]()", 100),
        ("for i in range(200):\n    loss()", TURNS),  # a step may be still to come
        ("def f():\n    for i in range(30):\n        yield i\nfor i in f():\n    train()", 5),
        ("def f():\n    for i in range(30):\n        train()\n        yield i\nlist(f())", 30),
        (
            "def f():\n    while True:\n        train()\n        yield 1\nlist(zip(f(), range(9)))",
            10,
        ),
        ("for e in range(2):\n    for i in range(30):\n        train()", 10),
        ("for e in range(30):\n    for i in range(2):\n        train()", 10),
        ("for e in range(30):\n    for i in range(30):\n        train()", 25),
    ],
)
def test_only_what_repeats_is_left(tmp_path, text, rounds):
    assert len(Program(tmp_path, text).rounds) == rounds


def test_a_loop_that_does_not_train_has_all_its_rounds(tmp_path):
    ran = Program(tmp_path, "seen = []\nfor i in range(50):\n    use(512)\n    seen.append(i)")
    assert len(ran.main["seen"]) == 50 and not ran.loops.left


EVERY = """
    for i in range(900):
        train()
        if i % 100 == 99:
            use(4096)
        if i % 300 == 299:
            print(i)
        if i > 800:
            use(8192)
        elif use is None:
            use(0)
        elif i == -1:
            raise ValueError
        else:
            use(512)
"""


def test_what_comes_in_every_so_many_rounds_comes_once(tmp_path):
    """Then the peak has moved, and the rounds are counted anew; so does what later rounds have, and
    other conditions are told."""
    ran = Program(tmp_path, EVERY)
    assert max(ran.tape.levels) == 8192
    (left,) = ran.loops.left.values()
    assert left.untaken == ("s.py:9",)
    assert left.rounds == 2 * ALIKE + 1


@pytest.mark.parametrize("body", ["break", "raise SystemExit(use(1))", "print(i)"])
def test_a_way_out_is_not_taken_for_its_own_sake(tmp_path, body):
    text = f"for i in range(60):\n    train()\n    if i % 50 == 49:\n        {body}\nend = True"
    ran = Program(tmp_path, text)
    assert len(ran.rounds) == ALIKE and ran.main["end"]


@pytest.mark.parametrize(
    ("size", "later"),
    [
        ("512 if i < 50 else 1024", 1024),
        ("1024 if i >= 50 else 512", 1024),
        ("512 * 2 if epoch + i > 90 else 512", 1024),
        ("512 if i < 2 else 1024", 1024),  # both were there: nothing is turned
        ("512 if few < 50 else 1024", 512),  # hangs on nothing that counts
        ("512 if i < 50 else None", 512),  # no number
        ("512 if i < 50 else max(1024, i)", 512),
        ("512 if few else 1024", 512),
    ],
)
def test_a_number_that_is_another_in_later_rounds_is_so_once(tmp_path, size, later):
    body = f"    for i in range(100):\n        train({size})\n"
    ran = Program(tmp_path, f"few = 1\nfor epoch in range(1):\n{body}")
    assert max(ran.rounds) == later and len(ran.rounds) < 30
    if "i < 2" not in size:
        assert ran.rounds.count(1024) == (later == 1024)


def test_what_is_added_to_counts_in_a_while(tmp_path):
    text = "i = 0\nwhile i < 100:\n    n = 512 if i < 50 else 1024\n    train(n)\n    i += 1"
    assert Program(tmp_path, text).rounds.count(1024) == 1


def test_so_many_rounds_as_are_asked_for(tmp_path):
    ran = Program(tmp_path, "for i in range(30):\n    train(512 * (i + 1))", most=3)
    assert ran.rounds == [512, 1024, 1536]
    (left,) = ran.loops.left.values()
    assert not left.alike and left.rounds == 3


def test_files_beside_the_script_are_followed(tmp_path, monkeypatch):
    (tmp_path / "engine_beside.py").write_text(
        "def fit(train):\n    for i in range(30):\n        train()"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    ran = Program(tmp_path, "import engine_beside\nengine_beside.fit(train)")
    assert len(ran.rounds) == ALIKE
    assert list(ran.loops.left) == ["engine_beside.py:2"]
    assert not list(tmp_path.rglob("*.pyc")), "nothing that is compiled so is kept"


def test_an_iterator_is_not_held(tmp_path):
    """What a loop goes through is released when the loop's variable is."""
    text = """
        import weakref
        class Thing: pass
        seen = []
        for thing in (Thing() for _ in range(3)):
            train()
            seen.append(weakref.ref(thing))
            del thing
            assert seen[-1]() is None
    """
    assert len(Program(tmp_path, text).rounds) == 3


SIZES = "[512 * (1 + (i * i * 7919 + i) % 101) for i in range(400)]"


def test_a_loop_whose_rounds_differ_is_left_when_its_peak_is_still(tmp_path):
    ran = Program(tmp_path, f"sizes = {SIZES}\nfor i in range(400):\n    train(sizes[i])")
    highest = ran.rounds.index(max(ran.rounds))
    assert len(ran.rounds) == highest + 1 + STILL < 400
    (left,) = ran.loops.left.values()
    assert left.still and not left.alike and left.rounds == len(ran.rounds)


def test_a_loop_that_leaves_more_behind_each_time_goes_on(tmp_path):
    ran = Program(tmp_path, "train(1 << 20)\nfor i in range(90):\n    train()\n    keep(512)")
    assert len(ran.rounds) == 91 and not ran.loops.left


@pytest.mark.slow
def test_a_loop_without_an_optimizer_s_step_is_not_still(tmp_path):
    ran = Program(tmp_path, f"for n in {SIZES}:\n    loss(n)")
    assert len(ran.rounds) == 400


def test_what_comes_in_every_so_many_rounds_comes_once_in_a_still_loop(tmp_path):
    text = f"""
        for i, n in enumerate({SIZES}):
            train(n)
            if i % 300 == 299:
                use(1 << 20)
    """
    ran = Program(tmp_path, text)
    assert max(ran.tape.levels) == 1 << 20 and len(ran.rounds) < 200


@pytest.mark.parametrize(
    ("condition", "ran", "training"),
    [
        ("i >= 50", True, False),
        ("i == 50", True, False),
        ("i % 50 == 49", True, False),
        ("i + 1 > limit", True, False),
        ("few > 50", False, False),  # hangs on nothing that counts
        ("seen[-1] > 600", False, True),  # on what the loop has made
        ("len(seen) == 99", False, False),
    ],
)
def test_what_later_rounds_train_has_its_turn_or_is_told(tmp_path, condition, ran, training):
    text = f"""
        few, limit, seen, model = 1, 50, [], type("Model", (), {{}})()
        for i in range(100):
            train()
            seen = [512]
            if {condition}:
                model.requires_grad = use(4096)
    """
    program = Program(tmp_path, text)
    assert (max(program.tape.levels) == 4096) is ran
    (left,) = program.loops.left.values()
    assert left.untaken == (() if ran else ("s.py:5",))
    known = "seen" in condition and not ran
    assert bool(left.training) is known and (not training or known)


class Batch:
    """A tensor, as far as its size goes."""

    dtype, itemsize = "float32", 4

    def __init__(self, count, device="cpu"):
        self.count, self.device = count, types.SimpleNamespace(type=device)

    def numel(self):
        return self.count


def of_batches(tmp_path, text):
    (tmp_path / "batches.py").write_text("")
    return Program(tmp_path, text, names={"Batch": Batch})


def test_the_largest_batch_to_come_has_a_round(tmp_path):
    text = """
        for x in [Batch(8)] * 300 + [Batch(160)] + [Batch(8)] * 99:
            train(512 * x.count)
    """
    ran = of_batches(tmp_path, text)
    assert len(ran.rounds) == ALIKE + 1 and max(ran.rounds) == 512 * 160
    (left,) = ran.loops.left.values()
    assert left.scanned


@pytest.mark.parametrize(
    ("items", "largest"),
    [
        ("[8] * 300 + [160] + [8] * 99", 160),  # lengths that are known
        ("[3, 8, 5] * 100 + [160]", 160),
        ("range(400)", None),  # a counter: its last is no larger batch
        ("reversed(range(400))", None),
    ],
)
def test_the_largest_number_to_come_has_a_round(tmp_path, items, largest):
    ran = Program(tmp_path, f"for n in {items}:\n    train(512 * {'n' if largest else '8'})")
    assert max(ran.rounds) == 512 * (largest or 8) and len(ran.rounds) < 400
    assert not any(left.scanned for left in ran.loops.left.values())


@pytest.mark.parametrize(
    ("items", "scanned"),
    [
        ("[Batch(8)] * 400", True),
        ("[{'a': [Batch(8), 'words']}] * 400", True),
        ("range(400)", False),  # of which no sizes are known
        ("[Batch(8, 'cuda')] * 400", False),  # it would fill the card
        ("(train() or Batch(8) for _ in range(400))", False),  # it trains by itself
    ],
)
def test_what_cannot_be_looked_at_is_not_said_to_be(tmp_path, items, scanned):
    ran = of_batches(tmp_path, f"for x in {items}:\n    train()")
    (left,) = ran.loops.left.values()
    assert left.scanned is scanned and len(ran.rounds) <= 2 * ALIKE + 1


def test_so_many_rounds_as_are_asked_for_have_no_other(tmp_path):
    text = "for x in [Batch(8)] * 9 + [Batch(99)]:\n    train()"
    ran = Program(tmp_path, text, most=3, names={"Batch": Batch})
    assert len(ran.rounds) == 3


def test_when_the_collector_comes_is_of_no_matter(tmp_path):
    """The same requests, and other releases: its peak has to be still."""
    text = """
        for i in range(200):
            train(1 << 14)
            hold(i)
    """
    ran = Program(tmp_path, text)
    assert MOVED < len(ran.rounds) <= 3 * MOVED
    (left,) = ran.loops.left.values()
    assert left.still and not left.alike


@pytest.mark.parametrize(
    ("file", "followed"),
    [
        ("coach_a/trainer.py", True),
        ("coach_b/loops/epoch_loop.py", True),
        ("coach_c/loops/base.py", True),
        ("coach_d/engine/train.py", True),
        ("coach_e/backend/torch_trainer.py", True),
        ("coach_f/data.py", False),
        ("trl/trainer_of_theirs.py", False),
    ],
)
def test_loops_of_libraries_trainers_are_followed(tmp_path, monkeypatch, file, followed):
    """Loops are told by names of files; their branches are their own."""
    path = tmp_path / "site-packages" / file
    path.parent.mkdir(parents=True)
    for folder in path.parents:
        if folder.name == "site-packages":
            break
        (folder / "__init__.py").write_text("")
    body = "        train()\n        if i % 50 == 49:\n            train(4096)\n"
    path.write_text(f"def fit(train):\n    for i in range(40):\n{body}")
    monkeypatch.syspath_prepend(str(tmp_path / "site-packages"))
    module = file.removesuffix(".py").replace("/", ".")
    ran = Program(tmp_path, f"from {module} import fit\nfit(train)")
    assert len(ran.rounds) == (ALIKE if followed else 40)
    for left in ran.loops.left.values():
        assert left.place == f"{path.name}:2" and not left.untaken
