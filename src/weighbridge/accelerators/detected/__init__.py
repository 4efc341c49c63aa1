"""The accelerators of this machine, as its own programs tell them.

device.py    what was told of one device, and what one output told
table.py     the boxes of nvidia-smi, hl-smi and xpu-smi
nvidia.py    nvidia-smi: its table, its list, its query, its XML        nvml.py  the library itself
amd.py       rocm-smi and amd-smi                apple.py    system_profiler, sysctl, Metal
windows.py   dxdiag, wmic, PowerShell            others.py   xpu-smi, npu-smi, hl-smi, tpu-info
programs.py  other programs, run within bounds   cluster.py  Kubernetes, and lines of logs
outputs.py   any output -> what it tells, or why it tells nothing
visible.py   CUDA_VISIBLE_DEVICES and its kin    here.py     this machine

Parsers take a text and give records: they run nothing. What a program printed is a stranger's.
"""
