"""Tests of `tagging.descriptor`: similar images have a small distance, and the numbers are those of the documented formula."""

import math

import numpy as np
import pytest

from tagging.descriptor import BLOCK, COLOURS, NUMBERS, describe

WRITTEN = [
    7, -21, 33, 4, 0, 4, -32, 14, -16, -13, -37, -23, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9, 18, 7, 7, 15,
    18, 21, 0, 0, 0, 18, 0, 0, 0, 14, 0, 0, 0, 5, 2, 0, 0, 0, 22, 23, 23, 0, 20, 21, 22, 0, 15, 15,
    9, 2, 5, 0, 0,
]  # fmt: skip


def scenes(count, seed=0):
    """Return (count, 3, 32, 32) uint8 pictures with a coloured sky, a coloured ground and a few bars and discs."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[0:32, 0:32]
    pictures = np.empty((count, 3, 32, 32))
    for picture in pictures:
        horizon = random.integers(6, 26)
        picture[:] = np.where(y < horizon, *random.uniform(20, 235, (2, 3, 1, 1)))
        for _ in range(3):
            dx, dy, turn, size = *random.uniform(4, 28, 2), random.uniform(0, np.pi), random.uniform(3, 9)
            along = (x - dx) * np.cos(turn) + (y - dy) * np.sin(turn)
            across = (y - dy) * np.cos(turn) - (x - dx) * np.sin(turn)
            shape = np.hypot(along, across * random.choice([1, 4])) < size
            picture[:, shape] = random.uniform(0, 255, (3, 1))
        picture += random.normal(0, 3, picture.shape)
    return pictures.clip(0, 255).astype(np.uint8)


def flat(pictures):
    return pictures.reshape(-1, 3072)


def distances(these, those):
    return np.linalg.norm(these.astype(float)[:, None] - those[None], axis=2)


def moved(pictures, right, down):
    padded = np.pad(pictures, ((0, 0), (0, 0), (3, 3), (3, 3)), mode="edge")
    return padded[:, :, 3 - down : 35 - down, 3 - right : 35 - right]


def by_the_formula(picture):
    """Return the descriptor of one (3, 32, 32) picture by the formula, (60,) float64, not rounded."""
    red, green, blue = picture.astype(float)
    light = 0.299 * red + 0.587 * green + 0.114 * blue
    planes = [
        light,
        -0.168736 * red - 0.331264 * green + 0.5 * blue,
        0.5 * red - 0.418688 * green - 0.081312 * blue,
    ]
    lowest = [(0, 0), (0, 1), (1, 0), (0, 2), (1, 1), (2, 0)]
    values = []
    for plane, kept in zip(planes, (6, 3, 3), strict=True):
        means = plane.reshape(8, 4, 8, 4).mean(axis=(1, 3))
        for v, u in lowest[:kept]:
            total = sum(
                means[y, x] * math.cos(math.pi * (y + 0.5) * v / 8) * math.cos(math.pi * (x + 0.5) * u / 8)
                for y in range(8)
                for x in range(8)
            )
            values.append(total * math.sqrt((2 if v else 1) * (2 if u else 1)) / 8 / 8)
    values[0] = (values[0] - 128) / 2
    whole = picture.astype(int)
    whole = (whole[0] + 2 * whole[1] + whole[2]).tolist()
    sums = [[0] * 16 for _ in range(3)]
    for y in range(1, 31):
        for x in range(1, 31):
            across, down = whole[y][x + 1] - whole[y][x - 1], whole[y + 1][x] - whole[y - 1][x]
            wide, high = abs(across), abs(down)
            length = max(wide, high) + min(wide, high) * 3 // 8
            slanted = 2 if (across < 0) != (down < 0) else 1
            kind = 0 if high * 7 // 4 < wide else slanted
            sums[kind][y // 8 * 4 + x // 8] += length
    total = sum(map(sum, sums))
    values += [min(150 * math.sqrt(cell / (total + 100_000)), 127) for kind in sums for cell in kind]
    return np.array(values)


def test_the_numbers_are_those_of_the_formula():
    pictures = np.concatenate([
        scenes(20), np.random.default_rng(1).integers(0, 256, (3, 3, 32, 32), np.uint8),
        np.random.default_rng(2).integers(0, 2, (3, 3, 32, 32)).astype(np.uint8) * 255,
    ])  # fmt: skip
    descriptors = describe(flat(pictures))
    assert descriptors.shape == (26, NUMBERS) and descriptors.dtype == np.int8
    for numbers, picture in zip(descriptors, pictures, strict=True):
        exact = by_the_formula(picture)
        assert abs(numbers[:COLOURS] - exact[:COLOURS]).max() < 0.5001
        np.testing.assert_array_equal(numbers[COLOURS:], np.rint(exact[COLOURS:]))


def test_the_numbers_of_an_image_do_not_depend_on_the_others_in_its_block():
    images = flat(scenes(2 * BLOCK + 7))
    whole = describe(images)
    for size in (1, 3, BLOCK, 100):
        parts = [describe(images[start : start + size]) for start in range(0, len(images), size)]
        np.testing.assert_array_equal(np.concatenate(parts), whole)
    images.flags.writeable = False
    np.testing.assert_array_equal(describe(images[::2]), whole[::2])
    assert describe(images[:0]).shape == (0, NUMBERS)


def test_the_numbers_stay_the_same_from_release_to_release():
    y, x = np.mgrid[0:32, 0:32]
    picture = np.stack([8 * x, 255 - 6 * y, (x - 16) ** 2 // 2 + (y - 16) ** 2 // 2]).astype(np.uint8)
    assert describe(flat(picture))[0].tolist() == WRITTEN


@pytest.mark.parametrize("colour", [(0, 0, 0), (255, 255, 255), (255, 0, 0), (0, 0, 255), (10, 200, 90)])
def test_a_single_colour_has_no_edges_and_only_a_mean(colour):
    numbers = describe(flat(np.full((1, 3, 32, 32), 0, np.uint8) + np.uint8(colour)[None, :, None, None]))[0]
    red, green, blue = colour
    light = 0.299 * red + 0.587 * green + 0.114 * blue
    assert abs(numbers[0] - (light - 128) / 2) < 0.5001
    assert abs(numbers[6] - (0.5 * blue - 0.168736 * red - 0.331264 * green)) < 0.5001
    assert abs(numbers[9] - (0.5 * red - 0.418688 * green - 0.081312 * blue)) < 0.5001
    assert not numbers[[*range(1, 6), 7, 8, 10, 11]].any() and not numbers[COLOURS:].any()


def test_nothing_leaves_the_range_of_a_byte():
    stripes = np.zeros((4, 3, 32, 32), np.uint8)
    stripes[0, ..., 8:16] = 255
    stripes[1, :, 3, 3] = 255
    stripes[2, ..., ::4] = stripes[2, ..., 1::4] = 255
    stripes[3, :, 16:, 16:] = 255
    y, x = np.mgrid[0:32, 0:32]
    waves = [
        np.where(np.cos(np.pi * (y + 0.5) * v / 32) * np.cos(np.pi * (x + 0.5) * u / 32) * sign > 0, 255, 0)
        for v, u in ((0, 1), (1, 0), (0, 2), (1, 1), (2, 0))
        for sign in (1, -1)
    ]
    waves = np.array(waves, np.uint8)[:, None].repeat(3, 1)
    blue_and_yellow, red_and_cyan = waves.copy(), waves.copy()
    blue_and_yellow[:, :2] = 255 - waves[:, :2]
    red_and_cyan[:, 1:] = 255 - waves[:, 1:]
    pictures = np.concatenate([stripes, waves, blue_and_yellow, red_and_cyan])
    for picture, numbers in zip(pictures, describe(flat(pictures)), strict=True):
        assert abs(numbers - by_the_formula(picture)).max() < 0.5001, "it did not wrap around"


def test_a_moved_or_lighter_or_noisy_copy_is_nearest_and_other_images_are_far():
    pictures = scenes(400)
    known = describe(flat(pictures))
    lighter = (pictures[:100] * 1.12 + 10).clip(0, 255).astype(np.uint8)
    darker = (pictures[:100] * 0.85).astype(np.uint8)
    noise = np.random.default_rng(3).normal(0, 5, pictures[:100].shape)
    noisy = (pictures[:100] + noise).clip(0, 255).astype(np.uint8)
    for copies, share in (
        (moved(pictures[:100], 1, 0), 1),
        (moved(pictures[:100], -1, 1), 0.98),
        (moved(pictures[:100], 2, -2), 0.85),
        (lighter, 0.95),
        (darker, 0.95),
        (noisy, 0.98),
    ):
        values = distances(describe(flat(copies)), known)
        assert (values.argmin(axis=1) == np.arange(100)).mean() >= share
        assert np.median(values[np.arange(100), np.arange(100)]) < 0.5 * np.median(values)
