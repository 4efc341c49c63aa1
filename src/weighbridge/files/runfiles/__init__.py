"""Files that start a run, read into the question that they ask: nothing is run or fetched.

read("base_model: org/name\\nadapter: qlora\\n...", "run.yaml")
-> RunFile(kind="axolotl", runs=(PlannedRun(task="train", model="org/name", ...),))

document.py    text -> documents: plain data, with the line and the place of each key
reading.py     what a reader takes of a document, and what it leaves
notebook.py    a Jupyter notebook -> the script, and the shell lines, in its cells
kinds.py       the kinds of files, and how one is found by what is in it
training/      a module for each kind that trains
serving/       a module for each kind that serves
record.py      what a reader returns: runs, what was understood, what was not
passes.py      what becomes of a run beside what is typed, and of its answer, pass by pass
weighing.py    runs -> answers
"""

from weighbridge.files.runfiles.kinds import read
from weighbridge.files.runfiles.record import PlannedRun, RunFile, Understood, Unread

__all__ = ["PlannedRun", "RunFile", "Understood", "Unread", "read"]
