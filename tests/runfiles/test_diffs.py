"""Diffs of `--fix`: what `patch -p1` takes, and what stands in none of them."""

import shutil
import subprocess

import pytest
from tests.cases import all_of

from weighbridge.faces.cli import menu
from weighbridge.files.runfiles.diffs import UNENDED, as_in, encoding_of, unified

OLD = "".join(f"k{n}: {n}\n" for n in range(12))
NEW = OLD.replace("k6: 6", "k6: 7")
RUN = (
    "base_model: Qwen/Qwen3-8B\nadapter: lora\nlora_r: 8\nsequence_len: 8192\nmicro_batch_size: 4\n"
)


def with_secret(text, at):
    return text.replace(f"k{at}: {at}\n", "hf_token: abcdefgh\n")


def test_a_diff_has_three_lines_around_a_change():
    diff = unified("a.yaml", OLD, NEW)
    assert diff.applies
    assert diff.text == (
        "--- a/a.yaml\n+++ b/a.yaml\n@@ -4,7 +4,7 @@\n k3: 3\n k4: 4\n k5: 5\n-k6: 6\n+k6: 7\n"
        " k7: 7\n k8: 8\n k9: 9\n"
    )
    assert unified("a.yaml", OLD, OLD) == ("", True)


@pytest.mark.parametrize(("at", "head"), [(3, "@@ -5,5 +5,5 @@"), (5, "@@ -7 +7 @@")])
def test_a_secret_near_a_change_is_left_out_of_the_lines_around_it(at, head):
    diff = unified("a.yaml", with_secret(OLD, at), with_secret(NEW, at))
    assert diff.applies
    assert head in diff.text
    assert "token" not in diff.text


def test_a_secret_in_a_line_that_changes_is_asterisks_and_told():
    old = "- --api-key\n- abcdefgh\n"
    diff = unified("a", old, f"{old[:-1]}i\n")
    assert not diff.applies
    assert "abcdefgh" not in diff.text and "-- ***\n+- ***\n" in diff.text


def test_a_sign_that_a_terminal_obeys_is_written_out():
    diff = unified("a", "a: \x1b[1m\n", "a: 1\n")
    assert not diff.applies and "\x1b" not in diff.text
    assert unified("a", "a: \t1\n", "a: 2\n").applies


def test_a_name_with_a_blank_ends_at_a_tab():
    assert unified("/x/my run.yaml", "a\n", "b\n").text.startswith("--- a/x/my run.yaml\t\n+++ ")


def test_a_last_line_without_its_end_is_marked():
    assert unified("a", "x\na", "x\nb").text.endswith(f" x\n-a\n{UNENDED}+b\n{UNENDED}")
    assert unified("a", "a", "a\n").text.endswith(f"-a\n{UNENDED}+a\n")


@all_of(
    ("raw", "after", "text"),
    [
        (b"a\nb\n", "a\nc\n", "a\nc\n"),
        (b"a\r\nb\r\n", "a\nc\n", "a\r\nc\r\n"),
        (b"a\r\nb\nx\n", "a\nc\nx\n", "a\r\nc\nx\n"),
        (b"\xef\xbb\xbfa\nb\n", "a\nc\n", "\ufeffa\nc\n"),
        (b"\xef\xbb\xbfa\nb\n", "c\nb\n", "\ufeffc\nb\n"),
        ("é\nb\n".encode("latin-1"), "é\nc\n", "é\nc\n"),
        ("a\r\nb\r\n".encode("utf-16"), "a\nc\n", "a\r\nc\r\n"),
    ],
)
def test_a_text_has_the_mark_and_the_ends_of_its_file(raw, after, text):
    from weighbridge.files.runfiles.document import decoded

    before = decoded(raw, "a")
    was, made = as_in(raw, before, after)
    assert made == text
    assert was.encode(encoding_of(raw)) == raw


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("patch") is None, reason="needs the program patch")
@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("run.yaml", RUN[:-1]),
        ("my run.yaml", RUN),
        ("run.yaml", RUN.replace("\n", "\r\n")),
        ("run.yaml", f"\ufeff{RUN}"),
        ("run.yaml", RUN.replace("sequence", "hf_token: abcdefgh\nsequence")),
    ],
)
def test_the_program_patch_makes_the_file_that_is_written(tmp_path, monkeypatch, capfd, name, text):
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).write_bytes(text.encode())
    assert menu.run([name, "--gpu", "4090", "--fix"]) == 0
    diff = capfd.readouterr().out.encode()
    assert menu.run([name, "--gpu", "4090", "--fix", "--write"]) == 0
    written = (tmp_path / name).read_bytes()
    assert b"\n\n" not in written
    (tmp_path / name).write_bytes(text.encode())
    subprocess.run(["patch", "-s", "-p1"], input=diff, check=True, cwd=tmp_path)
    assert (tmp_path / name).read_bytes() == written


@pytest.mark.slow
def test_a_diff_that_patch_does_not_take_says_what_does(tmp_path, capsys):
    path = tmp_path / "run.yaml"
    path.write_bytes(RUN.encode("utf-16"))
    assert menu.run([str(path), "--gpu", "4090", "--fix"]) == 0
    assert "--fix --write makes the change" in capsys.readouterr().err
