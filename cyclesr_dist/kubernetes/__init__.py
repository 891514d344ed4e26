"""`launch/submit.py`: a multi-node run on Kubernetes, rendered from the configuration, submitted and followed."""
