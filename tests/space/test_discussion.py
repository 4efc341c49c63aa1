"""The answer as a discussion: previewed, posted once a revision, refused in plain words."""

import json
import threading

import pytest

from tests.hub import Fault, Hub
from weighbridge.base.errors import HubError, UsageError
from weighbridge.faces.web.space import discussion

TOKEN = "hf_" + "w" * 34
READER = "hf_" + "r" * 34
REPO = "org/tiny"
SHA = "a" * 40


@pytest.fixture
def hub(tmp_path, monkeypatch):
    folder = tmp_path / REPO
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"model_type": "llama"}))
    users = {
        TOKEN: {"name": "someone"},
        READER: {"name": "reader", "may_write": False},
    }
    with Hub(root=tmp_path, users=users) as running:
        monkeypatch.setattr("huggingface_hub.hf_api.constants.ENDPOINT", running.endpoint)
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", running.endpoint)
        yield running


def draft(revision=SHA, text="**tiny** fits"):
    return discussion.draft(REPO, revision, text)


def test_it_is_posted_once(hub):
    first = discussion.post(draft(), TOKEN)
    assert first == (f"{hub.endpoint}/{REPO}/discussions/1", False)
    told = hub.discussions[REPO]
    assert [one["author"] for one in told] == ["someone"]
    assert told[0]["description"].startswith("**tiny** fits")
    again = discussion.post(draft(text="other words"), TOKEN)
    assert again == (first.url, True)
    assert len(hub.discussions[REPO]) == 1


def test_another_revision_is_another_discussion(hub):
    discussion.post(draft(), TOKEN)
    assert not discussion.post(draft("b" * 40), TOKEN).already
    assert len(hub.discussions[REPO]) == 2


@pytest.mark.parametrize("change", [{"status": "closed"}, {"title": "renamed by the owner"}])
def test_one_that_was_closed_or_renamed_is_found(hub, change):
    discussion.post(draft(), TOKEN)
    hub.discussions[REPO][0].update(change)
    assert discussion.post(draft(), TOKEN).already


def test_one_of_another_user_is_found(hub):
    hub.users["hf_" + "o" * 34] = {"name": "other"}
    discussion.post(draft(), "hf_" + "o" * 34)
    assert discussion.post(draft(), TOKEN).already


def test_it_is_found_behind_many_others(hub):
    discussion.post(draft(), TOKEN)
    one = {"author": "x", "status": "open", "title": "hello", "description": "hi"}
    ours = hub.discussions[REPO][0]
    hub.discussions[REPO] = [{**one, "num": n} for n in range(1, 26)] + [{**ours, "num": 26}]
    assert discussion.post(draft(), TOKEN) == (f"{hub.endpoint}/{REPO}/discussions/26", True)


def test_too_many_discussions_are_not_looked_through(hub, monkeypatch):
    monkeypatch.setattr(discussion, "MOST_LISTED", 5)
    one = {"author": "x", "status": "open", "title": "hello", "description": "hi"}
    hub.discussions[REPO] = [{**one, "num": n} for n in range(1, 12)]
    with pytest.raises(HubError, match="nothing was posted"):
        discussion.post(draft(), TOKEN)
    assert not [r for r in hub.requests if r.method == "POST"]


@pytest.mark.slow
def test_two_at_once_post_one(hub):
    hub.latency = 0.02
    found = []
    threads = [
        threading.Thread(target=lambda: found.append(discussion.post(draft(), TOKEN)))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(one.already for one in found) == [False, True, True, True]
    assert len(hub.discussions[REPO]) == 1


def test_what_was_posted_stands_though_reading_it_back_fails(hub):
    hub.faults.append(Fault(match=r"/discussions/1$", times=1, status=500))
    found = discussion.post(draft(), TOKEN)
    assert found == (f"{hub.endpoint}/{REPO}/discussions/1", False)
    assert len(hub.discussions[REPO]) == 1


@pytest.mark.parametrize(
    ("token", "silent", "told"),
    [
        (READER, False, r"may not post there.*settings/tokens"),
        ("hf_" + "u" * 34, False, r"does not know this token.*settings/tokens"),
        (TOKEN, True, r"owner has switched discussions off.*copy the Markdown"),
    ],
)
def test_refusals_are_plain(hub, token, silent, told):
    if silent:
        hub.silent.add(REPO)
    with pytest.raises(HubError, match=told) as refused:
        discussion.post(draft(), token)
    assert token not in str(refused.value)
    assert REPO not in hub.discussions or not hub.discussions[REPO]


def test_a_repository_that_is_not_there(hub):
    with pytest.raises(UsageError, match="no such repository"):
        discussion.post(discussion.draft("org/none", SHA, "x"), TOKEN)


@pytest.mark.parametrize("status", [500, 503])
def test_a_hub_in_trouble(hub, status):
    hub.faults.append(Fault(match="/discussions", status=status))
    with pytest.raises(HubError, match="try again later"):
        discussion.post(draft(), TOKEN)


def test_a_hub_that_is_away(hub):
    hub.__exit__()
    with pytest.raises(HubError, match="cannot be reached"):
        discussion.post(draft(), TOKEN)
    hub.__enter__()


def test_a_hub_that_answers_nonsense(hub):
    hub.faults.append(Fault(match="/discussions", body=b'{"discussions": 7}'))
    with pytest.raises(HubError, match="does not answer as a Hub does"):
        discussion.post(draft(), TOKEN)


@pytest.mark.parametrize("token", ["", "  ", "hf_ä", "hf_a\nb"])
def test_tokens_that_are_none(hub, token):
    with pytest.raises(UsageError, match="token"):
        discussion.post(draft(), token)
    assert not hub.requests


def test_a_text_calls_nobody():
    text = "@someone, mail@host\n```sh\nrun org/name@main\n```\n@other"
    found = draft(text=text).text
    assert "&#64;someone" in found and "&#64;other" in found
    assert "run org/name@main" in found  # code is shown as it is


@pytest.mark.parametrize(("repo", "revision"), [("../x", SHA), ("org/x", "main"), ("org/x", "")])
def test_no_draft_without_a_place(repo, revision):
    with pytest.raises(UsageError):
        discussion.draft(repo, revision, "x")


def test_a_draft_whose_text_lost_its_mark_is_not_posted(hub):
    with pytest.raises(UsageError, match="preview again"):
        discussion.post(draft()._replace(text="buy now"), TOKEN)
    assert not hub.requests


def test_a_text_is_bounded():
    found = draft(text="x" * 10**6)
    assert len(found.text) <= discussion.MOST_TEXT + 20
    assert discussion.MARK.format(revision=SHA) in found.text


def test_a_foot_names_the_revision_by_twelve_digits():
    assert f"at revision `{SHA[:12]}`" in draft().text
