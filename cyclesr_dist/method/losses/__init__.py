"""The terms of the equations, one file a kind."""
