"""YAML and overrides -> frozen dataclasses. No torch."""
