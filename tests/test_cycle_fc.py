"""The operator against a loop oracle, the original's outputs, and its own contract."""

import copy
import sys

import pytest
import torch
from torch import nn

from mmcyclemlp.models import CycleFC
from mmcyclemlp.ops import cycle_fc, naive, staircase_offsets, use_backend

from .helpers import NEEDS_OPERATORS
from .oracles import cycle_fc_oracle

KERNELS = [(1, 1), (1, 3), (3, 1), (1, 5), (5, 1), (1, 7), (7, 1), (1, 9), (9, 1)]
# (B, H, W, C_in, C_out): odd sizes, C % k != 0, H or W of 1 and below k, batch 0, 1, 33, fewer channels than k.
SHAPES = [(2, 5, 7, 8, 6), (1, 1, 1, 7, 3), (33, 1, 4, 10, 4), (3, 2, 1, 12, 12), (0, 4, 5, 6, 3), (1, 13, 11, 2, 5)]


def make(shape, dtype=torch.float32):
    batch, height, width, c_in, c_out = shape
    return (
        torch.randn(batch, height, width, c_in).to(dtype),
        torch.randn(c_out, c_in).to(dtype),
        torch.randn(c_out).to(dtype),
    )


ON_CPU = ['shift_gemm', pytest.param('deform_conv', marks=NEEDS_OPERATORS)]


def test_staircase_order():
    # The order of the authors' code, in which the released weights are: 0 first, then +1.
    assert [dx for _, dx in staircase_offsets(7, (1, 3))] == [0, 1, -1, 0, 1, -1, 0]
    assert [dx for _, dx in staircase_offsets(8, (1, 7))] == [0, 1, 2, 3, -3, -2, -1, 0]
    assert staircase_offsets(3, (3, 1)) == [(0, 0), (1, 0), (-1, 0)]
    assert staircase_offsets(2, (1, 1)) == [(0, 0), (0, 0)]


@pytest.mark.parametrize('backend', ON_CPU)
@pytest.mark.parametrize('kernel', KERNELS, ids=str)
@pytest.mark.parametrize('shape', SHAPES, ids=str)
def test_matches_oracle(backend, kernel, shape):
    x, weight, bias = make(shape)
    for b in (bias, None):
        out = cycle_fc(x, weight, b, kernel, backend)
        assert out.shape == (*shape[:3], shape[4]) and out.dtype == x.dtype
        # A float32 sum of C_in products of standard normals.
        torch.testing.assert_close(out.double(), cycle_fc_oracle(x, weight, b, kernel), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize('kernel', KERNELS, ids=str)
@pytest.mark.parametrize('shape', SHAPES, ids=str)
def test_the_definition_matches_the_oracle(kernel, shape):
    x, weight, bias = make(shape, torch.float64)
    torch.testing.assert_close(naive.cycle_fc(x, weight, bias, kernel), cycle_fc_oracle(x, weight, bias, kernel))


@NEEDS_OPERATORS
@pytest.mark.parametrize('kernel', [(1, 3), (5, 1)], ids=str)
def test_backends_agree_to_the_bit(kernel):
    x, weight, _ = make((4, 9, 8, 32, 16))
    outs = [cycle_fc(x, weight, None, kernel, backend) for backend in ('shift_gemm', 'deform_conv')]
    assert torch.equal(*outs)


@pytest.mark.parametrize('backend', ON_CPU)
def test_matches_the_original(backend, reference, formula):
    names = sorted({key.rsplit('/', 1)[0] for key in reference if key.startswith('cyclefc-')})
    assert len(names) == 7
    for name in names:
        c_in, c_out, kernel, size = name.split('-')[1:]
        c_in, c_out = int(c_in), int(c_out)
        kernel = tuple(map(int, kernel.split('x')))
        height, width = map(int, size.split('x'))
        weight = torch.from_numpy(formula.parameter(f'{name}.weight', (c_out, c_in, 1, 1)))[:, :, 0, 0]
        bias = torch.from_numpy(formula.parameter(f'{name}.bias', (c_out,)))
        x = torch.from_numpy(formula.tensor(f'{name}.input', (2, c_in, height, width)))
        grad = torch.from_numpy(formula.tensor(f'{name}.grad', (2, c_out, height, width)))
        leaves = [t.requires_grad_() for t in (x, weight.contiguous(), bias)]
        out = cycle_fc(leaves[0].permute(0, 2, 3, 1), leaves[1], leaves[2], kernel, backend).permute(0, 3, 1, 2)
        out.backward(grad)
        got = dict(
            output=out,
            grad_input=leaves[0].grad,
            grad_weight=leaves[1].grad[:, :, None, None],
            grad_bias=leaves[2].grad,
        )
        for key, value in got.items():
            expected = torch.from_numpy(reference[f'{name}/{key}'])
            # Another order of summation in float32: about 1e-6 of the largest value.
            atol = 4e-6 * max(1.0, expected.abs().max().item())
            torch.testing.assert_close(value.detach(), expected, rtol=0, atol=atol)


@pytest.mark.parametrize('shape', [(2, 3, 4, 7, 3), (1, 1, 2, 5, 2)], ids=str)
@pytest.mark.parametrize('kernel', [(1, 3), (3, 1), (1, 7)], ids=str)
def test_gradients_of_first_and_second_order(kernel, shape):
    inputs = [t.requires_grad_() for t in make(shape, torch.float64)]
    assert torch.autograd.gradcheck(lambda *t: cycle_fc(*t, kernel), inputs)
    assert torch.autograd.gradgradcheck(lambda *t: cycle_fc(*t, kernel), inputs)


@pytest.mark.parametrize('backend', ON_CPU)
def test_memory_layout_does_not_matter(backend):
    x, weight, bias = make((2, 6, 5, 8, 4))
    expected = cycle_fc(x, weight, bias, (1, 3), backend)
    layouts = [
        x.permute(0, 3, 1, 2).contiguous().permute(0, 2, 3, 1),
        torch.cat([x, x], 3)[..., :8],
        x.flip(1).contiguous().flip(1),
        torch.repeat_interleave(x, 2, dim=2)[:, :, ::2],
    ]
    for layout in layouts:
        assert torch.allclose(cycle_fc(layout, weight, bias, (1, 3), backend), expected, atol=1e-5)
    wide = torch.cat([weight, weight], 1)[:, :8]
    assert torch.allclose(cycle_fc(x, wide, bias, (1, 3), backend), expected, atol=1e-5)


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16], ids=str)
def test_half_precision(dtype):
    x, weight, bias = make((2, 5, 6, 24, 8))
    exact = cycle_fc_oracle(x, weight, bias, (1, 3))
    # Round-off of a plain product of this size in this dtype, against float64, is the yardstick.
    low, high = (nn.functional.linear(x.to(d), weight.to(d), bias.to(d)) for d in (dtype, torch.float64))
    bound = 2 * (low.double() - high).abs().max()
    with torch.autocast('cpu', dtype=dtype):
        auto = cycle_fc(x.requires_grad_(), weight.requires_grad_(), bias, (1, 3))
        auto.float().sum().backward()
    assert auto.dtype == dtype and x.grad.dtype == torch.float32 and weight.grad.dtype == torch.float32
    pure = cycle_fc(x.detach().to(dtype), weight.detach().to(dtype), bias.to(dtype), (1, 3))
    for out in (auto, pure):
        assert (out.double() - exact).abs().max() <= bound


def test_zeros_not_nan_outside_an_infinite_map():
    x = torch.full((1, 1, 2, 3), float('inf'))
    out = cycle_fc(x, torch.eye(3), None, (3, 1))
    assert torch.equal(torch.isnan(out), torch.isnan(cycle_fc_oracle(x, torch.eye(3), None, (3, 1))))


class Layer(nn.Module):
    def forward(self, x, weight, bias):
        return cycle_fc(x, weight, bias, (1, 3)) + cycle_fc(x, weight, bias, (5, 1))


@pytest.fixture
def rectangle():
    """Two calls of different batch, height and width: a graph made at the first must hold at the second."""
    return make((2, 5, 7, 8, 6)), make((3, 2, 9, 8, 6))


def test_trace(rectangle):
    first, second = rectangle
    traced = torch.jit.trace(Layer(), first)
    torch.testing.assert_close(traced(*second), Layer()(*second))


@pytest.mark.slow
def test_compile_without_a_graph_break(rectangle):
    compiled = torch.compile(Layer(), backend='aot_eager', fullgraph=True, dynamic=False)
    for args in rectangle:
        args = [t.requires_grad_() for t in args]
        out, expected = compiled(*args), Layer()(*args)
        torch.testing.assert_close(out, expected)
        grads, expected_grads = (torch.autograd.grad(o.square().sum(), args) for o in (out, expected))
        torch.testing.assert_close(grads, expected_grads)


def test_export(rectangle):
    from torch.export import Dim, export

    first, second = rectangle
    dims = {0: Dim.DYNAMIC, 1: Dim.DYNAMIC, 2: Dim.DYNAMIC}
    program = export(Layer(), first, dynamic_shapes=(dims, None, None))
    torch.testing.assert_close(program.module()(*second), Layer()(*second))


def test_onnx(rectangle, tmp_path):
    onnxruntime = pytest.importorskip('onnxruntime')
    first, second = rectangle
    axes = {'x': {0: 'batch', 1: 'height', 2: 'width'}}
    path = tmp_path / 'layer.onnx'
    torch.onnx.export(
        Layer(),
        first,
        path,
        dynamo=False,
        opset_version=17,
        input_names=['x', 'weight', 'bias'],
        output_names=['y'],
        dynamic_axes=axes,
    )
    session = onnxruntime.InferenceSession(path, providers=['CPUExecutionProvider'])
    (out,) = session.run(None, {k: v.numpy() for k, v in zip(('x', 'weight', 'bias'), second)})
    torch.testing.assert_close(torch.from_numpy(out), Layer()(*second), atol=1e-5, rtol=1e-5)


def test_layer_copies_and_prints():
    layer = CycleFC(8, 6, (1, 3))
    assert layer.weight.shape == (6, 8) and layer.bias.shape == (6,) and layer.bias.eq(0).all()
    assert 0.01 < layer.weight.std() < 0.03
    assert repr(layer) == "CycleFC(8, 6, kernel_size=(1, 3), bias=True, backend='auto')"
    x = torch.randn(1, 4, 4, 8)
    assert torch.equal(copy.deepcopy(layer)(x), layer(x))
    assert CycleFC(8, 6, (3, 1), bias=False).bias is None


@NEEDS_OPERATORS
def test_use_backend_replaces_auto_only(monkeypatch):
    module, calls = sys.modules['mmcyclemlp.ops.cycle_fc'], []
    monkeypatch.setattr(module, '_deform_conv', lambda *args: calls.append('deform_conv'))
    monkeypatch.setattr(module, 'linear_of', lambda *args: calls.append('shift_gemm'))
    args = (*make((1, 2, 2, 4, 4)), (1, 3))
    with use_backend('deform_conv'):
        cycle_fc(*args)
        cycle_fc(*args, backend='shift_gemm')
    cycle_fc(*args)
    assert calls == ['deform_conv', 'shift_gemm', 'shift_gemm']


@pytest.mark.parametrize('kernel', [(1, 2), (3, 3), (0, 1), (1, -3), 3, (1, 3, 1), (1, 3.0), '13'], ids=str)
def test_wrong_kernel(kernel):
    with pytest.raises(ValueError, match='kernel_size must be .* odd positive integer, got'):
        cycle_fc(*make((1, 2, 2, 4, 4)), kernel)
    with pytest.raises(ValueError, match='kernel_size must be'):
        CycleFC(4, 4, kernel)


@pytest.mark.parametrize(
    'change, message',
    [
        (dict(x=torch.zeros(2, 4, 4)), r'four dimensions \[B, H, W, C_in\], got shape \[2, 4, 4\]'),
        (dict(x=torch.zeros(1, 4, 4, 5)), r'x has 5 channels .* takes 4; x is channels-last'),
        (dict(x=torch.zeros(1, 4, 4, 4, dtype=torch.long)), r'floating-point tensor, got torch.int64'),
        (dict(x=torch.zeros(1, 4, 4, 4).double()), r'x is torch.float64 but weight is torch.float32'),
        (dict(weight=torch.zeros(4, 4, 1, 1)), r'two dimensions \[C_out, C_in\], got shape \[4, 4, 1, 1\]'),
        (dict(bias=torch.zeros(5)), r'bias must have shape \[4\] .* got \[5\]'),
        (dict(weight=torch.zeros(4, 4, device='meta')), r'x is on cpu but weight on meta'),
        (dict(backend='cuda'), r"backend must be 'auto' or one of \['deform_conv', 'shift_gemm'\], got 'cuda'"),
    ],
)
def test_wrong_call(change, message):
    call = dict(x=torch.zeros(1, 4, 4, 4), weight=torch.zeros(4, 4), bias=torch.zeros(4), kernel_size=(1, 3))
    with pytest.raises(ValueError, match=message):
        cycle_fc(**{**call, **change})


@NEEDS_OPERATORS
def test_deform_conv_says_why_it_cannot(monkeypatch):
    x, weight, bias = make((1, 2, 2, 4, 4), torch.bfloat16)
    with pytest.raises(ValueError, match="'deform_conv' cannot compute this call: .* no bfloat16 kernel"):
        cycle_fc(x, weight, bias, (1, 3), 'deform_conv')
    with pytest.raises(ValueError, match='no float16 kernel on the CPU'):
        cycle_fc(x.half(), weight.half(), bias.half(), (1, 3), 'deform_conv')
    monkeypatch.setitem(sys.modules, 'mmcv.ops', None)  # what an mmcv without compiled operators amounts to
    with pytest.raises(ValueError, match='without its compiled operators .*make ops'):
        cycle_fc(x.float(), weight.float(), bias.float(), (1, 3), 'deform_conv')
