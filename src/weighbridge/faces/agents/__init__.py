"""Answers for coding agents: tools over stdio (the Model Context Protocol), and a skill.

tools.py     the tools: names, descriptions, and input schemas from the settings    no SDK
answering.py arguments in, an answer out; models are kept between two questions     no SDK
brief.py     a report or a list as a few words and numbers                          no SDK
server.py    the protocol, by either generation of the official SDK (extra `mcp`)
SKILL.md     instructions for an agent with a shell (skills/ at the root has a copy)
"""

import os


def skill() -> str:
    """Return the text of SKILL.md, in the format of Agent Skills (agentskills.io), for agents with
    a shell."""
    path = os.path.join(os.path.dirname(__file__), "SKILL.md")
    with open(path, encoding="utf-8") as file:
        return file.read()
