from __future__ import annotations

import os
import pickle
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch

from idl_cli.data.tables.arrays import arrays
from idl_cli.errors import ConfigError, DataError, IgnoredOptionWarning

Array = npt.NDArray[np.generic]

INPUTS = np.random.default_rng(0).normal(size=(50, 4))
LABELS = np.arange(50) % 3


def npz(tmp_path: Path, **contents: Array) -> str:
    path = tmp_path / "data.npz"
    np.savez(path, **contents)
    return str(path)


def test_integer_targets_make_a_classification(tmp_path: Path) -> None:
    dataset = arrays(file=npz(tmp_path, inputs=INPUTS, targets=LABELS))
    assert dataset.validation is not None
    assert [len(part) for part in (dataset.train, dataset.validation, dataset.test)] == [36, 4, 10]
    assert dataset.task.kind == "classification"
    assert (dataset.task.input_shape, dataset.task.output_dim) == ((4,), 3)
    assert dataset.preprocessing.normalize == "feature"
    assert dataset.train.targets.dtype == torch.int64
    order = {row.tobytes(): label for row, label in zip(INPUTS, LABELS, strict=True)}
    for part in (dataset.train, dataset.validation, dataset.test):
        for row, label in zip(part.inputs.numpy(), part.targets, strict=True):
            assert order.pop(row.tobytes()) == label
    assert not order


def test_real_targets_make_a_regression(tmp_path: Path) -> None:
    for targets, outputs in ((INPUTS[:, 0], 1), (INPUTS[:, :2], 2)):
        dataset = arrays(file=npz(tmp_path, inputs=INPUTS, targets=targets))
        assert dataset.task.kind == "regression"
        assert dataset.task.output_dim == outputs
        assert dataset.train.targets.shape == (36, outputs)
        assert dataset.train.targets.dtype == torch.float64
        inputs, kept = dataset.test.inputs, dataset.test.targets
        assert dataset.task.target_scaling is not None
        # With their own sample; scaled and unscaled, a number is rounded three times.
        own = dataset.task.target_scaling.unscale(kept)
        torch.testing.assert_close(own, inputs[:, :outputs], rtol=1e-15, atol=1e-15)
        raw = arrays(file=npz(tmp_path, inputs=INPUTS, targets=targets), normalize="none")
        assert raw.task.target_scaling is None
        assert torch.equal(raw.test.inputs[:, :outputs], raw.test.targets)


def test_the_task_can_be_named(tmp_path: Path) -> None:
    counts = arrays(file=npz(tmp_path, inputs=INPUTS, targets=LABELS), task="regression")
    assert counts.task.kind == "regression"
    assert counts.train.targets.is_floating_point()
    whole = arrays(
        file=npz(tmp_path, inputs=INPUTS, targets=LABELS.astype(float)), task="classification"
    )
    assert whole.task.output_dim == 3


def test_text_and_column_targets(tmp_path: Path) -> None:
    names = np.array(["cat", "ant", "bee"])
    dataset = arrays(file=npz(tmp_path, inputs=INPUTS, targets=names[LABELS][:, None]))
    assert dataset.task.class_names == ("ant", "bee", "cat")
    expected = {row.tobytes(): names[label] for row, label in zip(INPUTS, LABELS, strict=True)}
    for row, label in zip(dataset.test.inputs.numpy(), dataset.test.targets, strict=True):
        assert ("ant", "bee", "cat")[label] == expected[row.tobytes()]


def test_class_names_in_bytes_are_utf_8(tmp_path: Path) -> None:
    names = np.array(["café".encode(), b"the"])
    dataset = arrays(file=npz(tmp_path, inputs=INPUTS, targets=names[LABELS % 2]))
    assert dataset.task.class_names == ("café", "the")
    names = np.array(["café".encode("latin-1"), b"the"])
    file = npz(tmp_path, inputs=INPUTS, targets=names[LABELS % 2])
    with pytest.raises(DataError, match=r"data\.npz\[targets\]: class b'caf\\xe9' of sample 0 is"):
        arrays(file=file)


def test_whole_numbers_that_are_no_labels_may_be_quantities(tmp_path: Path) -> None:
    ages = (40 + 9 * INPUTS[:, 0]).round().astype(np.int64)
    for targets in (ages, ages - 50):
        file = npz(tmp_path, inputs=INPUTS, targets=targets)
        with pytest.raises(DataError, match=r"in whole numbers give dataset\.task=regression"):
            arrays(file=file)
        assert arrays(file=file, task="regression").task.kind == "regression"


def test_parts_of_the_users_own(tmp_path: Path) -> None:
    file = npz(
        tmp_path,
        train_inputs=INPUTS[:30],
        train_targets=LABELS[:30],
        validation_inputs=INPUTS[30:35],
        validation_targets=LABELS[30:35],
        test_inputs=INPUTS[35:].astype(np.float32),
        test_targets=LABELS[35:],
    )
    dataset = arrays(file=file)
    assert dataset.validation is not None
    np.testing.assert_array_equal(dataset.train.inputs.numpy(), INPUTS[:30])
    np.testing.assert_array_equal(dataset.validation.inputs.numpy(), INPUTS[30:35])
    np.testing.assert_array_equal(dataset.test.targets.numpy(), LABELS[35:])


@pytest.mark.parametrize(
    ("train", "validation", "test"),
    [
        ("x_train y_train", "", "x_test y_test"),  # Keras
        ("train_images train_labels", "val_images val_labels", "test_images test_labels"),
        ("X_train y_train", "X_valid y_valid", "X_test y_test"),
        ("trainX trainY", "validX validY", "testX testY"),
        ("training-data training-labels", "dev-data dev-labels", "testing-data testing-labels"),
    ],
)
def test_parts_by_the_names_in_use(tmp_path: Path, train: str, validation: str, test: str) -> None:
    contents = {}
    for names, rows in ((train, slice(30)), (validation, slice(30, 35)), (test, slice(35, 50))):
        for name, values in zip(names.split(), (INPUTS, LABELS[:, None]), strict=False):
            contents[name] = values[rows]
    dataset = arrays(file=npz(tmp_path, **contents))
    assert dataset.validation is not None
    np.testing.assert_array_equal(dataset.test.inputs.numpy(), INPUTS[35:])
    np.testing.assert_array_equal(dataset.test.targets.numpy(), LABELS[35:])
    if validation:
        np.testing.assert_array_equal(dataset.train.inputs.numpy(), INPUTS[:30])
        np.testing.assert_array_equal(dataset.validation.inputs.numpy(), INPUTS[30:35])


@pytest.mark.parametrize("names", ["X y", "data target", "images labels", "features labels"])
def test_one_set_by_the_names_in_use(tmp_path: Path, names: str) -> None:
    inputs, targets = names.split()
    dataset = arrays(file=npz(tmp_path, **{inputs: INPUTS, targets: LABELS}))
    assert len(dataset.train) + len(dataset.test) == 46
    assert dataset.task.output_dim == 3
    assert "whole-number targets are 3 classes" in dataset.assumptions[0]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ("x_train y_train x_test", r"has no y_test \(it has: x_test, x_train, y_train\)"),
        ("X", r"has no y \("),
        ("x_test y_test", r"has no train_inputs and no train_targets"),
        ("x y data labels", r"could be x and y; x and labels; data and labels"),
        ("x y x_train y_train", r"could be x and y; x_train and y_train"),
        ("x_train train_x y_train", r"x_train and train_x mean the same"),
        ("arr_0 arr_1", r"has no train_inputs .*it has: arr_0, arr_1"),
        ("", r"holds no arrays"),
    ],
)
def test_names_that_do_not_tell_are_refused(tmp_path: Path, names: str, message: str) -> None:
    file = npz(tmp_path, **dict.fromkeys(names.split(), LABELS))
    with pytest.raises(DataError, match=message):
        arrays(file=file)


def test_channels_may_be_last(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (50, 6, 5, 3), dtype=np.uint8)
    halves = {"train_labels": LABELS[:25], "test_labels": LABELS[25:]}
    last = npz(tmp_path, train_images=pixels[:25], test_images=pixels[25:], **halves)
    dataset = arrays(file=last, validation_fraction=0.0)
    assert dataset.task.input_shape == (3, 6, 5)
    np.testing.assert_array_equal(dataset.train.inputs.numpy(), pixels[:25].transpose(0, 3, 1, 2))
    assert dataset.preprocessing.statistics_shape == (3, 1, 1)
    assert "images of 6 x 5 pixels with 3 channel(s)" in dataset.assumptions[0]
    assert arrays(file=last, channels="first").task.input_shape == (6, 5, 3)
    first = npz(tmp_path, x=pixels.transpose(0, 3, 1, 2), y=LABELS)
    assert arrays(file=first).task.input_shape == (3, 6, 5)
    assert arrays(file=first, channels="last").task.input_shape == (5, 3, 6)


def test_channels_that_could_be_either_are_asked_for(tmp_path: Path) -> None:
    file = npz(tmp_path, x=np.zeros((50, 3, 9, 4)), y=LABELS)
    with pytest.raises(ConfigError, match=r"dataset\.channels: .*give dataset\.channels=first"):
        arrays(file=file)
    assert arrays(file=file, channels="last").task.input_shape == (4, 3, 9)
    vectors = npz(tmp_path, x=INPUTS, y=LABELS)
    with pytest.raises(ConfigError, match=r"dataset\.channels=last: .*have the shape \(4,\)"):
        arrays(file=vectors, channels="last")


def test_npy_files(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", INPUTS)
    np.save(tmp_path / "y.npy", LABELS)
    x, y = str(tmp_path / "x.npy"), str(tmp_path / "y.npy")
    assert len(arrays(file=x, target=y).test) == 10
    with pytest.raises(ConfigError, match=r"x\.npy holds inputs alone: give dataset\.target"):
        arrays(file=x)
    with pytest.raises(ConfigError, match=r"data\.npz holds its own targets"):
        arrays(file=npz(tmp_path, inputs=INPUTS, targets=LABELS), target=y)


def test_pixels_stay_8_bit_and_become_0_to_1(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (50, 6, 6), dtype=np.uint8)
    file = npz(tmp_path, inputs=pixels, targets=LABELS)
    dataset = arrays(file=file, normalize="none")
    assert dataset.train.inputs.dtype == torch.uint8
    assert dataset.preprocessing(torch.full((1, 6, 6), 255, dtype=torch.uint8)).max() == 1
    assert arrays(file=file).preprocessing.statistics_shape == (1, 1)


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        (INPUTS > 0, torch.uint8),
        (INPUTS.astype(np.float16), torch.float32),
        (INPUTS.astype(">f4"), torch.float32),
        (INPUTS.astype(">f8"), torch.float64),
        (INPUTS.astype(np.longdouble), torch.float64),
        ((INPUTS * 9).astype(np.int16), torch.float64),
        (np.asfortranarray(INPUTS), torch.float64),
        (INPUTS[:, 0], torch.float64),
    ],
)
def test_every_numeric_type_keeps_its_values(
    tmp_path: Path, values: Array, dtype: torch.dtype
) -> None:
    file = npz(
        tmp_path, train_inputs=values, train_targets=LABELS, test_inputs=values, test_targets=LABELS
    )
    dataset = arrays(file=file, validation_fraction=0.0)
    assert dataset.train.inputs.dtype == dtype
    np.testing.assert_array_equal(dataset.train.inputs.numpy(), values.reshape(50, -1))


@pytest.mark.parametrize("which", ["inputs", "targets"])
@pytest.mark.parametrize("dtype", [np.int64, np.uint64])
def test_integers_that_floats_would_make_equal_are_refused(
    tmp_path: Path, which: str, dtype: type
) -> None:
    columns = {"inputs": np.arange(100).reshape(50, 2), "targets": np.arange(50)}
    held = {key: (value + 2**52).astype(dtype) for key, value in columns.items()}
    dataset = arrays(file=npz(tmp_path, **held), task="regression", test_fraction=0.2)
    assert len(dataset.train.inputs.unique()) == 2 * len(dataset.train)
    lost = {**held, which: (columns[which] + 2**60).astype(dtype)}
    with pytest.raises(DataError, match=rf"\[{which}\]: entry .* float64 keeps 16"):
        arrays(file=npz(tmp_path, **lost), task="regression", test_fraction=0.2)


def test_the_test_part_does_not_follow_the_seed(tmp_path: Path) -> None:
    file = npz(tmp_path, inputs=INPUTS, targets=LABELS)
    assert torch.equal(arrays(file=file, seed=0).test.inputs, arrays(file=file, seed=1).test.inputs)


def with_nan(value: float) -> Array:
    inputs = INPUTS.copy()
    inputs[7, 2] = value
    return inputs


@pytest.mark.parametrize(
    ("contents", "message"),
    [
        ({"inputs": INPUTS}, r"has no targets|has no train_inputs and no train_targets"),
        ({"inputs": INPUTS, "target": LABELS}, r"it has: inputs, target"),
        (
            {"train_inputs": INPUTS, "train_targets": LABELS, "test_inputs": INPUTS},
            "no test_target",
        ),
        ({"inputs": INPUTS, "targets": LABELS[:49]}, r"\[targets\]: 49 targets for the 50 samples"),
        ({"inputs": INPUTS[:0], "targets": LABELS[:0]}, r"\[inputs\]: holds no samples"),
        ({"inputs": np.float64(3), "targets": LABELS}, r"\[inputs\]: holds no samples"),
        (
            {"inputs": with_nan(np.nan), "targets": LABELS},
            r"\[inputs\]: entry \[7, 2\] is nan \(1 of",
        ),
        ({"inputs": with_nan(np.inf), "targets": LABELS}, r"\[inputs\]: entry \[7, 2\] is inf"),
        ({"inputs": INPUTS + 1j, "targets": LABELS}, r"\[inputs\]: entries of type complex128"),
        ({"inputs": INPUTS, "targets": with_nan(np.nan)[:, 2]}, r"target nan of sample 7"),
        ({"inputs": INPUTS, "targets": LABELS - 1}, r"label -1 of sample 0"),
        ({"inputs": INPUTS, "targets": LABELS + 1}, r"no sample has label 0.*renumber"),
        ({"inputs": INPUTS, "targets": LABELS * 2}, r"largest label is 4.*no sample has label 1"),
        ({"inputs": INPUTS, "targets": LABELS * 0}, r"all samples have the same class"),
        ({"inputs": INPUTS, "targets": np.eye(3, dtype=int)[LABELS]}, r"one-hot"),
        ({"inputs": INPUTS, "targets": INPUTS[:, :, None]}, r"targets of shape \(50, 4, 1\)"),
        ({"inputs": INPUTS, "targets": LABELS + 1j}, r"labels of type complex128"),
        ({"inputs": INPUTS[:, :0], "targets": LABELS}, r"samples of shape \(0,\), with no entries"),
        (
            {"inputs": INPUTS.astype("datetime64[s]"), "targets": LABELS},
            r"\[inputs\]: entries of type datetime64\[s\], where numbers belong",
        ),
        (
            {"inputs": np.zeros(50, dtype=[("a", "f4")]), "targets": LABELS},
            r"\[inputs\]: entries of type \[\('a', '<f4'\)\], where numbers belong",
        ),
        (
            {"inputs": INPUTS, "targets": np.zeros(50, dtype=[("a", "f4")])},
            r"\[targets\]: labels of type \[\('a', '<f4'\)\], not integers",
        ),
        (
            {"inputs": INPUTS, "targets": LABELS.astype("datetime64[D]")},
            r"\[targets\]: labels of type datetime64\[D\]",
        ),
        (
            {"inputs": np.full((50, 2), np.longdouble("1e4000")), "targets": LABELS},
            r"\[inputs\]: entry \[0, 0\] is ",
        ),
    ],
)
def test_what_cannot_be_learnt_from_is_refused_by_file_and_key(
    tmp_path: Path, contents: dict[str, Array], message: str
) -> None:
    file = npz(tmp_path, **contents)
    with pytest.raises(DataError, match=rf"data\.npz.*({message})"):
        arrays(file=file)


@pytest.mark.parametrize(
    ("inputs", "targets", "message"),
    [
        (INPUTS[:, :3], LABELS, r"\[test_inputs\]: samples of shape \(3,\)"),
        (INPUTS.astype(np.uint8), LABELS, r"\[test_inputs\]: .*type uint8, but those .* float64"),
        (INPUTS, LABELS + 1, r"\[test_targets\]: label 3 of sample 2 is not a class.*0 to 2"),
        (INPUTS, LABELS + 0.5, r"\[test_targets\]: label 0.5 of sample 0 is not a class index"),
    ],
)
def test_parts_that_do_not_belong_together(
    tmp_path: Path, inputs: Array, targets: Array, message: str
) -> None:
    file = npz(
        tmp_path,
        train_inputs=INPUTS,
        train_targets=LABELS,
        test_inputs=inputs,
        test_targets=targets,
    )
    with pytest.raises(DataError, match=message):
        arrays(file=file)


def test_keys_that_are_not_used_are_named(tmp_path: Path) -> None:
    file = npz(tmp_path, inputs=INPUTS, targets=LABELS, weights=LABELS)
    with pytest.warns(IgnoredOptionWarning, match="weights not used"):
        arrays(file=file)


class Payload:
    """Unpickling this would leave a trace on the disk."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return Path.touch, (self.path,)


def test_pickles_are_never_opened(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    objects = np.array([Payload(trace)], dtype=object)
    np.save(tmp_path / "objects.npy", objects, allow_pickle=True)
    np.savez(tmp_path / "objects.npz", inputs=objects, targets=LABELS[:1])
    (tmp_path / "pickle.npy").write_bytes(pickle.dumps(Payload(trace)))
    target = str(tmp_path / "objects.npy")
    for name, message in (
        ("objects.npy", r"objects\.npy: holds pickled objects"),
        ("objects.npz", r"objects\.npz\[inputs\]: holds pickled objects"),
        ("pickle.npy", r"pickle\.npy: not a NumPy file \(it starts with 80"),
    ):
        with pytest.raises(DataError, match=message):
            arrays(file=str(tmp_path / name), target=target if name.endswith("npy") else None)
    assert not trace.exists()


@pytest.mark.parametrize("keep", [0, 3, 200, -30])
@pytest.mark.parametrize("suffix", [".npz", ".npy"])
def test_truncated_files(tmp_path: Path, suffix: str, keep: int) -> None:
    whole = tmp_path / f"whole{suffix}"
    if suffix == ".npz":
        np.savez_compressed(whole, inputs=INPUTS, targets=LABELS)
    else:
        np.save(whole, INPUTS)
    cut = tmp_path / f"cut{suffix}"
    cut.write_bytes(whole.read_bytes()[:keep])
    with pytest.raises(DataError, match=rf"cut\{suffix}: "):
        arrays(file=str(cut), target=str(cut) if suffix == ".npy" else None)


def test_a_flipped_byte_in_a_compressed_file(tmp_path: Path) -> None:
    path = tmp_path / "data.npz"
    np.savez_compressed(path, inputs=INPUTS, targets=LABELS)
    content = bytearray(path.read_bytes())
    content[300] ^= 0xFF
    path.write_bytes(bytes(content))
    with pytest.raises(DataError, match=r"data\.npz\[inputs\]: (not an intact|a damaged)"):
        arrays(file=str(path))


def test_contradicting_requests(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"absent\.npz: no such file"):
        arrays(file=str(tmp_path / "absent.npz"))
    with pytest.raises(ConfigError, match=r"table\.csv: a \.npz file, a \.npy file or a folder"):
        arrays(file=str(tmp_path / "table.csv"))
    text = npz(tmp_path, inputs=INPUTS, targets=np.array(["a", "b"])[LABELS % 2])
    with pytest.raises(ConfigError, match=r"dataset\.task=regression: .*are text"):
        arrays(file=text, task="regression")
    real = npz(tmp_path, inputs=INPUTS, targets=INPUTS[:, 0])
    with pytest.raises(DataError, match="not a class index"):
        arrays(file=real, task="classification")
    with pytest.raises(ConfigError, match=r"dataset\.test_fraction=0\.001 of the 50 samples"):
        arrays(file=real, test_fraction=0.001)


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        (np.array([b"caf\xe9", b"the"]), r"class b\'caf\\xe9\' of sample 0 is no text in UTF-8"),
        (np.array(["a", "\ud800"]), "a class name is no text"),
        (np.frombuffer(b"\xff\xff\xff\x7fb\0\0\0", "<U1"), "a class name is no text"),
    ],
)
def test_class_names_that_nobody_can_write_are_refused(
    tmp_path: Path, names: npt.NDArray[np.generic], reason: str
) -> None:
    file = tmp_path / "b.npz"
    np.savez(file, inputs=np.ones((60, 5)), targets=names[np.arange(60) % 2])
    with pytest.raises(DataError, match=rf"b\.npz\[targets\]: {reason}"):
        arrays(file=str(file))


def test_class_names_in_bytes_are_text_in_utf_8(tmp_path: Path) -> None:
    names = np.array(["café".encode(), b"the"])
    inputs = np.random.default_rng(0).normal(size=(60, 5))
    np.savez(tmp_path / "b.npz", inputs=inputs, targets=names[np.arange(60) % 2])
    assert arrays(file=str(tmp_path / "b.npz")).task.class_names == ("café", "the")


def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    for suffix in ("npz", "npy"):
        pipe = tmp_path / f"a.{suffix}"
        os.mkfifo(pipe)
        with pytest.raises(DataError, match="is a pipe"):
            arrays(file=str(pipe), target=str(pipe) if suffix == "npy" else None)
