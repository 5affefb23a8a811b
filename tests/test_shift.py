"""Moving channels: the shift, what the fused mixer gathers, their adjoints, and every way to compute them on a CPU."""

import pytest
import torch

from mmcyclemlp.ops import shift, staircase_offsets, use_shift
from mmcyclemlp.ops.shift import _expression, gathering, shifted_means, shifting, triton_reason

# (B, H, W, C): odd sizes, C % k != 0, H or W of 1 and below k, batch 0, 1, 33, fewer channels than k, no channels.
SHAPES = [(2, 5, 7, 8), (1, 1, 1, 7), (33, 1, 4, 10), (3, 2, 1, 12), (0, 4, 5, 6), (1, 13, 11, 2), (1, 2, 3, 0)]


@pytest.fixture(autouse=True, params=['copy'])  # the ways that run on a CPU
def way(request):
    with use_shift(request.param):
        yield


def movements(channels, k):
    return [shifting(channels, (1, k)), shifting(channels, (k, 1)), gathering(channels, k)]


def shift_oracle(x, kernel_size):
    """Element by element."""
    out = torch.zeros_like(x)
    _, height, width, channels = x.shape
    for c, (dy, dx) in enumerate(staircase_offsets(channels, kernel_size)):
        for i in range(height):
            for j in range(width):
                if 0 <= i + dy < height and 0 <= j + dx < width:
                    out[:, i, j, c] = x[:, i + dy, j + dx, c]
    return out


@pytest.mark.parametrize('k', [1, 3, 5, 9])
@pytest.mark.parametrize('shape', SHAPES, ids=str)
def test_shift_and_gathering_match_the_oracle(shape, k):
    x = torch.randn(shape)
    w, h = shift_oracle(x, (1, k)), shift_oracle(x, (k, 1))
    for kernel_size, expected in (((1, k), w), ((k, 1), h)):
        assert torch.equal(shift(x, kernel_size), expected)
        assert torch.equal(_expression(x, kernel_size), expected)
    gathered = torch.cat([x, *(s[..., r::k] for s in (w, h) for r in range(1, k))], 3)
    movement = gathering(shape[3], k)
    assert gathered.shape[3] == movement.columns
    assert torch.equal(movement(x), gathered)


@pytest.mark.parametrize('k', [1, 3, 5, 9])
@pytest.mark.parametrize('shape', SHAPES, ids=str)
def test_means_need_no_shift(shape, k):
    x = torch.randn(shape, dtype=torch.float64)
    for mean, value in zip(shifted_means(x, k), (x, shift_oracle(x, (1, k)), shift_oracle(x, (k, 1)))):
        torch.testing.assert_close(mean, value.mean(dim=(1, 2)))


@pytest.mark.parametrize('k', [1, 3, 5, 9])
@pytest.mark.parametrize('shape', SHAPES, ids=str)
def test_the_adjoint_is_the_transpose(shape, k):
    for movement in movements(shape[3], k):
        x = torch.randn(shape, dtype=torch.float64)
        y = torch.randn(*shape[:3], movement.columns, dtype=torch.float64)
        torch.testing.assert_close((movement(x) * y).sum(), (x * movement.adjoint(y)).sum())


@pytest.mark.parametrize('k', [3, 5])
def test_gradients_of_first_and_second_order(k):
    x = torch.randn(1, 3, 2, 7, dtype=torch.float64, requires_grad=True)
    for movement in movements(7, k):
        assert torch.autograd.gradcheck(movement, x)
        assert torch.autograd.gradgradcheck(movement, x)
        grad = torch.randn(1, 3, 2, movement.columns, dtype=torch.float64, requires_grad=True)
        assert torch.autograd.gradcheck(movement.adjoint, grad)


@pytest.mark.parametrize('kernel', [(1, 3), (7, 1)], ids=str)
def test_the_expression_of_graphs_has_the_same_gradients(kernel):
    x = torch.randn(2, 3, 5, 10, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda t: _expression(t, kernel), x)


def test_memory_layout_does_not_matter():
    x = torch.randn(2, 6, 5, 8)
    layouts = [
        x.permute(0, 3, 1, 2).contiguous().permute(0, 2, 3, 1),
        torch.cat([x, x], 3)[..., :8],
        x.flip(1).contiguous().flip(1),
        torch.repeat_interleave(x, 2, dim=2)[:, :, ::2],
    ]
    for movement in movements(8, 3):
        expected = movement(x)
        for layout in layouts:
            out = movement(layout)
            assert torch.equal(out, expected) and out.is_contiguous()


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16, torch.float64, torch.int64], ids=str)
def test_any_dtype_moves_to_the_bit(dtype):
    x = torch.randn(2, 4, 5, 8).mul(100).to(dtype)
    for kernel_size in ((1, 3), (5, 1)):
        assert torch.equal(shift(x, kernel_size), shift_oracle(x, kernel_size))


def test_zeros_not_nan_at_the_border_of_an_infinite_map():
    x = torch.full((1, 2, 2, 3), float('inf'))
    assert torch.equal(shift(x, (3, 1)), shift_oracle(x, (3, 1)))


def test_a_kernel_of_one_moves_nothing():
    x = torch.randn(1, 2, 3, 4)
    assert shift(x, (1, 1)) is x


def test_the_way_is_chosen_by_the_device():
    assert 'on cpu' in triton_reason(torch.device('cpu'))
    with pytest.raises(ValueError, match=r"one of \['copy', 'triton'\], got 'roll'"), use_shift('roll'):
        pass
