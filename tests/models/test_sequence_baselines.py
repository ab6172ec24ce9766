import pytest
import torch
from torch import Tensor

from idl_cli import registry
from idl_cli.errors import ArgumentError, ShapeError
from idl_cli.models.base import TrainableModel
from idl_cli.models.parameter_count import parameter_count
from idl_cli.models.sequence_baselines import GRU, LSTM, MatchedMLP, Transformer

SEQUENCE_MODELS = (LSTM, GRU, Transformer)
NAMES = {LSTM: "lstm", GRU: "gru", Transformer: "transformer", MatchedMLP: "mlp"}


def sequences() -> Tensor:
    return torch.randn(3, 5, 2, generator=torch.Generator().manual_seed(0))


def test_published_size() -> None:
    # The network that the implicit one of 1,850 parameters is compared with.
    assert parameter_count(LSTM(1, 10, 20)) == 2050


@pytest.mark.parametrize("kind", NAMES)
@pytest.mark.parametrize("target", [1850, 20_000])
def test_no_other_width_comes_nearer_to_the_size_asked_for(
    kind: type[TrainableModel], target: int
) -> None:
    made = kind(10, 3, match_parameters=target)  # type: ignore[call-arg]
    missed = abs(parameter_count(made) - target)
    arguments = made.constructor_arguments()
    if kind is MatchedMLP:
        widest = max(made.hidden_dims)
        neighbours = [
            [max(1, round(width * other / 64)) for width in (64, 32, 16)]
            for other in (widest - 1, widest + 1)
        ]
        others = [{**arguments, "hidden_dims": widths} for widths in neighbours]
    else:
        step = getattr(made, "heads", 1)
        others = [{**arguments, "hidden_dim": made.hidden_dim + change} for change in (-step, step)]
    assert all(abs(parameter_count(kind(**other)) - target) >= missed for other in others)
    assert missed < 0.1 * target


@pytest.mark.parametrize("kind", NAMES)
def test_an_equal_model_is_made_from_its_arguments(kind: type[TrainableModel]) -> None:
    made = kind(2 if kind is not MatchedMLP else 10, 3, match_parameters=900)  # type: ignore[call-arg]
    again = registry.build("model", {"name": NAMES[kind], **made.constructor_arguments()})
    again.load_state_dict(made.state_dict())
    assert torch.equal(again(sequences()), made(sequences()))
    assert again.constructor_arguments() == made.constructor_arguments()


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("kind", SEQUENCE_MODELS)
def test_padded_sequences_are_predicted_as_each_by_itself(
    kind: type[LSTM | GRU | Transformer], layers: int
) -> None:
    torch.manual_seed(0)
    inputs, lengths = sequences(), torch.tensor([2, 5, 1])
    for output in ("last", "every"):
        model = kind(2, 3, layers=layers, output=output)
        found = model(inputs, lengths)
        for sample, length in enumerate(lengths):
            alone = model(inputs[sample : sample + 1, :length])[0]
            padded = found[sample] if output == "last" else found[sample, :length]
            torch.testing.assert_close(padded, alone)


@pytest.mark.parametrize("kind", SEQUENCE_MODELS)
def test_no_step_sees_what_comes_after_it(kind: type[LSTM | GRU | Transformer]) -> None:
    model = kind(2, 3, output="every")
    inputs = sequences()
    changed = inputs.clone()
    changed[:, 3:] += 1
    torch.testing.assert_close(model(inputs)[:, :3], model(changed)[:, :3])
    assert not torch.allclose(model(inputs)[:, 3:], model(changed)[:, 3:])


def test_a_transformer_knows_the_order_of_its_inputs() -> None:
    model = Transformer(2, 3)
    inputs = sequences()
    reordered = inputs[:, [1, 0, 2, 3, 4]]
    assert not torch.allclose(model(inputs), model(reordered))


@pytest.mark.parametrize("kind", SEQUENCE_MODELS)
def test_what_does_not_fit_is_refused(kind: type[LSTM | GRU | Transformer]) -> None:
    model = kind(2, 3)
    with pytest.raises(ShapeError, match=r"\(samples, steps, 2\)"):
        model(torch.zeros(3, 5, 4))
    with pytest.raises(ShapeError, match="between 1 and 5"):
        model(sequences(), torch.tensor([2, 6, 1]))
    with pytest.raises(ArgumentError, match="layers=0"):
        kind(2, 3, layers=0)
    with pytest.raises(ArgumentError, match="output='first'"):
        kind(2, 3, output="first")  # type: ignore[arg-type]


def test_heads_share_the_hidden_dimension() -> None:
    with pytest.raises(ArgumentError, match="multiple of heads=3"):
        Transformer(2, 3, 16, heads=3)
    assert Transformer(2, 3, heads=3, match_parameters=2000).hidden_dim % 3 == 0
