"""The whole configuration as frozen dataclasses. Defaults live here and nowhere else; they are the paper's values.

A YAML file and `key.sub=value` overrides become a `Config` through `load` (see `reader.py` for the reading itself).
Every constructor is given its own section, never the whole tree. This module imports no torch.

Units are in the names (`_px`, `_epochs`, `_steps`); images are in [0, 1]; weights multiply losses computed in [0, 1].
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from pathlib import Path
from typing import Any, Literal

from cyclesr_dist.config.cluster import Cluster, check_cluster
from cyclesr_dist.config.reader import OBJECT_NAME, ObjectName, check_range, read
from cyclesr_dist.config.systems import spec_of
from cyclesr_dist.errors import ConfigError

System = (
    Literal["sr_syn", "sr_paired", "estimated", "cyclegan", "cycle_sr_separate", "cyclesr", "cyclesrgan"] | ObjectName
)
"""One of config/systems.py, or a SystemSpec of yours."""
Downsampling = Literal["bicubic", "bilinear", "nearest"]
Metric = Literal["auto", "psnr", "ssim", "agreement", "spectrum_lr", "spectrum_hr", "psnr_estimated"]
Track = Literal["unknown", "mild", "wild", "camera"] | ObjectName
"""One of degradation/track.py, or a SimulatedTrack of yours."""
Protocol = Literal["plain", "ntire2017", "ntire2018"] | ObjectName
"""One of scoring/score.py, or a scorer of yours."""
PROTOCOLS: tuple[str, ...] = ("plain", "ntire2017", "ntire2018")
Region = Literal["all", "left", "right", "top", "bottom"]


@dataclass(frozen=True)
class Weights:
    """The lambdas of equations (2) and (4). Each value is exactly what multiplies its loss."""

    adv: float = 1.0
    """LSGAN terms of both LR domains, equation (2)."""
    cyc: float = 10.0
    """Cycle consistency, L1, both directions, equation (2)."""
    cyc_backward: float | None = None
    """Weight of the backward direction g_s2r(g_r2s(real)) = real alone; null: the same as `cyc`."""
    id: float = 5.0
    """Identity, L1. The paper's 0.5 is multiplied by lambda_cyc in CycleGAN code, hence 5."""
    spectrum: float = 0.0
    """L1 between the log power spectra of fake_real and of real LR, in decades; beyond the paper."""
    sr_to_s2r: float = 1.0
    """Factor of the SR gradient on its way into g_s2r: 1 is the paper's joint training, 0 lets g_s2r alone. g_l2h's own
    gradient stays."""
    mse: float = 1000.0
    """MSE between g_l2h(fake_real) and HR, equation (4). NTIRE 2017: 1e3; NTIRE 2018: 1e2."""
    l1: float = 0.0
    """L1 beside the MSE, in every system that trains g_l2h on pairs or fake_real; `mse: 0` leaves it alone."""
    percep: float = 1.0
    """VGG perceptual term, equation (4). Read by `system: cyclesrgan` only."""
    texture: float = 0.0
    """Distance of the Gram matrices of VGG features. Read by `system: cyclesrgan` only."""
    advsr: float = 0.05
    """Relativistic average GAN term on HR, equation (4). Read by `system: cyclesrgan` only."""
    more: dict[str, Any] = field(default_factory=dict)
    """Terms of yours beside the MSE: `package.module:function`, (sr, hr) -> scalar, each with its weight."""


@dataclass(frozen=True)
class TranslatorNet:
    """g_s2r and g_r2s."""

    kind: Literal["resnet", "residual", "degradation"] | ObjectName = "resnet"
    """`resnet`: CycleGAN's generator (two stride-2 convolutions, tanh). `residual`: x + f(x), full size, no norm.
    `degradation`: g_s2r starts from the blur and noise measured between `data.hr` and `data.lr`; g_r2s is `residual`.
    Some weights then have other defaults. `package.module:Class` is yours: (channels, blocks, noise_channels)."""
    channels: int = 64
    blocks: int = 9
    noise_channels: int = 0
    """Extra input channels of unit Gaussian noise for g_s2r; 0 is the paper. A deterministic net invents no noise.
    Not read with `kind: degradation`, which has three."""
    estimate: str = ""
    """What `cyclesr estimate` wrote (the folder, or its degradation.json) for `kind: degradation` and `system:
    estimated`. Empty: it is measured when training starts."""


@dataclass(frozen=True)
class PatchGANNet:
    """A PatchGAN discriminator with `layers` stride-2 convolutions: 3 see 70x70 px, 2 see 34, 1 sees 16."""

    channels: int = 64
    layers: int = 3
    norm: Literal["instance", "none"] = "instance"


@dataclass(frozen=True)
class SRNet:
    """g_l2h."""

    kind: Literal["vdsr", "srresnet", "edsr", "rrdb", "compact", "module", "enlarged_resnet", "enlarged_residual"] = (
        "vdsr"
    )
    """`vdsr` (NTIRE 2017) and `srresnet` (NTIRE 2018) are the paper's, `edsr` and `rrdb` those of EDSR and ESRGAN,
    `compact` fits a laptop, `module` is any network of yours, `enlarged_*` a translator behind bicubic enlargement."""
    channels: int = 64
    blocks: int = 20
    bicubic_skip: bool = False
    """Add the bicubic enlargement of the input to the output (`compact` only): small nets then start at bicubic."""
    res_scale: float = 1.0
    """Factor of every residual block (`edsr` only); 0.1 for its 32 blocks of 256."""
    module: str = ""
    """`package.module:Class`, a torch.nn.Module that maps (N, 3, h, w) to (N, 3, h * scale, w * scale), both in
    [0, 1] (`kind: module` only). Where spandrel is installed its architectures are such classes."""
    arguments: dict[str, Any] = field(default_factory=dict)
    """Keyword arguments of that class."""


@dataclass(frozen=True)
class Nets:
    translator: TranslatorNet = field(default_factory=TranslatorNet)
    d_lr: PatchGANNet = field(default_factory=PatchGANNet)
    """d_r and d_s."""
    d_h: PatchGANNet = field(default_factory=PatchGANNet)
    """The HR discriminator of cyclesrgan."""
    sr: SRNet = field(default_factory=SRNet)
    sync_batchnorm: bool = False
    """Share BatchNorm statistics over ranks (GPU only); without it each rank normalises by its own samples."""


@dataclass(frozen=True)
class Perceptual:
    """The network behind `weights.percep` and `weights.texture`."""

    source: str = "torchvision"
    """`torchvision`: VGG19 fetched through torch.hub, hash checked. A path: .safetensors in torchvision's layout.
    `random`: fixed random VGG19 features (named in the report)."""
    layer: int = 34
    """Index in torchvision's `features`, taken before its ReLU: 34 is VGG19 conv5_4, 28 is VGG16 conv5_3."""
    texture_layers: tuple[int, ...] = (0, 5, 10)
    """The same for the Gram matrices, taken behind the ReLU: conv1_1, conv2_1 and conv3_1."""


@dataclass(frozen=True)
class Optim:
    """Adam, as in the paper's training details."""

    lr_cyclegan: float = 2e-4
    """g_s2r, g_r2s, d_r, d_s."""
    lr_sr: float = 1e-4
    """g_l2h, d_h."""
    beta1: float = 0.9
    beta2: float = 0.999
    clip_norm: float = 50.0
    """Largest gradient norm of each player (all generators together; all discriminators together)."""


@dataclass(frozen=True)
class Pool:
    """History of fakes for the discriminators (CycleGAN): one pool a domain for the whole job."""

    size: int = 50
    """Images kept; 0 shows the discriminators the newest fakes only."""


@dataclass(frozen=True)
class Train:
    epochs: int = 200
    pretrain_epochs: int = 5
    """CycleGAN on unpaired LR, SR on bicubic pairs; 0 skips it."""
    constant_epochs: int = 100
    """lr is constant for these, then falls linearly to exactly zero at `epochs`."""
    steps: int = 0
    """Length of the schedule in steps, whatever the size of the data; `pretrain_epochs` and `constant_epochs` then are
    shares of `epochs`. 0: all epochs."""
    max_steps: int = 0
    """Stop early after this many steps; 0: run all epochs. Does not change the lr schedule."""
    log_every_steps: int = 10
    checkpoint_every_steps: int = 500
    validate_every_steps: int = 500
    keep_checkpoints: int = 3
    """The newest ones that stay; the one of the best validation stays besides, where one was written then."""
    checkpoints: str = ""
    """Where they are kept: a folder, or a URL that fsspec can write (s3://bucket/run); empty: in the run folder. A URL
    also gets the run folder's own files, below run/."""
    grace_seconds: float = 25.0
    """After SIGTERM or SIGINT: time to agree, save and leave, on all ranks."""
    lost_rank_seconds: float = 45.0
    """A rank not heard of for so long is lost, and all stop."""
    max_bad_steps: int = 3
    """Steps with gradients that are not finite which are left out, since the last checkpoint. With one more the run
    goes back to that checkpoint."""
    max_rollbacks: int = 1
    """How often it does; then it stops."""
    rollback_steps: int = 20
    """Batches before the first bad one that are left out, too, after going back: one of them may have done the harm."""


@dataclass(frozen=True)
class Augment:
    """Flips, quarter turns and exchanged colours, drawn from (seed, epoch, sample). A turned LR has a turned blur."""

    hr_flip: bool = True
    hr_rotate: bool = True
    lr_flip: bool = True
    lr_rotate: bool = True
    hr_colours: bool = False
    """Exchange the colour channels at random. For few photographs: hues that none of them has would else drift."""
    lr_colours: bool = False
    """The same for real LR. It also exchanges the channels of its noise, which a camera treats differently."""


@dataclass(frozen=True)
class Remote:
    """Shard sets that are not local folders: http(s)://, s3:// and every other URL that fsspec knows."""

    cache_dir: str = ""
    """Folder on a local disk, shared by all processes of a machine; empty: cyclesr-dist in the user's cache folder."""
    cache_gb: float = 20.0
    """Size of that cache; the samples of the shards used longest ago leave it first. 0: no cache."""
    retries: int = 6
    """Attempts after a failed one, with waits of 0.2 s that double up to 10 s, before a sample counts as bad."""


@dataclass(frozen=True)
class Data:
    hr: str = ""
    """Shard set of HR patches: a folder or URL."""
    lr: str = ""
    """Shard set of real LR patches, unrelated to `hr`."""
    pairs: str = ""
    """Shard set of aligned (real LR, HR) patches: `system: sr_paired` only."""
    allow_overlap: bool = False
    """Train although the manifests show that some LR patches come from a photograph that HR patches come from."""
    downsampling: Downsampling = "bicubic"
    """How synthetic LR is made of HR. The paper's is bicubic; bilinear is antialiased like it, nearest is not."""
    tail: Literal["drop", "wrap"] = "drop"
    """The last, incomplete global batch of an epoch: `drop` leaves it out, `wrap` fills it from the epoch's start."""
    max_bad_samples: int = 0
    """Samples that may be corrupt or missing, over all ranks: each is reported once and another drawn in its place.
    One more ends the run on all ranks."""
    max_sample_mb: float = 64.0
    """A sample larger than this, encoded or decoded, is refused unread."""
    valid_hr: str = ""
    """Folder of sharp photographs for validation. If none of them matches an LR photograph by name, they are taken
    for unrelated ones, and validation does without pairs."""
    valid_lr: str = ""
    """Folder of real LR photographs for validation; empty: no validation."""
    workers: int = 0
    """Loader processes per rank; 0: the training process reads by itself."""
    prefetch: int = 2
    """Batches that each loader process prepares ahead."""
    log_keys: bool = False
    """Write keys.rank<r>.jsonl: the sample keys of every step."""
    augment: Augment = field(default_factory=Augment)
    remote: Remote = field(default_factory=Remote)


@dataclass(frozen=True)
class Validate:
    protocol: Protocol = "plain"
    metric: Metric = "auto"
    """What the best checkpoint is chosen by; `auto`: psnr with pairs; else with sharp photographs psnr_estimated, for
    which the degradation is measured between `data.hr` and `data.lr`, or spectrum_hr where a system does without these;
    and without sharp photographs agreement. scoring/reference_free.py explains these scores."""
    crop_px: int = 96
    """LR side of the central crop that the metrics without pairs look at."""
    pictures: int = 2
    """Photographs whose centres are kept as pictures at validations, for the report; 0: none."""


@dataclass(frozen=True)
class Shards:
    """How `cyclesr shards build` chooses, cuts and packs."""

    patch: int = 120
    """LR patch size in px; HR patches are `scale` times that."""
    stride: int = 60
    """Distance of LR patches in px; HR patches are cut `scale` times that apart."""
    min_std: float = 0.0
    """Leave out patches whose standard deviation, in [0, 1], is below this (flat sky)."""
    encoding: Literal["tiff", "webp", "png", "jpeg"] = "tiff"
    """`tiff` (lossless: horizontal differences, Zstandard) decodes fastest, `webp` (lossless) is smallest, `png` is
    lossless too, `jpeg` loses; docs/decisions/0004-streaming.md has the figures."""
    jpeg_quality: int = 95
    """Of 100, without chroma subsampling; `encoding: jpeg` only."""
    samples_per_shard: int = 512
    hr_region: Region = "all"
    """Part of each photograph of the `--hr` folder to cut from: with `left` here and `right` below, one folder of
    photographs serves as both domains without a shared pixel."""
    lr_region: Region = "all"
    """The same for the `--lr` folder, and for pairs."""
    hr_scenes: str = ""
    """Scenes of the `--hr` folder, as in DIV2K: "0001-0400" takes the images whose number is in this range; empty: all.
    """
    lr_scenes: str = ""
    """The same for the `--lr` folder, and for pairs."""


@dataclass(frozen=True)
class Degrade:
    """Levels of the simulated tracks. Lengths in HR px, noise in [0, 1].

    unknown, mild and wild are equation (1): y = (x * k) down s + n. camera is not (degradation/camera.py).
    """

    blur_px: float = 9.0
    """unknown: width of the fixed kernel; mild: length of the motion blur; wild: the largest length drawn; camera:
    standard deviation of the lens blur, times 0.8 to 1.2 per image."""
    noise: float = 0.02
    """mild: standard deviation of the Poisson noise at mid grey; wild: the largest level drawn; camera: standard
    deviation of the sensor's noise at mid grey, before demosaicing, times 0.7 to 1.3 per image. unknown has none."""
    shift_px: int = 4
    """mild: largest shift in HR px along each axis; wild: the same. unknown and camera have none."""
    jpeg_quality: int = 80
    """camera: quality of its JPEG files, 1 to 100, plus -8 to 8 per image. The others have no JPEG."""


@dataclass(frozen=True)
class Speed:
    """How a step is computed, not what, but for rounding (docs/performance.md)."""

    join_passes: bool = True
    """Image sets that meet the same translator or discriminator go through it as one batch. g_l2h, which may have
    BatchNorm, sees one set a step anyway."""
    channels_last: bool = True
    """Activations lie in memory pixel by pixel."""
    fast_layers: bool = True
    """InstanceNorm, and on CPUs large kernels with few outputs, in ways of our own (nets/layers.py)."""
    fused_adam: bool = True
    """One kernel for all of Adam's arithmetic."""
    keep_memory: bool = True
    """On CPUs: memory that is freed stays with the process (runtime/memory.py). Changes no bit."""
    recompute: bool = False
    """Activation checkpointing: a network's activations are computed again for its backward. Less memory, more time."""
    compile: bool = False
    """torch.compile of each network: minutes at the first start, seconds later (docs/performance.md)."""


@dataclass(frozen=True)
class Telemetry:
    port: int = 0
    """Base port of /metrics; each rank of a machine listens on port + its number there. 0: off."""
    port_search: int = 0
    """Where a port is taken, so many behind it are tried; 0: a taken port is an error. The run folder's
    prometheus_targets.json has the ports."""
    host: str = "127.0.0.1"
    """Address to listen on. 127.0.0.1: this machine alone; 0.0.0.0 or ::: every interface."""
    push_gateway: str = ""
    """URL of a Prometheus push gateway, for jobs too short to be scraped; empty: none."""
    push_every_seconds: float = 30.0
    log: Literal["auto", "live", "plain", "json"] = "auto"
    """What the main rank shows while it trains: `live`, one view that redraws itself; `plain` lines; `json` lines.
    `auto`: live on a terminal, else plain."""
    trackers: tuple[Literal["tensorboard", "wandb", "mlflow"] | ObjectName, ...] = ()
    """Where else numbers and pictures go; each is an extra of the package, or `package.module:Class` of yours. W&B and
    MLflow read their own environment variables."""
    project: str = "cyclesr"
    """Project of W&B, experiment of MLflow."""


@dataclass(frozen=True)
class Config:
    system: System = "cyclesr"
    seed: int = 0
    scale: int = 4
    track: Track = "unknown"
    """Degradation simulated by `cyclesr degrade` and the demo; recorded in the report."""
    backend: Literal["single", "ddp", "deepspeed"] = "ddp"
    zero_stage: int = 1
    """DeepSpeed only: 0, 1, 2 or 3."""
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    global_batch: int = 32
    """Samples a step over all ranks; the world size must divide it."""
    ema_decay: float = 0.0
    """Exponential moving average of g_l2h; 0: off. With it, the average is what is validated and exported."""
    weights: Weights = field(default_factory=Weights)
    nets: Nets = field(default_factory=Nets)
    perceptual: Perceptual = field(default_factory=Perceptual)
    optim: Optim = field(default_factory=Optim)
    pool: Pool = field(default_factory=Pool)
    train: Train = field(default_factory=Train)
    data: Data = field(default_factory=Data)
    validate: Validate = field(default_factory=Validate)
    shards: Shards = field(default_factory=Shards)
    degrade: Degrade = field(default_factory=Degrade)
    speed: Speed = field(default_factory=Speed)
    telemetry: Telemetry = field(default_factory=Telemetry)
    cluster: Cluster = field(default_factory=Cluster)
    """For `launch/submit.py` alone."""


MEASURED: Literal["degradation"] = "degradation"
"""`nets.translator.kind` of a g_s2r that starts from the estimate."""
_DRAW_CHANNELS = 3  # degradation/apply.py

MEASURED_DEFAULTS = Config(
    weights=Weights(adv=0.01, cyc=0.0, cyc_backward=0.0, id=0.0, spectrum=0.3, sr_to_s2r=0.0),
    nets=Nets(translator=TranslatorNet(kind=MEASURED)),
)
"""Defaults with `nets.translator.kind: degradation`: what a network that starts from the identity needs does harm here
(docs/decisions/0005-measured-first.md)."""


def uses_estimate(config: Config) -> bool:
    """Whether a run needs the estimated degradation."""
    return spec_of(config.system).needs_estimate(config.nets.translator.kind == MEASURED)


def noise_channels(config: Config) -> int:
    """Channels of unit Gaussian noise that g_s2r takes beside the three colours."""
    measured = spec_of(config.system).measured or config.nets.translator.kind == MEASURED
    return _DRAW_CHANNELS if measured else config.nets.translator.noise_channels


def load(path: str | Path | None = None, overrides: Sequence[str] = ()) -> Config:
    """Read `path` (None: all defaults), apply `a.b=value` overrides, check ranges.

    Raises ConfigError naming the file and line (or the override), the key, the value and what is allowed.
    """
    config = read(Config, path, overrides)
    if config.nets.translator.kind == MEASURED:
        config = read(Config, path, overrides, MEASURED_DEFAULTS)
    check(config)
    return config


_SCALES = (2, 3, 4, 8)  # what the SR networks' pixel shuffle stages make


def check(c: Config) -> None:
    """Raise ConfigError, naming the key, for ranges that types cannot express and values that contradict each other."""
    if c.scale not in _SCALES:
        raise ConfigError(f"scale = {c.scale}; allowed: {', '.join(map(str, _SCALES))}")
    _check_at_least(c, 0, "seed", "data.workers", "pool.size", "perceptual.layer", "nets.translator.noise_channels")
    if not c.perceptual.texture_layers:
        raise ConfigError("perceptual.texture_layers = []; allowed: one convolution or more, or weights.texture=0")
    check_range("validate.crop_px", c.validate.crop_px, minimum=16)
    check_range("validate.pictures", c.validate.pictures, minimum=0, maximum=12)
    _check_at_least(c, 0, "nets.d_lr.layers", "nets.d_h.layers", "train.pretrain_epochs", "train.constant_epochs")
    _check_at_least(c, 0, "train.steps", "train.max_steps", "train.validate_every_steps", "degrade.shift_px")
    _check_at_least(c, 1, "global_batch", "nets.translator.channels", "nets.translator.blocks", "nets.d_lr.channels")
    _check_at_least(c, 1, "nets.d_h.channels", "nets.sr.channels", "nets.sr.blocks", "train.epochs")
    _check_at_least(c, 1, "train.log_every_steps", "train.checkpoint_every_steps", "train.keep_checkpoints")
    _check_at_least(c, 0, "train.max_bad_steps", "train.max_rollbacks", "train.rollback_steps")
    check_range("train.grace_seconds", c.train.grace_seconds, above=0)
    check_range("train.lost_rank_seconds", c.train.lost_rank_seconds, minimum=10)
    _check_at_least(c, 0, "data.max_bad_samples", "data.remote.cache_gb", "data.remote.retries")
    _check_at_least(c, 1, "data.prefetch")
    check_range("data.max_sample_mb", c.data.max_sample_mb, above=0)
    check_range("shards.jpeg_quality", c.shards.jpeg_quality, minimum=1, maximum=100)
    _check_at_least(c, 1, "shards.patch", "shards.stride", "shards.samples_per_shard")
    for name in ("adv", "cyc", "id", "mse", "l1", "percep", "texture", "advsr"):
        check_range(f"weights.{name}", getattr(c.weights, name), minimum=0)
    for name, weight in c.weights.more.items():
        if not OBJECT_NAME.fullmatch(name) or isinstance(weight, bool) or not isinstance(weight, int | float):
            raise ConfigError(f"weights.more = {{{name}: {weight!r}}}; allowed: package.module:function with a number")
        check_range(f"weights.more[{name}]", weight, minimum=0)
    if c.weights.cyc_backward is not None:
        check_range("weights.cyc_backward", c.weights.cyc_backward, minimum=0)
    check_range("zero_stage", c.zero_stage, minimum=0, maximum=3)
    check_range("ema_decay", c.ema_decay, minimum=0, below=1)
    for name in ("lr_cyclegan", "lr_sr", "clip_norm"):
        check_range(f"optim.{name}", getattr(c.optim, name), above=0)
    for name in ("beta1", "beta2"):
        check_range(f"optim.{name}", getattr(c.optim, name), minimum=0, below=1)
    check_range("shards.min_std", c.shards.min_std, minimum=0, maximum=1)
    check_range("degrade.noise", c.degrade.noise, minimum=0, maximum=1)
    check_range("degrade.blur_px", c.degrade.blur_px, minimum=0, maximum=255)
    check_range("degrade.jpeg_quality", c.degrade.jpeg_quality, minimum=1, maximum=100)
    check_telemetry(c.telemetry)
    check_cluster(c.cluster)
    for name in ("pretrain_epochs", "constant_epochs"):
        check_range(f"train.{name}", getattr(c.train, name), maximum=c.train.epochs)
    check_range("nets.sr.res_scale", c.nets.sr.res_scale, above=0, maximum=1)
    if (c.nets.sr.kind == "module") != bool(c.nets.sr.module):
        raise ConfigError(
            f"nets.sr.module = {c.nets.sr.module!r} with nets.sr.kind = {c.nets.sr.kind}; "
            "a class, package.module:Class, belongs to kind: module and to no other"
        )
    if c.nets.sr.bicubic_skip and c.nets.sr.kind != "compact":
        raise ConfigError(f"nets.sr.bicubic_skip = true with nets.sr.kind = {c.nets.sr.kind}; allowed with: compact")
    spec = spec_of(c.system)
    if spec.perceptual and not (c.weights.percep or c.weights.advsr or c.weights.texture):
        raise ConfigError(
            f"system = {c.system} with weights.percep = weights.advsr = weights.texture = 0; "
            "use system=cyclesr for that"
        )
    if spec.cycle == "hr" and ":" in c.nets.translator.kind:
        raise ConfigError(
            f"nets.translator.kind = {c.nets.translator.kind} with system = {c.system}, which enlarges with it; "
            "allowed: resnet, residual"
        )
    if not (c.weights.mse or c.weights.l1) and spec.cycle != "hr" and not spec.perceptual:
        raise ConfigError(f"weights.mse = weights.l1 = 0 with system = {c.system}; one of them must be above 0")


def check_telemetry(t: Telemetry) -> None:
    check_range("telemetry.port", t.port, minimum=0, maximum=65535)
    check_range("telemetry.port_search", t.port_search, minimum=0, maximum=1000)
    check_range("telemetry.push_every_seconds", t.push_every_seconds, minimum=1)
    if t.push_gateway and not t.push_gateway.startswith(("http://", "https://")):
        raise ConfigError(f"telemetry.push_gateway = {t.push_gateway!r}; allowed: a URL, http:// or https://, or empty")


def _check_at_least(c: Config, minimum: int, *keys: str) -> None:
    for key in keys:
        check_range(key, attrgetter(key)(c), minimum=minimum)
