import inspect

import pytest
import torch

from idl_cli import registry
from idl_cli.training import optimizers

_TORCH = {
    "adam": (torch.optim.Adam, {"weight_decay": 0.1, "amsgrad": True, "betas": [0.8, 0.9]}),
    "adamw": (torch.optim.AdamW, {"weight_decay": 0.1, "eps": 1e-3}),
    "sgd": (torch.optim.SGD, {"momentum": 0.5, "nesterov": True, "weight_decay": 0.1}),
    "rmsprop": (torch.optim.RMSprop, {"momentum": 0.5, "centered": True, "alpha": 0.9}),
    "adagrad": (torch.optim.Adagrad, {"lr_decay": 0.1, "eps": 1e-3}),
}


@pytest.mark.parametrize("name", registry.names("optimizer"))
def test_every_key_reaches_torch(name: str) -> None:
    kind, options = _TORCH[name]
    first = torch.nn.Parameter(torch.tensor([1.0, -2.0]))
    second = torch.nn.Parameter(torch.tensor([1.0, -2.0]))
    ours = registry.build("optimizer", {"name": name, "lr": 0.03, **options}, parameters=[first])
    theirs = kind([second], lr=0.03, **options)
    assert type(ours) is kind
    for step in range(5):
        for optimizer, parameter in ((ours, first), (theirs, second)):
            optimizer.zero_grad()
            (parameter.square() * (step + 1)).sum().backward()
            optimizer.step()
    assert first.equal(second)
    assert not first.equal(torch.tensor([1.0, -2.0]))


@pytest.mark.parametrize("name", registry.names("optimizer"))
def test_defaults_are_those_of_the_schema(name: str) -> None:
    import dataclasses

    schema = registry.schema_of("optimizer", name)
    expected = {f.name: f.default for f in dataclasses.fields(schema) if f.name != "name"}
    parameters = inspect.signature(getattr(optimizers, name)).parameters
    assert {k: p.default for k, p in parameters.items() if k != "parameters"} == expected
