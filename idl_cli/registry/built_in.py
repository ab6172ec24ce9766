"""The components that are built in: who makes them, where their options are, what is handed in."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

BUILT_IN: Final[Mapping[str, Mapping[str, str | None]]] = MappingProxyType(
    {
        "model": MappingProxyType(
            {
                "implicit": "idl_cli.models.implicit:ImplicitModel",
                "implicit_conv": "idl_cli.models.convolutional.implicit_conv:ImplicitConv",
                "feedforward_conv": "idl_cli.models.convolutional.feedforward_conv:FeedforwardConv",
                "rnn": "idl_cli.models.rnn:ImplicitRNN",
                "deq": "idl_cli.models.deq:DEQ",
                "lstm": "idl_cli.models.sequence_baselines:LSTM",
                "gru": "idl_cli.models.sequence_baselines:GRU",
                "transformer": "idl_cli.models.sequence_baselines:Transformer",
                "mlp": "idl_cli.models.sequence_baselines:MatchedMLP",
                "sparse_implicit": "idl_cli.models.sparse.model:SparseImplicitModel",
            }
        ),
        "dataset": MappingProxyType(
            {
                "digits": "idl_cli.data.images.digits:digits",
                "mnist": "idl_cli.data.images.mnist:mnist",
                "fashion_mnist": "idl_cli.data.images.mnist:fashion_mnist",
                "cifar10": "idl_cli.data.images.cifar:cifar10",
                "cifar100": "idl_cli.data.images.cifar:cifar100",
                "arrays": "idl_cli.data.tables.arrays:arrays",
                "csv": "idl_cli.data.series.csv_series:csv",
                "spiky": "idl_cli.data.series.spiky:spiky",
                "argmax": "idl_cli.data.synthetic.extrapolation:argmax",
                "identity": "idl_cli.data.synthetic.extrapolation:identity",
                "rolling_mean": "idl_cli.data.synthetic.extrapolation:rolling_mean",
                "arithmetic": "idl_cli.data.synthetic.extrapolation:arithmetic",
            }
        ),
        "trainer": MappingProxyType(
            {
                "gradient": "idl_cli.training.settings:TrainerSettings",
                "sim": "idl_cli.sim.sim:SIM",
            }
        ),
        "solver": MappingProxyType(
            {
                "active_set": "idl_cli.sim.solvers.active_set:ActiveSetSolver",
                "backward_elimination": (
                    "idl_cli.sim.solvers.supports.backward_elimination:BackwardEliminationSolver"
                ),
                "relaxed": "idl_cli.sim.solvers.supports.relaxed:RelaxedSolver",
                "swaps": "idl_cli.sim.solvers.supports.swaps:SwapSolver",
                "top_k": "idl_cli.sim.solvers.supports.top_k:TopKSolver",
                "admm": "idl_cli.sim.solvers.admm.admm_solver:ADMMSolver",
                "admm_multigpu": "idl_cli.sim.solvers.admm.multigpu:ADMMMultiGPUSolver",
                "cvx": "idl_cli.sim.solvers.cvx:CVXSolver",
                "least_squares": "idl_cli.sim.solvers.least_squares:LeastSquareSolver",
                "projected_gd": "idl_cli.sim.solvers.projected_gd:ProjectedGDLowRankSolver",
            }
        ),
        "teacher": MappingProxyType(
            {
                "mlp": "idl_cli.models.explicit:MLP",
                "cnn": "idl_cli.models.explicit:CNN",
                "resnet20": "idl_cli.models.resnet:ResNet20",
                "run": None,  # a model there is already: the command loads it
                "weights": None,
            }
        ),
        "optimizer": MappingProxyType(
            {
                "adam": "idl_cli.training.optimizers:adam",
                "adamw": "idl_cli.training.optimizers:adamw",
                "sgd": "idl_cli.training.optimizers:sgd",
                "rmsprop": "idl_cli.training.optimizers:rmsprop",
                "adagrad": "idl_cli.training.optimizers:adagrad",
            }
        ),
        "scheduler": MappingProxyType(
            {
                "constant": "idl_cli.training.schedulers:constant",
                "cosine": "idl_cli.training.schedulers:cosine",
                "step": "idl_cli.training.schedulers:step",
                "one_cycle": "idl_cli.training.schedulers:one_cycle",
            }
        ),
        "logger": MappingProxyType(
            {
                "jsonl": "idl_cli.loggers.base:JsonlLogger",
                "tensorboard": "idl_cli.loggers.tensorboard:TensorBoardLogger",
                "wandb": "idl_cli.loggers.wandb:WandbLogger",
                "mlflow": "idl_cli.loggers.mlflow:MLflowLogger",
                "trackio": "idl_cli.loggers.trackio:TrackioLogger",
                "several": "idl_cli.loggers.several:SeveralLoggers",
            }
        ),
        "format": MappingProxyType(
            {
                "onnx": "idl_cli.export.formats.onnx_file:OnnxFormat",
                "numpy": "idl_cli.export.formats.numpy_folder:NumpyFormat",
                "torch_export": "idl_cli.export.formats.torch_export:TorchExportFormat",
                "safetensors": "idl_cli.export.formats.safetensors_file:SafetensorsFormat",
                "hub": "idl_cli.export.formats.hub_folder:HubFormat",
            }
        ),
    }
)

OPTIONS: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "model": ("idl_cli.models.options",),
        "dataset": ("idl_cli.data.options",),
        "trainer": ("idl_cli.training.options", "idl_cli.sim.options"),
        "solver": ("idl_cli.sim.solvers.options",),
        "teacher": ("idl_cli.models.options",),
        "optimizer": ("idl_cli.training.options",),
        "scheduler": ("idl_cli.training.options",),
        "logger": ("idl_cli.loggers.options",),
        "format": ("idl_cli.export.options",),
    }
)
"""Where a group's built-in components have their options: ``least_squares`` is described by
``LeastSquaresOptions`` (or ``LeastSquaresSolverOptions``), without torch; by the signature of what
makes it where there is no such class."""

RUNTIME: Final[Mapping[str, frozenset[str]]] = MappingProxyType(
    {
        "model": frozenset(
            {"input_dim", "input_shape", "output_dim", "sparse_structure", "convolution_structure"}
        ),
        "dataset": frozenset({"seed", "cache_dir", "for_task"}),
        "trainer": frozenset({"activation_fn", "states", "device", "dtype", "group"}),
        "solver": frozenset(),
        "teacher": frozenset({"input_shape", "output_dim"}),
        "optimizer": frozenset({"parameters", "params"}),
        "scheduler": frozenset({"optimizer", "total_steps", "steps_per_epoch"}),
        "logger": frozenset({"run_directory"}),
        "format": frozenset(),
    }
)
"""Arguments that a command hands in when it builds a component: no keys of the configuration."""
