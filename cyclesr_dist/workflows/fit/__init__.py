"""`cyclesr fit`: from one's own two folders to enlarged photographs, through the commands that exist."""
