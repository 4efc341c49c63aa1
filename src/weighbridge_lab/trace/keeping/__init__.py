"""Files that were there before a trace are there after it, byte for byte, whatever a script does.

kept.py       before the first change of a real file it is moved aside, and a stand-in takes its
              place; at the end, also of a killed run, a journal says what goes back where
calls.py      what a call of the system is about to change, and whom it asks
kernel.py     Linux's filter of system calls (seccomp): those of all threads, of C++ and of
              every child wait until the keeper has looked
apart.py      the script's process, the keeper's above it, and the user's above both
audit.py      Python's own hooks, where there is no such filter: children are refused then
"""
