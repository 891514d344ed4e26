"""The paper: equations (2), (3), (4), their losses, the step, the pool, and the systems of its tables."""
