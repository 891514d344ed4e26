"""`cyclesr table` and `cyclesr ablate`: the paper's rows on simulated tracks, several seeds."""
