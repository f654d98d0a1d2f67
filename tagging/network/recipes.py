"""The networks that `tinytags train --engine keras` can build, and how each is trained."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Recipe:
    """A network and its training."""

    about: str  # for --help and the documentation
    widths: tuple[int, ...]  # the channels of each block
    epochs: int
    plain: bool = False  # convolutions and dense layers one after another, instead of the blocks
    patch: int = 4  # the side of the first layer's patches, in pixels
    step: int = 2  # from one patch to the next
    components: int = 24  # of the patches, each of which the first layer gives with both signs
    shortcut: bool = True  # beside the second convolution of a block; without one it begins as the identity
    rate: float = 0.15  # the highest learning rate
    decay: float = 5e-3  # of the weights, times the rate, at each step
    smoothing: float = 0.1  # of the labels
    batch: int = 128
    shift: int = 2  # the pixels by which an image is moved at most
    average: bool = (
        False  # whether the network gives the mean of an image's probabilities and its mirror image's
    )


# The time is that of CIFAR-10's 50,000 images.
RECIPES = {
    "small": Recipe("about 3 processor-minutes for CIFAR-10", widths=(32, 64, 128), epochs=4),
    "medium": Recipe("about 18 minutes", widths=(48, 96, 192), epochs=11, average=True),
    "large": Recipe(
        "about 70 minutes", widths=(64, 192, 192), epochs=9, patch=2, step=1, components=12, shortcut=False,
        smoothing=0.2, average=True,
    ),
    "two-layers": Recipe(
        "two layers of convolutions, 64 and 32, for comparison",
        widths=(64, 32), epochs=5, plain=True, rate=0.01, decay=0.0, smoothing=0.0, shift=0,
    ),
}  # fmt: skip


def recipes_help() -> str:
    """Return each recipe and what it is, as one line."""
    return "; ".join(f"{name}: {recipe.about}" for name, recipe in RECIPES.items())
