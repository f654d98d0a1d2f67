"""Tests of `tagging.forest`: a packed forest votes exactly as its trees do, and only a forest is loaded as one."""

import io
import json
import warnings
import zipfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from forests import NAMES, count_votes, random_tree

from conf.errors import TinyTagsError
from tagging.forest import LEAF, Tree, compiled_kernel, load, pack


@pytest.fixture(scope="module", autouse=True)
def kernel():
    """The kernel, which votes from the moment that it is imported."""
    return compiled_kernel()


@pytest.fixture(scope="module")
def random():
    return np.random.default_rng(20090408)


@pytest.fixture(scope="module")
def images(random):
    """1,000 images: not a multiple of the kernel's block, with all of the pixels' edge values often."""
    images = random.integers(0, 256, (1_000, 3072), dtype=np.uint8)
    edges = random.random(images.shape) < 0.2
    images[edges] = random.choice(np.array([0, 1, 254, 255], np.uint8), edges.sum())
    return images


@pytest.fixture(scope="module")
def forest(random):
    return pack([random_tree(random, 5) for _ in range(3)], NAMES)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 9, 10, 11, 13, 14, 20, 37])
def test_any_number_of_trees_votes_as_the_trees_do(random, images, count):
    trees = [random_tree(random, 8, split_chance=0.9) for _ in range(count)]
    forest = pack(trees, NAMES)
    votes = forest.votes(images)
    assert votes.dtype == np.uint16
    np.testing.assert_array_equal(votes, count_votes(trees, images, 10))
    assert (votes.sum(axis=1) == count).all()


@pytest.mark.parametrize(
    ("depths", "features"), [([0], 3072), ([8] * 13, 3072), ([0, 12, 3, 16], 3072), ([7] * 10, 10_000)]
)
@pytest.mark.parametrize("count", [0, 1, 129])
def test_numpy_votes_as_the_kernel_does(random, depths, features, count):
    trees = [random_tree(random, depth, features=features, split_chance=0.85) for depth in depths]
    forest = pack(trees, NAMES, features)
    images = random.integers(0, 256, (count, features + 4), dtype=np.uint8)[::-1, 4:]
    votes = forest._votes_by_numpy(images)
    assert votes.dtype == np.uint16
    np.testing.assert_array_equal(votes, forest.votes(images))


def test_five_hundred_trees_of_all_depths_vote_as_the_trees_do(random, images):
    trees = [random_tree(random, depth % 10) for depth in range(500)]
    np.testing.assert_array_equal(pack(trees, NAMES).votes(images), count_votes(trees, images, 10))


def test_a_forest_of_bare_leaves_votes(images):
    leaf = Tree(*(np.array([value]) for value in (0, 0.0, -1, -1, 7)))
    votes = pack([leaf] * 3, NAMES).votes(images)
    assert (votes[:, 7] == 3).all() and votes.sum() == 3 * len(images)


def test_deep_trees_of_thousands_of_nodes_vote_as_the_trees_do(random, images):
    trees = [random_tree(random, 16, split_chance=0.83) for _ in range(11)]
    trees += [random_tree(random, 12), random_tree(random, 2)]
    forest = pack(trees, NAMES)
    assert np.diff(forest.starts).max() > 4_096
    np.testing.assert_array_equal(forest.votes(images), count_votes(trees, images, 10))


def test_images_of_more_than_4096_bytes_are_walked_in_the_wider_form(random):
    images = random.integers(0, 256, (300, 10_000), dtype=np.uint8)
    trees = [random_tree(random, 6, features=10_000) for _ in range(12)]
    np.testing.assert_array_equal(
        pack(trees, NAMES, features=10_000).votes(images), count_votes(trees, images, 10)
    )


def test_the_largest_narrow_tree_and_the_smallest_wide_one_agree(random, images):
    tree = random_tree(random, 11)  # 4,095 nodes
    leaf = np.flatnonzero(tree.left < 0)[0]
    grown = {}
    for name, values in {"feature": [0, 0], "threshold": [0, 0], "left": [-1, -1], "right": [-1, -1]}.items():
        grown[name] = np.append(getattr(tree, name), values)
    grown["leaf_class"] = np.append(tree.leaf_class, [tree.leaf_class[leaf]] * 2)
    grown["left"][leaf], grown["right"][leaf] = 4_095, 4_096
    narrow, wide = pack([tree], NAMES), pack([Tree(**grown)], NAMES)
    assert (narrow._walk_arrays[0].dtype, wide._walk_arrays[0].dtype) == (np.uint32, np.uint64)
    np.testing.assert_array_equal(narrow.votes(images), wide.votes(images))


@pytest.mark.parametrize(
    "threshold",
    [-1e300, -1.0, -0.5, 0.0, 0.5, 1, 253.5, 254, 254.99, 255, 255.5, 256, 1e300, np.inf, -np.inf],
)
def test_thresholds_at_and_beyond_the_edges_are_exact(images, threshold):
    tree = Tree(*map(np.array, ([9, 0, 0], [threshold, 0, 0], [1, -1, -1], [2, -1, -1], [0, 3, 5])))
    votes = pack([tree], NAMES).votes(images)
    np.testing.assert_array_equal(votes[:, 3] == 1, images[:, 9] <= threshold)
    np.testing.assert_array_equal(votes[:, 5] == 1, images[:, 9] > threshold)


def test_whole_trees_of_thresholds_beyond_the_edges_are_exact(random, images):
    trees = [random_tree(random, 9, thresholds=(-60, 320)) for _ in range(10)]
    np.testing.assert_array_equal(pack(trees, NAMES).votes(images), count_votes(trees, images, 10))


@pytest.mark.parametrize("count", [0, 1, 2, 127, 128, 129, 255, 256, 257])
def test_any_number_of_images_is_voted_on(forest, images, count):
    votes = forest.votes(images[:count])
    assert votes.shape == (count, 10)
    np.testing.assert_array_equal(votes, forest.votes(images)[:count])


def test_rows_may_be_apart_in_memory_read_only_or_in_reverse(forest, images):
    wide = np.zeros((len(images), 4_000), np.uint8)
    wide[:, 500:3572] = images
    buffer = np.frombuffer(b"?" + images.tobytes(), np.uint8)[1:].reshape(-1, 3072)
    expected = forest.votes(images)
    assert not buffer.flags.writeable
    np.testing.assert_array_equal(forest.votes(wide[:, 500:3572]), expected)
    np.testing.assert_array_equal(forest.votes(buffer), expected)
    np.testing.assert_array_equal(forest.votes(images[::-1]), expected[::-1])
    np.testing.assert_array_equal(forest.votes(images[::7]), expected[::7])
    np.testing.assert_array_equal(forest.votes(np.asfortranarray(images)), expected)
    np.testing.assert_array_equal(
        forest.votes(np.broadcast_to(images[0], (5, 3072))), np.tile(expected[0], (5, 1))
    )


def test_threads_may_vote_at_once(random, images):
    forest = pack([random_tree(random, 6) for _ in range(10)], NAMES)
    parts = np.array_split(images, 8)
    with ThreadPoolExecutor(4) as threads:
        votes = np.concatenate(list(threads.map(forest.votes, parts)))
    np.testing.assert_array_equal(votes, forest.votes(images))


def test_images_of_another_size_or_type_are_refused(forest):
    for wrong in (np.zeros((2, 784), np.uint8), np.zeros(3072, np.uint8), np.zeros((2, 3072), np.float32)):
        with pytest.raises(TinyTagsError, match=r"3,072 bytes \(uint8\), not for an array of"):
            forest.votes(wrong)


def test_a_tree_is_unpacked_as_it_was_packed(random, images):
    trees = [random_tree(random, 6, split_chance=0.8) for _ in range(4)]
    forest = pack(trees, NAMES)
    again = pack([forest.tree(number) for number in range(4)], NAMES)
    assert again.hash == forest.hash
    np.testing.assert_array_equal(
        count_votes([forest.tree(2)], images, 10), count_votes([trees[2]], images, 10)
    )


def test_depths_are_those_of_the_deepest_leaves(random):
    chain = Tree(*map(np.array, ([0] * 5, [9.0] * 5, [1, -1, 3, -1, -1], [2, -1, 4, -1, -1], [0] * 5)))
    forest = pack([random_tree(random, 0), random_tree(random, 7), chain], NAMES)
    assert forest.depths.tolist() == [0, 7, 2]


BROKEN_TREES = {
    "has a child outside its 3 nodes": ([0, 0, 0], [1, 1, 1], [1, -1, -1], [3, -1, -1], [0, 0, 0]),
    "has a child outside its 1 nodes": ([0], [1], [0], [-1], [0]),
    "reaches a node twice": ([0, 0, 0], [1, 1, 1], [1, 0, -1], [2, 2, -1], [0, 0, 0]),
    "reaches a node twice: it is no tree": ([0, 0, 0], [1, 1, 1], [1, -1, -1], [1, -1, -1], [0, 0, 0]),
    "tree 0 reaches a node twice": ([0, 0, 0], [-9, -9, 1], [2, 2, -1], [1, 0, -1], [0, 0, 0]),
    "tests a pixel outside the 3,072": ([3072, 0, 0], [1, 1, 1], [1, -1, -1], [2, -1, -1], [0, 0, 0]),
    "votes for a class outside the 10": ([0, 0, 0], [1, 1, 1], [1, -1, -1], [2, -1, -1], [0, 10, 0]),
    "votes for a class outside": ([0, 0, 0], [1, 1, 1], [1, -1, -1], [2, -1, -1], [0, 0, -1]),
    "has a threshold that is no number": ([0, 0, 0], [np.nan, 1, 1], [1, -1, -1], [2, -1, -1], [0, 0, 0]),
    "is not five equally long, non-empty rows": ([0, 0], [1, 1, 1], [1, -1, -1], [2, -1, -1], [0, 0, 0]),
    "is not five equally long": ([], [], [], [], []),
}


@pytest.mark.parametrize("message", BROKEN_TREES)
def test_a_broken_tree_is_refused(message):
    with pytest.raises(TinyTagsError, match=message):
        pack([Tree(*map(np.array, BROKEN_TREES[message]))], NAMES)


def test_a_forest_without_trees_is_refused():
    with pytest.raises(TinyTagsError, match="it has no trees"):
        pack([], NAMES)


def test_a_saved_forest_loads_as_the_same_forest(forest, images):
    loaded = load(forest.save())
    assert (loaded.classes, loaded.features, loaded.trees) == (tuple(NAMES), 3072, 3)
    assert loaded.hash == forest.hash
    np.testing.assert_array_equal(loaded.votes(images), forest.votes(images))


def test_equal_forests_are_equal_bytes(forest):
    assert load(forest.save()).save() == forest.save()


def test_the_hash_stays_the_same_from_release_to_release():
    tree = Tree(*map(np.array, ([5, 0, 0], [99.5, 0, 0], [1, -1, -1], [2, -1, -1], [0, 0, 1])))
    assert (
        pack([tree], ["cat", "dog"]).hash
        == "df37510b5b16c8f263a1e75b39a74a344407fa988469c86ac66a54ff0ffc737e"
    )


def test_the_hash_distinguishes_forests(forest):
    threshold = forest.threshold.copy()
    threshold[0] ^= 1
    others = [replace(forest, threshold=threshold), replace(forest, classes=(*NAMES[:9], "truck"))]
    assert len({forest.hash, *(other.hash for other in others)}) == 3


def archive(**arrays):
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def parts(**changes):
    """Return the arrays of a valid forest of one split, with changes."""
    about = {"format": "tinytags-forest", "version": 1, "classes": ["cat", "dog"], "features": 3072}
    about |= changes.pop("about", {})
    arrays = {
        "about": np.frombuffer(json.dumps(about).encode(), np.uint8),
        "feature": np.array([5, 0, 1], np.uint32),
        "threshold": np.array([99, LEAF, LEAF], np.uint8),
        "starts": np.array([0, 3], np.int64),
    }
    return arrays | changes


def test_the_unchanged_parts_are_a_forest():
    assert load(archive(**parts())).trees == 1


HOSTILE = {
    "leaf votes for class 2 of 2": parts(feature=np.array([5, 0, 2], np.uint32)),
    "votes for class 4,294,967,295 of 2": parts(feature=np.array([5, 0, 2**32 - 1], np.uint32)),
    "tests pixel 3,072 of 3,072": parts(feature=np.array([3072, 0, 1], np.uint32)),
    "tree 0 has 2 splits in 3 nodes": parts(threshold=np.array([99, 99, LEAF], np.uint8)),
    "tree 0 has 0 splits in 3 nodes": parts(threshold=np.array([LEAF] * 3, np.uint8)),
    "a node comes before its parent": parts(threshold=np.array([LEAF, 99, LEAF], np.uint8), feature=np.zeros(3, np.uint32)),
    "don't divide": parts(starts=np.array([0, 2], np.int64)),
    "don't divide its 3 nodes": parts(starts=np.array([0, 5, 3], np.int64)),
    "its trees don't divide": parts(starts=np.array([0, 0, 3], np.int64)),
    "its trees don't": parts(starts=np.array([-9, 3], np.int64)),
    "0 trees": parts(starts=np.array([0], np.int64)),
    "trees; it may have 1": parts(starts=np.array([], np.int64)),
    "3 features, but 2 thresholds": parts(threshold=np.array([99, LEAF], np.uint8)),
    "'feature' is int64": parts(feature=np.array([5, 0, 1])),
    "'starts' is float64": parts(starts=np.array([0.0, 3.0])),
    "not a row of uint8": parts(threshold=np.full((3, 1), LEAF, np.uint8)),
    "Object arrays cannot be loaded": parts(feature=np.array([print, 0, 1])),
    "holds other arrays than a forest's": parts(extra=np.zeros(1)),
    "two of its classes have one name": parts(about={"classes": ["cat", "cat"]}),
    "one without a name": parts(about={"classes": ["cat", ""]}),
    "or one without a name": parts(about={"classes": ["cat", ["dog"]]}),
    "it has no classes": parts(about={"classes": []}),
    "1 features for 2 classes": parts(about={"features": 1}),
    "16,777,217 features": parts(about={"features": 2**24 + 1}),
    "version 2, not 1": parts(about={"version": 2}),
    "'forest' version": parts(about={"format": "forest"}),
}  # fmt: skip


@pytest.mark.parametrize("message", HOSTILE)
def test_a_hostile_file_is_refused_in_one_line(message):
    with pytest.raises(TinyTagsError, match=message) as caught:
        load(archive(**HOSTILE[message]), "models/m/forest.npz")
    assert str(caught.value).startswith("models/m/forest.npz: ")
    assert "\n" not in str(caught.value)


def zip_of(members, compression=zipfile.ZIP_STORED):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as out, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a name twice is what some of these files are about
        for name, data in members:
            out.writestr(name, data)
    return file.getvalue()


def members():
    with zipfile.ZipFile(io.BytesIO(archive(**parts()))) as whole:
        return {name: whole.read(name) for name in whole.namelist()}


def header(text):
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"not a zip",
        archive(**parts())[:-30],
        zip_of(members().items(), zipfile.ZIP_DEFLATED),
        zip_of([*members().items(), ("feature.npy", b"")]),
        zip_of((members() | {"feature.npy": b"\x93NUMPY"}).items()),
        zip_of((members() | {"feature.npy": b"pixels"}).items()),
        zip_of((members() | {"about.npy": b""}).items()),
        zip_of((members() | {"feature.npy": header("{'descr': '<u4', 'fortran_order': False, 'shape': (9**19,)}")}).items()),
        zip_of((members() | {"feature.npy": header("{'descr': '<u4', 'fortran_order': False, 'shape': (10**14,)}")}).items()),
        zip_of((members() | {"feature.npy": header("{'descr': '<u4', 'fortran_order': False, 'shape': (99,)}")}).items()),
        zip_of((members() | {"feature.npy": header("__import__('os').abort()")}).items()),
        archive(**(parts() | {"about": np.array([1, 2], np.uint8)})),
        archive(**(parts() | {"about": np.frombuffer(b"[]", np.uint8)})),
        archive(**(parts() | {"about": np.frombuffer(b'{"format": "tinytags-forest", "version": 1}', np.uint8)})),
    ],
    ids=range(15),
)  # fmt: skip
def test_a_corrupt_file_is_refused_in_one_line(data):
    with pytest.raises(TinyTagsError, match=r"^forest\.npz: .*; train or copy the model again$") as caught:
        load(data)
    assert "\n" not in str(caught.value)


def test_any_flipped_byte_gives_a_forest_or_one_line(forest, random):
    data = bytearray(forest.save())
    refused = 0
    for position in random.integers(0, len(data), 300):
        data[position] ^= 0x5A
        try:
            load(bytes(data)).votes(np.zeros((1, 3072), np.uint8))
        except TinyTagsError:
            refused += 1
        data[position] ^= 0x5A
    assert refused > 200  # the archive's own checksums see nearly all of them
