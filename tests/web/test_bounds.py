"""How much a page, a server and a file may ask: each bound at its last value and one beyond."""

import csv
import json
from base64 import b64encode
from io import StringIO
from types import SimpleNamespace

import pytest

from tests.charts.made import device, report
from tests.space.test_guard import app, ask
from tests.web.test_build import ENGINE
from weighbridge.base.errors import BadFileError, NotFoundError, UsageError
from weighbridge.base.units import GIB, KIB, MIB
from weighbridge.faces.view.records import Screen
from weighbridge.faces.web import archive, awaited, build, desks, npm, pyodide, server, tables
from weighbridge.faces.web.asks import AnswerView, masked, taken_token
from weighbridge.faces.web.command import command
from weighbridge.faces.web.dropped import Dropped, DroppedHead, ShortError, asks_of, head_of
from weighbridge.faces.web.exports import export
from weighbridge.faces.web.form import form, label
from weighbridge.faces.web.protocol import MOST
from weighbridge.faces.web.screens import asks_in
from weighbridge.workload import INFER, TRAIN

# Dropped files


def file(name="a.gguf", size=3, head=b"abc"):
    return {"name": name, "size": size, "head": b64encode(head).decode()}


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        (file(), True),
        (file("a" * 250 + ".gguf"), True),
        (file("a" * 251 + ".gguf"), False),
        (file(size=2), False),
        (file(size=0, head=b""), True),
        (file(size=-1, head=b""), False),
        (file(size=1 << 62), True),
        (file(size=(1 << 62) + 1), False),
        (file(size=True), False),
        (file("a\n.gguf"), False),
        (file("b/a.gguf"), False),
        (file("a.txt"), False),
    ],
)
def test_names_and_sizes_of_dropped_files(given, taken):
    """255 signs, as file systems have it."""
    if taken:
        assert head_of(given).size == given["size"]
        return
    with pytest.raises(UsageError):
        head_of(given)


@pytest.mark.parametrize(("size", "asked"), [(5, 5), (MIB, MIB), (MIB + 1, MIB), (GIB, MIB)])
def test_the_first_mebibyte_is_asked_for_first(size, asked):
    with pytest.raises(ShortError) as short:
        head_of({"name": "a.gguf", "size": size})
    assert short.value.nbytes == asked


def test_bytes_that_were_not_sent_are_asked_for():
    head = DroppedHead("a.gguf", 10, b"abcde")
    assert head.read("a.gguf", 1, 5) == b"bcde"
    with pytest.raises(ShortError) as short:
        head.read("a.gguf", 1, 6)
    assert short.value.nbytes == 6
    with pytest.raises(NotFoundError):
        head.read("b.gguf", 0, 1)


def test_keys_tell_files_apart():
    one = DroppedHead("a.gguf", 10, b"abcde")
    others = (
        DroppedHead("b.gguf", 10, b"abcde"),
        DroppedHead("a.gguf", 11, b"abcde"),
        DroppedHead("a.gguf", 10, b"abc"),
    )
    assert one.key not in {other.key for other in others}
    assert one.key == DroppedHead("a.gguf", 10, b"abcde").key


def test_four_files_are_kept(monkeypatch):
    monkeypatch.setattr(
        "weighbridge.faces.web.dropped.Reader", lambda *a: SimpleNamespace(inventory=lambda: None)
    )
    monkeypatch.setattr("weighbridge.faces.web.dropped.Prepared", lambda name, *a: name)
    kept = Dropped()
    keys = [kept.prepared(file(f"{n}.gguf"))[1] for n in range(4)]
    assert kept.prepared({"key": keys[0]}) == ("0.gguf", keys[0])
    kept.prepared(file("4.gguf"))
    assert kept.prepared({"key": keys[0]})[0] == "0.gguf", "which was asked for last"
    with pytest.raises(UsageError):
        kept.prepared({"key": keys[1]})
    assert kept.prepared({"key": keys[2]})[0] == "2.gguf"


def run_of(count):
    lines = b'{"task": "load", "model": "7B"}\n\n' * count
    return file("a.jsonl", len(lines), lines)


def test_a_run_file_has_as_many_requests_as_stand_beside_each_other():
    from weighbridge.workload import MOST_BESIDE

    assert len(asks_of(run_of(1)).asks) == 1
    assert len(asks_of(run_of(MOST_BESIDE)).asks) == MOST_BESIDE
    for count in (0, MOST_BESIDE + 1):
        with pytest.raises(UsageError, match=f"1 to {MOST_BESIDE}"):
            asks_of(run_of(count))
    bad = b'{"task": "load"}\n\n{"task"'
    with pytest.raises(BadFileError, match="line 2"):
        asks_of(file("a.jsonl", len(bad), bad))


def test_a_question_that_is_pasted_is_the_request_that_it_means():
    text = b"can I run qwen3-8b on a 4090 with 7 hats?"
    (ask,) = asks_of(file("pasted.text", len(text), text)).asks
    workload = {"gpu": "4090", "not_understood": "7 hats"}
    assert ask == {"task": "fit", "model": "qwen3-8b", "workload": workload}


def test_comparisons_are_of_so_many():
    from weighbridge.workload import MOST_BESIDE

    one = {"task": "load", "model": "7B", "view": {"lang": "zh"}}
    assert asks_in({"asks": [one]}) == [{"task": "load", "model": "7B"}]
    assert len(asks_in({"asks": [one] * MOST_BESIDE})) == MOST_BESIDE
    for count in (0, MOST_BESIDE + 1):
        with pytest.raises(UsageError):
            asks_in({"asks": [one] * count})


# Tokens


@pytest.mark.parametrize(("length", "taken"), [(1024, True), (1025, False)])
def test_tokens_of_1024_characters(length, taken):
    if taken:
        assert taken_token({"token": "x" * length}) == "x" * length
        return
    with pytest.raises(UsageError):
        taken_token({"token": "x" * length})


def test_the_first_token_counts_and_all_are_taken_out():
    ask = {"token": "", "asks": [{"token": "first"}, {"token": "second"}]}
    assert taken_token(ask) == "first"
    assert ask == {"asks": [{}, {}]}


def test_tokens_of_eight_characters_are_masked():
    assert masked({"a12345678": ["b12345678", 1]}, "12345678") == {"a***": ["b***", 1]}
    assert masked("1234567", "1234567") == "1234567"
    assert masked("12345678", None) == "12345678"


# Servers and sites


def test_what_the_server_allows():
    """A header of 64 MiB in base64 is four thirds of that; 64 KiB are for the rest of the ask."""
    assert (server.PORT, server.CROWD) == (7860, 64)
    assert (awaited.PATIENCE, awaited.BEGINNING, awaited.WHOLE) == (30, 10, 60)
    assert (desks.BUSY, desks.TICK, desks.SHORT) == (120, 0.02, 64 * KIB)
    assert server.SECRET == 24, "192 bits, more than anybody guesses"
    assert MOST == 64 * MIB * 4 // 3 + 64 * KIB


def gate(path="/secret/ask", method="POST", **headers):
    own = {
        "Host": "127.0.0.1:80",
        "Origin": "http://127.0.0.1:80",
        "Content-Type": "application/json; charset=utf-8",
        **{name.replace("_", "-"): value for name, value in headers.items()},
    }
    return server.Gate(80, "secret").entered(server.PageRequest(method, path, own))


def test_who_enters():
    assert gate() == "ask"
    assert gate(Sec_Fetch_Site="Same-Origin") == "ask"
    assert gate("/secret/a/b?c=/d", "GET") == "a/b"
    assert gate("/secret/", "GET", Origin="http://elsewhere") == ""
    refused = [
        (421, {"Host": "127.0.0.1:81"}),
        (404, {"path": "/secret"}),
        (404, {"path": "/other/ask"}),
        (403, {"Origin": "http://elsewhere"}),
        (403, {"Sec_Fetch_Site": "cross-site"}),
        (415, {"Content_Type": "text/plain"}),
    ]
    for status, given in refused:
        with pytest.raises(server.RefusedRequestError) as error:
            gate(**given)
        assert error.value.status == status


def test_patience_with_other_programs():
    assert (build.SNAPSHOT_SECONDS, build.MOST_SNAPSHOTS) == (900, 3)
    assert (npm.SECONDS, pyodide.MOST) == (300, 64 * MIB)


@pytest.mark.slow
@pytest.mark.parametrize(("nbytes", "ours"), [(MIB, True), (MIB + 1, False)])
def test_a_list_of_a_site_has_a_mebibyte_at_most(nbytes, ours, tmp_path, monkeypatch):
    """The page's own is some kilobytes. A folder of a site is built again, without the files that it
    had; in any other nothing is written."""
    monkeypatch.setattr(build, "engine", lambda: ENGINE)
    (tmp_path / "a").touch()
    told = '{"made_by": "weighbridge web build", "files": {"a": {}}'
    (tmp_path / "site.json").write_text(told + " " * (nbytes - len(told) - 1) + "}")
    if not ours:
        with pytest.raises(UsageError, match="site"):
            build.build(tmp_path)
        assert {path.name for path in tmp_path.iterdir()} == {"a", "site.json"}
        return
    build.build(tmp_path)
    assert not (tmp_path / "a").exists()


def test_nobody_waits_to_hear_whether_a_client_is_there(monkeypatch):
    waited = []
    monkeypatch.setattr(
        server.select, "select", lambda r, w, x, seconds: waited.append(seconds) or ([], [], [])
    )
    assert not server.Gone(None)()
    assert waited == [0]


def test_an_engine_file_is_named_by_twelve_signs_of_its_contents():
    name = build.EngineFile("worker", "js", b"x").path
    assert name == f"engine/worker.{name.split('.')[1]}.js"
    assert len(name.split(".")[1]) == 12


def test_archives_tell_no_time():
    """The header of gzip (RFC 1952): bytes 4 to 7 are the time, byte 8 is 2 of the best packing."""
    found = archive.gzipped(b"abc" * 100)
    assert found[4:9] == bytes((0, 0, 0, 0, 2))
    assert archive.wanted("answers/bounds/accuracy.json")
    assert not archive.wanted("faces/cli/menu.py")
    assert not archive.wanted("answers/questions/jobs.py")
    assert archive.wanted("clip.py")


# Tables


def table(task, workload):
    return tables.table({"task": task, "workload": workload}, AnswerView())["report"]


def test_filters_of_200_characters():
    whole = table("gpus", {})
    assert table("gpus", {"pattern": None, "vendor": "", "sort": None}) == whole
    linked = table("gpus", {"nvlink": True})
    assert 0 < len(linked["gpus"]) < len(whole["gpus"])
    with pytest.raises(NotFoundError):
        table("gpus", {"pattern": "x" * 200})
    for wrong in ({"pattern": "x" * 201}, {"pattern": 1}, {"nvlink": 1}, {"other": "x"}):
        with pytest.raises(UsageError, match="workload"):
            table("gpus", wrong)


@pytest.fixture
def ranked(monkeypatch):
    """The models and the settings of each rank that is asked for."""
    asked = []
    rank = SimpleNamespace(to_dict=lambda: {"rows": "told"})
    monkeypatch.setattr(
        "weighbridge.answers.questions.fit.ranking.models_for",
        lambda names, own: (asked.append((names, own)), rank)[1],
    )
    monkeypatch.setattr("weighbridge.faces.view.ranks.ranking", lambda *a, **k: Screen("told", ()))
    return asked


def test_60_models_are_ranked(monkeypatch, ranked):
    entries = [SimpleNamespace(name="m")] * 60
    monkeypatch.setattr(tables.models_listing, "matching", lambda pattern, own: entries)
    monkeypatch.setattr(tables.pipelines, "search", lambda pattern: [])
    given = {"gpu": "4090", "pattern": "x"}
    assert table("models", given) == {"rows": "told"}
    assert ranked == [(["m"] * 60, {"gpu": "4090"})], "what matched is no setting"
    with pytest.raises(UsageError, match="name the card"):
        table("models", {"pattern": "x", "engine": "vllm"})
    entries.append(entries[0])
    with pytest.raises(UsageError, match="61 models match"):
        table("models", given)


def test_a_card_without_a_pattern_is_asked_about_the_models_of_today(monkeypatch, ranked):
    table("models", {"gpu": "4090"})
    ((names, _),) = ranked
    assert len(names) == tables.MOST_RANKED
    assert {"qwen3.5-9b", "qwen3-8b", "gpt-oss-20b"} <= set(names)
    assert not {"bge-large-en-v1.5", "gpt2"} & set(names)
    monkeypatch.setattr(tables, "MOST_RANKED", 10_000)
    table("models", {"gpu": "4090"})
    names, _ = ranked[-1]
    assert "gpt2" in names and "bge-large-en-v1.5" not in names, "which writes no words"


# Files and forms


def one(name, task="load"):
    found = SimpleNamespace(model=SimpleNamespace(name=name), to_dict=lambda: {"a": 1})
    return SimpleNamespace(request={"task": task}, found=found)


@pytest.mark.parametrize(
    ("names", "stem"),
    [
        (["org/A model"], "weighbridge-load-org-A-model"),
        (["x" * 61], "weighbridge-load-" + "x" * 60),
        (["a", "b"], "weighbridge-compare-a"),
        (["..."], "weighbridge-load"),
    ],
)
def test_names_of_files(names, stem):
    assert export("json", list(map(one, names)), AnswerView())["name"] == f"{stem}.json"


@pytest.mark.parametrize(
    ("name", "cell"),
    [("=1", "'=1"), ("a=1", "a=1"), ("-1", "'-1"), ("@x", "'@x"), ("+1", "'+1"), ("\ta", "'\ta")],
)
def test_cells_that_a_spreadsheet_would_run(name, cell):
    """Names come from strangers; a number is no text, whatever its sign."""
    found = report(name=name, devices=[device(index=-1)])
    asked = SimpleNamespace(request={"task": "infer"}, found=found)
    told = export("csv", [asked], AnswerView())["text"]
    first, *_ = csv.DictReader(StringIO(told))
    assert (first["model"], first["device"]) == (cell, "-1")


def test_ends_of_sliders():
    """Powers of two that people have use for; lengths begin at 128 tokens."""
    ends = {s.name: s.slider for s in (*INFER.values(), *TRAIN.values()) if s.slider}
    assert ends == {
        "context": (128, 1_048_576),
        "seq_len": (128, 262_144),
        "parallel": (1, 256),
        **dict.fromkeys(
            ("batch_size", "max_num_seqs", "max_running_requests", "lora_r"), (1, 1024)
        ),
    }


def test_bounds_and_defaults_of_a_form():
    """Whole numbers are written without a point; of a card's name there is no least."""
    (tab,) = [one for one in form("en")["tabs"] if one["name"] == "train"]
    bounds = {
        each["name"]: (each["least"], each["most"])
        for section in tab["sections"]
        for each in section["settings"]
    }
    told = {name: str(bounds[name]) for name in ("lora_r", "lora_dropout", "gpu")}
    assert told == {"lora_r": "(1, 65536)", "lora_dropout": "(0, 1)", "gpu": "(None, None)"}
    assert TRAIN["batch_size"].default == 1


def test_names_of_settings():
    assert label(INFER["kv_unified"], "en") == "KV unified"
    assert label(INFER["enforce_eager"], "en") == "Enforce eager"
    assert label(TRAIN["batch_size"], "en") == "Batch size per GPU"
    assert label(INFER["batch_size"], "en") == "Requests at once (users)"


def line(workload, task="infer", model="7B", **view):
    return command({"task": task, "model": model, "workload": workload}, AnswerView(**view))


def test_commands():
    assert line({"gpu": "4090", "ram": None}) == "weighbridge infer 7B --gpu 4090"
    assert line({}, model="-x") == "weighbridge infer -- -x"
    assert line({"engine": "vllm"}, task="load") == "weighbridge load 7B"
    assert line({"engine": "vllm"}) == "weighbridge infer 7B --engine vllm"
    assert line({"gpu": "4090,8"}) == "weighbridge infer 7B --gpu 4090,8"
    assert line({"gpu": "4090,t4"}) == "weighbridge infer 7B --gpu 4090:t4"
    assert line({}, unit="GB", lang="zh", details=True, explain=True) == (
        "weighbridge infer 7B --unit GB --lang zh --details --explain"
    )
    assert line({}, model={"file": {"name": "a.gguf"}}) == "weighbridge infer ./a.gguf"


# The Space


def test_what_the_space_allows():
    from weighbridge.faces.web.space import clerk, discussion, guard

    assert (guard.MOST_BODY, guard.MOST_QUERY, guard.MOST_CLIENTS) == (2 * MIB, 16_384, 10_000)
    assert guard.Rates() == (60, 120)
    assert (clerk.MOST_MEMORY, clerk.MOST_CACHE) == (4 * GIB, 256 * MIB)
    told = (discussion.MOST_TEXT, discussion.MOST_LISTED, discussion.MOST_READ, discussion.SECONDS)
    assert told == (60_000, 5_000, 64, 45)


@pytest.mark.parametrize(
    ("told", "status"),
    [
        (b"7", 200),
        (b"%d" % (2 * MIB), 200),
        (b"%d" % (2 * MIB + 1), 413),
        (b"9" * 19, 413),
        (b"9" * 20, 200),
        (b"-7", 200),
    ],
)
def test_lengths_that_a_client_tells(told, status):
    """Nineteen digits are below 2^64; more are no length, and the body itself is measured."""
    from weighbridge.faces.web.space import guard

    headers = [(b"Content-Length", told)]
    assert ask(guard.Guard(app), "/gradio_api/ask", "GET", headers=headers)[0] == status


def test_a_bucket_is_filled_again_at_so_many_a_minute(monkeypatch):
    """Two at once, and then one each half a second at 120 a minute."""
    from weighbridge.faces.web.space import guard

    now = [100.0]
    monkeypatch.setattr(guard.time, "monotonic", lambda: now[0])
    held = guard.Guard(None, guard.Rates(burst=2, per_minute=120))
    assert [held._may("a") for _ in range(3)] == [True, True, False]
    now[0] += 0.5
    assert [held._may("a") for _ in range(2)] == [True, False]
    now[0] += 60
    assert [held._may("a") for _ in range(3)] == [True, True, False]
    monkeypatch.setattr(guard, "MOST_CLIENTS", 1)
    held._may("b")
    assert list(held._buckets) == ["b"], "the one that was not there for the longest time goes"


def test_versions_of_a_site_are_sixteen_signs():
    listed = json.loads(build.site(ENGINE, "https://hub.example", [])["site.json"])
    assert len(listed["version"]) == 16
    assert [*listed["files"]] == sorted(listed["files"])
    (loader,) = (told for name, told in listed["files"].items() if name.startswith("engine/loader"))
    assert loader["bytes"] == len("loader")


@pytest.mark.parametrize(("count", "begins"), [(1, "{"), (2, "[")])
def test_a_comparison_is_a_list_of_reports(count, begins):
    assert export("json", [one("a")] * count, AnswerView())["text"].strip().startswith(begins)


def test_a_run_file_of_the_largest_size(monkeypatch):
    line = b'{"task": "load"}'
    monkeypatch.setattr("weighbridge.faces.web.dropped.MAX_CONFIG", len(line))
    assert asks_of(file("a.jsonl", len(line), line)).asks == [{"task": "load"}]
    with pytest.raises(BadFileError, match="larger than"):
        asks_of(file("a.jsonl", len(line) + 1, line + b" "))
