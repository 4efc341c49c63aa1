"""What an agent with a shell is told: SKILL.md, in the format of Agent Skills (agentskills.io)."""

import os


def text() -> str:
    path = os.path.join(os.path.dirname(__file__), "SKILL.md")
    with open(path, encoding="utf-8") as file:
        return file.read()
