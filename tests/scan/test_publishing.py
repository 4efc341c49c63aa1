"""A published folder says what the dataset says, in the order in which readers look."""

import hashlib
import json
import re
from unittest.mock import patch

import pytest
import yaml

from tests.scan.published import CARDS, GROUP, HOSTILE, NAMES, published
from tests.scan.test_command import typed
from weighbridge.base.errors import BadFileError, UsageError
from weighbridge.faces.cli.web import _published
from weighbridge.faces.scan import publishing
from weighbridge.faces.scan.answers import OWN
from weighbridge.faces.scan.card import card
from weighbridge.faces.scan.query import ScanView
from weighbridge.faces.web import registry

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return published(tmp_path_factory.mktemp("registry"))


def read(folder, name):
    from pyarrow import parquet

    return parquet.read_table(folder / name).to_pylist()


def told(folder):
    return json.loads((folder / publishing.LIST).read_text())


def test_models_stand_as_a_query_without_sql_shows_them(whole):
    out, plan, folder = whole
    models = read(folder, publishing.MODELS_FILE)
    summary = ScanView(out, plan).summary(plan, 100)
    assert [m["id"] for m in models] == [line.id for line in summary.lines]
    reasons = [line.reason and OWN.sub("#", line.reason) for line in summary.lines]
    assert [m["unread"] and OWN.sub("#", m["unread"]) for m in models] == reasons
    assert [m["id"] for m in models[: len(NAMES)]] == [f"org/{name}" for name in NAMES]
    assert models[0]["key"] == next(m["key"] for m in models if m["id"] == HOSTILE) == 0
    assert next(m["key"] for m in models if m["id"] == "org/broken") is None


def test_answers_are_those_of_the_dataset(whole):
    out, plan, folder = whole
    keys = [row["key"] for row in read(folder, publishing.KEYS_FILE)]
    names = "question, fits, need_low, need, need_high, usable, reason, gpu, rules"
    asked = ScanView(out, plan).ask(f"select key, {names} from answers where question <> 'model'")
    found = [
        (keys[row["key"]], *(row[name] for name in names.split(", ")))
        for row in read(folder, publishing.ANSWERS_FILE)
    ]
    assert len(found) > len(NAMES)
    assert sorted(map(repr, found)) == sorted(map(repr, asked.rows))


def test_keys_say_parameters_how_many_models_and_the_smallest_card(whole):
    _, _, folder = whole
    keys = read(folder, publishing.KEYS_FILE)
    assert [row["number"] for row in keys] == list(range(len(keys)))
    assert keys[0]["models"] == 2 and keys[0]["parameters"] == 8_030_261_248
    small, large = ({"4090", "h100"}, {"h100", None})
    smallest = {NAMES[at]: keys[at]["smallest/vllm"] for at in range(len(NAMES))}
    assert smallest["llama-3.1-8b"] == smallest["qwen3-0.6b"] == "4090"
    assert smallest["llama-3.1-70b"] is None and smallest["qwen3-32b"] in large
    assert {row["smallest/load"] for row in keys} <= small | large
    refused = next(row for row in keys if row["reason"])
    assert "no-such" not in refused["reason"] and refused["parameters"] is None


def test_each_question_is_one_row_group_and_models_are_few_together(whole):
    from pyarrow import parquet

    _, plan, folder = whole
    file = parquet.ParquetFile(folder / publishing.ANSWERS_FILE)
    groups = [file.read_row_group(at).to_pydict() for at in range(file.num_row_groups)]
    assert [set(group["question"]) for group in groups] == [{q.name} for q in plan.questions]
    assert all(group["key"] == sorted(group["key"]) for group in groups)
    assert [q["rows"] for q in told(folder)["questions"]] == [len(g["key"]) for g in groups]
    models = parquet.ParquetFile(folder / publishing.MODELS_FILE)
    assert models.metadata.row_group(0).num_rows == GROUP < models.metadata.num_rows
    codecs = {models.metadata.row_group(0).column(at).compression for at in range(5)}
    assert codecs <= {"SNAPPY", "UNCOMPRESSED"}  # all that the page reads


def test_every_word_of_every_name_leads_to_its_models(whole):
    """In the order of words and then of downloads, each once; single rows of models can be read."""
    from pyarrow import parquet

    _, _, folder = whole
    ids = [row["id"].lower() for row in read(folder, publishing.MODELS_FILE)]
    words = [(row["word"], row["model"]) for row in read(folder, publishing.NAMES_FILE)]
    meant = {(word, at) for at, name in enumerate(ids) for word in re.findall(r"[^\W_]+", name)}
    assert words == sorted(meant) and ("llama", ids.index("org/llama-3.1-70b")) in meant
    groups = parquet.ParquetFile(folder / publishing.NAMES_FILE).metadata
    told_of = groups.row_group(0).column(0).statistics
    assert (told_of.min, told_of.max) == (words[0][0], words[GROUP - 1][0])
    assert (
        parquet.ParquetFile(folder / publishing.MODELS_FILE)
        .metadata.row_group(0)
        .column(0)
        .has_offset_index
    )


def test_a_small_dataset_has_no_names_apart(whole, tmp_path):
    """A page reads all of its models at once."""
    out, plan, _ = whole
    with patch.object(publishing, "GROUP", GROUP):
        publishing.publish(out, plan, tmp_path / "a")
    done = publishing.publish(out, plan, tmp_path / "a")
    assert publishing.NAMES_FILE not in done.told["files"]
    assert not (tmp_path / "a" / publishing.NAMES_FILE).exists()
    registry.files_of(tmp_path / "a")


def test_the_list_says_sizes_sums_cards_and_verdicts(whole):
    _, _, folder = whole
    listed = told(folder)
    for name, one in listed["files"].items():
        content = (folder / name).read_bytes()
        assert (one["bytes"], one["sha256"]) == (len(content), hashlib.sha256(content).hexdigest())
        assert content[-one["footer"] :][-4:] == b"PAR1" and one["footer"] < len(content)
    cards = {q["name"]: q["card"]["typed"] for q in listed["questions"]}
    assert set(cards.values()) == set(CARDS)
    vllm = next(q for q in listed["questions"] if q["name"] == "vllm/4090")
    assert vllm["label"] == "vllm" and vllm["engine"] == "vllm" and vllm["usable"] > 20e9
    assert sum(vllm["verdicts"].values()) == vllm["rows"]
    assert registry.files_of(folder).keys() == {
        f"registry/{path.name}" for path in folder.iterdir()
    }


def test_the_same_dataset_is_the_same_bytes(whole, tmp_path):
    out, plan, _ = whole
    first, second = (publishing.publish(out, plan, tmp_path / name) for name in "ab")
    assert first == second
    publishing.publish(out, plan, tmp_path / "a")  # again into the same folder
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()


def test_a_folder_of_somebody_else_is_refused(whole, tmp_path):
    out, plan, _ = whole
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(UsageError, match="did not write"):
        publishing.publish(out, plan, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_the_command_writes_the_card_of_a_hub(whole, tmp_path):
    out, _, _ = whole
    folder = tmp_path / "new"
    title = f"Mine: {HOSTILE}"
    done, _ = typed("publish", out, folder, "--license", "cc0-1.0", "--title", title)
    assert done.exception is None, done.exception
    text = (folder / publishing.CARD).read_text()
    front = yaml.safe_load(text.split("---\n")[1])
    assert front["license"] == "cc0-1.0" and front["pretty_name"] == title
    assert {c["data_files"] for c in front["configs"]} == {
        publishing.MODELS_FILE, publishing.KEYS_FILE, publishing.ANSWERS_FILE,
    }  # fmt: skip
    assert HOSTILE not in text.split("---\n", 2)[2]
    for column in (*publishing.MODELS, *publishing.KEYS, *publishing.ANSWERS):
        assert f"| `{column.name}` | {column.meaning} |" in text
    assert "| `vllm/4090` | infer, engine vllm, context 8192 |" in text


def test_nothing_of_a_config_is_published(whole):
    """The value of a config that was refused stands in no file: reasons leave names out."""
    _, _, folder = whole
    from pyarrow import parquet

    for name in (publishing.MODELS_FILE, publishing.KEYS_FILE, publishing.ANSWERS_FILE):
        rows = parquet.read_table(folder / name).to_pylist()
        assert not any("no-such" in str(value) for row in rows for value in row.values())


def test_files_that_are_not_of_one_dataset_are_refused(whole, tmp_path):
    out, plan, _ = whole
    with pytest.raises(UsageError, match="has no registry"):
        registry.files_of(tmp_path)
    publishing.publish(out, plan, tmp_path)
    with (tmp_path / publishing.MODELS_FILE).open("ab") as file:
        file.write(b"more")
    with pytest.raises(BadFileError, match="is not the file that"):
        registry.files_of(tmp_path)
    (tmp_path / publishing.LIST).write_text('{"schema": "other/1", "files": {}}')
    with pytest.raises(BadFileError, match="is no list"):
        registry.files_of(tmp_path)


def test_the_page_publishes_a_dataset_for_as_long_as_it_is_shown(whole):
    out, _, folder = whole
    with _published(folder) as shown:
        assert shown == folder
    with _published(out) as shown:
        assert told(shown)["counts"] == told(folder)["counts"]
        registry.files_of(shown)
    assert not shown.exists()
    with _published(None) as shown:
        assert shown == registry.DEMONSTRATION


def test_the_demonstration_is_whole_small_and_has_its_card():
    folder = registry.DEMONSTRATION
    places = registry.files_of(folder)
    assert sum(path.stat().st_size for path in places.values()) < 1_000_000
    listed = told(folder)
    assert listed["counts"]["models"] > 800
    for name, one in listed["files"].items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == one["sha256"]
    front = yaml.safe_load(card(listed, licence="apache-2.0").split("---\n")[1])
    text = (folder / publishing.CARD).read_text()
    assert yaml.safe_load(text.split("---\n")[1]) | front == front
    assert re.search(r"^# Which models fit which card$", text, re.M)
    assert {q["card"]["typed"] for q in listed["questions"]} >= {"3060", "4090", "h100"}
