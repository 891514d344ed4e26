"""One file a subcommand of `cyclesr`."""
