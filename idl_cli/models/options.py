"""Options of the models, and of the teachers that ``idl sim`` trains on the spot."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Annotated, Final, Literal, TypeAlias

from idl_cli.config.fields import (
    AT_LEAST_ONE,
    COMMAND_ONLY,
    FRACTION,
    NON_NEGATIVE,
    PROPER_FRACTION,
    SINGLE_POSITIVE,
    Existing,
)
from idl_cli.equilibrium.conditions import (
    ActivationName,
    ModuleActivation,
    TeacherActivation,
    WellPosedness,
    well_posedness_problems,
)
from idl_cli.equilibrium.settings import AdjointSettings, FixedPointSettings
from idl_cli.models.cells import CellName

Count: TypeAlias = Annotated[int, AT_LEAST_ONE]
Run: TypeAlias = Annotated[str, Existing("directory")]
_SMALLEST_KAPPA: Final = 1e-37
SequenceOutput: TypeAlias = Literal["last", "every"]
"""Which steps are predicted from: the last of each sample, or every one."""


@dataclass(frozen=True, kw_only=True)
class _Trainable:
    init_run: Run | None = field(default=None, metadata=COMMAND_ONLY)


@dataclass(frozen=True, kw_only=True)
class CellOptions:
    """What every implicit model x = φ(Ax + Bu + b), ŷ = Cx + Du + c says, beside its sizes."""

    rank: Count | None = None
    kappa: Annotated[float, PROPER_FRACTION] = 0.95
    bias: bool = True
    no_D: bool = False
    activation: ActivationName = "relu"
    well_posedness: WellPosedness = "linf"
    forward: FixedPointSettings = field(default=FixedPointSettings())
    backward: AdjointSettings = field(default=AdjointSettings())

    def cell_problems(self, states: int) -> list[str]:
        """Rank against size and shape, κ against float32 and φ's Lipschitz constant."""
        return _feedback_problems(
            states,
            rank=self.rank,
            kappa=self.kappa,
            activation=self.activation,
            well_posedness=self.well_posedness,
        )


def _feedback_problems(
    states: int, *, rank: int | None, kappa: float, activation: str, well_posedness: str
) -> list[str]:
    problems = well_posedness_problems(
        hidden_dim=states,
        rank=rank,
        kappa=kappa,
        activation=activation,
        well_posedness=well_posedness,
    )
    if 0 < kappa < _SMALLEST_KAPPA:
        problems.append(
            f"kappa={kappa:g}: rows that small have no digits in float32; give at least "
            f"{_SMALLEST_KAPPA:g}"
        )
    return problems


@dataclass(frozen=True, kw_only=True)
class ImplicitOptions(CellOptions, _Trainable):
    """Implicit model: x = φ(Ax + Bu + b), prediction Cx + Du + c."""

    hidden_dim: Count = 100
    whiten: Count | None = None
    dropout: Annotated[float, FRACTION] = 0.0
    cuda_graphs: bool = False

    def problems(self) -> list[str]:
        """See ``cell_problems``."""
        return self.cell_problems(self.hidden_dim)


@dataclass(frozen=True, kw_only=True)
class SparseImplicitOptions:
    """The sparse model of a run of ``idl convert`` or ``idl compress``, trained on, zeros kept."""

    init_run: Run = field(metadata=COMMAND_ONLY)


@dataclass(frozen=True, kw_only=True)
class FeedforwardConvOptions:
    """The convolutional model of a run of ``idl sim``, trained on, zeros kept."""

    init_run: Run = field(metadata=COMMAND_ONLY)


@dataclass(frozen=True, kw_only=True)
class ImplicitConvOptions(_Trainable):
    """Implicit model of feature maps: x = φ(A∗x + B∗u + b), prediction linear in pooled x."""

    channels: tuple[Count, ...] = (24,)
    kernel_size: Count = 3
    input_kernel_size: Count = 5
    stride: Count = 2
    groups: Count = 1
    pool: Count = 4
    readout_channels: Annotated[int, NON_NEGATIVE] = 0
    kappa: Annotated[float, PROPER_FRACTION] = 0.95
    bias: bool = True
    dropout: Annotated[float, FRACTION] = 0.0
    cuda_graphs: bool = False
    activation: ActivationName = "relu"
    forward: FixedPointSettings = field(default=FixedPointSettings())
    backward: AdjointSettings = field(default=AdjointSettings())

    def problems(self) -> Iterator[str]:
        """Scales, kernels with a middle, groups of whole channels, κ against φ."""
        if not self.channels:
            yield "channels=[]: must name at least one scale, such as [24]"
        for key in ("kernel_size", "input_kernel_size"):
            if getattr(self, key) % 2 == 0:
                yield f"{key}={getattr(self, key)}: must be an odd number, such as 3 or 5"
        if any(count % self.groups for count in self.channels):
            yield f"groups={self.groups}: must divide every number of channels"
        yield from _feedback_problems(
            sum(self.channels),
            rank=None,
            kappa=self.kappa,
            activation=self.activation,
            well_posedness="linf",
        )


@dataclass(frozen=True, kw_only=True)
class RnnOptions(CellOptions, _Trainable):
    """Implicit recurrent network: each step's h_t comes from an equilibrium over (u_t, h_{t-1})."""

    implicit_hidden_dim: Count = 20
    hidden_dim: Count = 20
    layers: Count = 1
    output: SequenceOutput = "last"
    truncate: Count | None = None
    bias: bool = False

    def problems(self) -> list[str]:
        """See ``cell_problems``."""
        return self.cell_problems(self.implicit_hidden_dim)


@dataclass(frozen=True, kw_only=True)
class DeqOptions(_Trainable):
    """Deep equilibrium model: the fixed point x = cell(x, u) and a linear readout."""

    hidden_dim: Count = 100
    cell: CellName = "residual"
    forward: FixedPointSettings = field(default=FixedPointSettings())
    backward: AdjointSettings = field(default=AdjointSettings())


# -- explicit networks of sequences --------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class _Gated(_Trainable):
    hidden_dim: Count = 20
    layers: Count = 1
    output: SequenceOutput = "last"
    match_parameters: Count | None = None


@dataclass(frozen=True, kw_only=True)
class LstmOptions(_Gated):
    """Long short-term memory network (torch.nn.LSTM) and a linear readout."""


@dataclass(frozen=True, kw_only=True)
class GruOptions(_Gated):
    """Gated recurrent network (torch.nn.GRU) and a linear readout."""


@dataclass(frozen=True, kw_only=True)
class TransformerOptions(_Gated):
    """Small causal transformer encoder (torch.nn.TransformerEncoder) and a linear readout."""

    hidden_dim: Count = 16
    heads: Count = 2

    def problems(self) -> list[str]:
        """Heads share the hidden dimension."""
        if self.hidden_dim % self.heads == 0:
            return []
        return [f"hidden_dim={self.hidden_dim} must be a multiple of heads={self.heads}."]


# -- networks on whole samples -------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class _Layers:
    hidden_dims: tuple[Count, ...] = (64, 32, 16)
    bias: bool = True

    def problems(self) -> Iterator[str]:
        """A network without hidden layers has no width to match, and no states."""
        if not self.hidden_dims:
            yield "hidden_dims=[]: must name at least one hidden layer, such as [64, 32]"


@dataclass(frozen=True, kw_only=True)
class MlpOptions(_Layers, _Trainable):
    """Fully connected network on the flattened input."""

    activation: ModuleActivation = "relu"
    match_parameters: Count | None = None


@dataclass(frozen=True, kw_only=True)
class _Teacher:
    states: tuple[str, ...] | None = field(default=None, metadata=COMMAND_ONLY)

    def problems(self) -> Iterator[str]:
        """States are some or all, never none."""
        if self.states is not None and not self.states:
            yield "states=[]: must name at least one activation, or be null for all of them"


@dataclass(frozen=True, kw_only=True)
class _Normalised:
    mean: tuple[float, ...] | None = field(default=None, metadata=COMMAND_ONLY)
    std: tuple[Annotated[float, SINGLE_POSITIVE], ...] | None = field(
        default=None, metadata=COMMAND_ONLY
    )

    def problems(self) -> Iterator[str]:
        """A mean has a deviation beside it."""
        given = [None if each is None else len(each) for each in (self.mean, self.std)]
        if given[0] != given[1] or 0 in given:
            yield (
                f"mean={self.mean and list(self.mean)}, std={self.std and list(self.std)}: must be"
                " as many, one a channel, or both null"
            )


@dataclass(frozen=True, kw_only=True)
class TrainedTeacherOptions(_Teacher, _Normalised):
    """How a teacher is trained on the spot, or where it is taken from."""

    epochs: Count = field(default=20, metadata=COMMAND_ONLY)
    batch_size: Count = field(default=128, metadata=COMMAND_ONLY)
    lr: Annotated[float, SINGLE_POSITIVE] = field(default=3e-3, metadata=COMMAND_ONLY)
    run: Run | None = field(default=None, metadata=COMMAND_ONLY)
    file: Annotated[str, Existing("file")] | None = field(default=None, metadata=COMMAND_ONLY)

    def problems(self) -> Iterator[str]:
        """There is one source of weights, and a normalisation is that of a file."""
        yield from _Teacher.problems(self)
        yield from _Normalised.problems(self)
        if self.run is not None and self.file is not None:
            yield f"run={self.run}, file={self.file}: give one of them, or neither to train it"
        if self.file is None and self.mean is not None:
            yield f"mean={list(self.mean)}: goes with file, as those weights were trained"


@dataclass(frozen=True, kw_only=True)
class MlpTeacherOptions(_Layers, TrainedTeacherOptions):
    """A fully connected network, trained on the spot in seconds or taken from an earlier run."""

    activation: TeacherActivation = "relu"

    def problems(self) -> Iterator[str]:
        """Hidden layers, and states."""
        yield from _Layers.problems(self)
        yield from TrainedTeacherOptions.problems(self)


@dataclass(frozen=True, kw_only=True)
class CnnTeacherOptions(TrainedTeacherOptions):
    """A small convolution network for images, trained on the spot or taken from an earlier run."""

    channels: tuple[Count, ...] = (4, 8)
    hidden_dim: Count = 32
    kernel_size: Count = 3
    activation: TeacherActivation = "relu"
    bias: bool = True

    def problems(self) -> Iterator[str]:
        """A kernel has a middle, too."""
        if self.kernel_size % 2 == 0:
            yield f"kernel_size={self.kernel_size}: must be an odd number, such as 3 or 5"
        yield from super().problems()


@dataclass(frozen=True, kw_only=True)
class Resnet20TeacherOptions(TrainedTeacherOptions):
    """The 20-layer residual network for images of 32 x 32, mostly with weights from a file."""


@dataclass(frozen=True, kw_only=True)
class RunTeacherOptions(_Teacher):
    """The trained model of any run: an implicit model, or a network kept by an earlier run."""

    run: Run = field(metadata=COMMAND_ONLY)

    def problems(self) -> Iterator[str]:
        """A run is a directory's path, never an empty text."""
        if not self.run:
            yield "run=: must be the directory of a run, as outputs/train/<date>_<time>"
        yield from super().problems()


@dataclass(frozen=True, kw_only=True)
class WeightsTeacherOptions(_Teacher, _Normalised):
    """A fully connected network whose weights are a plain state_dict, in .safetensors or .npz."""

    file: Annotated[str, Existing("file")] = field(metadata=COMMAND_ONLY)
    layers: tuple[str, ...] | None = field(default=None, metadata=COMMAND_ONLY)
    activation: TeacherActivation = field(default="relu", metadata=COMMAND_ONLY)

    def problems(self) -> Iterator[str]:
        """See the parts."""
        yield from _Normalised.problems(self)
        yield from _Teacher.problems(self)
