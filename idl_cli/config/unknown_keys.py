"""What somebody who typed an unknown key most likely meant.

In this order: a key of the same last name in another section, the word that other tools use for a
key, a key that only another option or command has, a spelling close by.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from types import MappingProxyType
from typing import Final

from idl_cli.config.describe import shown

Elsewhere = Callable[[str], "str | None"]
"""Says of an unknown key which option or command has it; None where none does."""

_ALIKE: Final = 0.7
_MOST_NAMED: Final = 4
_OF_ALL: Final = "name"  # a key that every component has says nothing
_VERY_ALIKE: Final = 0.9
_WHOLE: Final = ("hydra.", "hydra/", "experiment")
"""How words begin that are whole keys, and no key of a schema."""

_WORDS: Final[Sequence[tuple[str, tuple[str, ...]]]] = (
    (
        "run_dir rundir output_dir outdir out_dir output out save_dir log_dir logdir work_dir "
        "workdir exp_dir results_dir default_root_dir",
        ("hydra.run.dir", "hydra.sweep.dir"),
    ),
    ("sweep_dir multirun_dir", ("hydra.sweep.dir",)),
    ("n_jobs num_jobs jobs", ("hydra.launcher.n_jobs",)),
    ("n_trials num_trials trials", ("hydra.sweeper.n_trials",)),
    ("launcher", ("hydra/launcher",)),
    ("sweeper", ("hydra/sweeper",)),
    ("verbose", ("hydra.verbose",)),
    ("gpus num_gpus n_gpus ngpus world_size nproc", ("devices", "device")),
    ("gpu cuda accelerator", ("device",)),
    ("num_threads n_threads cpus num_cpus", ("threads",)),
    ("learning_rate eta step_size", ("lr",)),
    ("bs minibatch_size", ("batch_size",)),
    ("wd l2_penalty", ("weight_decay",)),
    ("max_epochs num_epochs n_epochs", ("epochs",)),
    ("hidden hidden_size hidden_units hidden_sizes width state_dim", ("hidden_dim", "hidden_dims")),
    ("lambda lam lambd reg alpha l1", ("lambda_z", "lambda_y")),
    ("tolerance epsilon", ("tol",)),
    ("iterations n_iter maxiter max_iterations max_steps", ("max_iter",)),
    ("data_dir data_root data_path", ("root", "file")),
    ("n_samples num_samples train_size", ("train_samples", "samples")),
    ("val_split val_fraction validation_split", ("validation_fraction",)),
    ("clip grad_clip max_grad_norm gradient_clip_val", ("clip_norm",)),
    ("amp fp16 bf16 mixed_precision", ("precision",)),
    ("random_seed manual_seed random_state", ("seed",)),
    ("ckpt ckpt_path checkpoint load resume_from resume_from_checkpoint", ("resume", "init_run")),
    ("exp preset", ("experiment",)),
    ("data", ("dataset",)),
    ("network net arch architecture", ("model",)),
    ("optim", ("optimizer",)),
    ("sched lr_scheduler", ("scheduler",)),
    ("log loggers report_to tracker", ("logger",)),
    ("metric objective monitor", ("optimized_metric",)),
)

SYNONYMS: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {word: meant for words, meant in _WORDS for word in words.split()}
)
"""What other tools call a key → last names of keys here, or whole keys of Hydra's part."""


def unknown_key(
    path: str, value: object, valid: Sequence[str], elsewhere: Elsewhere | None = None
) -> str:
    """The sentence for a key that there is not.

    Args:
        path: the key.
        value: what was given for it.
        valid: all dotted keys that there are.
        elsewhere: asked where nothing here has that name.
    """
    given = f"{path}={shown(value)}: no such key"
    leaf = path.rpartition(".")[2]
    named = _named(path, leaf, valid)
    wanted = SYNONYMS.get(leaf.lower().replace("-", "_"), ())
    if not named:
        named = list(chain.from_iterable(_named(path, word, valid) for word in wanted))
    said = None
    if not named and elsewhere is not None and leaf != _OF_ALL:
        places = (elsewhere(f"{path.removesuffix(leaf)}{word}") for word in (leaf, *wanted))
        said = next(filter(None, places), None)
    if not named:
        close = nearest_path(path, valid, _ALIKE if said is None else _VERY_ALIKE)
        named = [] if close is None else [close]
    if named:
        given += f"; did you mean {_either(named[:_MOST_NAMED])}?"
        return given if said is None else f"{given} ({said})"
    return f"{given}; {said or 'known here: ' + (', '.join(_siblings(path, valid)) or 'nothing')}"


def nearest_path(path: str, valid: Iterable[str], alike: float = _ALIKE) -> str | None:
    """The valid key that ``path`` most likely meant: a last name spelt alike, close by.

    Args:
        path: the key.
        valid: to choose from.
        alike: how much the last names have to be, 1 for the same.
    """
    parent, _, leaf = path.rpartition(".")
    best: tuple[float, str] | None = None
    for key in valid:
        where, _, name = key.rpartition(".")
        if name == _OF_ALL == leaf:
            continue
        likeness = difflib.SequenceMatcher(None, leaf, name).ratio()
        if likeness < alike:
            continue
        score = likeness + 0.1 * difflib.SequenceMatcher(None, parent, where).ratio()
        if best is None or score > best[0]:
            best = score, key
    return best[1] if best else None


def _named(path: str, word: str, valid: Sequence[str]) -> list[str]:
    """The keys called ``word``: those in the section typed if there are any, else the likeliest."""
    if word.startswith(_WHOLE):
        return [word]
    if word == _OF_ALL:
        return []
    parent = path.rpartition(".")[0]
    found = [key for key in valid if key.rpartition(".")[2] == word]
    if not parent or not found:
        return found
    inside = [key for key in found if key.startswith(f"{parent}.")]
    nearest = nearest_path(f"{parent}.{word}", found)
    return inside or ([] if nearest is None else [nearest])


def _either(names: Sequence[str]) -> str:
    return " or ".join(filter(None, (", ".join(names[:-1]), names[-1])))


def _siblings(path: str, valid: Sequence[str]) -> list[str]:
    parent = path.rpartition(".")[0]
    prefix = f"{parent}." if parent else ""
    inside: Iterator[str] = (key[len(prefix) :] for key in valid if key.startswith(prefix))
    return list(dict.fromkeys(key.partition(".")[0] for key in inside))
