"""From the configuration to a maker of players; the combinations that cannot work are refused here."""

from __future__ import annotations

from cyclesr_dist.config.schema import Config
from cyclesr_dist.distributed.compiler import check_compiler
from cyclesr_dist.distributed.plain import make_plain_player
from cyclesr_dist.distributed.player import MakePlayer
from cyclesr_dist.distributed.world import World
from cyclesr_dist.distributed.zero import make_zero_player
from cyclesr_dist.errors import ConfigError


def check_backend(config: Config, world: World) -> None:
    """Raise ConfigError when this backend, precision or speed.compile cannot run on this world."""
    if config.backend == "single" and world.num_ranks > 1:
        raise ConfigError(f"backend = single with {world.num_ranks} ranks; allowed: ddp, deepspeed, or one rank")
    if config.precision == "fp16" and world.device.type != "cuda":
        raise ConfigError("precision = fp16 needs a GPU for its loss scaling to make sense; allowed here: fp32, bf16")
    if config.precision == "fp16" and config.backend == "deepspeed":
        # ZeRO updates the scaler of torch_autocast once a parameter group, and ours have two learning rates.
        raise ConfigError("precision = fp16 with backend = deepspeed; allowed: bf16, or backend=ddp")
    if config.nets.sync_batchnorm and world.device.type != "cuda":
        raise ConfigError("nets.sync_batchnorm = true needs GPUs; allowed on CPU: false")
    if config.speed.compile and world.local_rank == 0:  # the others have the same compiler
        check_compiler(world.device.type)


def build_backend(config: Config, world: World) -> MakePlayer:
    """Raises ConfigError, see `check_backend`, or when the world size does not divide the batch."""
    check_backend(config, world)
    rank_batch = world.rank_batch(config.global_batch)
    # `auto` is decided when the system has been built (training/micro_batch.py).
    micro = config.micro_batch if isinstance(config.micro_batch, int) else None
    match config.backend:
        case "single" | "ddp":
            return make_plain_player(
                config.optim, config.precision, world, config.backend == "ddp", config.speed, micro
            )
        case "deepspeed":
            return make_zero_player(
                config.optim, config.precision, config.zero_stage, rank_batch, world, config.speed, micro
            )
