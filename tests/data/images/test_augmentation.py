from __future__ import annotations

import torch

from idl_cli.data.images.augmentation import CropFlip, Cutout, augmentation_of
from idl_cli.data.options import MnistOptions


def shifted(image: torch.Tensor, rows: int, columns: int, flip: bool, padding: int) -> torch.Tensor:
    """One image cropped at (rows, columns) of its padded copy, element by element."""
    channels, height, width = image.shape
    result = torch.zeros_like(image)
    for channel in range(channels):
        for row in range(height):
            for column in range(width):
                source_row = row + rows - padding
                source_column = (width - 1 - column if flip else column) + columns - padding
                if 0 <= source_row < height and 0 <= source_column < width:
                    result[channel, row, column] = image[channel, source_row, source_column]
    return result


def test_each_image_is_a_crop_of_its_padded_self() -> None:
    images = torch.arange(1, 1 + 6 * 2 * 3 * 5).reshape(6, 2, 3, 5).to(torch.uint8)
    changed = CropFlip(padding=2)(images, (0, 0, 0))
    assert changed.shape == images.shape
    assert changed.dtype == torch.uint8
    for image, result in zip(images, changed, strict=True):
        matches = [
            (rows, columns, flip)
            for rows in range(5)
            for columns in range(5)
            for flip in (False, True)
            if torch.equal(shifted(image, rows, columns, flip, 2), result)
        ]
        assert len(matches) == 1


def test_offsets_and_mirrors_are_uniform() -> None:
    # One bright pixel in the middle of 9 x 9 shows the shift; a second beside it the mirror.
    image = torch.zeros(1, 9, 9, dtype=torch.uint8)
    image[0, 4, 4], image[0, 4, 5] = 255, 100
    changed = CropFlip(padding=4)(image.expand(20000, -1, -1, -1), (1, 2, 3))
    places = (changed == 255).flatten(1).double().argmax(dim=1).bincount(minlength=81)
    # 20,000 draws of 81 places: 247 each, standard deviation 15.6; five of them either way.
    assert (places - 20000 / 81).abs().max() < 5 * 15.6
    wide = changed[(changed == 100).flatten(1).any(dim=1)]
    bright = (wide == 255).flatten(1).double().argmax(dim=1)
    second = (wide == 100).flatten(1).double().argmax(dim=1)
    mirrored = (second < bright).double().mean().item()
    assert abs(mirrored - 0.5) < 0.02  # five standard deviations of 17,800 fair coins


def test_nothing_happens_without_padding_and_flip() -> None:
    images = torch.randint(0, 256, (4, 3, 6, 5)).to(torch.uint8)
    assert torch.equal(CropFlip(padding=0, flip=False)(images, (0, 0, 0)), images)


def test_changes_are_a_function_of_the_key() -> None:
    images = torch.randint(0, 256, (4, 3, 8, 8)).to(torch.uint8)
    augmentation = CropFlip()
    first = augmentation(images, (0, 1, 2))
    assert torch.equal(augmentation(images, (0, 1, 2)), first)
    for other in ((1, 1, 2), (0, 2, 2), (0, 1, 3)):
        assert not torch.equal(augmentation(images, other), first)


def test_the_samples_are_left_as_they_were() -> None:
    images = torch.randint(0, 256, (4, 3, 8, 8)).to(torch.uint8)
    kept = images.clone()
    CropFlip()(images, (0, 0, 0))
    assert torch.equal(images, kept)


def test_cutout_blackens_one_square_with_its_middle_anywhere() -> None:
    images = torch.full((3000, 2, 7, 6), 9, dtype=torch.uint8)
    changed = Cutout(3)(images, (1, 2, 3))
    assert torch.equal(changed[:, 0], changed[:, 1])
    seen = set()
    for image in changed[:, 0]:
        middles = [
            (row, column)
            for row in range(7)
            for column in range(6)
            if torch.equal(image, _blackened(row, column))
        ]
        assert len(middles) == 1
        seen.add(middles[0])
    assert len(seen) == 7 * 6


def _blackened(row: int, column: int) -> torch.Tensor:
    image = torch.full((7, 6), 9, dtype=torch.uint8)
    image[max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2] = 0
    return image


def test_a_batch_is_changed_alike_in_one_piece_and_in_parts() -> None:
    images = torch.randint(0, 256, (6, 1, 8, 8)).to(torch.uint8)
    both = augmentation_of(MnistOptions(augment=True, cutout=3), CropFlip(padding=2))
    assert both is not None
    whole = both(images, (5, 1, 2))
    parts = [both(images[:2], (5, 1, 2)), both(images[2:], (5, 1, 2), first=2)]
    assert torch.equal(torch.cat(parts), whole)
    assert not torch.equal(whole, CropFlip(padding=2)(images, (5, 1, 2)))
    assert augmentation_of(MnistOptions(), CropFlip()) is None


def test_how_far_images_are_shifted_is_asked_for() -> None:
    usual = CropFlip(padding=2, flip=False)
    assert augmentation_of(MnistOptions(augment=True), usual) == usual
    asked = augmentation_of(MnistOptions(augment=True, shift=0), usual)
    assert asked == CropFlip(padding=0, flip=False)
    images = torch.rand(4, 1, 5, 5)
    assert asked is not None
    assert torch.equal(asked(images, (0, 1, 2)), images)


def test_a_shift_without_augment_is_refused() -> None:
    assert any("shift=1" in problem for problem in MnistOptions(shift=1).problems())
