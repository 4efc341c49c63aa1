"""What people who work on the code are told: steps of CI, verbs of make, hooks, forms, fragments."""

import re
import subprocess
import tomllib
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.torch import conftest as beside_torch

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
MAKEFILE = (ROOT / "Makefile").read_text()
WORKFLOW = ROOT / ".github" / "workflows" / "ci.yml"
NIGHTLY = WORKFLOW.with_name("nightly.yml")
RELEASE = WORKFLOW.with_name("release.yml")
PAGES = [
    *ROOT.glob("*.md"),
    *(ROOT / "docs").rglob("*.md"),
    *(ROOT / ".github").rglob("*.md"),
    *(ROOT / "changes").glob("*.md"),
]


def loaded(path):
    yaml = pytest.importorskip("yaml", reason="yaml comes with huggingface_hub")
    return yaml.safe_load(path.read_text())


def steps():
    """The steps of CI, in the order in which `.ci/run` does them."""
    return re.search(r"^STEPS=\((.*)\)$", (ROOT / ".ci/run").read_text(), re.M)[1].split()


# ---- CI


def test_each_step_of_ci_is_a_function_and_explained():
    text = (ROOT / ".ci/run").read_text()
    assert {*steps()} <= {*re.findall(r"^([a-z]+)\(\) \{", text, re.M)}
    assert re.findall(r"^#   ([a-z]+)  ", text, re.M) == steps()


def test_a_step_that_is_not_there_is_named():
    done = subprocess.run([ROOT / ".ci/run", "tests", "stile"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"no step stile: {' '.join(steps())}\n"


def environments():
    """Each step of `.ci/run` with the environments that it makes: step -> {environment: extras}."""
    bodies = re.findall(r"^([a-z]+)\(\) \{(.*?)^\}", (ROOT / ".ci/run").read_text(), re.M | re.S)
    return {step: dict(re.findall(r"^ +with (\S+) (\S+)", body, re.M)) for step, body in bodies}


def test_the_environment_with_torch_is_that_of_one_step():
    """The tests of all other steps are the same ones in an environment that is kept."""
    made = {step: environments()[step] for step in steps()}
    assert made.pop("torch") == {".venv-torch": "test-torch"}
    assert all(".venv-torch" not in each for each in made.values())
    assert not any("torch" in extras for each in made.values() for extras in each.values())


@pytest.mark.parametrize("file", [".ci/run", ".ci/night"])
def test_an_environment_that_is_not_kept_is_made_anew(file):
    used = {venv for each in environments().values() for venv in each}
    (gone,) = re.findall(r"rm -rf (\.venv.*)", (ROOT / file).read_text())
    assert {*gone.split()} == used


@pytest.mark.parametrize(
    ("words", "asked"),
    [
        (["tests"], False),
        (["tests/arch", "tests/torch"], True),
        (["tests/torch/test_live.py::test_frozen_parameters_count"], True),
    ],
)
def test_tests_that_ask_torch_run_where_they_are_named(words, asked, monkeypatch):
    here = SimpleNamespace(args=words, invocation_params=SimpleNamespace(dir=ROOT))
    for without in (True, False):
        monkeypatch.setattr(beside_torch, "WITHOUT", without)
        left_out = beside_torch.pytest_ignore_collect(beside_torch.HERE / "test_live.py", here)
        assert left_out is (None if asked and not without else True)


@pytest.mark.house
def test_what_needs_torch_lies_in_its_folder():
    """Elsewhere it would run in no step of CI."""
    extras = PROJECT["project"]["optional-dependencies"]["test-torch"][1:]
    names = "|".join(extra.partition("==")[0].replace("-", ".") for extra in extras)
    needs = re.compile(rf'importorskip\("({names})\b')
    found = {path for path in (ROOT / "tests").rglob("*.py") if needs.search(path.read_text())}
    assert found
    assert {path.parent for path in found} == {beside_torch.HERE}


def test_the_workflow_does_every_step_once():
    jobs = loaded(WORKFLOW)["jobs"].values()
    assert sorted(step for job in jobs for step in job["strategy"]["matrix"]["step"]) == sorted(
        steps()
    )
    for job in jobs:
        assert job["steps"][-1]["run"] == ".ci/run ${{ matrix.step }}"


def test_the_workflow_has_every_python_that_is_promised():
    said = [c.rpartition(" ")[2] for c in PROJECT["project"]["classifiers"] if ":: 3." in c]
    assert loaded(WORKFLOW)["jobs"]["python"]["strategy"]["matrix"]["python"] == said
    assert PROJECT["project"]["requires-python"] == f">={said[0]}"


def test_actions_of_others_are_pinned():
    used = re.findall(
        r"uses: (.+)", WORKFLOW.read_text() + NIGHTLY.read_text() + RELEASE.read_text()
    )
    assert used
    assert all(re.fullmatch(r"[\w/-]+@[0-9a-f]{40} # v[\d.]+", use) for use in used)


def test_what_ci_leaves_out_is_run_at_night():
    job = loaded(NIGHTLY)["jobs"]["whole"]
    assert job["steps"][-1]["run"] == "make ${{ matrix.verb }}"
    verbs = job["strategy"]["matrix"]["verb"]
    assert {*verbs} == {"test-slow", "test-torch", "test-quantization", "test-web", "replay"}
    for verb in verbs:
        recipe = re.search(rf"^{verb}:.*\n((?:\t.+\n)+)", MAKEFILE, re.M)[1]
        assert "nightly" not in recipe
    (night,) = re.findall(r"^for verb in (.+); do$", (ROOT / ".ci/night").read_text(), re.M)
    assert {*night.split()} == {*verbs, "check", "test"}


# ---- make


def test_every_verb_of_make_is_explained():
    phony = re.search(r"^\.PHONY: (.+)$", MAKEFILE, re.M)[1].split()
    assert sorted(phony) == sorted(re.findall(r"^([a-z-]+):.*## ", MAKEFILE, re.M))


def test_pages_name_verbs_of_make_that_exist():
    for page in PAGES:
        for verbs in re.findall(r"`make ([a-z -]+)`", page.read_text()):
            for verb in verbs.split():
                assert re.search(rf"^{verb}:", MAKEFILE, re.M), f"{page.name}: make {verb}"


# ---- hooks


def test_hooks_are_the_releases_of_dev():
    hooks = re.findall(r'"([a-z]+==[\d.]+)"', (ROOT / ".pre-commit-config.yaml").read_text())
    assert hooks
    assert {*hooks} <= {*PROJECT["project"]["optional-dependencies"]["dev"]}


# ---- forms for issues


@pytest.mark.parametrize(
    "form", sorted((ROOT / ".github/ISSUE_TEMPLATE").glob("*.yml")), ids=lambda path: path.stem
)
def test_forms_are_what_github_reads(form):
    told = loaded(form)
    assert told.keys() == {"name", "description", "labels", "body"}
    asked = [part for part in told["body"] if part["type"] != "markdown"]
    assert {part["type"] for part in told["body"]} <= {"markdown", "textarea", "input"}
    assert len({part["id"] for part in asked}) == len(asked) > 0
    assert all(part["attributes"]["label"] for part in asked)


# ---- changes/


def kinds():
    return "|".join(kind["directory"] for kind in PROJECT["tool"]["towncrier"]["type"])


def fragments():
    return [p for p in sorted((ROOT / "changes").iterdir()) if p.name != "README.md"]


def wrong(name, text):
    """What is wrong with a fragment, or ""."""
    if not re.fullmatch(rf"(\d+|\+[a-z0-9-]+)\.({kinds()})(\.\d+)?\.md", name):
        return "name it <issue>.<kind>.md or +<word>.<kind>.md (changes/README.md)"
    said = text.strip()
    if not said or said.startswith(("-", "*", "#")) or not said.endswith((".", ")")):
        return "write whole sentences, without a list or a heading"
    return ""


def test_fragments_can_be_read():
    assert {p.name: said for p in fragments() if (said := wrong(p.name, p.read_text()))} == {}


@pytest.mark.parametrize(
    ("name", "text"),
    [("h20.md", "It is."), ("+h20.fix.md", "It is."), ("7.new.md", "- It is."), ("7.new.md", "")],
)
def test_the_test_of_fragments_can_fail(name, text):
    assert wrong(name, text)


@pytest.mark.parametrize("name", ["7.new.md", "+h20.answer.md", "7.mend.1.md"])
def test_names_of_fragments(name):
    assert wrong(name, "It is.\n") == ""


def test_the_page_of_fragments_explains_each_kind():
    page = (ROOT / "changes/README.md").read_text()
    assert re.findall(r"^\| `(\w+)` \|", page, re.M) == kinds().split("|")
