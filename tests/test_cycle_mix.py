"""Both forms of the mixer against its definition in float64, in value, gradient and precision."""
import pytest
import torch

from mmcyclemlp.models import CycleMixer
from mmcyclemlp.ops import MixerWeights, cycle_fc, cycle_mix, use_backend
from mmcyclemlp.ops.cycle_mix import branches, one_product
from mmcyclemlp.ops.gather import columns_of, gathering, shifted_means

from .oracles import cycle_mix_oracle

FORMS = [branches, one_product]
# (B, H, W, C): H or W of 1 and below k, C % k != 0, fewer channels than k, batch 0, 1 and 33.
SHAPES = [(2, 5, 7, 8), (1, 1, 1, 7), (33, 1, 4, 10), (3, 2, 1, 12), (0, 4, 5, 8), (1, 9, 11, 4)]


def make(channels, dtype=torch.float32):

    def normal(*shape):
        return (torch.randn(shape) * shape[-1]**-0.5).to(dtype).requires_grad_()

    c = channels
    return MixerWeights(normal(c, c), normal(c), normal(c, c), normal(c), normal(c, c), normal(c // 4, c),
                        normal(c // 4), normal(3 * c, c // 4), normal(3 * c), normal(c, c), normal(c))


@pytest.mark.parametrize('form', FORMS, ids=lambda f: f.__name__)
@pytest.mark.parametrize('k', [1, 3, 5, 9])
@pytest.mark.parametrize('shape', SHAPES, ids=str)
def test_matches_oracle(form, k, shape):
    x, weights = torch.randn(shape), make(shape[3])
    torch.testing.assert_close(form(x, weights, k).double(), cycle_mix_oracle(x, weights, k), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize('form', FORMS, ids=lambda f: f.__name__)
@pytest.mark.parametrize('shape', SHAPES, ids=str)
def test_evaluation_is_the_same(form, shape):
    # Without gradients, and in float32 on a CPU, other kernels compute the products.
    x, weights = torch.randn(shape), make(shape[3])
    with torch.no_grad():
        evaluated = form(x, weights, 3)
    torch.testing.assert_close(evaluated, form(x, weights, 3), atol=1e-5, rtol=1e-5)
    assert evaluated.shape == x.shape


@pytest.mark.parametrize('k', [3, 7])
@pytest.mark.parametrize('shape', SHAPES, ids=str)
def test_gradients_agree(k, shape):
    x, weights = torch.randn(shape, dtype=torch.float64, requires_grad=True), make(shape[3], torch.float64)
    grad = torch.randn(shape, dtype=torch.float64)
    first, second = (torch.autograd.grad(form(x, weights, k), [x, *weights], grad) for form in FORMS)
    torch.testing.assert_close(first, second)


def test_gradients_of_first_and_second_order():
    x, weights = torch.randn(1, 3, 2, 5, dtype=torch.float64, requires_grad=True), make(5, torch.float64)
    assert torch.autograd.gradcheck(lambda x, *w: one_product(x, MixerWeights(*w), 3), (x, *weights))
    assert torch.autograd.gradgradcheck(lambda x: one_product(x, weights, 3), x)


def errors(x, weights, k, autocast=None):
    """Largest error against float64 of each form, of the output and of each gradient, relative to its size."""
    inputs = [x, *weights]
    double = [t.detach().double().requires_grad_() for t in inputs]
    exact = branches(double[0], MixerWeights(*double[1:]), k)
    grad = torch.randn(x.shape)
    exact = [exact, *torch.autograd.grad(exact, double, grad.double())]
    for form in FORMS:
        with torch.autocast('cpu', dtype=autocast or torch.bfloat16, enabled=autocast is not None):
            out = form(x, weights, k)
        got = [out, *torch.autograd.grad(out, inputs, grad.to(out.dtype))]
        yield [((g.double() - e).abs().max() / e.abs().max()).item() for g, e in zip(got, exact)]


# Sizes of the network's stages at 224 and 32, where each form is used.
@pytest.mark.parametrize('shape', [(2, 28, 28, 64), (2, 16, 16, 64), (2, 7, 7, 128)], ids=str)
@pytest.mark.parametrize('dtype, autocast', [(torch.float32, None), (torch.bfloat16, None),
                                             (torch.float32, torch.bfloat16)], ids=str)
def test_as_precise_as_the_definition(shape, dtype, autocast):
    weights = make(shape[3], dtype)
    x = torch.randn(shape).to(dtype).requires_grad_()
    definition, fused = errors(x, weights, 3, autocast)
    for name, ours, reference in zip(('output', 'x', *MixerWeights._fields), fused, definition):
        # The floor is one rounding of the result, which no order of summation avoids.
        floor = torch.finfo(autocast or dtype).eps
        assert ours <= max(2 * reference, floor), name


@pytest.mark.parametrize('k', [1, 3, 5, 9])
@pytest.mark.parametrize('shape', SHAPES, ids=str)
def test_gathered_columns_and_means(k, shape):
    channels = shape[3]
    x = torch.randn(shape, dtype=torch.float64)
    eye = torch.eye(channels, dtype=torch.float64)
    shifted = [cycle_fc(x, eye, None, kernel) for kernel in ((1, k), (k, 1))]
    expected = torch.cat([x, *(s[..., r::k] for s in shifted for r in range(1, k))], 3)
    assert expected.shape[3] == columns_of(channels, k)
    assert torch.equal(gathering(k, channels)(x), expected)
    for mean, value in zip(shifted_means(x, k), (x, *shifted)):
        torch.testing.assert_close(mean, value.mean(dim=(1, 2)))


def test_the_form_follows_the_size(monkeypatch):
    import sys
    module, calls = sys.modules['mmcyclemlp.ops.cycle_mix'], []
    for form in FORMS:
        monkeypatch.setattr(module, form.__name__, lambda *args, name=form.__name__: calls.append(name))
    weights = make(32)
    large, small = torch.zeros(1, 20, 20, 32), torch.zeros(1, 10, 10, 32)
    cycle_mix(large, weights, 3)
    cycle_mix(small, weights, 3)
    cycle_mix(large, weights, 3, backend='shift_gemm')
    with use_backend('deform_conv'):
        cycle_mix(large, weights, 3)
    assert calls == ['one_product', 'branches', 'branches', 'branches']


def test_mixer_saves_less_for_backward():
    """The product keeps its input alone; the definition its input, its three branches and their sum. No shifted map."""
    x, weights, saved = torch.randn(1, 32, 32, 32, requires_grad=True), make(32), []
    for form in FORMS:
        storages = {}

        def pack(tensor, storages=storages):
            storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            out = form(x, weights, 3)
        saved.append(sum(storages.values()) / (x.numel() * 4))
        del out
    # The weights, which are small, and one matrix a sample come on top.
    assert 1 < saved[1] < 1.4 and 5 < saved[0] < 5.3


def test_wrong_input():
    with pytest.raises(ValueError, match='x has 6 channels .* takes 8'):
        CycleMixer(8)(torch.zeros(1, 4, 4, 6))
    with pytest.raises(ValueError, match='four dimensions'):
        CycleMixer(8)(torch.zeros(4, 4, 8))
