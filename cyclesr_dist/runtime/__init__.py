"""The process: files that are whole or not there, threads, memory, signals, exit codes, progress bars."""
