"""What a process of the server answers: the page as a static site is answered, programs as `run` is."""

import json

import pytest

from tests.cases import all_of
from tests.space.conftest import TINY
from tests.space.test_discussion import SHA, TOKEN
from weighbridge.base.records import replace
from weighbridge.faces.web.protocol import AskDesk
from weighbridge.faces.web.space import discussion
from weighbridge.faces.web.space.answering import SpaceDesk

CARD = {"gpu": "4090"}
ASKS = [
    {"task": "load", "model": "7B", "workload": CARD},
    {"task": "load", "model": "7B", "workload": CARD, "view": {"lang": "zh", "details": True}},
    {"task": "load", "model": {"config": TINY}},
    {"task": "gpus", "workload": {"pattern": "4090"}},
    {"task": "oom", "log": "CUDA out of memory. Tried to allocate 1.96 GiB"},
    {"task": "export", "form": "csv", "of": {"task": "load", "model": "7B"}},
    {"task": "compare", "asks": [{"task": "load", "model": "7B"}, {"task": "load", "model": "8B"}]},
    {"task": "load", "model": "lama-3.1-8b"},
    {"task": "load", "model": "7B", "workload": {"gpu": "no such card"}},
    {"task": "nothing"},
]
REFUSED = [
    ({"model": "/etc/passwd"}, "reads no paths"),
    ({"model": "file:///etc/passwd"}, "reads no paths"),
    ({"model": "http://169.254.169.254/x.json"}, "reads no paths"),
    ({"model": "7B", "workload": {"gpu": "local"}}, "this server's own"),
    ({"model": "7B", "workload": {"gpu": "4090", "exact": True}}, "runs code of torch"),
]


@pytest.fixture(scope="module")
def desk(tmp_path_factory):
    return SpaceDesk(cache_dir=str(tmp_path_factory.mktemp("cache")))


@all_of("ask", ASKS)
def test_the_page_is_answered_as_a_static_site_is(desk, ask):
    own = AskDesk(offline=True, ours=False).answer(json.dumps(ask))
    assert desk.answer({"page": json.loads(json.dumps(ask)), "token": None}) == own


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_the_form_is_that_of_every_page(desk, lang):
    asked = {"task": "form", "view": {"lang": lang}}
    assert desk.answer({"page": asked}) == AskDesk(ours=False).answer(json.dumps(asked))


@pytest.mark.parametrize("within", ["alone", "of", "asks"])
@pytest.mark.parametrize(("request_", "why"), REFUSED)
def test_nothing_of_the_servers_own_is_shown(desk, request_, why, within):
    one = {"task": "train", **request_}
    ask = {
        "alone": one,
        "of": {"task": "export", "form": "json", "of": one},
        "asks": {"task": "compare", "asks": [{"task": "load", "model": "7B"}, one]},
    }[within]
    found = desk.answer({"page": ask})
    assert found["error"]["code"] == 2 and why in found["error"]["message"]
    told = desk.answer({"run": {"task": "train", **request_}})
    assert told["error"]["code"] == 2 and why in told["error"]["message"]


def test_a_page_that_names_no_card_is_asked_for_one(desk):
    found = desk.answer({"page": {"task": "fit", "model": "7B", "workload": {}}})
    assert found["error"]["wants"] == "gpu"
    told = desk.answer({"run": {"task": "fit", "model": "7B"}})["error"]
    assert "name the card" in told["message"] and "wants" not in told


def test_a_list_for_agents_is_cut(desk):
    whole, short = (desk.answer({"run": {"task": "models"}, "short": s}) for s in (False, True))
    assert len(short["models"]) + short["left_out"]["models"] == len(whole["models"])


@pytest.mark.parametrize("token", [7, "x" * 1025])
def test_what_is_no_token_is_told(desk, token):
    found = desk.answer({"page": {"task": "load", "model": "7B"}, "token": token})
    assert "token is text" in found["error"]["message"]


# Discussions


@pytest.fixture
def of_the_hub(desk, monkeypatch):
    """A desk whose answers are of a revision."""
    read = desk._open._requests.report

    def report(request, token=None):
        answer = read(request, token)
        model = answer.model._replace(name="org/tiny", revision=SHA)
        return replace(answer, model=model)

    monkeypatch.setattr(desk._open._requests, "report", report)
    return desk


def test_a_draft_is_the_markdown_of_an_answer_and_nothing_is_posted(of_the_hub):
    of = {"task": "load", "model": "7B", "workload": CARD, "view": {"lang": "zh"}}
    found = of_the_hub.answer({"page": {"task": "draft", "of": of}})
    assert "error" not in found, found
    draft = found["draft"]
    assert draft.keys() == set(discussion.Draft._fields)
    assert (draft["repo_id"], draft["revision"]) == ("org/tiny", SHA)
    assert "放得下" in draft["text"] and discussion.MARK.format(revision=SHA) in draft["text"]


@pytest.mark.parametrize(
    ("of", "why"),
    [
        ({"task": "load", "model": "7B"}, "no commit"),
        ({"task": "load", "model": "/etc/passwd"}, "reads no paths"),
        ("load", "task None is not known"),
        (None, "task None is not known"),
    ],
)
def test_an_answer_of_no_revision_has_no_draft(desk, of, why):
    assert why in desk.answer({"page": {"task": "draft", "of": of}})["error"]["message"]


@pytest.mark.parametrize(
    ("draft", "token", "why"),
    [
        (None, TOKEN, "preview first"),
        ({"text": "x"}, TOKEN, "preview first"),
        (discussion.draft("org/tiny", SHA, "x")._asdict(), None, "your own token"),
        ({**discussion.draft("org/tiny", SHA, "x")._asdict(), "text": "x"}, TOKEN, "preview again"),
    ],
)
def test_a_post_needs_a_preview_and_a_token(desk, draft, token, why):
    found = desk.answer({"page": {"task": "post", "draft": draft}, "token": token})
    assert why in found["error"]["message"]
    assert TOKEN not in json.dumps(found)


def test_a_draft_is_posted_with_its_token(desk, monkeypatch):
    posted = []
    monkeypatch.setattr(
        discussion, "post", lambda *told: posted.append(told) or discussion.Posted("there", False)
    )
    draft = discussion.draft("org/tiny", SHA, "x")
    found = desk.answer({"page": {"task": "post", "draft": draft._asdict()}, "token": TOKEN})
    assert found == {"posted": {"url": "there", "already": False}}
    assert posted == [(draft, TOKEN)]
