"""The operators against their definitions, on shapes that hypothesis draws."""

import traceback

import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mmcyclemlp.ops import MixerWeights, cycle_fc, cycle_mix, naive, shift

SIZES = st.tuples(*(st.integers(low, high) for low, high in ((0, 3), (1, 9), (1, 9), (1, 17))))  # B, H, W, C
KERNEL = st.sampled_from([1, 3, 5, 7])
SEED = st.integers(0, 2**31)


def tensors(seed, *shapes):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator, dtype=torch.float64, requires_grad=True) for shape in shapes]


def compare(function, definition, inputs):
    """Outputs, and gradients of every input."""
    out, expected = function(*inputs), definition(*inputs)
    torch.testing.assert_close(out, expected, rtol=1e-9, atol=1e-11)
    factor = torch.cos(torch.arange(out.numel(), dtype=out.dtype)).view_as(out)
    for one, other in zip(
        torch.autograd.grad((out * factor).sum(), inputs), torch.autograd.grad((expected * factor).sum(), inputs)
    ):
        torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-10)


def check_shift(sizes, k, upright, seed):
    kernel = (k, 1) if upright else (1, k)
    channels = sizes[-1]
    identity = torch.eye(channels, dtype=torch.float64)
    compare(lambda x: shift(x, kernel), lambda x: naive.cycle_fc(x, identity, None, kernel), tensors(seed, sizes))


def check_cycle_fc(sizes, k, upright, seed):
    kernel = (k, 1) if upright else (1, k)
    inputs = tensors(seed, sizes, (sizes[-1] % 5 + 1, sizes[-1]), (sizes[-1] % 5 + 1,))
    compare(lambda *args: cycle_fc(*args, kernel), lambda *args: naive.cycle_fc(*args, kernel), inputs)


def check_cycle_mix(sizes, k, upright, seed):
    c, hidden = sizes[-1], max(1, sizes[-1] // 4)
    shapes = dict(
        shift_w=(c, c), shift_w_bias=(c,), shift_h=(c, c), shift_h_bias=(c,), channel=(c, c), fc1=(hidden, c),
        fc1_bias=(hidden,), fc2=(3 * c, hidden), fc2_bias=(3 * c,), proj=(c, c), proj_bias=(c,),
    )  # fmt: skip
    inputs = tensors(seed, sizes, *shapes.values())

    def of(function):
        return lambda x, *weights: function(x, MixerWeights(**dict(zip(shapes, weights))), k)

    compare(of(cycle_mix), of(naive.cycle_mix), inputs)


CHECKS = check_shift, check_cycle_fc, check_cycle_mix


def run(examples: int) -> int:
    """Check each operator ``examples`` times; returns how many of them fail."""
    failed = 0
    for check in CHECKS:
        drawn = settings(max_examples=examples, deadline=None, derandomize=True, suppress_health_check=[*HealthCheck])(
            given(SIZES, KERNEL, st.booleans(), SEED)(check)
        )
        try:
            drawn()
            print(f'{check.__name__}: {examples} examples', flush=True)
        except Exception:
            traceback.print_exc()
            failed += 1
    return failed
