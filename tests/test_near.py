"""Which tests are near a change (tools/near.py), and which answers changes/ explains
(tools/explained.py)."""

import pytest
from tools import explained, near

from tests.cases import all_of


@pytest.mark.slow  # reads all test files
@pytest.mark.whole
@pytest.mark.parametrize(
    ("path", "test"),
    [
        ("src/weighbridge/engines/vllm/rules.py", "tests/engines"),
        ("src/weighbridge/models/arch/families/xlnet.py", "tests/arch"),
        ("src/weighbridge/answers/estimate/limits.py", "tests/estimate/test_served.py"),
        ("tests/hub.py", "tests/sources/test_hub.py"),
        ("tests/arch/test_roles.py", "tests/arch/test_roles.py"),
        ("tests/runfiles/public/command.jsonl", "tests/runfiles"),
        ("tools/near.py", "tests/test_near.py"),
        ("src/weighbridge/base/words/__init__.py", "tests/words/test_catalogues.py"),
    ],
)
def test_a_test_is_near_its_room_and_what_it_imports(path, test):
    assert test in near.tests_near(path)


@pytest.mark.slow
def test_a_program_is_near_the_tests_that_start_it():
    """A fault in what a sparse matrix keeps was planted, and no step of the gate was red."""
    near_it = near.tests_near("src/weighbridge_lab/trace/sparse.py")
    assert {"tests/torch/test_trace_cli.py", "tests/torch/test_first_errors.py"} <= near_it
    assert "tests/torch/test_first_errors.py" not in near.tests_near("src/weighbridge/cli.py")


def test_no_folder_is_near_a_foundation_and_nothing_near_a_page():
    found = near.tests_near("src/weighbridge/base/units.py")
    assert all(test.endswith(".py") for test in found)
    assert near.tests_near("docs/index.md") == near.tests_near("tests/replay.jsonl") == set()


@all_of(
    ("catalogue", "test"),
    [
        ("charts", "tests/charts"),
        ("errors", "tests/cli"),
        ("oom", "tests/oom"),
        ("page", "tests/web"),
        ("screens", "tests/view"),
        ("settings", "tests/settings"),
        ("warnings", "tests/view"),
    ],
)
def test_sentences_are_near_the_tests_of_what_shows_them(catalogue, test):
    assert test in near.tests_near(f"src/weighbridge/base/words/{catalogue}.json")


def test_each_catalogue_has_tests_near_it_that_are_there():
    assert {*near.SHOWN} == {path.stem for path in (near.ROOT / near.WORDS).glob("*.json")}
    assert all((near.ROOT / test).is_dir() for tests in near.SHOWN.values() for test in tests)


def printed_by_near(capsys, monkeypatch, *words):
    monkeypatch.setattr("sys.argv", ["near", *words])
    near.main()
    return capsys.readouterr().out


def test_every_test_is_near_without_a_base(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(near, "BASE", tmp_path / "base")
    assert near.changed_paths() is None
    assert printed_by_near(capsys, monkeypatch) == "tests\n"
    assert printed_by_near(capsys, monkeypatch, "--step", "page") == "yes\n"


@pytest.mark.parametrize(
    ("committed", "untracked", "paths", "page"),
    [
        (["README.md"], ["src/a.py"], ["README.md", "src/a.py"], "no\n"),
        (["tests/browser/test_x.py"], [], ["tests/browser/test_x.py"], "yes\n"),
        ([".ci/base"], [], [".ci/base"], "no\n"),
        ([".ci/run", "src/a.py"], [], None, "yes\n"),
    ],
)
def test_a_step_runs_if_a_file_of_it_changed(
    committed, untracked, paths, page, monkeypatch, tmp_path, capsys
):
    lists = {"cat-file": ["commit"], "diff": committed, "ls-files": untracked}
    monkeypatch.setattr(near, "BASE", tmp_path / "base")
    near.BASE.write_text("0123\n")
    monkeypatch.setattr(near, "_git", lambda verb, *_: "\n".join(lists[verb]))
    assert near.changed_paths() == paths
    assert printed_by_near(capsys, monkeypatch, "--step", "page") == page


@pytest.mark.parametrize(
    ("step", "path", "touched"),
    [
        ("page", "src/weighbridge/models/arch/families/timm_trees.txt", True),
        ("page", "src/weighbridge/pictures/nets/sdxl.txt", True),
        ("page", "src/weighbridge/pictures/rows.py", False),
        ("agents", "docs/index.md", True),
        ("agents", "docs/gpus.md", False),
        ("agents", "docs/gallery/a.svg", False),
        ("agents", "skills/weighbridge/SKILL.md", True),
    ],
)
def test_a_step_is_about_what_it_shows_and_no_page_that_is_generated(step, path, touched):
    assert near.concerns(step, path) is touched


def test_a_change_is_explained_by_question_component_model_and_size():
    text = "<!-- answers: train zero3* | activations, temp* | qwen3* -->\nIt is less."
    (one,) = explained.explanations([text])
    assert one.covers("qwen3-8b", "train zero3", ["activations"], 0.05)
    assert not one.covers("qwen3-8b", "train zero3", ["activations", "weights"], 0)
    assert not one.covers("gpt2", "train zero3", ["activations"], 0)
    assert not one.covers("qwen3-8b", "train full", ["temporaries"], 0)
    assert not one.covers("qwen3-8b", "train zero3", ["activations"], 0.06)
    (every,) = explained.explanations(["<!-- answers: infer * | * -->"])
    assert every.covers("gpt2", "infer vllm, card", ["kv_cache", "the rest"], 0)
    (wider,) = explained.explanations(["<!-- answers: infer * | * | * | 0.5 % -->"])
    assert wider.covers("gpt2", "infer vllm, card", ["weights"], 0.005)
    assert not wider.covers("gpt2", "infer vllm, card", ["weights"], 0.006)


@pytest.mark.parametrize("line", ["infer *", "infer * | * | * | some", "a | b | c | 1 % | d"])
def test_a_malformed_explanation_is_named(line):
    with pytest.raises(ValueError, match="answers: "):
        explained.explanations([f"<!-- answers: {line} -->"])
