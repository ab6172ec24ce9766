"""The pre-flight: every mistake found, all of them at once, before anything is made."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from idl_cli.config.options import config_directory
from idl_cli.errors import ConfigError
from idl_cli.requests.preflight import Accepted, Request, preflight
from tests.sub_commands import COMMANDS


def accept(*overrides: str, command: str = "train", **request: object) -> Accepted:
    given = {"root": command, **request}
    return preflight(Request(COMMANDS[command], COMMANDS, tuple(overrides), **given))  # type: ignore[arg-type]


def refuse(*overrides: str, command: str = "train", **request: object) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        accept(*overrides, command=command, **request)
    return list(caught.value.problems)


@pytest.mark.parametrize(
    "key", ["seed", "trainer.epochs", "optimizer.lr", "dataset.train_samples", "+nosuch", "model"]
)
@pytest.mark.parametrize("value", ["9" * 5000, "[1,{}]".format("9" * 5000), "-" + "9" * 5000])
def test_a_number_of_more_digits_than_python_reads_is_one_mistake(key: str, value: str) -> None:
    (sentence,) = refuse(f"{key}={value}")
    assert "many digits" in sentence
    assert len(sentence) < 200


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("optimizer.lr=1e400", "must be a number > 0"),
        ("optimizer.lr=" + "9" * 400, "must be a number > 0"),
        ("optimizer.lr=1e300", "must be a number > 0 and at most 1e+38"),
        ("optimizer.weight_decay=1e39", "must be a number >= 0 and at most 1e+38"),
        ("model.kappa=5e-324", "give at least 1e-37"),
        ("model.hidden_dim=2147483648", "must be an integer >= 1 and at most 2147483647"),
        ("model.rank=1" + "0" * 30, "must be an integer >= 1 and at most 2147483647 or null"),
        ("trainer.devices=9223372036854775807", "must be an integer in [1, 1024]"),
        ("threads=9223372036854775807", "must be an integer in [1, 1024]"),
        ("model.forward.tol=.inf", "must be a number"),
        ("seed=18446744073709551616", "must be an integer in [0, 9223372036854775807]"),
    ],
)
def test_numbers_that_nothing_can_be_done_with_are_refused(override: str, said: str) -> None:
    (sentence,) = refuse(override)
    assert said in sentence


@pytest.mark.parametrize("values", ["range(0,0)", "range(0,1,0)", "range(0,3,-1)"])
def test_a_sweep_without_values_is_refused(values: str) -> None:
    (sentence,) = refuse(f"seed={values}", multirun=True)
    assert sentence == f"seed={values}: names no value; give at least one"


def test_a_wrong_key_of_a_launcher_is_looked_at_beside_the_launcher() -> None:
    overrides = ("seed=0,1", "hydra/launcher=joblib", "hydra.launcher.n_jobs=abc")
    (sentence,) = refuse(*overrides, multirun=True)
    assert sentence.startswith("hydra.launcher.n_jobs=abc: Error merging override")


def test_no_record_with_secrets_is_asked_of_hydra() -> None:
    (sentence,) = refuse("hydra.output_subdir=kept")
    assert "hydra.output_subdir=kept: the request is kept in .hydra/" in sentence
    accept("hydra.output_subdir=null")


def test_a_sound_request_is_handed_to_hydra_as_it_was_typed() -> None:
    overrides = ("optimizer.lr=1e-2", "scheduler=cosine", "model.forward.tol=1e-6")
    accepted = accept(*overrides)
    assert accepted.overrides == overrides
    assert accepted.settings["optimizer"]["lr"] == 0.01
    assert accepted.settings["model"]["forward"]["tol"] == 1e-6
    assert accepted.settings["model"]["forward"]["max_iter"] == 500


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("model=implicti", "did you mean implicit?"),
        ("dataset=nosuch", "choose from "),
        ("model=[implicit,implicit]", "the name of one option"),
        ("model=null", "a model is needed"),
        ("~model", "needs a model"),
        ("+nosuchgroup=x", "nosuchgroup=x: no such key"),
        ("nosuchgroup=x", "nosuchgroup=x: no such key"),
        ("modle.kappa=0.5", "did you mean model.kappa?"),
        ("model.kapa=0.5", "did you mean model.kappa?"),
        ("epochs=3", "did you mean trainer.epochs?"),
        ("optimiser.lr=1e-3", "did you mean optimizer.lr?"),
        ("run_dir=x", "did you mean hydra.run.dir or hydra.sweep.dir?"),
        ("output_dir=x", "did you mean hydra.run.dir or hydra.sweep.dir?"),
        ("gpus=2", "did you mean trainer.devices or device?"),
        ("devices=2", "did you mean trainer.devices?"),
        ("hidden_size=3", "did you mean model.hidden_dim?"),
        ("trainer.learning_rate=1", "did you mean optimizer.lr?"),
        ("max_iter=3", "did you mean model.forward.max_iter or model.backward.max_iter?"),
        ("lambda_z=1", "no such key; trainer.lambda_z is a key of `idl sim`"),
        ("trainer.lambda_z=1", "no such key; trainer.lambda_z is a key of `idl sim`"),
        ("momentum=0.9", "optimizer.momentum is a key of optimizer=sgd, rmsprop"),
        ("n_jobs=2", "did you mean hydra.launcher.n_jobs?"),
        ("exp=x", "did you mean experiment?"),
        ("name=x", "no such key; known here: model, dataset"),
        ("hydra.run.dirs=x", "did you mean hydra.run.dir?"),
        ("model.kappa=1.2", "must be a number in (0, 1)"),
        ("trainer.epochs=ten", "must be an integer >= 1"),
        ("trainer.epochs=1.5", "must be an integer >= 1"),
        ("model.rank=200", "200"),
        ("dataset=arrays", "dataset.file: missing"),
        ("seed.x=1", "must be an integer in [0, 9223372036854775807]"),
        ("seed", "seed: is no KEY=VALUE and no GROUP=OPTION"),
        ("digits", "did you mean dataset=digits?"),
        ("model.kappa=[0.5", "OPTION: no viable alternative at input '[0.5'; a value with"),
        ("hydra.run.dir=a b='x", "cannot be read as KEY=VALUE or GROUP=OPTION: token recognition"),
        ("hydra.run.dir=a,b", "write it in quotes, hydra.run.dir='VALUE'"),
        ("optimizer.lr=1e-3,1e-2", "add -m"),
        ("solver=admm", "use `idl sim`"),
        ("teacher.run=DIR", "use `idl sim`"),
        ("device=tpu", "one of auto, cpu, cuda, cuda:N"),
        ("experiment=nosuch", "no such option"),
        ("hydra/launcher=nosuch", "no such option; choose from basic, joblib"),
        ("hydra/sweeper=optuan", "did you mean optuna?"),
        ("model.kappa=${nowhere}", "model.kappa"),
    ],
)
def test_one_mistake_gives_one_sentence(override: str, said: str) -> None:
    (sentence,) = refuse(override)
    assert said in sentence


@pytest.mark.parametrize("command", ["train", "sim"])
@pytest.mark.parametrize("group", ["experiment", "debug", "local"])
def test_null_chooses_nothing_in_a_group_that_may_be_empty(command: str, group: str) -> None:
    plain = accept(command=command)
    for override in (f"{group}=null", f"+{group}=null", f"~{group}"):
        accepted = accept(override, command=command)
        assert accepted.settings == plain.settings, override
        assert accepted.hydra.verbose == plain.hydra.verbose


def test_null_takes_away_what_the_primary_configuration_chooses(tmp_path: Path) -> None:
    mine = tmp_path / "configs"
    shutil.copytree(config_directory(), mine)
    root = (mine / "train.yaml").read_text()
    (mine / "train.yaml").write_text(
        root.replace("experiment: null", "experiment: digits_low_rank")
    )
    assert accept(directory=mine).settings["model"]["rank"] == 10
    accepted = accept("experiment=null", directory=mine)
    assert accepted.settings["model"]["rank"] is None
    assert accepted.overrides == ("~experiment",)


def test_null_is_the_run_s_own_dataset_for_eval() -> None:
    assert accept("run=there", "dataset=null", command="eval").settings["dataset"] is None


@pytest.mark.parametrize(
    ("override", "command", "said"),
    [
        ("logger=null", "train", "a logger is needed; choose from jsonl"),
        ("solver=null", "sim", "a solver is needed; choose from active_set"),
        ("hydra/launcher=null", "train", "choose from basic, joblib"),
    ],
)
def test_null_is_refused_where_something_is_needed(override: str, command: str, said: str) -> None:
    (sentence,) = refuse(override, command=command)
    assert sentence.startswith(f"{override}: ")
    assert said in sentence


def test_null_is_no_value_of_a_sweep() -> None:
    (sentence,) = refuse("experiment=null,digits_low_rank", multirun=True)
    assert "cannot be one value of a sweep" in sentence


@pytest.mark.parametrize(
    ("override", "command", "said"),
    [
        ("experiment=sim_fashion_mnist", "train", "use `idl sim experiment=sim_fashion_mnist`"),
        ("experiment=sim_fashion_mnist", "train", "chooses teacher and solver, which `idl train`"),
        ("experiment=fashion_mnist", "sim", "chooses model, optimizer and scheduler, which"),
        ("experiment=fashion_mnist", "sim", "use `idl train experiment=fashion_mnist`"),
        ("+experiment=digits_low_rank", "sim", "use `idl train experiment=digits_low_rank`"),
        ("experiment=fashion_mnist", "eval", "`idl eval` takes all from run=DIR"),
        ("debug=fast", "eval", "`idl eval` has no quick looks"),
    ],
)
def test_a_preset_of_another_command_names_that_command(
    override: str, command: str, said: str
) -> None:
    given = ["run=there"] if command == "eval" else []
    (sentence,) = refuse(*given, override, command=command)
    assert said in sentence
    assert len(sentence.splitlines()) == 1


def test_a_preset_of_another_command_is_found_in_a_sweep() -> None:
    (sentence,) = refuse("experiment=sim_fashion_mnist,fashion_mnist", multirun=True)
    assert "use `idl sim experiment=sim_fashion_mnist`" in sentence


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("epochs=3", "did you mean teacher.epochs?"),
        ("batch_size=3", "did you mean teacher.batch_size or trainer.batch_size?"),
        ("lambda=1", "did you mean trainer.lambda_z or trainer.lambda_y?"),
        ("devices=2", "solver.devices is a key of solver=admm_multigpu"),
        ("hidden_dim=3", "mean teacher.hidden_dims? (teacher.hidden_dim is a key of teacher=cnn)"),
    ],
)
def test_keys_of_sim_are_found_by_their_last_name(override: str, said: str) -> None:
    (sentence,) = refuse(override, command="sim")
    assert said in sentence


def test_a_key_of_the_launcher_chosen_is_found_by_its_spelling() -> None:
    launcher = ("hydra/launcher=joblib", "hydra.launcher.njobs=2")
    (sentence,) = refuse(*launcher, multirun=True)
    assert sentence == "hydra.launcher.njobs=2: no such key; did you mean hydra.launcher.n_jobs?"


def test_several_loggers_are_at_least_one() -> None:
    (sentence,) = refuse("logger=several", "logger.loggers=[]")
    assert sentence.startswith("logger.loggers=[]: names no logger; list some of tensorboard, ")


def test_mistakes_of_every_kind_come_together() -> None:
    found = refuse(
        "model=implicti",
        "dataset=nosuch",
        "trainer=sim",
        "+nosuchgroup=x",
        "model.kappa=1.2",
        "modle.kappa=1",
        "optimizer.lr=fast",
        "seed=-1",
        "scheduler",
    )
    starts = ("model=implicti", "dataset=nosuch", "trainer=sim", "nosuchgroup=x", "model.kappa=1.2")
    starts += ("modle.kappa=1", "optimizer.lr=fast", "seed=-1", "scheduler")
    assert len(found) == len(starts)
    for start in starts:
        assert sum(sentence.startswith(start) for sentence in found) == 1, start


def test_a_command_fixes_its_trainer() -> None:
    assert accept("trainer=gradient").settings["trainer"]["name"] == "gradient"
    (sentence,) = refuse("trainer=sim")
    assert "idl sim" in sentence
    (sentence,) = refuse("trainer.name=sim")
    assert "idl sim" in sentence


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("model=rnn", "idl train"),
        ("model.kappa=0.5", "trainer.kappa"),
        ("optimizer=adam", "idl train"),
        ("trainer=gradient", "idl train"),
    ],
)
def test_sim_sends_to_train_what_belongs_there(override: str, said: str) -> None:
    (sentence,) = [each for each in refuse(override, command="sim") if each.startswith(override)]
    assert said in sentence


def test_eval_needs_a_run_and_takes_a_dataset() -> None:
    assert refuse(command="eval") == ["run: missing; give run=VALUE, a text"]
    accepted = accept("run=there", command="eval")
    assert accepted.settings["dataset"] is None
    accepted = accept("run=there", "dataset=digits", command="eval")
    assert accepted.settings["dataset"]["name"] == "digits"
    (sentence,) = refuse("run=there", "model=implicit", command="eval")
    assert "takes the model from run=DIR" in sentence


def test_a_needless_plus_is_forgiven_for_groups() -> None:
    assert accept("+experiment=digits_low_rank").settings["model"]["rank"] == 10
    assert accept("+model.rank=3").settings["model"]["rank"] == 3


def test_users_add_options_by_a_directory(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    # No other key: the schema knows the rest, and each can be overridden without a plus.
    (tmp_path / "model" / "tiny.yaml").write_text("# Tiny.\nname: implicit\nhidden_dim: 5\n")
    search = {"search_path": (tmp_path,)}
    accepted = accept("model=tiny", "model.rank=2", "model.forward.tol=1e-8", **search)
    assert accepted.settings["model"]["hidden_dim"] == 5
    assert accepted.settings["model"]["rank"] == 2
    assert accepted.settings["model"]["forward"] == {
        "method": "auto",
        "max_iter": 500,
        "tol": 1e-8,
        "window": 5,
        "regularization": 1e-8,
        "damping": 1.0,
    }
    assert accepted.overrides[0] == "model=tiny"
    (sentence,) = refuse("model=tiny", "model.rank=6", **search)
    assert "6" in sentence
    (sentence,) = refuse("model=tinny", **search)
    assert "did you mean tiny?" in sentence


def test_mistakes_in_a_users_file_are_found_too(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "bad.yaml").write_text("name: implicit\nhiden_dim: 5\nkappa: 1.5\n")
    (tmp_path / "model" / "nameless.yaml").write_text("hidden_dim: 5\n")
    (tmp_path / "model" / "other.yaml").write_text("name: nosuch\n")
    search = {"search_path": (tmp_path,)}
    found = refuse("model=bad", **search)
    assert any("did you mean model.hidden_dim?" in sentence for sentence in found)
    assert any(sentence.startswith("model.kappa=1.5") for sentence in found)
    assert len(found) == 2
    assert "model.name" in refuse("model=nameless", **search)[0]
    assert "choose from implicit" in refuse("model=other", **search)[0]


def test_a_sweep_is_checked_value_by_value() -> None:
    sweep = {"multirun": True}
    overrides = ("optimizer.lr=1e-3,1e-2", "optimizer=adam,sgd", "seed=range(0,3)")
    assert accept(*overrides, **sweep).overrides == overrides
    found = refuse("model.kappa=0.5,1.5,0", "seed=0,-1", "optimizer=adam,nosuch", **sweep)
    assert [sentence.partition(":")[0] for sentence in found] == ["optimizer=nosuch"]
    found = refuse("model.kappa=0.5,1.5,0", "seed=0,-1", **sweep)
    assert [sentence.partition(":")[0] for sentence in found] == [
        "model.kappa=1.5",
        "model.kappa=0",
        "seed=-1",
    ]


def test_a_sweep_over_options_checks_the_keys_of_each() -> None:
    (sentence,) = refuse("optimizer=adam,sgd", "optimizer.amsgrad=true", multirun=True)
    assert sentence.startswith("optimizer.amsgrad=true: no such key")


def test_a_sweep_in_a_preset_is_composed_for_its_first_job(tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "grid.yaml").write_text(
        "# @package _global_\nhydra:\n  mode: MULTIRUN\n  sweeper:\n    params:\n      seed: 0,1\n"
    )
    accepted = accept("experiment=grid", search_path=(tmp_path,))
    assert accepted.hydra.mode.name == "MULTIRUN"


def test_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    accept()
    refuse("model.kappa=2")
    assert list(tmp_path.iterdir()) == []
