"""Whether rivals that should compute the same do so; those that do not get no number."""
from typing import List, NamedTuple, Sequence

import torch
from torch import Tensor

FACTOR = 2.  # of the reference form's own error in the same dtype
# Long float32 sums in another order, of gradients over all positions say, differ by a few 1e-6; a wrong element in
# a thousand by 3e-2.
FLOOR = 1e-5


class Expected(NamedTuple):
    """What a rival's tensors should be, and how far off the reference form is in the rival's dtype."""
    tensors: List[Tensor]  # float64
    reference_errors: List[float]
    floor: float  # no tensor is asked to be closer: FLOOR, or one rounding to the dtype


class Check(NamedTuple):
    """The relative error of a rival's tensors as one vector, and whether each by itself keeps to its bound."""
    error: float
    agrees: bool


def relative_error(value: Tensor, reference: Tensor) -> float:
    """``|value - reference| / |reference|`` in the 2-norm; not a number counts as infinite."""
    if value.shape != reference.shape:
        return float('inf')
    reference = reference.double()
    error = (torch.linalg.vector_norm(value.detach().double() - reference) / torch.linalg.vector_norm(reference)).item()
    return error if error == error else float('inf')


def expect(reference: Sequence[Tensor], same_dtype: Sequence[Tensor], dtype: torch.dtype) -> Expected:
    """From the reference form in float64 and in the rivals' dtype."""
    errors = [relative_error(value, exact) for value, exact in zip(same_dtype, reference)]
    return Expected([tensor.detach() for tensor in reference], errors, max(torch.finfo(dtype).eps / 2, FLOOR))


def check(tensors: Sequence[Tensor], expected: Expected) -> Check:
    """Each tensor may be off by ``FACTOR`` times what the reference form is, or by the floor."""
    assert len(tensors) == len(expected.tensors)
    errors = [relative_error(value, exact) for value, exact in zip(tensors, expected.tensors)]
    bounds = [max(FACTOR * own, expected.floor) for own in expected.reference_errors]
    squares = [torch.linalg.vector_norm(exact.double()).item()**2 for exact in expected.tensors]
    together = (sum(error**2 * square for error, square in zip(errors, squares)) / sum(squares))**0.5
    return Check(together, all(error <= bound for error, bound in zip(errors, bounds)))
