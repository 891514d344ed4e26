"""How other projects name the tensors of the networks that we have, too: one file an architecture, for both ways."""
