"""The optimisers of the config group ``optimizer``: PyTorch's, with every key spelt out."""

from __future__ import annotations

from collections.abc import Iterable

from torch import nn, optim

from idl_cli.config.arguments import keywords_of
from idl_cli.training.options import (
    AdagradOptions,
    AdamOptions,
    AdamwOptions,
    RmspropOptions,
    SgdOptions,
)
from idl_cli.training.parameter_groups import Groups

Parameters = Iterable[nn.Parameter] | Groups


@keywords_of(AdamOptions)
def adam(options: AdamOptions, parameters: Parameters) -> optim.Optimizer:
    """Adam (Kingma and Ba, ICLR 2015, arXiv 1412.6980); ``weight_decay`` adds to the gradient."""
    return optim.Adam(parameters, **vars(options))


@keywords_of(AdamwOptions)
def adamw(options: AdamwOptions, parameters: Parameters) -> optim.Optimizer:
    """Adam with decoupled weight decay (Loshchilov and Hutter, ICLR 2019, arXiv 1711.05101)."""
    return optim.AdamW(parameters, **vars(options))


@keywords_of(SgdOptions)
def sgd(options: SgdOptions, parameters: Parameters) -> optim.Optimizer:
    """Stochastic gradient descent with (Nesterov) momentum."""
    return optim.SGD(parameters, **vars(options))


@keywords_of(RmspropOptions)
def rmsprop(options: RmspropOptions, parameters: Parameters) -> optim.Optimizer:
    """RMSprop (Tieleman and Hinton, 2012): steps scaled by a running root mean square."""
    return optim.RMSprop(parameters, **vars(options))


@keywords_of(AdagradOptions)
def adagrad(options: AdagradOptions, parameters: Parameters) -> optim.Optimizer:
    """Adagrad (Duchi, Hazan and Singer, JMLR 12, 2011): steps scaled by all past gradients."""
    return optim.Adagrad(parameters, **vars(options))
