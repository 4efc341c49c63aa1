"""Verdicts: whether the needed memory fits devices and host, how surely, and why.

on_devices.py  a load, a server or a training run on its devices; what each of several holds
on_host.py     host memory as well: it fits only if both do
closeness.py   the share of possible outcomes that fit, and the component that tips the verdict
reasons.py     the sentence that says why
"""
