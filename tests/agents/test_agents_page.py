"""docs/agents.md: what it says to write into an assistant's files is what starts the program."""

import json
import re
import tomllib
from pathlib import Path

import pytest

from weighbridge.faces.agents.answering import Answers
from weighbridge.faces.agents.tools import tools
from weighbridge.faces.cli.mcp import mcp
from weighbridge.faces.render.bounded import MOST

PAGE = (Path(__file__).parent.parent.parent / "docs" / "agents.md").read_text(encoding="utf-8")
SAID = re.findall(r"^\| .* \| .* \| (.*) \|$", PAGE, re.MULTILINE)
SERVER = {"command": "weighbridge", "args": ["mcp"]}


@pytest.mark.parametrize(("group", "more"), [("mcpServers", {}), ("servers", {"type": "stdio"})])
def test_what_stands_in_a_file_of_json_starts_the_program(group, more):
    found = [json.loads(text.strip("`")) for text in SAID if text.startswith(f'`{{"{group}"')]
    assert found == [{group: {"weighbridge": {**more, **SERVER}}}]


def test_what_stands_in_the_file_of_codex_does_too():
    row = next(text for text in SAID if "mcp_servers" in text)
    written = "\n".join(re.findall(r"`([^`]*)`", row))
    assert tomllib.loads(written) == {"mcp_servers": {"weighbridge": SERVER}}


def test_every_tool_and_every_option_is_there():
    for tool in tools():
        assert f"| `{tool.name}` |" in PAGE
    for option in mcp.params:
        assert option.name == "cache_dir" or option.opts[0] in PAGE


def test_the_example_is_what_is_answered():
    asked, told = re.search(
        r"````\ninfer (.*)\n\n([^`]*(?:```[^`]*```)?[^`]*)\n````", PAGE
    ).groups()
    assert Answers(offline=True).call("infer", json.loads(asked)).text == told


def test_the_bounds_are_those_of_the_program():
    assert f"at most {MOST:,} characters" in PAGE
