"""Certificates and attacks of the samples, side by side: certified ≤ true ≤ attacked."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from idl_cli.certificates.branching import ROUNDING
from idl_cli.certificates.certification import Certifier, Verdicts
from idl_cli.commands.certify.settings import CertifySettings
from idl_cli.evaluation.attacks import (
    Attack,
    EuclideanPgd,
    Fgsm,
    FgsmOptions,
    MultiTargeted,
    MultiTargetedOptions,
    Pgd,
    PgdOptions,
    Strongest,
)


@dataclass
class Judgement:
    """What came out, sample by sample (m,).

    Attributes:
        classes: labels.
        predictions: of the model in float64, without perturbation.
        verdicts: by ε.
        survived: by ε; whether the attack left the class as it was. Empty without attacks.
        radii: certified radii: ``best``, ``norm``, ``sensitivity``; empty where left out.
        radius_seconds: processor time of the radii, a sample.
    """

    classes: Tensor
    predictions: Tensor
    verdicts: dict[float, Verdicts] = field(default_factory=dict)
    survived: dict[float, Tensor] = field(default_factory=dict)
    radii: dict[str, Tensor] = field(default_factory=dict)
    radius_seconds: float = 0.0


def judge(
    certifier: Certifier,
    model: nn.Module,
    values: Tensor,
    classes: Tensor,
    settings: CertifySettings,
    advance: Callable[[], None],
) -> Judgement:
    """Certify and attack samples at every ε, then bracket their radii.

    Args:
        certifier: of the model.
        model: the model itself, in its own dtype: what is attacked.
        values: samples (m, p) in the data's unit, float64.
        classes: labels (m,).
        settings: which ε, method and attack.
        advance: called when a batch is done with one ε.

    Raises:
        AssertionError: an attack broke a sample that a bound had certified.
    """
    equation = certifier.judged.equation
    slices = list(certifier.batches(len(values)))
    with torch.no_grad():
        inputs = certifier.unit.inputs(values)
        predictions = torch.cat([equation.model(inputs[rows]).argmax(1) for rows in slices])
    judgement = Judgement(classes, predictions)
    attack = attack_of(settings)
    for epsilon in settings.epsilon:
        parts, leads = [], []
        for rows in slices:
            sample, own = values[rows], classes[rows]
            lead = torch.where(predictions[rows] == own, 1.0, -1.0).double()
            if attack is not None:
                lead = _lead(attack, certifier, model, sample, own, epsilon, settings.seed)
            radii = torch.full_like(lead, epsilon)
            verdicts = certifier.verdicts(sample, own, radii, lead < -ROUNDING)
            parts.append(verdicts)
            leads.append(lead.masked_fill(verdicts.broken, -1.0))
            advance()
        judgement.verdicts[epsilon] = Verdicts.joined(parts)
        if attack is not None:
            judgement.survived[epsilon] = _survived(judgement, torch.cat(leads), epsilon)
    if settings.radius_steps:
        _bracket_radii(judgement, certifier, values, slices, settings, advance)
    return judgement


def attack_of(settings: CertifySettings) -> Attack | None:
    """The attack that is asked for; in l2 there is one."""
    if settings.attack == "none":
        return None
    if settings.norm == "l2":
        options = PgdOptions(steps=settings.attack_steps, restarts=settings.attack_restarts)
        return EuclideanPgd(options)
    if settings.attack == "fgsm":
        return Fgsm(FgsmOptions())
    steps, restarts = settings.attack_steps, settings.attack_restarts
    pgd = Pgd(PgdOptions(steps=steps, restarts=restarts))
    if settings.attack == "pgd":
        return pgd
    return Strongest(
        [pgd, MultiTargeted(MultiTargetedOptions(steps=max(1, steps // 2), restarts=restarts))]
    )


def _lead(
    attack: Attack,
    certifier: Certifier,
    model: nn.Module,
    values: Tensor,
    classes: Tensor,
    epsilon: float,
    seed: int,
) -> Tensor:
    """By how much the own class leads at the worst input found, over the largest output (m,).

    Found in the model's dtype, counted in float64: a point is put back into the region that is
    certified, from which rounding may have taken it.
    """
    unit, valid = certifier.unit, None
    if unit.valid is not None:
        smallest, largest = ((end - unit.mean) / unit.deviation for end in unit.valid)
        valid = (smallest, largest)
    found = attack(
        model,
        unit.inputs(values).to(next(model.parameters()).dtype),
        classes,
        epsilon / unit.deviation,
        valid=valid,
        generator=torch.Generator().manual_seed(seed),
    )
    radii = torch.full_like(values[:, 0], epsilon)
    points = (found.inputs, unit.inputs(values))
    return torch.minimum(*(certifier.leads(values, classes, radii, each) for each in points))


def _survived(judgement: Judgement, leads: Tensor, epsilon: float) -> Tensor:
    """Whether the class stayed (m,); within the rounding of a computed output, the proof counts."""
    certified = judgement.verdicts[epsilon].certified
    wrong = certified & (leads < -ROUNDING)
    if bool(wrong.any()):
        raise AssertionError(
            f"epsilon={epsilon:g}: samples {wrong.nonzero().squeeze(1).tolist()[:10]} are certified"
            " and yet broken by the attack: a bound of idl is wrong; please report it with the run"
        )
    return certified | (leads > 0)


def _bracket_radii(
    judgement: Judgement,
    certifier: Certifier,
    values: Tensor,
    slices: list[slice],
    settings: CertifySettings,
    advance: Callable[[], None],
) -> None:
    """The certified radii, from what is known at every ε."""
    low = torch.zeros(len(values), dtype=torch.float64)
    high = torch.full_like(low, torch.inf)
    for epsilon in sorted(settings.epsilon):
        certified = judgement.verdicts[epsilon].certified
        low[certified] = epsilon
        high = torch.where(certified, torch.inf, high.clamp(max=epsilon))
    known: dict[str, list[Tensor]] = {"norm": [], "sensitivity": [], "best": []}
    start = time.process_time()
    for rows in slices:
        sample, classes = values[rows], judgement.classes[rows]
        for name in ("norm", "sensitivity"):
            known[name].append(certifier.linear_radii(name, sample, classes))
        closed = known[settings.method if settings.method == "norm" else "sensitivity"][-1]
        least = torch.maximum(low[rows], closed)
        most = torch.where(high[rows] > least, high[rows], torch.inf)
        if settings.method in ("norm", "sensitivity"):
            known["best"].append(least)
        else:
            known["best"].append(
                certifier.radii(sample, classes, least, most, settings.radius_steps)
            )
        advance()
    judgement.radii = {name: torch.cat(parts) for name, parts in known.items()}
    judgement.radius_seconds = (time.process_time() - start) / max(len(values), 1)
