"""What objects are made from: the parts of a command's checked settings that this room reads."""

from __future__ import annotations

from typing import Protocol

from idl_cli.config.schemas.root import Component


class DataRequest(Protocol):
    """The data of a run."""

    @property
    def dataset(self) -> Component:
        """Section ``dataset``."""

    @property
    def seed(self) -> int:
        """Of the validation split and the order of batches."""


class GradientRequest(DataRequest, Protocol):
    """A training by gradient."""

    @property
    def model(self) -> Component:
        """Section ``model``."""

    @property
    def trainer(self) -> Component:
        """Section ``trainer``."""

    @property
    def optimizer(self) -> Component:
        """Section ``optimizer``."""

    @property
    def scheduler(self) -> Component:
        """Section ``scheduler``."""

    @property
    def dtype(self) -> str:
        """Of weights and inputs."""


class TeacherRequest(DataRequest, Protocol):
    """A network to begin with."""

    @property
    def teacher(self) -> Component:
        """Section ``teacher``."""

    @property
    def resume(self) -> str | None:
        """The run that is continued: ``auto``, a path or None."""


class SimRequest(TeacherRequest, Protocol):
    """A training from a teacher's states."""

    @property
    def trainer(self) -> Component:
        """Section ``trainer``."""
