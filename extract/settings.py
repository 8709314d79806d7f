"""Settings of everything up to the feature store. ``[P]`` = stated in the paper, ``[?]`` = our choice."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator


class Settings(BaseModel):
    """Base of every settings model in the project: immutable, unknown keys refused, defaults validated."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, use_attribute_docstrings=True)


class Execution:
    """Marks a field that decides how a stage runs, not what comes out: it makes no result stale."""


class Contents:
    """Marks a field that names one file or several: what they hold decides a result, not where they lie."""


class DataSettings(Settings):
    """Which dataset, and where it lies."""

    dataset: str = Field(description="name of an entry in data_manifest.yaml")
    root: str | None = Field(None, description="overrides the manifest's root")
    language: str | None = Field(None, description="overrides the manifest's language, e.g. for a folder of one's own")
    fps: Annotated[float, Field(gt=0)] | None = Field(None, description="overrides the manifest's, of frame folders")
    options: dict[str, Any] = Field({}, description="of the adapter, on top of the manifest's: see docs/datasets.md")
    features: str | None = Field(
        None,
        description="folder or URL with train.zarr, dev.zarr and test.zarr, imported or extracted elsewhere: nothing "
        "is learnt or extracted from pixels then, and no video is read",
    )


Decoder = Literal["opencv", "pyav"]


class FrameSettings(Settings):
    """From a clip's frames to what the encoder sees. Part of the feature fingerprint."""

    decoder: Decoder = "opencv"
    """Of video files [?]; frame folders are always read by OpenCV. ``pyav`` needs the extra ``video`` and is the
    quicker one, because it does not decode all of what sampling drops."""
    keep_every: Annotated[int, Field(ge=1)] = 4
    """Keep one frame of every so many: 4 [P]. The first of each group outside training, a random one in it [?]."""
    crop_rows: tuple[Annotated[int, Field(ge=0)], Annotated[int, Field(ge=1)]] | None = None
    """First row of a frame that is kept and the one after the last, before the resize: ``[80, 512]`` as published
    loaders of CSL-Daily; None: all of them."""
    resize: Annotated[int, Field(ge=8)] = 256
    """Frames are resized to a square of this side, in pixels [?, as GFSLT-VLP]."""
    crop: Annotated[int, Field(ge=8)] = 224
    """Side of the crop, in pixels [P]: centre outside training, random in it [?, as GFSLT-VLP]."""
    interpolation: Literal["area", "linear", "cubic"] = "area"
    """Resize filter [?]: OpenCV's, and for ``pyav`` that of the same name in ffmpeg. PIL's differ and would move
    the features."""
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    """Of R, G and B in 0..1, which normalisation takes away: ImageNet's [?, as GFSLT-VLP]."""
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    """What normalisation divides them by."""

    @model_validator(mode="after")
    def _crop_fits(self) -> FrameSettings:
        if self.crop > self.resize:
            raise ValueError(f"crop ({self.crop}) is larger than resize ({self.resize})")
        if self.crop_rows and self.crop_rows[0] >= self.crop_rows[1]:
            raise ValueError(f"crop_rows {list(self.crop_rows)} holds no row")
        return self


class PackSettings(Settings):
    """Frame packs: the frames of each split in a few HDF5 files, for disks that are slow with many small ones."""

    enabled: bool = False
    """Stage 1 and the extraction read packs instead of the dataset's files."""
    frames: Literal["all", "sampled"] = "all"
    """``all`` that stage 1 may draw; ``sampled``: the first of each group of ``keep_every``, which is enough for an
    extraction of views of phase 0. Stage 1 reads the originals then."""
    quality: Annotated[int, Field(ge=1, le=100)] | None = None
    """Of JPEG, a fifth in size, and part of the feature fingerprint; null: without loss, the same features."""
    folder: str | None = None
    """Under which the packs are kept, on a disk; default: ``packs`` in the experiment's folder."""
    block_frames: Annotated[int, Field(ge=1), Execution] = 2048
    """Most frames of a block, about: one Dask task, one HDF5 file, one commit; some 130 kB each at 256 x 256."""
    workers: Annotated[Annotated[int, Field(ge=1)] | None, Execution] = None
    """Processes of the local cluster; default: one per core. Other clusters are those of ``extract``."""
    max_failure_rate: Annotated[float, Field(ge=0, le=1), Execution] = 0.05
    """Share of a split's clips that may fail before the job stops with an error."""
    retry_failed: Annotated[bool, Execution] = False
    """Try clips again that an earlier run recorded as failures."""

    @field_validator("folder")
    @classmethod
    def _on_disk(cls, folder: str | None) -> str | None:
        if folder is not None and "://" in folder:
            raise ValueError("HDF5 files are read from a disk, not from a URL")
        return folder

    def check_views(self, frames: FrameSettings, views: tuple[View, ...]) -> None:
        """Whether the views can be had from a pack.

        Raises:
            ValueError: a view that is scaled, or of a phase that is not packed.
        """
        for view in views if self.enabled else ():
            if round(frames.resize * view.scale) != frames.resize:
                raise ValueError(f"view {view.name}: a pack holds frames of frames.resize; set pack.enabled to false")
            if self.frames == "sampled" and view.phase:
                raise ValueError(f"view {view.name}: its frames are not packed; set pack.frames to all")


class View(Settings):
    """One deterministic way to look at a clip: which frame of each group, and where it is cropped.

    Stage 2 never sees pixels, so several views of a train clip take the place of stage 1's augmentation.
    """

    phase: Annotated[int, Field(ge=0)] = 0
    """Frame of each group of ``keep_every``; the last one of a group that is shorter."""
    crop: tuple[Annotated[float, Field(ge=0, le=1)], Annotated[float, Field(ge=0, le=1)]] = (0.5, 0.5)
    """Where the crop lies in the resized frame: 0 is the left or upper edge, 1 the right or lower one."""
    scale: Annotated[float, Field(gt=0, le=4)] = 1.0
    """Side of the resized frame relative to ``resize``: above 1 the signer is larger."""

    @property
    def name(self) -> str:
        """``plain``, or what differs from it, e.g. ``phase=2,scale=1.1``. Names views in a store."""
        given = []
        if self.phase:
            given.append(f"phase={self.phase}")
        if self.crop != (0.5, 0.5):
            given.append("crop={:g}:{:g}".format(*self.crop))
        if self.scale != 1.0:
            given.append(f"scale={self.scale:g}")
        return ",".join(given) or PLAIN


PLAIN = "plain"
"""The view of evaluation: the first frame of each group, the centre crop, no scaling."""

Level = Literal["frame", "sign", "states"]


class TemporalLayer(Settings):
    """Conv1d + BatchNorm1d + ReLU, optionally followed by max pooling over time."""

    kernel: Annotated[int, Field(ge=1)] = 5
    """Odd, so that the length is kept [?]."""
    pool: Annotated[int, Field(ge=1)] = 1
    """Stride of the max pooling: 1 = none [P]; 2 in each of GFSLT-VLP's two layers."""

    @model_validator(mode="after")
    def _odd(self) -> TemporalLayer:
        if self.kernel % 2 == 0:
            raise ValueError(f"kernel must be odd so that a clip's length is kept, found {self.kernel}")
        return self


class EncoderSettings(Settings):
    """Visual encoder: a frame-wise backbone from transformers and the temporal module."""

    backbone: str | dict[str, Any] = "microsoft/resnet-18"
    """A name or folder that ``AutoModel`` loads with its weights [P: ResNet-18, ImageNet weights], or a dict with
    ``model_type`` and that type's config fields, which starts from random weights or ``backbone_weights``."""
    backbone_weights: Annotated[str | None, Contents] = None
    """With a dict: a file of its weights, ``.safetensors`` or ``.pth``, as torchvision, timm or transformers save a
    ResNet; of other models with transformers' names."""
    temporal: tuple[TemporalLayer, ...] = (TemporalLayer(),)
    """Layers of the temporal module, one after the other."""
    width: Annotated[int, Field(ge=1)] = 512
    """C, the width of a sign-wise feature [?]."""

    @model_validator(mode="after")
    def _weights_once(self) -> EncoderSettings:
        if self.backbone_weights is not None and isinstance(self.backbone, str):
            raise ValueError(
                f"backbone_weights fill a backbone that is given by its fields; {self.backbone} has weights of its own"
            )
        return self


class ClusterSettings(Settings):
    """A cluster that the job starts for itself."""

    type: str
    """``slurm``, or the import path of a Dask cluster class, such as ``dask_kubernetes.operator.KubeCluster``."""
    jobs: Annotated[int, Field(ge=1)] | None = 1
    """SLURM: jobs to submit. Others: workers to ask for; null: what the class starts by itself."""
    queue: str | None = None
    """SLURM: the partition."""
    account: str | None = None
    """SLURM: what the jobs are billed to."""
    cores: Annotated[int, Field(ge=1)] | None = None
    """SLURM: of each job. One worker process of one thread runs on each, unless ``options`` has ``processes``."""
    memory: str | None = None
    """SLURM: of each job, such as ``16GB``."""
    walltime: str | None = None
    """SLURM: of each job, such as ``02:00:00``."""
    options: dict[str, Any] = {}
    """Further arguments of the class, such as ``job_extra_directives: ["--gres=gpu:1"]``."""

    @model_validator(mode="after")
    def _fits_type(self) -> ClusterSettings:
        given = [
            name for name in ("queue", "account", "cores", "memory", "walltime") if getattr(self, name) is not None
        ]
        if self.type != "slurm" and given:
            raise ValueError(f"{', '.join(given)}: only for type slurm; others take arguments in options")
        if self.type == "slurm" and (self.cores is None or self.memory is None):
            raise ValueError("type slurm needs cores and memory")
        if twice := sorted(set(given) & set(self.options)):
            raise ValueError(f"{', '.join(twice)}: given twice, here and in options")
        return self

    @property
    def path(self) -> str:
        """Import path of the class."""
        return "dask_jobqueue.SLURMCluster" if self.type == "slurm" else self.type

    @property
    def arguments(self) -> dict[str, Any]:
        """Of the class."""
        if self.type != "slurm":
            return dict(self.options)
        named = {name: getattr(self, name) for name in ("queue", "account", "cores", "memory", "walltime")}
        return {"processes": self.cores, **{k: v for k, v in named.items() if v is not None}, **self.options}


class ExtractSettings(Settings):
    """The Dask job and its store. The fields down to ``jpeg_decoder`` are part of the feature fingerprint."""

    features: Level = "sign"
    """What is cached (table 8): ``frame``-wise features of the backbone, ``sign``-wise ones of the temporal module
    [P], or the hidden ``states`` of Light-T's encoder."""
    dtype: Literal["float16", "float32"] = "float16"
    """Of the cached features."""
    compute: Literal["float32", "bfloat16", "float16"] = "float32"
    """What the backbone computes in: half precision (autocast) is quicker on GPUs and moves features."""
    jpeg_decoder: Literal["opencv", "nvimgcodec"] = "opencv"
    """Of packs of JPEG: ``nvimgcodec`` (extra ``gpu``) decodes on the GPU, and is part of the feature fingerprint."""
    views: Annotated[tuple[View, ...], Field(min_length=1)] = (View(),)
    """Of each train clip, the plain one first; dev and test have that one only. Stage 2 draws one per epoch [?]."""
    backend: Annotated[Literal["auto", "torch", "onnxruntime", "ncnn"], Execution] = "auto"
    """Computes the backbone on a CPU: ``auto`` is ncnn for ResNets, onnxruntime for others, where they are installed
    (extra ``fast``), else torch."""
    workers: Annotated[Annotated[int, Field(ge=1)] | None, Execution] = None
    """Processes of the local cluster; default: one per GPU, without GPUs one per core."""
    scheduler: Annotated[str | None, Execution] = None
    """Address of a running Dask scheduler, ``tcp://host:port``, whose workers do the job."""
    cluster: Annotated[ClusterSettings | None, Execution] = None
    """A cluster to start instead of local processes."""
    read_seconds: Annotated[Annotated[float, Field(gt=0)] | None, Execution] = 600
    """How long reading one clip, or looking at one file of the dataset, may take before it counts as a failure, here
    and wherever else clips are read; null: any time."""
    wait_seconds: Annotated[float, Field(gt=0), Execution] = 300
    """How long to wait for a worker, at the start or when all have gone; longer than the queue where there is one."""
    decode_processes: Annotated[Annotated[int, Field(ge=0)] | None, Execution] = None
    """Of each worker, ahead of the encoder; 0 decodes in turn with it. Default: 0 on a CPU, whose core the encoder
    fills, and beside a GPU the machine's cores but one, divided among its workers. On a CPU, 1 hides the waiting of a
    slow network disk."""
    batch_frames: Annotated[Annotated[int, Field(ge=1)] | None, Execution] = None
    """Frames per forward pass of the backbone; frames of several clips share a batch. Default: 32 on a CPU, 256 on a
    GPU, which one with little memory may not have room for."""
    block_frames: Annotated[Annotated[int, Field(ge=1)] | None, Execution] = None
    """Most sampled frames per block, about: a block is one Dask task, one writer, one commit; a kill loses it.
    Default: 2048, or where a worker has a GPU 16384, which takes it a second or two."""
    max_failure_rate: Annotated[float, Field(ge=0, le=1), Execution] = 0.05
    """Share of a split's clips that may fail before the job stops with an error; of stage 1 and the joint baseline too,
    where they meet clips that cannot be read."""
    retry_failed: Annotated[bool, Execution] = False
    """Try clips again that an earlier run recorded as failures."""
    store: str | None = None
    """Folder or URL, such as ``s3://bucket/prefix``, under which the features are kept; default: ``features`` in the
    experiment's folder."""

    @field_validator("views")
    @classmethod
    def _plain_first(cls, views: tuple[View, ...]) -> tuple[View, ...]:
        names = [view.name for view in views]
        if names[0] != PLAIN:
            raise ValueError(f"the first view must be the plain one, which dev and test have, found {names[0]}")
        if len(set(names)) < len(names):
            raise ValueError(f"the same view twice: {', '.join(names)}")
        return views

    @model_validator(mode="after")
    def _one_cluster(self) -> ExtractSettings:
        if self.scheduler is not None and self.cluster is not None:
            raise ValueError("scheduler and cluster exclude each other; --set extract.cluster=null leaves one out")
        return self

    def check_views(self, frames: FrameSettings) -> None:
        """Whether the views fit the sampling and the crop.

        Raises:
            ValueError: a phase beyond the group, or a frame that is scaled below the crop.
        """
        for view in self.views:
            if view.phase >= frames.keep_every:
                raise ValueError(f"view {view.name}: phase must be below frames.keep_every = {frames.keep_every}")
            if round(frames.resize * view.scale) < frames.crop:
                smallest = frames.crop / frames.resize
                raise ValueError(f"view {view.name}: below scale {smallest:.2f} a frame is smaller than frames.crop")
