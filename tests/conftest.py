"""Shared by all tests: one thread a process, so that several ranks fit two cores."""

import torch

torch.set_num_threads(1)
