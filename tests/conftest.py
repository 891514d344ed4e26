"""Shared by all tests: one thread a process, so that several ranks fit two cores; Ctrl-C reaches what they start."""

import os
import signal

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # of what they start: threads that wait must not spin
os.environ.setdefault("CYCLESR_NUM_THREADS", "1")  # of a training, which else takes all cores

import torch

torch.set_num_threads(1)
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as in a shell's background job, and every child inherits that
    signal.signal(signal.SIGINT, signal.default_int_handler)
