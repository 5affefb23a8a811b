"""Both forms of the mixer against its definition in float64, in value, gradient and precision."""

import pytest
import torch

from mmcyclemlp.models import CycleMixer
from mmcyclemlp.ops import MixerWeights, cycle_mix, naive, use_backend

from .oracles import cycle_mix_oracle

# (B, H, W, C): H or W of 1 and below k, C % k != 0, fewer channels than k, batch 0, 1 and 33.
SHAPES = [(2, 5, 7, 8), (1, 1, 1, 7), (33, 1, 4, 10), (3, 2, 1, 12), (0, 4, 5, 8), (1, 9, 11, 4)]


def make(channels, k=3, dtype=torch.float32):
    """A mixer with weights that let every branch matter."""
    mixer = CycleMixer(channels, k)
    for parameter in mixer.parameters():
        torch.nn.init.normal_(parameter, std=parameter.shape[-1] ** -0.5)
    return mixer.to(dtype)


def branches(mixer, x, residual=None):
    return mixer._branches(x, residual)


def one_product(mixer, x, residual=None):
    return cycle_mix(x, mixer.weights(), mixer.kernel_size, residual)


FORMS = [branches, one_product]


@pytest.fixture(params=[False, True], ids=['avx2', 'avx512'])
def processor(request, monkeypatch):
    """The choices for both kinds of processor; both compute on either."""
    import sys

    monkeypatch.setattr(sys.modules['mmcyclemlp.ops.linear'], 'AVX512', request.param)


@pytest.mark.parametrize('k', [1, 3, 5, 9])
@pytest.mark.parametrize('shape', SHAPES, ids=str)
def test_the_definition_matches_the_oracle(k, shape):
    x, mixer = torch.randn(shape, dtype=torch.float64), make(shape[3], k, torch.float64)
    torch.testing.assert_close(naive.cycle_mix(x, mixer.weights(), k), cycle_mix_oracle(x, mixer.weights(), k))


@pytest.mark.parametrize('form', FORMS, ids=lambda f: f.__name__)
@pytest.mark.parametrize('k', [1, 3, 5, 9])
@pytest.mark.parametrize('shape', SHAPES, ids=str)
def test_matches_oracle(form, k, shape):
    x, mixer = torch.randn(shape), make(shape[3], k)
    expected = cycle_mix_oracle(x, mixer.weights(), k)
    torch.testing.assert_close(form(mixer, x).double(), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize('form', FORMS, ids=lambda f: f.__name__)
@pytest.mark.parametrize('shape', SHAPES, ids=str)
def test_evaluation_is_the_same(form, shape, processor):
    # Without gradients, and in float32 on a CPU, other kernels compute the products, and add the residual.
    x, mixer, residual = torch.randn(shape), make(shape[3]), torch.randn(shape)
    kept = residual.clone()
    with torch.no_grad():
        evaluated, added = form(mixer, x), form(mixer, x, residual)
    torch.testing.assert_close(evaluated, form(mixer, x), atol=1e-5, rtol=1e-5)
    for out in (added, form(mixer, x, residual)):  # the second in training
        torch.testing.assert_close(out, evaluated + residual, atol=1e-5, rtol=1e-5)
    assert evaluated.shape == x.shape and torch.equal(residual, kept)


@pytest.mark.parametrize('k', [3, 7])
@pytest.mark.parametrize('shape', SHAPES, ids=str)
def test_gradients_agree(k, shape):
    x, mixer = torch.randn(shape, dtype=torch.float64, requires_grad=True), make(shape[3], k, torch.float64)
    inputs, grad = [x, *mixer.parameters()], torch.randn(shape, dtype=torch.float64)
    definition = torch.autograd.grad(naive.cycle_mix(x, mixer.weights(), k), inputs, grad)
    for form in FORMS:
        torch.testing.assert_close(torch.autograd.grad(form(mixer, x), inputs, grad), definition)


def test_gradients_of_first_and_second_order():
    x, weights = torch.randn(1, 3, 2, 5, dtype=torch.float64, requires_grad=True), make(5, 3, torch.float64).weights()
    assert torch.autograd.gradcheck(lambda x, *w: cycle_mix(x, MixerWeights(*w), 3), (x, *weights))
    assert torch.autograd.gradgradcheck(lambda x: cycle_mix(x, weights, 3), x)


def errors(x, mixer, autocast=None):
    """Largest error against float64 of each form, of the output and of each gradient, relative to its size."""
    inputs, double = [x, *mixer.parameters()], make(x.shape[3], mixer.kernel_size, torch.float64)
    double.load_state_dict(mixer.state_dict())
    exact_x = x.detach().double().requires_grad_()
    exact, grad = naive.cycle_mix(exact_x, double.weights(), mixer.kernel_size), torch.randn(x.shape)
    exact = [exact, *torch.autograd.grad(exact, [exact_x, *double.parameters()], grad.double())]
    for form in FORMS:
        with torch.autocast('cpu', dtype=autocast or torch.bfloat16, enabled=autocast is not None):
            out = form(mixer, x)
        got = [out, *torch.autograd.grad(out, inputs, grad.to(out.dtype))]
        yield [((g.double() - e).abs().max() / e.abs().max()).item() for g, e in zip(got, exact)]


# Sizes of the network's stages at 224 and 32, where each form is used.
@pytest.mark.parametrize('shape', [(2, 28, 28, 64), (2, 16, 16, 64), (2, 7, 7, 128)], ids=str)
@pytest.mark.parametrize(
    'dtype, autocast', [(torch.float32, None), (torch.bfloat16, None), (torch.float32, torch.bfloat16)], ids=str
)
def test_as_precise_as_the_branches(shape, dtype, autocast):
    mixer = make(shape[3], 3, dtype)
    x = torch.randn(shape).to(dtype).requires_grad_()
    reference, fused = errors(x, mixer, autocast)
    for name, ours, own in zip(('output', 'x', *(n for n, _ in mixer.named_parameters())), fused, reference):
        # The floor is one rounding of the result, which no order of summation avoids; the largest of many errors is
        # up to 2.2 times that of the other form, by the processor.
        floor = torch.finfo(autocast or dtype).eps
        assert ours <= max(3 * own, floor), name


def test_the_form_follows_the_size(monkeypatch):
    import mmcyclemlp.models.layers as layers

    calls = []
    monkeypatch.setattr(layers, 'cycle_mix', lambda *args: calls.append('one_product'))
    monkeypatch.setattr(CycleMixer, '_branches', lambda *args: calls.append('branches'))
    large, small, mixer = torch.zeros(1, 20, 20, 32), torch.zeros(1, 10, 10, 32), make(32)
    mixer(large)
    mixer(small)
    with use_backend('deform_conv'):
        mixer(large)
    mixer.backend = 'shift_gemm'
    mixer(large)
    assert calls == ['one_product', 'branches', 'branches', 'branches']


def test_mixer_saves_less_for_backward():
    """The product keeps its input alone; the branches their input, themselves and their sum. No shifted map."""
    x, mixer, saved = torch.randn(1, 32, 32, 32, requires_grad=True), make(32), []
    for form in FORMS:
        storages = {}

        def pack(tensor, storages=storages):
            storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            out = form(mixer, x)
        saved.append(sum(storages.values()) / (x.numel() * 4))
        del out
    # The weights, which are small, and one matrix a sample come on top.
    assert 1 < saved[1] < 1.4 and 5 < saved[0] < 5.3


def test_wrong_input():
    with pytest.raises(ValueError, match='x has 6 channels .* takes 8'):
        CycleMixer(8)(torch.zeros(1, 4, 4, 6))
    with pytest.raises(ValueError, match='x has 6 channels .* takes 8'):
        CycleMixer(8)(torch.zeros(1, 40, 40, 6))
    with pytest.raises(ValueError, match='four dimensions'):
        CycleMixer(8)(torch.zeros(4, 4, 8))
