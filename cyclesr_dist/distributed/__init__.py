"""Ranks: who they are, how they meet, agree and fail together; what DDP and DeepSpeed make of a module."""
