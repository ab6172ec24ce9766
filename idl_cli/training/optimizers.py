"""The optimisers of the config group ``optimizer``: PyTorch's, with every key spelt out."""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn, optim

from idl_cli.training.options import (
    AdagradOptions,
    AdamOptions,
    AdamwOptions,
    RmspropOptions,
    SgdOptions,
)

Parameters = Iterable[nn.Parameter]


def adam(
    parameters: Parameters,
    *,
    lr: float = AdamOptions.lr,
    betas: tuple[float, float] = AdamOptions.betas,
    eps: float = AdamOptions.eps,
    weight_decay: float = AdamOptions.weight_decay,
    amsgrad: bool = AdamOptions.amsgrad,
) -> optim.Optimizer:
    """Adam (Kingma and Ba, ICLR 2015, arXiv 1412.6980); ``weight_decay`` adds to the gradient."""
    return optim.Adam(
        parameters,
        lr=lr,
        betas=_pair(betas),
        eps=eps,
        weight_decay=weight_decay,
        amsgrad=amsgrad,
    )


def adamw(
    parameters: Parameters,
    *,
    lr: float = AdamwOptions.lr,
    betas: tuple[float, float] = AdamwOptions.betas,
    eps: float = AdamwOptions.eps,
    weight_decay: float = AdamwOptions.weight_decay,
    amsgrad: bool = AdamwOptions.amsgrad,
) -> optim.Optimizer:
    """Adam with decoupled weight decay (Loshchilov and Hutter, ICLR 2019, arXiv 1711.05101)."""
    return optim.AdamW(
        parameters,
        lr=lr,
        betas=_pair(betas),
        eps=eps,
        weight_decay=weight_decay,
        amsgrad=amsgrad,
    )


def sgd(
    parameters: Parameters,
    *,
    lr: float = SgdOptions.lr,
    momentum: float = SgdOptions.momentum,
    nesterov: bool = SgdOptions.nesterov,
    dampening: float = SgdOptions.dampening,
    weight_decay: float = SgdOptions.weight_decay,
) -> optim.Optimizer:
    """Stochastic gradient descent with (Nesterov) momentum."""
    return optim.SGD(
        parameters,
        lr=lr,
        momentum=momentum,
        nesterov=nesterov,
        dampening=dampening,
        weight_decay=weight_decay,
    )


def rmsprop(
    parameters: Parameters,
    *,
    lr: float = RmspropOptions.lr,
    alpha: float = RmspropOptions.alpha,
    eps: float = RmspropOptions.eps,
    momentum: float = RmspropOptions.momentum,
    centered: bool = RmspropOptions.centered,
    weight_decay: float = RmspropOptions.weight_decay,
) -> optim.Optimizer:
    """RMSprop (Tieleman and Hinton, 2012): steps scaled by a running root mean square."""
    return optim.RMSprop(
        parameters,
        lr=lr,
        alpha=alpha,
        eps=eps,
        momentum=momentum,
        centered=centered,
        weight_decay=weight_decay,
    )


def adagrad(
    parameters: Parameters,
    *,
    lr: float = AdagradOptions.lr,
    lr_decay: float = AdagradOptions.lr_decay,
    eps: float = AdagradOptions.eps,
    weight_decay: float = AdagradOptions.weight_decay,
) -> optim.Optimizer:
    """Adagrad (Duchi, Hazan and Singer, JMLR 12, 2011): steps scaled by all past gradients."""
    return optim.Adagrad(parameters, lr=lr, lr_decay=lr_decay, eps=eps, weight_decay=weight_decay)


def _pair(betas: tuple[float, float]) -> tuple[float, float]:
    first, second = betas  # a list, when it comes from a file
    return first, second
