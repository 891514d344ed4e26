"""One file a system: which networks it has, what it trains in which phase, and with what."""
