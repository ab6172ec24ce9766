from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.training.ranks import Ranks


@pytest.fixture(scope="session")
def ranks() -> Iterator[Ranks]:
    """Up to three processes that can meet in a group."""
    made = Ranks(3)
    yield made
    made.close()
