"""The optimisers of the config group ``optimizer``: PyTorch's, with every key spelt out."""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn, optim

Parameters = Iterable[nn.Parameter]


def adam(
    parameters: Parameters,
    *,
    lr: float = 2e-3,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    amsgrad: bool = False,
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
    lr: float = 1e-3,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 1e-2,
    amsgrad: bool = False,
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
    lr: float = 1e-1,
    momentum: float = 0.9,
    nesterov: bool = False,
    dampening: float = 0.0,
    weight_decay: float = 0.0,
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
    lr: float = 1e-3,
    alpha: float = 0.99,
    eps: float = 1e-8,
    momentum: float = 0.0,
    centered: bool = False,
    weight_decay: float = 0.0,
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
    lr: float = 1e-2,
    lr_decay: float = 0.0,
    eps: float = 1e-10,
    weight_decay: float = 0.0,
) -> optim.Optimizer:
    """Adagrad (Duchi, Hazan and Singer, JMLR 12, 2011): steps scaled by all past gradients."""
    return optim.Adagrad(parameters, lr=lr, lr_decay=lr_decay, eps=eps, weight_decay=weight_decay)


def _pair(betas: tuple[float, float]) -> tuple[float, float]:
    first, second = betas  # a list, when it comes from a file
    return first, second
