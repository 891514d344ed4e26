"""What the number of a job's ranks must suit, whoever starts them."""

from __future__ import annotations

from cyclesr_dist.config.schema import Config
from cyclesr_dist.errors import ConfigError


def check_job_ranks(config: Config, nodes: int, told: str) -> None:
    """Raises ConfigError where `config` cannot be trained on `nodes` nodes of its `cluster`. `told` says in the message
    how many nodes these are and by which key."""
    cluster = config.cluster
    ranks = nodes * cluster.ranks
    if ranks > 1 and config.backend == "single":
        raise ConfigError(f"backend = single with {told} and {cluster.ranks} ranks each; allowed: ddp, deepspeed")
    if config.global_batch % ranks:
        raise ConfigError(
            f"global_batch = {config.global_batch} is no multiple of the {ranks} ranks of {told} with "
            f"{cluster.ranks} each"
        )
    if config.precision == "fp16" and not cluster.gpus_per_node:
        raise ConfigError("precision = fp16 with cluster.gpus_per_node = 0; allowed: fp32, bf16")
