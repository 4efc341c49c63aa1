"""Launch lines that the engines' own recipes publish: what is verified to start is neither refused nor
said not to fit, and what is known to die is not promised.

recipes.jsonl has a line of each recipe with the card and the count that it is for. `outcome` is what
the recipe says of it: `verified` is its flag for that card (`verified-other`: for another one),
`measured` has a benchmark beside it, `guide` and `recommended` are its text's and its generator's,
`offered` a choice of the generator, `fails` is known to die. `configs` names the files of
recipe_configs.jsonl that stand in for what the line calls {config0}: `how` says what they are.
`doubt` is why a line may not start in spite of its flag. Nothing is read of the Hub.
"""

import json
from collections import Counter
from functools import cache
from pathlib import Path

import pytest

from tests.cases import some
from weighbridge.answers.questions.requests import Requests
from weighbridge.base.errors import WeighbridgeError
from weighbridge.engines.table import ENGINES
from weighbridge.machines.accelerators.names import find

HERE = Path(__file__).parent
STARTS = ("verified", "measured", "guide-verified")
OUTCOMES = {*STARTS, "verified-other", "guide", "recommended", "offered", "fails"}
MOST_REFUSED = 0.03
LEAST_ANSWERED = 0.915  # flags without a rule and releases without a name leave answers open


def rows(name):
    return [json.loads(line) for line in (HERE / name).read_text("utf-8").splitlines()]


RECIPES = rows("recipes.jsonl")
TOLD = [recipe for recipe in RECIPES if recipe["outcome"] in (*STARTS, "fails")]


@cache
def requests():
    return Requests(offline=True)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A folder of each config, as a launch line names one."""
    root = tmp_path_factory.mktemp("configs")
    found = {}
    for row in rows("recipe_configs.jsonl"):
        name, _ = row.pop("name"), row.pop("how")
        found[name] = root / name.replace("/", "--")
        found[name].mkdir()
        for file, content in row.items():
            (found[name] / f"{file}.json").write_text(json.dumps(content))
    return found


def answer(recipe, folders):
    """(yes, no, cannot say or refused, why)."""
    line = recipe["line"]
    for mark, name in recipe.get("configs", {}).items():
        line = line.replace(mark, str(folders[name]))
    workload = {
        "command": line,
        "engine_version": recipe.get("release"),
        "gpu": f"{recipe['card']}:{recipe['count']}",
    }
    try:
        report = requests().report({"task": "infer", "remedies": False, "workload": workload})
    except WeighbridgeError as error:
        return "refused", str(error)
    said = {"yes": "yes", "no": "no", "unknown": "cannot say"}[report.verdict.fits]
    return said, report.verdict.reason


def wrong(recipe, said):
    """Tell whether an answer is against what is published."""
    if recipe["outcome"] == "fails":
        return said == "yes"
    return recipe["outcome"] in STARTS and said in ("no", "refused") and "doubt" not in recipe


def test_the_recipes_are_of_the_closed_lists():
    names = {row["name"] for row in rows("recipe_configs.jsonl")}
    assert len({recipe["id"] for recipe in RECIPES}) == len(RECIPES) > 0
    for recipe in RECIPES:
        assert recipe["outcome"] in OUTCOMES
        assert recipe["engine"] in ENGINES
        assert find(recipe["card"])
        assert recipe["count"] > 0
        assert " " in recipe["citation"]  # a repository, and where in it
        assert set(recipe.get("configs", {}).values()) <= names


@pytest.mark.parametrize("recipe", some(8, TOLD), ids=lambda recipe: recipe["id"])
def test_what_a_recipe_tells_is_not_contradicted(recipe, folders):
    said, why = answer(recipe, folders)
    assert not wrong(recipe, said), f"{said}: {why}\n{recipe['line']}"


@pytest.mark.slow
def test_of_all_lines_few_are_refused_and_most_are_answered(folders):
    said = Counter(answer(recipe, folders)[0] for recipe in RECIPES)
    assert said["refused"] <= MOST_REFUSED * len(RECIPES), said
    assert said["yes"] + said["no"] >= LEAST_ANSWERED * len(RECIPES), said
