"""How much a page, a server and a file may ask: each bound at its last value and one beyond."""

from base64 import b64encode
from types import SimpleNamespace

import pytest

from weighbridge.base.errors import BadFileError, NotFoundError, UsageError
from weighbridge.base.units import GIB, KIB, MIB
from weighbridge.faces.web import archive, awaited, build, desks, npm, pyodide, server, tables
from weighbridge.faces.web.asks import AnswerView, masked, taken_token
from weighbridge.faces.web.command import command
from weighbridge.faces.web.dropped import Dropped, DroppedHead, ShortError, asks_of, head_of
from weighbridge.faces.web.exports import _cell, _stem
from weighbridge.faces.web.form import _bound, label
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


@pytest.mark.parametrize(("nbytes", "names"), [(MIB, ["a"]), (MIB + 1, None)])
def test_a_list_of_a_site_has_a_mebibyte_at_most(nbytes, names, tmp_path):
    """The page's own is some kilobytes."""
    told = '{"made_by": "weighbridge web build", "files": {"a": {}}'
    (tmp_path / "site.json").write_text(told + " " * (nbytes - len(told) - 1) + "}")
    assert build._read_list(tmp_path / "site.json") == names


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


def test_filters_of_200_characters():
    assert tables._filters("gpus", {"pattern": "x" * 200, "vendor": "", "sort": None}) == {
        "pattern": "x" * 200
    }
    for wrong in ({"pattern": "x" * 201}, {"pattern": 1}, {"nvlink": 1}, {"other": "x"}):
        with pytest.raises(UsageError):
            tables._filters("gpus", wrong)
    assert tables._filters("gpus", {"nvlink": True}) == {"nvlink": True}


def test_60_models_are_ranked(monkeypatch):
    rank = SimpleNamespace(to_dict=lambda: "told")
    asked = []
    monkeypatch.setattr(
        "weighbridge.answers.questions.fit.ranking.models_for",
        lambda names, own: (asked.append(own), rank)[1],
    )
    monkeypatch.setattr("weighbridge.faces.view.ranks.ranking", lambda *a, **k: "screen")
    given = {"gpu": "4090", "pattern": "x"}
    assert tables._ranked(["m"] * 60, given, AnswerView()) == ("told", "screen")
    assert asked == [{"gpu": "4090"}], "what matched is no setting"
    with pytest.raises(UsageError, match="61 models match"):
        tables._ranked(["m"] * 61, given, AnswerView())
    with pytest.raises(UsageError, match="name the card"):
        tables._ranked(["m"], {"pattern": "x"}, AnswerView())


def test_a_card_without_a_pattern_is_asked_about_the_models_of_today(monkeypatch):
    asked = []
    monkeypatch.setattr(tables, "_ranked", lambda names, *_: asked.extend(names))
    tables._models({"gpu": "4090"}, AnswerView())
    assert len(asked) == tables.MOST_RANKED
    assert {"qwen3.5-9b", "qwen3-8b", "gpt-oss-20b"} <= set(asked)
    assert not {"bge-large-en-v1.5", "gpt2"} & set(asked)


# Files and forms


def one(name, task="load"):
    found = SimpleNamespace(model=SimpleNamespace(name=name))
    return SimpleNamespace(request={"task": task}, found=found)


def test_names_of_files():
    assert _stem([one("org/A model")]) == "weighbridge-load-org-A-model"
    assert _stem([one("x" * 61)]) == "weighbridge-load-" + "x" * 60
    assert _stem([one("a"), one("b")]) == "weighbridge-compare-a"
    assert _stem([one("...")]) == "weighbridge-load"


def test_cells_that_a_spreadsheet_would_run():
    assert [_cell(v) for v in ("=1", "a=1", "-1", -1, "@x")] == ["'=1", "a=1", "'-1", -1, "'@x"]


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
    assert _bound(TRAIN["lora_r"], 8.0) == 8
    assert _bound(TRAIN["lora_dropout"], 0.5) == 0.5
    assert _bound(INFER["gpu"], 1.0) is None
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
    ("told", "nbytes"), [(b"7", 7), (b"9" * 19, int("9" * 19)), (b"9" * 20, 0), (b"-7", 0)]
)
def test_lengths_that_a_client_tells(told, nbytes):
    """Nineteen digits are below 2^64; more are no length."""
    from weighbridge.faces.web.space.guard import _length

    assert _length({"headers": [(b"Content-Length", told)]}) == nbytes


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
    listed = build._list({"b": b"x", "a": b"yz"})
    assert len(listed["version"]) == 16
    assert [(n, f["bytes"]) for n, f in listed["files"].items()] == [("a", 2), ("b", 1)]


def test_a_comparison_is_a_list_of_reports():
    from weighbridge.faces.web.exports import _json

    asked = SimpleNamespace(found=SimpleNamespace(to_dict=lambda: {"a": 1}))
    assert _json([asked], AnswerView()).strip().startswith("{")
    assert _json([asked, asked], AnswerView()).strip().startswith("[")


def test_a_run_file_of_the_largest_size(monkeypatch):
    line = b'{"task": "load"}'
    monkeypatch.setattr("weighbridge.faces.web.dropped.MAX_CONFIG", len(line))
    assert asks_of(file("a.jsonl", len(line), line)).asks == [{"task": "load"}]
    with pytest.raises(BadFileError, match="larger than"):
        asks_of(file("a.jsonl", len(line) + 1, line + b" "))
