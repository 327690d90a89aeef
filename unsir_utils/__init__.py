"""Kernels and helpers for a reproduction of UNSIR ("Fast Yet Effective Machine Unlearning").

The kernels: `noise`, `impair`, `repair`, chained in `unsir`, judged by `metrics`. The other modules are what the
notebooks share. Nothing is imported here, so that a command-line check does not wait for torch.
"""

__version__ = "0.1.0"
