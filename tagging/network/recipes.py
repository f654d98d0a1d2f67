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
    rate: float = 0.15  # of the first step; it falls to zero along a straight line
    muon: float | None = 0.06  # the rate of convolutions, which Muon trains; None: SGD trains them, too
    decay: float = 5e-3  # of the weights, times the rate, at each step
    smoothing: float = 0.1  # of the labels
    batch: int = 256  # at most: an epoch has at least `LEAST_STEPS`
    shift: int = 2  # the pixels by which an image is moved at most
    average: bool = False  # the network gives the mean of an image's probabilities and its mirror image's


# So that some hundred images give more than one or two steps an epoch, of as many as normalisation needs.
LEAST_STEPS, LEAST_BATCH = 16, 32

# The time is that of CIFAR-10's 50,000 images.
RECIPES = {
    "small": Recipe("about 2 processor-minutes for CIFAR-10", widths=(32, 64, 128), epochs=5),
    "medium": Recipe(
        "about 10 minutes", widths=(32, 64, 128), epochs=8, patch=2, step=1, components=12, average=True,
    ),
    "large": Recipe(
        "about 45 minutes", widths=(64, 192, 192), epochs=11, patch=2, step=1, components=12, muon=0.12, batch=512,
        smoothing=0.2, average=True,
    ),
    "two-layers": Recipe(
        "two layers of convolutions, 64 and 32, for comparison",
        widths=(64, 32), epochs=5, plain=True, rate=0.01, muon=None, decay=0.0, smoothing=0.0, batch=128, shift=0,
    ),
}  # fmt: skip


def recipes_help() -> str:
    """Return each recipe and what it is, as one line."""
    return "; ".join(f"{name}: {recipe.about}" for name, recipe in RECIPES.items())
