"""The law of cost: what is twice as long takes no more than twice as much, or is refused."""

from types import SimpleNamespace

import pytest

from tests import work
from tests.cases import all_of, each
from tests.hostile.shapes import SHAPES, met
from weighbridge.base import cost
from weighbridge.base.errors import BadFileError, UsageError
from weighbridge.faces.cli import menu
from weighbridge.files.runfiles import apart

FEW = 1 << 11  # characters of which the calls are counted, and four times as many


COUNTED = [name for name in SHAPES if name != "yaml of documents"]  # each of which is trained


@pytest.mark.slow
@pytest.mark.parametrize("name", each(4, COUNTED))
def test_what_is_long_takes_as_many_calls_as_it_is_long(name):
    met(SHAPES[name], 100)  # what is made once
    assert work.is_linear(lambda size: work.calls_made(lambda: met(SHAPES[name], size)), FEW)


@pytest.mark.slow
@pytest.mark.parametrize("name", each(4, list(SHAPES)))
def test_the_longest_that_is_read_comes_to_an_end(name):
    """Of a regular expression that goes back and forth no calls tell: it takes hours."""
    work.end(
        "import sys; from tests.hostile.shapes import SHAPES, met\n"
        "shape = SHAPES[sys.argv[1]]\n"
        "met(shape, 1 << 16)  # a command has no more\n"
        "met(shape, shape.most)",
        name,
    )


def test_a_dash_at_the_end_of_the_line_is_looked_for_once(monkeypatch):
    """Words behind each word were looked at for a flag: 15,000 of them took eight seconds."""
    looks = 0

    class CountedWord(str):
        def startswith(self, *args):
            nonlocal looks
            looks += 1
            return super().startswith(*args)

    class Match(tuple):
        def start(self):
            return 0

    words = [Match((CountedWord("a,"),)) for _ in range(100)]
    monkeypatch.setattr(apart, "WORD", SimpleNamespace(finditer=lambda line: iter(words)))
    monkeypatch.setattr(apart, "_launches", lambda head: True)
    apart.apart("a")
    assert looks <= 2 * len(words)


def test_lines_of_a_text_are_counted_once():
    from weighbridge.files.runfiles import document

    text = "a\n" * 1000
    one = document.Document(syntax="text", text=text, data=text)
    document._ends.cache_clear()
    assert [one.line_of(n) for n in (0, 1, 2, 3, 1998, 1999, 2000)] == [
        1,
        1,
        2,
        2,
        1000,
        1000,
        1001,
    ]
    assert document._ends.cache_info().misses == 1


@all_of(
    ("text", "deep"),
    [
        (".".join(["a"] * 41) + " = 1", True),
        (".".join(["a"] * 40) + " = 1", False),
        ("x = 1\n[" + " . ".join(['"a b"'] * 41) + "]", True),
        ("x = {" + ".".join(["a-b"] * 41) + " = 1}", True),
        ("a" * 100_000, False),
        ("a." * 39 + "= 1", False),
    ],
)
def test_a_key_of_many_parts_is_found_before_it_is_read(text, deep):
    assert (cost.deep_key(text) is not None) == deep


@pytest.mark.parametrize(
    ("value", "what"),
    [
        ([0] * (cost.MOST_NODES - 1), ""),
        ([0] * cost.MOST_NODES, "too large"),
        ({"a": [1, {"b": (2, 3)}]}, ""),
    ],
)
def test_values_of_a_document_are_counted(value, what):
    assert cost.too_much(value) == what


@pytest.mark.parametrize(("levels", "what"), [(cost.DEEPEST, ""), (41, "nested too deep")])
def test_levels_of_a_document_are_counted(levels, what):
    value: object = 1
    for _ in range(levels):
        value = [value]
    assert cost.too_much(value) == what
    if what:
        with pytest.raises(BadFileError, match="x: this TOML is nested too deep"):
            cost.bounded(value, "x", "TOML")


@pytest.mark.parametrize(("levels", "deeper"), [(120, False), (121, True)])
def test_levels_of_a_tree_are_counted(levels, deeper):
    tree: list[object] = []
    for _ in range(levels - 1):
        tree = [tree]
    assert cost.deeper(tree, cost.DEEPEST_TREE, list) is deeper


def test_a_name_has_so_many_characters():
    cost.short_name("a" * 200, "--gpu")
    with pytest.raises(UsageError, match="has 201 characters, and our limit is 200"):
        cost.short_name("a" * 201, "--gpu")


@pytest.mark.parametrize("parts", [41, 400, 2800])
def test_a_command_with_an_endless_key_is_no_defect(parts, tmp_path, capsys):
    run = tmp_path / "run.sh"
    key = "actor_rollout_ref." * parts + "x"
    line = f"python -m verl.trainer.main_ppo {key}=1 actor_rollout_ref.model.path=Qwen/Qwen3-8B"
    run.write_text(line)
    assert menu.run([str(run), "--gpu", "h100", "--offline"]) in (2, 4)
    assert "defect" not in capsys.readouterr().err
