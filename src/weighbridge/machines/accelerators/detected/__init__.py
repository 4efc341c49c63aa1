"""The accelerators of this machine, as its own programs tell them.

device.py    the records of one device and of one output
nvidia.py    nvidia-smi: its table, its list, its query, its XML        nvml.py  the library itself
amd.py       rocm-smi and amd-smi                apple.py    system_profiler, sysctl, Metal
others.py    xpu-smi, npu-smi, hl-smi, tpu-info; dxdiag, wmic and PowerShell of Windows
programs.py  other programs, run within bounds
outputs.py   any output, Kubernetes and logs too -> what it tells, or why it tells nothing
here.py      this machine, and CUDA_VISIBLE_DEVICES and its kin

Parsers take a text and give records: they run nothing. What a program printed is a stranger's.
"""
