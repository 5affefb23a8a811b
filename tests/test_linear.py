"""The product over channels against float64, whichever library computes it."""

import sys

import pytest
import torch

from mmcyclemlp.ops import linear, linear_gelu
from mmcyclemlp.ops.linear import linear_each, linear_of
from mmcyclemlp.ops.shift import shifting

SHAPES = [(2, 5, 7, 8, 6), (1, 1, 1, 7, 3), (33, 1, 4, 10, 4), (3, 2, 1, 12, 1), (0, 4, 5, 6, 3), (2, 9, 11, 1, 5)]


@pytest.fixture(params=['avx2', 'avx512', 'public'], autouse=True)
def processor(request, monkeypatch):
    """The choices for both kinds of processor, which compute on either, and those without private operators."""
    module = sys.modules['mmcyclemlp.ops.linear']
    monkeypatch.setattr(module, 'AVX512', request.param != 'avx2')
    monkeypatch.setattr(module, 'INNER_PRODUCT', request.param != 'public')
    return request.param


@pytest.mark.parametrize('dtype', [torch.float32, torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize('shape', SHAPES, ids=str)
def test_matches_float64(shape, dtype):
    batch, height, width, c_in, c_out = shape
    x, weight, bias = torch.randn(batch, height, width, c_in), torch.randn(c_out, c_in), torch.randn(c_out)
    x, weight, bias = (t.to(dtype).requires_grad_() for t in (x, weight, bias))
    inputs = [x, weight, bias]
    double = [t.detach().double().requires_grad_() for t in inputs]
    out, expected = linear(*inputs), double[0] @ double[1].T + double[2]
    tolerance = dict(atol=10 * torch.finfo(dtype).eps, rtol=10 * torch.finfo(dtype).eps)
    torch.testing.assert_close(out.double(), expected, **tolerance)
    assert out.dtype == dtype and linear(x, weight).shape == out.shape
    with torch.no_grad():
        torch.testing.assert_close(linear(*inputs).double(), expected, **tolerance)
    if dtype != torch.bfloat16:
        grad = torch.randn(out.shape).to(dtype)
        got = torch.autograd.grad(out, inputs, grad)
        for g, e in zip(got, torch.autograd.grad(expected, double, grad.double())):
            torch.testing.assert_close(g.double(), e, atol=5e-5, rtol=5e-5)


@pytest.mark.parametrize('shape', SHAPES, ids=str)
def test_gradients_of_a_moved_map(shape):
    batch, height, width, c_in, c_out = shape
    x, weight, bias = torch.randn(batch, height, width, c_in), torch.randn(c_out, c_in), torch.randn(c_out)
    movement, grad = shifting(c_in, (1, 3)), torch.randn(batch, height, width, c_out)
    inputs = [t.requires_grad_() for t in (x, weight, bias)]
    double = [t.detach().double().requires_grad_() for t in inputs]
    out, expected = linear_of(movement, *inputs), movement(double[0]) @ double[1].T + double[2]
    got, exact = torch.autograd.grad(out, inputs, grad), torch.autograd.grad(expected, double, grad.double())
    for g, e in zip((out, *got), (expected, *exact)):
        torch.testing.assert_close(g.double(), e, atol=5e-5, rtol=5e-5)


@pytest.mark.parametrize('shape', SHAPES, ids=str)
def test_a_matrix_a_sample(shape):
    batch, height, width, c_in, c_out = shape
    x = torch.randn(batch, height, width, c_in)
    weights, biases = torch.randn(batch, c_out, c_in), torch.randn(batch, c_out)
    expected = torch.einsum('bhwc,boc->bhwo', x.double(), weights.double()) + biases.double()[:, None, None]
    for training in (True, False):
        with torch.set_grad_enabled(training):
            out = linear_each(x, weights, biases)
        torch.testing.assert_close(out.double(), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize('dtype', [torch.float32, torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize('shape', SHAPES, ids=str)
def test_a_residual_is_added_and_kept(shape, dtype):
    batch, height, width, c_in, c_out = shape
    x, weight, bias = torch.randn(batch, height, width, c_in), torch.randn(c_out, c_in), torch.randn(c_out)
    residual = torch.randn(batch, height, width, c_out)
    x, weight, bias, residual = (t.to(dtype) for t in (x, weight, bias, residual))
    kept = residual.clone()
    tolerance = dict(atol=20 * torch.finfo(dtype).eps, rtol=20 * torch.finfo(dtype).eps)
    expected = x.double() @ weight.double().T + bias.double() + residual.double()
    for training in (True, False):
        with torch.set_grad_enabled(training):
            torch.testing.assert_close(linear(x, weight, bias, residual).double(), expected, **tolerance)
            each = linear_each(x, weight.expand(batch, -1, -1), bias.expand(batch, -1), residual)
        torch.testing.assert_close(each.double(), expected, **tolerance)
    assert torch.equal(residual, kept)


@pytest.mark.parametrize('training', [True, False])
@pytest.mark.parametrize('shape', [*SHAPES, (4, 30, 17, 64, 256)], ids=str)
def test_gelu(shape, training):
    batch, height, width, c_in, c_out = shape
    x, weight = 3 * torch.randn(batch, height, width, c_in), torch.randn(c_out, c_in)
    bias = torch.randn(c_out)
    with torch.set_grad_enabled(training):
        out = linear_gelu(x, weight, bias)
    expected = torch.nn.functional.gelu(x.double() @ weight.double().T + bias.double())
    # Absolutely, since the sum before GELU is of size 3 sqrt(C) and GELU keeps its rounding.
    torch.testing.assert_close(out.double(), expected, atol=3e-5, rtol=1e-5)


def test_export_keeps_the_linear_layer():
    x, weight = torch.randn(2, 4, 5, 8), torch.randn(6, 8)

    class Product(torch.nn.Module):
        def forward(self, x):
            return linear(x, weight)

    graphs = [str(torch.jit.trace(Product(), x).inlined_graph), str(torch.export.export(Product(), (x,)).graph)]
    assert all('linear' in graph and 'conv' not in graph for graph in graphs)


def test_a_compiler_sees_what_the_processor_is_best_at(processor):
    """Without AVX-512, a network was slower compiled than eager, with convolutions as products."""
    graphs = []

    def keep(graph, inputs):
        graphs.append(graph.code)
        return graph

    torch._dynamo.reset()
    with torch.no_grad():
        torch.compile(linear, backend=keep, fullgraph=True)(torch.randn(2, 4, 5, 8), torch.randn(6, 8))
    (code,) = graphs
    assert ('conv2d' in code) is (processor != 'avx2')
