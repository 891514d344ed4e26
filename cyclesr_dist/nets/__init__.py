"""Architectures: translators, SR networks, discriminators."""
