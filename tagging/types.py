"""The arrays that models and features take and give."""

from typing import Any

import numpy as np
import numpy.typing as npt

Images = npt.NDArray[np.uint8]  # (n, 3072), as `ingest.image` lays them out
Codes = npt.NDArray[np.uint8]  # (n, k): features of images, or their pixels
Votes = npt.NDArray[Any]  # (n, classes); uint16 whole votes or float32 probabilities
Labels = npt.NDArray[Any]  # (n,) whole numbers: places in a list of classes, -1 for no label
LabelledBlock = tuple[Codes, npt.NDArray[np.int32]]  # images (n, 3072), or features, and labels (n,)
