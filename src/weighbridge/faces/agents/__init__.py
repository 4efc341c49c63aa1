"""Answers for coding agents: tools over stdio (the Model Context Protocol), and a skill.

tools.py     the tools: names, sentences, and input schemas from the settings tables    no SDK
answering.py arguments in, an Answer out; models are kept between two questions         no SDK
brief.py     a report or a list, in few words and few numbers                           no SDK
server.py    the protocol, by the official SDK (extra `mcp`), of either generation
SKILL.md     what an agent with a shell is told (skills/ at the root has a copy)
"""

import os


def skill() -> str:
    """Return SKILL.md, in the format of Agent Skills (agentskills.io), for agents with a shell."""
    path = os.path.join(os.path.dirname(__file__), "SKILL.md")
    with open(path, encoding="utf-8") as file:
        return file.read()
