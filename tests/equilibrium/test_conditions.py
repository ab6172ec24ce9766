import subprocess
import sys

import pytest

from idl_cli.equilibrium.conditions import ACTIVATION_FACTS, well_posedness_problems

SOUND = {
    "hidden_dim": 10,
    "rank": None,
    "kappa": 0.95,
    "activation": "relu",
    "well_posedness": "linf",
}


def test_a_sound_request_has_no_problems() -> None:
    assert well_posedness_problems(**SOUND) == []
    assert well_posedness_problems(**{**SOUND, "rank": 10}) == []


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"rank": 11}, "rank=11 must lie between 1 and hidden_dim=10"),
        ({"rank": 0}, "rank=0 must lie"),
        ({"rank": 2, "well_posedness": "triangular"}, "cannot be combined"),
        ({"kappa": 1.0}, "kappa=1 must lie strictly between 0 and 1"),
        ({"kappa": 0.0}, "kappa=0 must lie"),
        ({"kappa": float("nan")}, "kappa=nan must lie"),
        ({"activation": "gelu"}, "Lipschitz constant 1.129"),
        ({"activation": "rellu"}, "choose one of relu"),
        ({"well_posedness": "inf"}, "choose one of linf, triangular, none"),
    ],
)
def test_each_contradiction_gets_one_sentence(change: dict[str, object], sentence: str) -> None:
    problems = well_posedness_problems(**{**SOUND, **change})  # type: ignore[arg-type]
    assert len(problems) == 1
    assert sentence in problems[0]


def test_all_problems_are_told_at_once() -> None:
    problems = well_posedness_problems(
        hidden_dim=3, rank=4, kappa=2.0, activation="x", well_posedness="triangular"
    )
    assert len(problems) == 4


@pytest.mark.parametrize("name", ACTIVATION_FACTS)
def test_an_expansive_activation_needs_kappa_below_one_over_its_lipschitz_constant(
    name: str,
) -> None:
    limit = min(1.0, 1 / ACTIVATION_FACTS[name].lipschitz)
    below = {**SOUND, "activation": name, "kappa": limit * (1 - 1e-9)}
    assert well_posedness_problems(**below) == []  # type: ignore[arg-type]
    if limit < 1:
        above = {**SOUND, "activation": name, "kappa": limit * (1 + 1e-9)}
        assert len(well_posedness_problems(**above)) == 1  # type: ignore[arg-type]
        # A triangular A is well-posed whatever the slope.
        free = {**above, "well_posedness": "triangular"}
        assert well_posedness_problems(**free) == []  # type: ignore[arg-type]


def test_the_rules_are_known_without_torch() -> None:
    code = "import sys, idl_cli.models.options; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
