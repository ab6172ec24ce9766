"""The root keys of ``idl certify``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Literal

from idl_cli.certificates.options import CertifyOptions
from idl_cli.config.fields import AT_LEAST_ONE, Existing, Section
from idl_cli.config.metric_names import metric_problems
from idl_cli.config.schemas.root import Component, RunSettings

RADIUS = "certified_radius_mean"


@dataclass(frozen=True, kw_only=True)
class _Judged:
    """What is judged; a base, since the fields of later bases stand first."""

    run: Annotated[str, Existing("directory")]
    checkpoint: Literal["model", "last", "best"] = "model"
    dataset: Annotated[Component, Section("dataset")] | None = None
    clip: bool = True


@dataclass(frozen=True, kw_only=True)
class _Attacked:
    """What is tried against the certificates."""

    attack: Literal["pgd", "strongest", "fgsm", "none"] = "pgd"
    attack_steps: Annotated[int, AT_LEAST_ONE] = 40
    attack_restarts: Annotated[int, AT_LEAST_ONE] = 1


@dataclass(frozen=True, kw_only=True)
class CertifySettings(RunSettings, _Attacked, CertifyOptions, _Judged):
    """Prove how robust the model of a finished run is, with attacks beside."""

    def problems(self) -> Iterator[str]:
        """A run is a directory's path; there is a radius to judge; the metric is one it has."""
        if not self.run:
            yield "run=: must be the directory of a run, such as run=outputs/train/<date>_<time>"
        if not self.epsilon:
            yield "epsilon=[]: give at least one radius, such as epsilon=[0.01,0.1]"
        if len(set(self.epsilon)) < len(self.epsilon):
            yield f"epsilon={list(self.epsilon)}: names a radius twice"
        names = [
            f"{kind}_accuracy_{epsilon:g}"
            for kind in ("certified", "attacked")
            for epsilon in self.epsilon
        ]
        yield from metric_problems("certify", self.optimized_metric, self.dataset, [*names, RADIUS])
