"""Verdicts: does what is needed fit what devices and the host have, how surely, and why.

on_devices.py  a load, a server or a training run on its devices; what each of several holds
on_host.py     host memory beside it: it fits where both do
closeness.py   the share of what may happen that goes well, and the component that tips it
reasons.py     the sentence that says why
"""
