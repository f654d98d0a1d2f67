"""Muon, the optimizer of convolutions.

Keras' own leaves convolutions to Adam. This one takes the gradient of a kernel as a matrix and steps along the nearest matrix
whose rows or columns are orthogonal (K. Jordan and others, Muon: An optimizer for hidden layers in neural networks,
2024), and keeps the kernel at one size, as in Jordan's airbench94_muon: what follows it is normalised. So a decay of
weights has no effect on kernels.
"""

from typing import Any

MOMENTUM = 0.6
# Of the polynomial a x + b x^3 + c x^5, which brings singular values near 1 when it is applied again and again.
COEFFICIENTS = (3.4445, -4.7750, 2.0315)
ITERATIONS = 3


def muon(keras: Any, rate: Any, share: float, **options: Any) -> Any:
    """Return an optimizer: Muon for kernels of convolutions, at the rate times ``share``, else SGD.

    ``rate`` is a number or a schedule, ``options`` are those of `keras.optimizers.SGD`.
    """
    ops = keras.ops

    class Muon(keras.optimizers.SGD):  # type: ignore[misc]  # has no types
        def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
            if len(variable.shape) != 4:
                super().update_step(gradient, variable, learning_rate)
                return
            momentum = self.momentums[self._get_variable_index(variable)]
            self.assign(momentum, MOMENTUM * momentum + gradient)
            outputs = variable.shape[-1]
            direction = orthogonal(ops, ops.reshape(gradient + MOMENTUM * momentum, (-1, outputs)))
            kernel = ops.reshape(variable, (-1, outputs))
            kernel = kernel * (outputs**0.5 / ops.norm(kernel)) - learning_rate * share * direction
            self.assign(variable, ops.reshape(kernel, variable.shape))

    return Muon(rate, **options)


def orthogonal(ops: Any, matrix: Any) -> Any:
    """Return about U V' of a matrix U S V', by Newton and Schulz' iteration, in Keras' ``ops``."""
    a, b, c = COEFFICIENTS
    tall = matrix.shape[0] > matrix.shape[1]
    x = ops.transpose(matrix) if tall else matrix
    x = x / (ops.norm(x) + 1e-7)
    for _ in range(ITERATIONS):
        square = ops.matmul(x, ops.transpose(x))
        x = a * x + ops.matmul(b * square + c * ops.matmul(square, square), x)
    return ops.transpose(x) if tall else x
