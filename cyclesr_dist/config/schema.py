"""The whole configuration as frozen dataclasses. Defaults live here and nowhere else; they are the paper's values.

A YAML file and `key.sub=value` overrides become a `Config` through `load` (see `reader.py` for the reading itself).
Every constructor is given its own section, never the whole tree. This module imports no torch. docs/configuration.md
says who turns each key; the text below a field is what `cyclesr config` and editors show of it.

Units are in the names (`_px`, `_epochs`, `_steps`); images are in [0, 1]; weights multiply losses computed in [0, 1].
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from cyclesr_dist.config.cluster import Cluster, check_cluster
from cyclesr_dist.config.credentials import check_credentials
from cyclesr_dist.config.marks import (
    AboveZero,
    Amount,
    Count,
    PathToRead,
    Positive,
    Range,
    Removed,
    ToRead,
    check_marks,
)
from cyclesr_dist.config.metrics import MetricName, PerceptualName
from cyclesr_dist.config.reader import OBJECT_NAME, ObjectName, Samples, check_range, read, to_dict
from cyclesr_dist.config.slurm import Slurm, check_slurm
from cyclesr_dist.config.systems import spec_of
from cyclesr_dist.errors import ConfigError

System = (
    Literal[
        "sr_syn",
        "sr_paired",
        "estimated",
        "cyclegan",
        "cycle_sr_separate",
        "cyclesr",
        "cyclesrgan",
        "high_to_low",
        "dsgan",
        "cincgan",
        "pseudo_supervision",
        "pdm",
    ]
    | ObjectName
)
"""One of config/systems.py, or a SystemSpec of yours."""
Downsampling = Literal["bicubic", "bilinear", "nearest"]
HIGH_ORDER: Literal["high_order"] = "high_order"
Metric = Literal["auto"] | MetricName | ObjectName
"""One of config/metrics.py, or a MetricSpec of yours."""
Track = Literal["unknown", "mild", "wild", "camera"] | ObjectName
"""One of degradation/track.py, or a SimulatedTrack of yours."""
Protocol = Literal["plain", "ntire2017", "ntire2018"] | ObjectName
"""One of scoring/score.py, or a scorer of yours."""
PROTOCOLS: tuple[str, ...] = ("plain", "ntire2017", "ntire2018")
Region = Literal["all", "left", "right", "top", "bottom"]


@dataclass(frozen=True)
class Weights:
    """The lambdas of equations (2) and (4). Each value is exactly what multiplies its loss."""

    adv: Amount = 1.0
    """LSGAN terms of both LR domains, equation (2)."""
    cyc: Amount = 10.0
    """Cycle consistency, L1, both directions, equation (2)."""
    cyc_backward: Amount | None = None
    """Weight of the backward direction g_s2r(g_r2s(real)) = real alone; null: the same as `cyc`."""
    id: Amount = 5.0
    """Identity, L1. The paper's 0.5 is multiplied by lambda_cyc in CycleGAN code, hence 5."""
    spectrum: Amount = 0.0
    """L1 between the log power spectra of fake_real and of real LR, in decades. Not in the paper."""
    content: Amount = 20.0
    """What keeps fake_real near what it is made of, where nothing leads back: MSE to averaged HR in `system:
    high_to_low`, L1 of low frequencies in `dsgan`, the mean square of the noise in `pdm`. Read by them only."""
    tv: Amount = 0.5
    """Total variation of cleaned LR and of enlarged images. Read by `system: cincgan` only."""
    geo: Amount = 1.0
    """L1 between what cleans LR and the mean of what it does in eight positions. Read by `system: pseudo_supervision`
    only."""
    sr_to_s2r: Amount = 1.0
    """Factor of the SR gradient where it enters g_s2r. 1: the paper's joint training. 0: the SR loss does not train
    g_s2r. The gradient of g_l2h is the same with any factor."""
    mse: Amount = 1000.0
    """MSE between g_l2h(fake_real) and HR, equation (4). NTIRE 2017: 1e3; NTIRE 2018: 1e2."""
    l1: Amount = 0.0
    """L1 between the same two images, added to the MSE in every system that trains g_l2h on pairs or fake_real. With
    `mse: 0` it replaces the MSE."""
    percep: Amount = 1.0
    """VGG perceptual term, equation (4). Read by `system: cyclesrgan` only."""
    texture: Amount = 0.0
    """Distance of the Gram matrices of VGG features. Read by `system: cyclesrgan` only."""
    advsr: Amount = 0.05
    """Relativistic average GAN term on HR, equation (4), read by `system: cyclesrgan`; LSGAN on HR in `cincgan` and
    `pseudo_supervision`. Read by them only."""
    more: dict[str, Any] = field(default_factory=dict)
    """Terms of yours, added to the MSE: `package.module:function`, (sr, hr) -> scalar, each with its weight."""


@dataclass(frozen=True)
class TranslatorNet:
    """g_s2r and g_r2s."""

    kind: Literal["resnet", "residual", "degradation"] | ObjectName = "resnet"
    """`resnet`: CycleGAN's generator (two stride-2 convolutions, tanh). `residual`: x + f(x), full size, no norm.
    `degradation`: g_s2r starts from the blur and noise measured between `data.hr` and `data.lr`; g_r2s is `residual`.
    Some weights then have other defaults. `package.module:Class` is yours: (channels, blocks, noise_channels)."""
    channels: Positive = 64
    """Features of its first layer; a wider network learns more and takes more time and memory."""
    blocks: Positive = 9
    """Residual blocks."""
    noise_channels: Count = 0
    """Extra input channels of unit Gaussian noise for g_s2r; 0 is the paper. A deterministic net invents no noise.
    Not read with `kind: degradation`, which has three."""
    estimate: PathToRead = ""
    """What `cyclesr estimate` wrote (the folder, or its degradation.json) for `kind: degradation` and `system:
    estimated`. Empty: it is measured when training starts."""


@dataclass(frozen=True)
class PatchGANNet:
    """A PatchGAN discriminator with `layers` stride-2 convolutions: 3 see 70x70 px, 2 see 34, 1 sees 16."""

    channels: Positive = 64
    """Features of its first layer; the next ones have up to 8 times that."""
    layers: Count = 3
    """How far it sees, which must fit into a patch."""

    REMOVED: ClassVar[Mapping[str, Removed]] = {"norm": Removed("instance", "discriminators have InstanceNorm")}


Upsampler = Literal["pixelshuffledirect", "pixelshuffle", "nearest+conv"]


@dataclass(frozen=True)
class SRNet:
    """g_l2h."""

    kind: Literal[
        "vdsr",
        "srresnet",
        "edsr",
        "rrdb",
        "compact",
        "srvgg",
        "msrresnet",
        "span",
        "realplksr",
        "swinir",
        "module",
        "enlarged_resnet",
        "enlarged_residual",
        "translated",
    ] = "vdsr"
    """`vdsr` (NTIRE 2017) and `srresnet` (NTIRE 2018) are the paper's; `edsr`, `rrdb`, `srvgg` and `msrresnet` those of
    EDSR, ESRGAN, Real-ESRGAN's small models and BasicSR; `span`, `realplksr` and `swinir` newer ones; `compact` fits a
    laptop, `module` is any network of yours, `enlarged_*` a translator behind bicubic enlargement. `translated`
    is what `cincgan` and `pseudo_supervision` export, and cannot be chosen."""
    channels: Positive = 64
    """Features of every layer; a wider network may be sharper, and is slower. A multiple of 4 for `realplksr`, of 6 for
    `swinir`."""
    blocks: Positive = 20
    """Residual blocks (each of 6 layers in `swinir`), or layers of `vdsr`; a deeper network may be sharper, and is
    slower."""
    bicubic_skip: bool = False
    """Add the bicubic enlargement of the input to the output (`compact` only): small nets then start at bicubic."""
    res_scale: Annotated[float, Range(above=0, maximum=1)] = 1.0
    """Factor of every residual block (`edsr` only); 0.1 for its 32 blocks of 256."""
    module: str = ""
    """`package.module:Class`, a torch.nn.Module that maps (N, 3, h, w) to (N, 3, h * scale, w * scale), both in
    [0, 1] (`kind: module` only). Where spandrel is installed its architectures are such classes."""
    arguments: dict[str, Any] = field(default_factory=dict)
    """Keyword arguments of that class; of `translated`, its two networks."""
    mean_shift: bool = False
    """Work on colours minus DIV2K's mean, times 255, as the own weights of EDSR and SPAN need it (`edsr` and `span`
    only)."""
    layer_norm: bool = False
    """Normalise each pixel, not the whole image (`realplksr` only): tiles then give what one piece gives."""
    upsampler: Upsampler = "pixelshuffledirect"
    """How `swinir` enlarges: as the authors' lightweight, classical or real-world networks."""
    init: PathToRead = ""
    """What g_l2h starts from: a run folder, RUN@last, a checkpoint's folder, a model file, or weights of ESRGAN,
    Real-ESRGAN, EDSR, MSRResNet, SPAN, RealPLKSR or SwinIR (.pth, .safetensors). The network must be the same. Empty:
    drawn by `seed`."""


@dataclass(frozen=True)
class Nets:
    """The networks."""

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

    source: Annotated[str, ToRead(names=("torchvision", "random"))] = "torchvision"
    """`torchvision`: VGG19 fetched through torch.hub, hash checked. A path: .safetensors in torchvision's layout.
    `random`: fixed random VGG19 features (named in the report)."""
    layer: Count = 34
    """Index in torchvision's `features`, taken before its ReLU: 34 is VGG19 conv5_4, 28 is VGG16 conv5_3."""

    REMOVED: ClassVar[Mapping[str, Removed]] = {
        "texture_layers": Removed([0, 5, 10], "Gram matrices are of conv1_1, conv2_1 and conv3_1 (0, 5, 10)")
    }


@dataclass(frozen=True)
class Optim:
    """Adam, as in the paper's training details; with `weight_decay`, AdamW."""

    lr_cyclegan: AboveZero = 2e-4
    """Learning rate of g_s2r, g_r2s, d_r and d_s."""
    lr_sr: AboveZero = 1e-4
    """Learning rate of g_l2h and d_h."""
    beta1: Annotated[float, Range(minimum=0, below=1)] = 0.9
    """Adam's: how much of the mean gradient stays from step to step."""
    beta2: Annotated[float, Range(minimum=0, below=1)] = 0.999
    """Adam's: how much of the mean squared gradient stays from step to step."""
    weight_decay: Amount = 0.0
    """Above 0, the optimizer is AdamW: each step takes learning rate times this share off every weight tensor. Biases,
    norms and PReLU slopes are left out. 0: the paper's Adam."""
    clip_norm: AboveZero = 50.0
    """Largest gradient norm of each player (all generators together; all discriminators together)."""


@dataclass(frozen=True)
class Pool:
    """History of fakes for the discriminators (CycleGAN): one pool a domain for the whole job."""

    size: Count = 50
    """Images kept; 0 shows the discriminators the newest fakes only."""


@dataclass(frozen=True)
class Train:
    """How long, what is written meanwhile, and what happens when something goes wrong."""

    epochs: Positive = 200
    """Passes over the HR patches (sr_paired: over the pairs)."""
    pretrain_epochs: Count = 5
    """CycleGAN on unpaired LR, SR on bicubic pairs; 0 skips it."""
    constant_epochs: Count = 100
    """lr is constant for these, then falls to exactly zero at `epochs`, as `decay` says."""
    decay: Literal["linear", "cosine"] = "linear"
    """How the learning rate falls: on a line, or on half a cosine wave."""
    warmup_steps: Count = 0
    """The learning rate rises on a line to its full value over so many steps, at the beginning of every round of the
    schedule. They count as part of `constant_epochs`."""
    steps: Count = 0
    """Length of the schedule in steps, whatever the size of the data; `pretrain_epochs` and `constant_epochs` then are
    shares of `epochs`. 0: all epochs."""
    max_steps: Count = 0
    """Stop early after this many steps; 0: run all epochs. Does not change the lr schedule."""
    log_every_steps: Positive = 10
    """How often a line goes into metrics.jsonl and onto the terminal."""
    checkpoint_every_steps: Positive = 500
    """How often a checkpoint is written, from which `--resume` continues."""
    validate_every_steps: Count = 500
    """How often g_l2h is scored on the validation photographs; 0: never."""
    keep_checkpoints: Positive = 3
    """How many of the newest ones stay, and as many without bad steps just before them. The one of the best validation
    also stays, where one was written at that step."""
    start_from: PathToRead = ""
    """A run folder, or a checkpoint's folder: every network that both runs have starts from its newest checkpoint.
    Optimizers, schedule, pools and the measured degradation are this run's own. Empty: drawn by `seed`."""
    checkpoints: str = ""
    """Where they are kept: a folder, or a URL that fsspec can write (s3://bucket/run); empty: in the run folder. A URL
    also gets the run folder's own files, below run/."""
    grace_seconds: AboveZero = 25.0
    """After a signal that asks to stop: time to agree, save and leave, on all ranks."""
    lost_rank_seconds: Annotated[float, Range(minimum=10)] = 45.0
    """A rank that gives no sign of life for so long counts as lost, and all ranks stop."""
    max_bad_steps: Count = 3
    """How many steps may have gradients that are not finite since the last checkpoint with none among the 20 steps
    before it: they are left out. After one more, the run goes back to that checkpoint."""
    max_rollbacks: Count = 1
    """How often a run goes back to a checkpoint so; then it stops."""

    REMOVED: ClassVar[Mapping[str, Removed]] = {
        "rollback_steps": Removed(20, "after going back the 20 batches before the first bad one are left out, too")
    }


@dataclass(frozen=True)
class Augment:
    """Flips, quarter turns and exchanged colours, drawn from (seed, epoch, sample). A turned LR has a turned blur.

    HR is always flipped and turned. Pairs are treated as LR is, both alike.
    """

    lr_flip: bool = True
    """Mirror real LR at random. false if even a mirrored blur is another one: motion along a diagonal."""
    lr_rotate: bool = True
    """Turn real LR by quarters at random. false unless its blur is the same in all directions."""
    hr_colours: bool = False
    """Exchange the colour channels at random. For few photographs: hues that none of them has would else drift."""
    lr_colours: bool = False
    """The same for real LR. It also exchanges the channels of its noise, which a camera treats differently."""

    REMOVED: ClassVar[Mapping[str, Removed]] = {
        "hr_flip": Removed(True, "HR is always flipped at random"),
        "hr_rotate": Removed(True, "HR is always turned at random"),
    }


@dataclass(frozen=True)
class Remote:
    """Shard sets that are not local folders: http(s)://, s3:// and every other URL that fsspec knows."""

    cache_dir: str = ""
    """Folder on a local disk, shared by all processes of a machine; empty: cyclesr-dist in the user's cache folder."""
    cache_gb: Amount = 20.0
    """Size of that cache; the samples of the shards used longest ago leave it first. 0: no cache. An HTTP server that
    does not give parts of files needs room for all shard sets."""
    retries: Count = 6
    """Attempts after a failed one, with waits of 0.2 s that double up to 10 s, before the run ends with exit code 1;
    of local folders, too, which may be on a network disk."""


@dataclass(frozen=True)
class WeightedSet:
    """One of several shard sets, with its share."""

    url: PathToRead
    """A folder or URL."""
    weight: AboveZero
    """So many samples are drawn from it for each that a set of weight 1 gives, whatever their sizes."""


ShardSets = PathToRead | tuple[PathToRead | WeightedSet, ...]
"""One place, or a list of places; in a list all have weights or none has."""


@dataclass(frozen=True)
class Data:
    """What a run trains and validates on, and how it is read."""

    hr: ShardSets = ""
    """Shard set of HR patches: a folder or URL. Or several: `[a, b]` draws every sample as often as any other, `[{url:
    a, weight: 3}, {url: b, weight: 1}]` draws three of a for each of b."""
    lr: ShardSets = ""
    """Shard set of real LR patches, unrelated to `hr`; or several, as there."""
    pairs: ShardSets = ""
    """Shard set of aligned (real LR, HR) patches, or several: `system: sr_paired` only."""
    allow_overlap: bool = False
    """Train although the manifests show that some LR patches come from a photograph that HR patches come from."""
    downsampling: Downsampling | Literal["high_order"] = "bicubic"
    """How synthetic LR is made of HR. The paper's is bicubic; bilinear is antialiased like it, nearest is not.
    `high_order` is Real-ESRGAN's: two rounds of blur, resizing, noise and JPEG, drawn anew for every sample; for
    `system: sr_syn`, or one of yours that trains on HR alone."""
    tail: Literal["drop", "wrap"] = "drop"
    """The last, incomplete global batch of an epoch: `drop` leaves it out, `wrap` fills it from the epoch's start."""
    max_bad_samples: Count = 0
    """Samples that may be corrupt or missing, over all ranks: each is reported once and another drawn in its place.
    One more ends the run on all ranks."""
    valid_hr: PathToRead = ""
    """Folder of sharp photographs for validation. If none of them matches an LR photograph by name, they are taken
    for unrelated ones, and validation does without pairs."""
    valid_lr: PathToRead = ""
    """Folder of real LR photographs for validation; empty: no validation."""
    workers: Count = 0
    """Loader processes per rank; 0: the training process reads by itself."""
    prefetch: Positive = 2
    """Batches that each loader process prepares ahead."""
    log_keys: bool = False
    """Write keys.rank<r>.jsonl: the sample keys of every step."""
    augment: Augment = field(default_factory=Augment)
    remote: Remote = field(default_factory=Remote)

    REMOVED: ClassVar[Mapping[str, Removed]] = {
        "max_sample_mb": Removed(64.0, "a sample of more than 64 MB, encoded or decoded, is refused unread")
    }


@dataclass(frozen=True)
class Validate:
    """The photographs that a run is judged by, see `data.valid_lr`."""

    protocol: Protocol = "plain"
    """How PSNR and SSIM are taken: `plain`, or as a challenge did (docs/results.md)."""
    metric: Metric = "auto"
    """What the best checkpoint is chosen by; `auto`: psnr with pairs; else with sharp photographs psnr_estimated, for
    which the degradation is measured between `data.hr` and `data.lr`, or spectrum_hr where a system does without these;
    and without sharp photographs agreement. scoring/reference_free.py explains these scores.
    `package.module:METRIC` is one of yours."""
    scores: tuple[PerceptualName, ...] = ()
    """Perceptual scores that are taken besides, of whole photographs (docs/scores.md). `metric` need not be among them.
    All but niqe need pairs, and weights that are fetched once."""
    pictures: Annotated[int, Range(minimum=0, maximum=12)] = 2
    """Photographs whose centres are kept as pictures at validations, for the report; 0: none."""

    REMOVED: ClassVar[Mapping[str, Removed]] = {
        "crop_px": Removed(96, "metrics without pairs look at a central crop of 96 LR px")
    }


@dataclass(frozen=True)
class Shards:
    """How `cyclesr shards build` chooses, cuts and packs."""

    patch: Positive = 120
    """LR patch size in px; HR patches are `scale` times that."""
    stride: Positive = 60
    """Distance of LR patches in px; HR patches are cut `scale` times that apart."""
    min_std: Annotated[float, Range(minimum=0, maximum=1)] = 0.0
    """Leave out patches whose standard deviation, in [0, 1], is below this (flat sky)."""
    encoding: Literal["tiff", "webp", "png", "jpeg", "npy"] = "tiff"
    """`tiff` (lossless: horizontal differences, Zstandard) decodes fastest of what is compressed, `webp` (lossless) is
    smallest, `png` is lossless too, `npy` is not compressed (NumPy's format: twice to three times as large, nothing to
    decode), `jpeg` (quality 95, no chroma subsampling) loses; docs/decisions/0004-streaming.md has the figures."""
    samples_per_shard: Positive = 512
    """Samples in one tar: larger ones are fewer files, smaller ones spread better over a remote store's requests."""
    align: bool = True
    """Pairs: move HR by the shift found between both photographs before cutting. false: as they lie, for pairs that are
    aligned already or are to show what misalignment does."""
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

    REMOVED: ClassVar[Mapping[str, Removed]] = {"jpeg_quality": Removed(95, "`encoding: jpeg` has quality 95")}


@dataclass(frozen=True)
class Degrade:
    """Levels of the simulated tracks. Lengths in HR px, noise in [0, 1].

    unknown, mild and wild are equation (1): y = (x * k) down s + n. camera is not (degradation/camera.py).
    """

    blur_px: Annotated[float, Range(minimum=0, maximum=255)] = 9.0
    """unknown: width of the fixed kernel; mild: length of the motion blur; wild: the largest length drawn; camera:
    standard deviation of the lens blur, times 0.8 to 1.2 per image."""
    noise: Annotated[float, Range(minimum=0, maximum=1)] = 0.02
    """mild: standard deviation of the Poisson noise at mid grey; wild: the largest level drawn; camera: standard
    deviation of the sensor's noise at mid grey, before demosaicing, times 0.7 to 1.3 per image. unknown has none."""
    shift_px: Annotated[int, Range(minimum=0, maximum=255)] = 4
    """mild: largest shift in HR px along each axis; wild: the same. unknown and camera have none."""
    jpeg_quality: Annotated[int, Range(minimum=1, maximum=100)] = 80
    """camera: quality of its JPEG files, 1 to 100, plus -8 to 8 per image. The others have no JPEG."""


@dataclass(frozen=True)
class Speed:
    """How a step is computed. Results are the same but for rounding (docs/performance.md)."""

    plain: bool = False
    """Use PyTorch's own operations only, none of the faster ones of this project: to see whether those are at fault."""
    recompute: bool = False
    """Activation checkpointing: a network's activations are computed again for its backward. Less memory, more time."""
    compile: bool = False
    """torch.compile of each network: minutes at the first start, seconds later (docs/performance.md)."""

    REMOVED: ClassVar[Mapping[str, Removed]] = {
        name: Removed(True, "these are on together; speed.plain: true turns all of them off")
        for name in ("join_passes", "channels_last", "fast_layers", "fused_adam", "keep_memory")
    }


_MOST_PROFILED = 50
"""Steps of one trace, each of which is megabytes."""
_IN_TRIALS_ALONE = "a search serves metrics at `port` and no more"


@dataclass(frozen=True)
class Listening:
    """Where /metrics is served."""

    port: Annotated[int, Range(minimum=0, maximum=65535)] = 0
    """Base port of /metrics; each rank of a machine listens on port + its number there. 0: off."""
    port_search: Annotated[int, Range(minimum=0, maximum=1000)] = 0
    """Where a port is taken, so many behind it are tried; 0: a taken port is an error. The run folder's
    prometheus_targets.json has the ports."""
    host: str = "127.0.0.1"
    """Address to listen on. 127.0.0.1: this machine alone; 0.0.0.0 or ::: every interface."""
    tls_certificate: PathToRead = ""
    """PEM file of the certificate, with those between it and its CA: /metrics is https then. Empty: http. With
    CYCLESR_METRICS_TOKEN in the environment, scrapes must send that as their bearer token, with or without TLS."""
    tls_key: PathToRead = ""
    """PEM file of its private key, without a password; empty: it is in `tls_certificate`, too."""

    REMOVED: ClassVar[Mapping[str, Removed]] = {
        "push_gateway": Removed("", _IN_TRIALS_ALONE),
        "push_every_seconds": Removed(30.0, _IN_TRIALS_ALONE),
        "log": Removed("auto", _IN_TRIALS_ALONE),
        "trackers": Removed([], _IN_TRIALS_ALONE),
        "project": Removed("cyclesr", _IN_TRIALS_ALONE),
    }


@dataclass(frozen=True)
class Profile:
    """A look into steps with torch's profiler, for profile/ of the run folder (docs/monitoring.md)."""

    steps: tuple[Positive, ...] = ()
    """First and last step of the trace, of metrics.jsonl's numbers: [100, 110]; at most 50 of them. Empty: none."""
    ranks: tuple[Count, ...] = (0,)
    """Whose steps; empty: of all ranks. Each writes a file of its own."""


@dataclass(frozen=True)
class Telemetry(Listening):
    """What others see of a run while it goes on."""

    push_gateway: str = ""
    """URL of a Prometheus push gateway, for jobs too short to be scraped; empty: none. Every 30 s, and at the end."""
    log: Literal["auto", "live", "plain", "json"] = "auto"
    """What the main rank shows while it trains: `live`, one view that redraws itself; `plain` lines; `json` lines.
    `auto`: live on a terminal, else plain."""
    trackers: tuple[Literal["tensorboard", "wandb", "mlflow"] | ObjectName, ...] = ()
    """Where else numbers and pictures go; each is an extra of the package, or `package.module:Class` of yours. W&B and
    MLflow read their own environment variables, of which WANDB_PROJECT and MLFLOW_EXPERIMENT_NAME are `cyclesr` where
    they are not set."""
    profile: Profile = field(default_factory=Profile)

    REMOVED: ClassVar[Mapping[str, Removed]] = {
        "push_every_seconds": Removed(30.0, "metrics are pushed every 30 s, and at the end"),
        "project": Removed("cyclesr", "WANDB_PROJECT and MLFLOW_EXPERIMENT_NAME say it"),
    }


@dataclass(frozen=True)
class Config:
    """Of one training run."""

    system: System = "cyclesr"
    """What is trained: a row of the paper's table, `estimated`, or a SystemSpec of yours."""
    seed: Count = 0
    """Of the first weights, and of every draw. The same seed gives the same run."""
    scale: Literal[2, 3, 4, 8] = 4
    """How many times larger the result is. Shards are cut for it."""
    track: Track = "unknown"
    """Degradation simulated by `cyclesr degrade` and the demo; recorded in the report."""
    backend: Literal["single", "ddp", "deepspeed"] = "ddp"
    """`single`: one process. `ddp`: with torchrun. `deepspeed`: with deepspeed, and ZeRO. The gradients are equal."""
    zero_stage: Annotated[int, Range(minimum=0, maximum=3)] = 1
    """DeepSpeed only: 0, 1, 2 or 3."""
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    """Of the forward pass; weights are fp32. `bf16` is faster on GPUs since 2020; `fp16` needs a GPU and `ddp`."""
    global_batch: Positive = 32
    """Samples a step over all ranks; the world size must divide it."""
    micro_batch: Literal["all", "auto"] | Samples = "all"
    """Samples that pass through the networks of a rank at once; the gradient is that of `global_batch`. `auto`: as many
    as fit into memory."""
    ema_decay: Annotated[float, Range(minimum=0, below=1)] = 0.0
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
    slurm: Slurm = field(default_factory=Slurm)
    """For `launch/submit.py --target slurm` alone."""


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
    spec = spec_of(config.system)
    measured = spec.measured or config.nets.translator.kind == MEASURED
    return max(_DRAW_CHANNELS if measured else config.nets.translator.noise_channels, spec.draws)


def load(path: str | Path | None = None, overrides: Sequence[str] = (), beside: bool = True) -> Config:
    """Read `path` (None: all defaults), apply `a.b=value` overrides, check ranges.

    With `beside`, relative paths in the file are looked for beside it first, see `read`. Raises ConfigError naming the
    file and line (or the override), the key, the value and what is allowed.
    """
    config = read(Config, path, overrides, beside=beside)
    if config.nets.translator.kind == MEASURED:
        config = read(Config, path, overrides, MEASURED_DEFAULTS, beside)
    check(config)
    return config


def check(c: Config) -> None:
    """Raise ConfigError, naming the key, for ranges that types cannot express and values that contradict each other."""
    check_marks(c)
    check_credentials(to_dict(c))
    for name in ("hr", "lr", "pairs"):
        _check_sets(f"data.{name}", getattr(c.data, name))
    for name, weight in c.weights.more.items():
        if not OBJECT_NAME.fullmatch(name) or isinstance(weight, bool) or not isinstance(weight, int | float):
            raise ConfigError(f"weights.more = {{{name}: {weight!r}}}; allowed: package.module:function with a number")
        check_range(f"weights.more[{name}]", weight, minimum=0)
    check_telemetry(c.telemetry)
    check_cluster(c.cluster)
    check_slurm(c.slurm)
    for name in ("pretrain_epochs", "constant_epochs"):
        check_range(f"train.{name}", getattr(c.train, name), maximum=c.train.epochs)
    if (c.nets.sr.kind == "module") != bool(c.nets.sr.module):
        raise ConfigError(
            f"nets.sr.module = {c.nets.sr.module!r} with nets.sr.kind = {c.nets.sr.kind}; "
            "a class, package.module:Class, belongs to kind: module and to no other"
        )
    _check_sr(c.nets.sr, c.scale)
    if isinstance(c.micro_batch, int):  # of Python: the reader refuses such a number by itself
        check_range("micro_batch", c.micro_batch, minimum=1)
    if c.micro_batch == "auto" and c.backend == "deepspeed" and c.zero_stage == 3:
        raise ConfigError(
            "micro_batch = auto with zero_stage = 3, whose ranks cannot try for themselves; allowed: all, or an "
            "integer of at least 1"
        )
    spec = spec_of(c.system)
    if c.data.downsampling == HIGH_ORDER and spec.data != "hr":
        raise ConfigError(
            f"data.downsampling = {HIGH_ORDER} with system = {c.system}, which has LR photographs to learn from; "
            "allowed with it: bicubic, bilinear, nearest; or system=sr_syn"
        )
    if c.nets.sr.init and c.train.start_from:
        raise ConfigError(
            f"nets.sr.init = {c.nets.sr.init} with train.start_from = {c.train.start_from}; allowed: one of them"
        )
    if c.nets.sr.init and (spec.cycle == "hr" or spec.translates_first):
        what = "is a translator" if spec.cycle == "hr" else "begins with a translator"
        raise ConfigError(
            f"nets.sr.init = {c.nets.sr.init} with system = {c.system}, whose g_l2h {what}; allowed: train.start_from"
        )
    if spec.perceptual and not (c.weights.percep or c.weights.advsr or c.weights.texture):
        raise ConfigError(
            f"system = {c.system} with weights.percep = weights.advsr = weights.texture = 0; "
            "use system=cyclesr for that"
        )
    if (spec.cycle == "hr" or spec.translates_first) and ":" in c.nets.translator.kind:
        raise ConfigError(
            f"nets.translator.kind = {c.nets.translator.kind} with system = {c.system}, which enlarges with it; "
            "allowed: resnet, residual"
        )
    if not (c.weights.mse or c.weights.l1) and spec.cycle != "hr" and not spec.perceptual:
        raise ConfigError(f"weights.mse = weights.l1 = 0 with system = {c.system}; one of them must be above 0")


def _check_sets(key: str, sets: str | tuple[str | WeightedSet, ...]) -> None:
    if isinstance(sets, str):
        return
    for i, one in enumerate(sets):
        if not (one if isinstance(one, str) else one.url):
            raise ConfigError(f"{key}[{i}] is empty; allowed: the folder or URL of a shard set")
    if len({type(one) for one in sets}) > 1:
        raise ConfigError(f"{key} has weights for some of its {len(sets)} shard sets; allowed: for all, or for none")


_ONLY_WITH = {
    "bicubic_skip": ("compact",),
    "mean_shift": ("edsr", "span"),
    "layer_norm": ("realplksr",),
    "upsampler": ("swinir",),
}
"""Keys of `nets.sr`, and the kinds that have them."""
_MULTIPLES = {"realplksr": 4, "swinir": 6}
"""Of `nets.sr.channels`: groups and heads share them."""


def _check_sr(sr: SRNet, scale: int) -> None:
    if sr.kind == "translated":
        raise ConfigError(
            "nets.sr.kind = translated, which systems of two networks make themselves; allowed: another one"
        )
    for name, kinds in _ONLY_WITH.items():
        value = getattr(sr, name)
        if value != getattr(SRNet(), name) and sr.kind not in kinds:
            raise ConfigError(
                f"nets.sr.{name} = {str(value).lower()} with nets.sr.kind = {sr.kind}; allowed with: {', '.join(kinds)}"
            )
    multiple = _MULTIPLES.get(sr.kind, 1)
    if sr.channels % multiple:
        raise ConfigError(
            f"nets.sr.channels = {sr.channels} with nets.sr.kind = {sr.kind}; allowed: a multiple of {multiple}"
        )
    if sr.upsampler == "nearest+conv" and scale == 3:
        raise ConfigError("nets.sr.upsampler = nearest+conv with scale = 3; allowed: scale 2, 4 or 8")


def check_listening(t: Listening) -> None:
    if t.tls_key and not t.tls_certificate:
        raise ConfigError(f"telemetry.tls_key = {t.tls_key} without telemetry.tls_certificate; allowed: both, or none")


def check_telemetry(t: Telemetry) -> None:
    check_listening(t)
    if t.push_gateway and not t.push_gateway.startswith(("http://", "https://")):
        raise ConfigError(f"telemetry.push_gateway = {t.push_gateway!r}; allowed: a URL, http:// or https://, or empty")
    steps = t.profile.steps
    if steps and not (len(steps) == 2 and steps[0] <= steps[1] < steps[0] + _MOST_PROFILED):
        raise ConfigError(
            f"telemetry.profile.steps = {list(steps)}; allowed: the first and the last step, {_MOST_PROFILED} at most"
        )
