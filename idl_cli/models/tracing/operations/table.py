"""Torch's operations by name: what has no entry has no exact form."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from idl_cli.models.tracing.operations import (
    activations,
    arithmetic,
    movement,
    pooling,
    products,
)
from idl_cli.models.tracing.operations.arguments import Operation

OPERATIONS: Final[Mapping[str, Operation]] = MappingProxyType(
    {
        **movement.OPERATIONS,
        **arithmetic.OPERATIONS,
        **products.OPERATIONS,
        **pooling.OPERATIONS,
        **activations.OPERATIONS,
    }
)
"""By the name of the ATen operation, without the underscore of those that work in place."""
