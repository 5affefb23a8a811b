"""Whether an exported file computes what the model does, at sizes other than the exported one."""

from typing import Callable, Iterable, Iterator, List, NamedTuple, Sequence

import torch
from torch import Tensor

from mmcyclemlp.errors import InputError
from mmcyclemlp.tables import markdown

from .graph import Graph

# Batch, height, width: odd ones, portrait and landscape, none the exported one.
SHAPES = ((1, 224, 224), (2, 192, 256), (1, 320, 240), (3, 65, 97), (1, 250, 333))
BOUNDS = dict(fp32=1e-4, bf16=0.1, int8=float('inf'))  # of the largest output; what int8 costs, --metrics tells
DECIDED = 1e-4  # share of pixels that may be of another class in float32


class Difference(NamedTuple):
    """How far a file is from its model on one batch.

    ``shape`` is (batch, height, width). ``error`` is the largest difference of an output, divided by the
    largest output. ``decided`` is the share of images (classifier) or pixels (segmentor) that get another class.
    """

    shape: Sequence[int]
    error: float
    decided: float


def noise(channels: int, divisor: int = 1) -> Iterator[Tensor]:
    """Random images of all ``SHAPES``, or of the next sizes that ``divisor`` divides."""
    random = torch.Generator().manual_seed(0)
    for batch, *sides in SHAPES:
        height, width = (side + -side % divisor for side in sides)
        yield torch.randn(batch, channels, height, width, generator=random)


def compare(graph: Graph, run: Callable[[Tensor], List[Tensor]], batches: Iterable[Tensor]) -> List[Difference]:
    """Differences between a graph and a file on batches of images; InputError for a file of other outputs."""
    found = []
    for images in batches:
        with torch.inference_mode():
            expected, values = graph(images), run(images)
        shapes, given = (', '.join(str(list(each.shape)) for each in outputs) for outputs in (expected, values))
        if given != shapes:
            raise InputError(
                f'expected outputs {shapes} from the exported file, but it gives {given or "none"}; nothing was '
                'written, try another format'
            )
        # Not Python's max, which passes over NaN; and an output of zeros has no largest value to divide by.
        errors = [
            (value - right).abs().max() / (right.abs().max() if right.any() else 1)
            for value, right in zip(values, expected)
        ]
        error = torch.stack(errors).max().item()
        decides = graph.scope in ('mmpretrain', 'mmseg')
        other = (values[0].argmax(1) != expected[0].argmax(1)).float().mean().item() if decides else 0.0
        found.append(Difference((len(images), *images.shape[2:]), error, other))
    return found


def check(differences: List[Difference], precision: str) -> None:
    """Raise InputError for a difference above the bound of the precision."""
    bound = BOUNDS[precision]
    wrong = [d for d in differences if not d.error <= bound or (precision == 'fp32' and d.decided > DECIDED)]
    if wrong:
        raise InputError(
            f'expected the exported file to be within {bound:g} of the model, but it is {wrong[0].error:.2g} off at '
            f'{"x".join(map(str, wrong[0].shape))}; nothing was written (the table above has all sizes)'
        )


def table(differences: List[Difference]) -> str:
    """The differences as a Markdown table."""
    rows = [('x'.join(map(str, d.shape)), f'{d.error:.1e}', f'{d.decided:.4%}') for d in differences]
    return markdown(('batch x height x width', 'largest difference', 'decided otherwise'), rows)
