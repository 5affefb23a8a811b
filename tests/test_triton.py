"""The Triton kernels on a GPU, or in Triton's interpreter where there is none (see conftest.py).

The interpreter runs the kernels' Python, not what the compiler makes of it, so they are also compiled here, which
needs no GPU: ``python -m tests.test_triton`` compiles, the tests run the rest.
"""
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch
from torch.library import opcheck

from mmcyclemlp.ops import cycle_fc, use_backend
from mmcyclemlp.ops.backends import AUTO_ORDER, shift_gemm, triton_gemm

from .conftest import REPO
from .oracles import cycle_fc_oracle
from .test_cycle_fc import KERNELS, SHAPES

# More of everything than a block of the interpreter's configuration, in odd numbers, and no channels at all.
SEVERAL_BLOCKS = [(2, 7, 9, 37, 21), (1, 3, 34, 20, 40), (1, 2, 3, 0, 4), (1, 2, 3, 4, 0)]
OPERATORS = torch.ops.mmcyclemlp


@pytest.fixture
def device(monkeypatch):
    name = 'cuda' if torch.cuda.is_available() else 'cpu'
    reason = triton_gemm.unsupported_reason(torch.zeros(1, 1, 1, 1, device=name), None, None, (1, 3))
    if reason is not None:
        pytest.skip(reason)
    if name == 'cuda':
        # Each is compiled for every kind of size, which takes seconds; test_every_configuration runs them all.
        from mmcyclemlp.ops.backends import triton_kernels
        for tuned in ('forward_tuned', 'grad_input_tuned', 'grad_weight_tuned'):
            tuner = getattr(triton_kernels, tuned)
            monkeypatch.setattr(tuner, 'configs', [tuner.configs[0], tuner.configs[-1]])
    return name


def make(shape, device, dtype=torch.float32):
    """x, weight, bias and a gradient of y, drawn on the CPU so that every device gets the same."""
    batch, height, width, c_in, c_out = shape
    shapes = (batch, height, width, c_in), (c_out, c_in), (c_out, ), (batch, height, width, c_out)
    return [torch.randn(s).to(device, dtype) for s in shapes]


def gradients(operator, inputs, grad):
    """Output and gradients of x, weight and bias."""
    leaves = [t.detach().requires_grad_() for t in inputs]
    out = operator(*leaves)
    return [out.detach(), *torch.autograd.grad(out, leaves, grad)]


def triton_form(kernel):
    return lambda x, weight, bias: cycle_fc(x, weight, bias, kernel, 'triton')


def shift_form(kernel):
    return lambda x, weight, bias: cycle_fc(x, weight, bias, kernel, 'shift_gemm')


def assert_float32_of(actual, exact):
    """A float32 sum in another order: about 1e-6 of the largest value."""
    for got, expected in zip(actual, exact):
        assert got.dtype == torch.float32 and got.shape == expected.shape
        atol = 4e-6 * max([1., *expected.abs().flatten().tolist()])
        torch.testing.assert_close(got.double(), expected, rtol=0, atol=atol)


@pytest.mark.parametrize('kernel', KERNELS, ids=str)
@pytest.mark.parametrize('shape', SEVERAL_BLOCKS, ids=str)
def test_output_matches_oracle(device, kernel, shape):
    x, weight, bias, _ = make(shape, device)
    for b in (bias, None):
        out = cycle_fc(x, weight, b, kernel, 'triton')
        expected = cycle_fc_oracle(x.cpu(), weight.cpu(), None if b is None else b.cpu(), kernel).to(device)
        assert_float32_of([out], [expected])


@pytest.mark.parametrize('kernel', KERNELS, ids=str)
@pytest.mark.parametrize('shape', SHAPES + SEVERAL_BLOCKS, ids=str)
def test_gradients_match_float64(device, kernel, shape):
    *inputs, grad = make(shape, device)
    exact = gradients(shift_form(kernel), [t.double() for t in inputs], grad.double())
    assert_float32_of(gradients(triton_form(kernel), inputs, grad), exact)


@pytest.mark.parametrize('operator', ['forward', 'grad_input', 'grad_weight'])
@pytest.mark.parametrize('kernel', [(3, 1), (1, 5)], ids=str)
def test_every_configuration(device, monkeypatch, operator, kernel):
    from triton import OutOfResources

    from mmcyclemlp.ops.backends import triton_kernels
    x, weight, bias, grad = make((2, 9, 8, 72, 150), device)  # 144 positions: two of the largest blocks
    out, grad_x, grad_weight, _ = gradients(shift_form(kernel), [t.double() for t in (x, weight, bias)], grad.double())
    arguments, exact = dict(forward=((x, weight, bias), out), grad_input=((grad, weight), grad_x),
                            grad_weight=((grad, x), grad_weight))[operator]
    for config in getattr(triton_kernels, operator.upper()):
        monkeypatch.setattr(getattr(triton_kernels, f'{operator}_tuned'), 'configs', [config])
        print(config)  # shown with a failure
        try:
            assert_float32_of([getattr(triton_gemm, operator)(*arguments, list(kernel))], [exact])
        except OutOfResources:  # which the tuner passes over
            assert config is not getattr(triton_kernels, operator.upper())[-1]


@pytest.mark.parametrize('k, c, expected', [
    (3, 512, 9), (3, 100, 8), (3, 64, 4),
    (1, 512, 8),  # where nothing moves, both ways of reading are the same; the last one stays in any case
    (11, 512, 2), (11, 64, 1),  # too many reads to select from
])
def test_only_configurations_that_can_win_are_timed(device, k, c, expected):
    from mmcyclemlp.ops.backends.triton_kernels import FORWARD, _worth_timing
    configs = _worth_timing(FORWARD, dict(positions=50000, c_in=c, c_out=c), K=k, PRECISION='tf32')
    assert len(configs) == expected and configs[-1] is FORWARD[-1]


def test_weight_gradient_in_chunks(device, monkeypatch):
    from mmcyclemlp.ops.backends import triton_kernels
    monkeypatch.setattr(triton_kernels, 'SPLIT_FROM', 64)
    monkeypatch.setattr(triton_kernels, 'CHUNK_OF', 32)
    *inputs, grad = make((3, 6, 9, 12, 10), device)  # 162 positions: the chunks end within a line
    for kernel in ((5, 1), (1, 3)):
        exact = gradients(shift_form(kernel), [t.double() for t in inputs], grad.double())
        first, second = (gradients(triton_form(kernel), inputs, grad) for _ in range(2))
        assert_float32_of(first, exact)
        assert all(map(torch.equal, first, second))  # no order of summation is left to chance


@pytest.mark.parametrize('kernel', [(3, 1), (1, 7)], ids=str)
def test_wide_offsets(device, monkeypatch, kernel):
    from mmcyclemlp.ops.backends import triton_kernels
    *inputs, grad = make((2, 7, 9, 10, 6), device)
    narrow = gradients(triton_form(kernel), inputs, grad)
    monkeypatch.setattr(triton_kernels, 'INDEX_LIMIT', 0)
    torch.testing.assert_close(gradients(triton_form(kernel), inputs, grad), narrow)


@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs 20 GiB of GPU memory')
@pytest.mark.parametrize('kernel', [(3, 1), (1, 3)], ids=str)
def test_more_than_two_to_the_31_elements(device, kernel):
    if torch.cuda.mem_get_info()[0] < 20 * 2**30:
        pytest.skip('needs 20 GiB of free GPU memory')
    x = torch.randn(700, 224, 224, 64, device=device, dtype=torch.bfloat16)
    assert x.numel() > 2**31
    weight, bias = torch.randn(64, 64).to(x), torch.randn(64).to(x)
    out = cycle_fc(x, weight, bias, kernel, 'triton')
    torch.testing.assert_close(out[-1:], cycle_fc(x[-1:], weight, bias, kernel, 'shift_gemm'))
    grad_x = OPERATORS.cycle_fc_triton_grad_input(out, weight, kernel)
    torch.testing.assert_close(grad_x[-1:], OPERATORS.cycle_fc_triton_grad_input(out[-1:], weight, kernel))


def test_matches_the_original(device, reference, formula):
    names = sorted({key.rsplit('/', 1)[0] for key in reference if key.startswith('cyclefc-')})
    assert len(names) == 7
    for name in names:
        c_in, c_out, kernel, size = name.split('-')[1:]
        kernel, (height, width) = (tuple(map(int, pair.split('x'))) for pair in (kernel, size))
        weight = torch.from_numpy(formula.parameter(f'{name}.weight', (int(c_out), int(c_in), 1, 1)))[:, :, 0, 0]
        bias = torch.from_numpy(formula.parameter(f'{name}.bias', (int(c_out), )))
        x, grad = (torch.from_numpy(formula.tensor(f'{name}.{what}', (2, int(c), height, width))).permute(0, 2, 3, 1)
                   for what, c in (('input', c_in), ('grad', c_out)))
        got = gradients(triton_form(kernel), [t.to(device) for t in (x, weight, bias)], grad.to(device))
        out, grad_x, grad_weight, grad_bias = (
            torch.from_numpy(reference[f'{name}/{key}']).to(device).double()
            for key in ('output', 'grad_input', 'grad_weight', 'grad_bias'))
        out, grad_x = (t.permute(0, 2, 3, 1) for t in (out, grad_x))
        assert_float32_of(got, [out, grad_x, grad_weight[:, :, 0, 0], grad_bias])


@pytest.mark.parametrize('kernel', [(1, 3), (5, 1)], ids=str)
def test_gradients_up_to_the_third_order(device, kernel):

    def chain(operator, dtype):
        torch.manual_seed(1)
        *inputs, _ = make((2, 4, 3, 7, 5), device, dtype)
        leaves = [t.mul_(0.3).requires_grad_() for t in inputs]
        values = [operator(*leaves).pow(3).sum()]
        for _ in range(3):
            grads = torch.autograd.grad(values[-1], leaves, create_graph=True)
            values += grads
            values.append(sum((g * torch.randn(g.shape).to(g)).sum() for g in grads))
        return [v.detach() for v in values]

    for got, expected in zip(chain(triton_form(kernel), torch.float32), chain(shift_form(kernel), torch.float64)):
        # Errors of each order enter the next.
        torch.testing.assert_close(got.double(), expected, rtol=0, atol=2e-5 * max(1., expected.abs().max().item()))


def test_saves_the_operands_and_nothing_else(device):
    x, weight, bias, _ = make((1, 3, 4, 8, 6), device)

    def saved(*trained):
        tensors = []
        for t in (x, weight, bias):
            t.requires_grad_(any(t is other for other in trained))
        with torch.autograd.graph.saved_tensors_hooks(lambda t: (tensors.append(t.data_ptr()), t)[1], lambda t: t):
            cycle_fc(x, weight, bias, (1, 3), 'triton')
        return set(tensors)

    assert saved(x, weight, bias) == {x.data_ptr(), weight.data_ptr()}
    assert saved(x) == {weight.data_ptr()}  # as a plain linear layer: a frozen weight needs no x
    assert saved(weight, bias) == {x.data_ptr()}
    assert saved(bias) == set()


def test_memory_layout_does_not_matter(device):
    x, weight, bias, grad = make((2, 6, 5, 8, 4), device)
    expected = gradients(triton_form((1, 3)), (x, weight, bias), grad)
    layouts = [
        (x.permute(0, 3, 1, 2).contiguous().permute(0, 2, 3, 1), weight, bias, grad),
        (torch.cat([x, x], 3)[..., :8], torch.cat([weight, weight], 1)[:, :8], bias.repeat_interleave(2)[::2], grad),
        (x, weight.t().contiguous().t(), bias, grad.permute(0, 3, 1, 2).contiguous().permute(0, 2, 3, 1)),
    ]
    for *inputs, g in layouts:
        torch.testing.assert_close(gradients(triton_form((1, 3)), inputs, g), expected)
    # The gradient of a sum is one number, expanded.
    leaf = x.clone().requires_grad_()
    cycle_fc(leaf, weight, bias, (1, 3), 'triton').sum().backward()
    torch.testing.assert_close(leaf.grad, gradients(shift_form((1, 3)), (x, weight, bias), torch.ones_like(grad))[1])


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize('kernel', [(3, 1), (1, 5)], ids=str)
def test_half_precision(device, dtype, kernel):
    *inputs, grad = make((2, 5, 6, 40, 24), device, dtype)
    exact = gradients(shift_form(kernel), [t.double() for t in inputs], grad.double())
    own = gradients(shift_form(kernel), inputs, grad)
    for got, low, high in zip(gradients(triton_form(kernel), inputs, grad), own, exact):
        assert got.dtype == dtype
        # The round-off of the same function by PyTorch's own product in this dtype is the yardstick.
        assert (got.double() - high).abs().max() <= 2 * (low.double() - high).abs().max()


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16], ids=str)
def test_autocast(device, dtype):
    x, weight, bias, grad = make((2, 3, 4, 12, 8), device)
    leaves = [x.requires_grad_(), weight.requires_grad_(), bias.to(dtype).requires_grad_()]
    with torch.autocast(device, dtype=dtype):
        out = cycle_fc(*leaves, (1, 3), 'triton')
        assert out.dtype == dtype
        out.backward(grad.to(dtype))
    assert [t.grad.dtype for t in leaves] == [torch.float32, torch.float32, dtype]
    expected = gradients(triton_form((1, 3)), [t.to(dtype) for t in leaves], grad.to(dtype))
    for got, value in zip([out, *(t.grad for t in leaves)], expected):
        assert torch.equal(got, value.to(got.dtype))


def test_tf32_follows_the_setting_of_pytorch(device):
    from mmcyclemlp.ops.backends.triton_kernels import _problem
    x = torch.zeros(1, 2, 2, 4, device=device)
    before = torch.get_float32_matmul_precision()
    try:
        for setting, precision in (('high', 'tf32'), ('highest', 'ieee')):
            torch.set_float32_matmul_precision(setting)
            assert _problem(x, 4, 4, [1, 3])[1]['PRECISION'] == precision
    finally:
        torch.set_float32_matmul_precision(before)


class Layer(torch.nn.Module):

    def forward(self, x, weight, bias):
        return cycle_fc(x, weight, bias, (1, 3), 'triton') + cycle_fc(x, weight, None, (5, 1), 'triton')


@pytest.mark.parametrize('dynamic', [False, True])
def test_compile_without_a_graph_break(device, dynamic):
    compiled = torch.compile(Layer(), backend='aot_eager', fullgraph=True, dynamic=dynamic)
    for shape in ((2, 5, 7, 8, 6), (3, 2, 9, 8, 6)):
        *inputs, grad = make(shape, device)
        torch.testing.assert_close(gradients(compiled, inputs, grad), gradients(Layer(), inputs, grad))


def test_compile_under_autocast(device):
    *inputs, _ = make((2, 5, 7, 8, 6), device)
    compiled = torch.compile(Layer(), backend='aot_eager', fullgraph=True, dynamic=False)
    with torch.autocast(device, dtype=torch.bfloat16):
        assert torch.equal(compiled(*inputs), Layer()(*inputs))


def test_export(device):
    from torch.export import Dim, export
    *first, _ = make((2, 5, 7, 8, 6), device)
    *second, _ = make((3, 2, 9, 8, 6), device)
    dims = {0: Dim.DYNAMIC, 1: Dim.DYNAMIC, 2: Dim.DYNAMIC}
    program = export(Layer(), tuple(first), dynamic_shapes=(dims, None, None))
    assert torch.equal(program.module()(*second), Layer()(*second))
    assert 'mmcyclemlp.cycle_fc_triton' in str(program.graph)


def test_operators_keep_pytorchs_rules(device):
    x, weight, bias, grad = (t.requires_grad_() for t in make((2, 3, 4, 5, 3), device))
    opcheck(OPERATORS.cycle_fc_triton, (x, weight, bias, [1, 3]))
    opcheck(OPERATORS.cycle_fc_triton, (x, weight, None, [3, 1]))
    opcheck(OPERATORS.cycle_fc_triton_grad_input, (grad, weight, [1, 3]))
    opcheck(OPERATORS.cycle_fc_triton_grad_weight, (grad, x, [3, 1]))


def test_inference_mode(device):
    x, weight, bias, _ = make((1, 3, 4, 8, 6), device)
    with torch.inference_mode():
        torch.testing.assert_close(triton_form((1, 3))(x, weight, bias), shift_form((1, 3))(x, weight, bias))


def test_auto_takes_triton_on_a_gpu_only(device, monkeypatch):
    # The interpreter could run there, but thousands of times slower than PyTorch.
    assert AUTO_ORDER[0] == ('shift_gemm' if triton_gemm.INTERPRETED else 'triton')
    calls = []
    monkeypatch.setattr(triton_gemm, 'cycle_fc', lambda *args: calls.append('triton'))
    monkeypatch.setattr(shift_gemm, 'cycle_fc', lambda *args: calls.append('shift_gemm'))
    *inputs, _ = make((1, 2, 2, 4, 4), device)
    cycle_fc(*inputs, (1, 3))
    with use_backend('triton'):
        cycle_fc(*inputs, (1, 3))
    assert calls == ['triton' if device == 'cuda' else 'shift_gemm', 'triton']


def test_says_why_it_cannot(monkeypatch):
    *inputs, _ = make((1, 2, 2, 4, 4), 'cpu')
    monkeypatch.setattr(triton_gemm, 'INTERPRETED', False)
    with pytest.raises(ValueError, match="'triton' cannot compute this call: x is on cpu .* run on CUDA devices"):
        cycle_fc(*inputs, (1, 3), 'triton')
    monkeypatch.setattr(triton_gemm, 'INTERPRETED', True)
    with pytest.raises(ValueError, match='float32, float16 and bfloat16, not torch.float64'):
        cycle_fc(*(t.double() for t in inputs), (1, 3), 'triton')
    monkeypatch.setattr(torch.cuda, 'get_device_properties', lambda device: SimpleNamespace(major=7, minor=5))
    turing = SimpleNamespace(device=torch.device('cuda', 0), dtype=torch.float16)
    assert 'cuda:0 has 7.5' in triton_gemm.unsupported_reason(turing, None, None, (1, 3))
    monkeypatch.setattr(triton_gemm, 'INSTALLED', False)
    with pytest.raises(ValueError, match='Triton is not installed; run `pip install triton`'):
        cycle_fc(*inputs, (1, 3), 'triton')


def run_python(*arguments, **environment):
    process = subprocess.run([sys.executable, *arguments], cwd=REPO, env={**os.environ, **environment},
                             capture_output=True, text=True)
    assert process.returncode == 0, process.stdout + process.stderr
    return process.stdout


def test_runs_without_triton():
    run_python('-c', '''if True:
        import sys
        sys.modules['triton'] = None  # an ImportError for whoever imports it
        import torch
        from mmcyclemlp.ops import cycle_fc
        from mmcyclemlp.ops.backends import triton_gemm
        x, weight = torch.ones(1, 2, 2, 4), torch.eye(4)
        assert cycle_fc(x, weight, None, (1, 3)).shape == x.shape
        assert 'not installed' in triton_gemm.unsupported_reason(x, weight, None, (1, 3))
    ''', TRITON_INTERPRET='0')


def test_kernels_compile(tmp_path):
    pytest.importorskip('triton.backends.nvidia')
    run_python('-m', 'tests.test_triton', TRITON_INTERPRET='0', TRITON_CACHE_DIR=str(tmp_path))


def test_the_tuner_chooses(device, monkeypatch):
    from mmcyclemlp.ops.backends import triton_kernels
    *inputs, grad = make((2, 3, 4, 20, 24), device)
    exact = gradients(shift_form((1, 3)), [t.double() for t in inputs], grad.double())
    for name in ('FORWARD', 'GRAD_INPUT', 'GRAD_WEIGHT'):
        tuned = getattr(triton_kernels, f'{name.lower()}_tuned')
        monkeypatch.setattr(tuned, 'configs', getattr(triton_kernels, name))
        monkeypatch.setattr(tuned, 'cache', {})
        # A stopwatch that likes the last one, for the interpreter has none.
        ticks = iter(range(100, 0, -1))
        monkeypatch.setattr(tuned, '_do_bench', lambda call, quantiles, ticks=ticks: (call(), [next(ticks)] * 3)[1])
    assert_float32_of(gradients(triton_form((1, 3)), inputs, grad), exact)
    for name in ('FORWARD', 'GRAD_INPUT', 'GRAD_WEIGHT'):
        assert getattr(triton_kernels, f'{name.lower()}_tuned').best_config is getattr(triton_kernels, name)[-1]


class GPU:
    """What Triton's compiler asks of a device that it compiles for."""

    def __init__(self, capability):
        from triton.backends.compiler import GPUTarget
        # Triton keeps compiled kernels by device, so each kind needs a number of its own.
        self.get_current_device = lambda: capability
        self.get_current_target = lambda: GPUTarget('cuda', capability, 32)
        self.get_current_stream = lambda device: 0


def compile_kernels():
    """Compile kernels as launches would, and see that they use the tensor cores and wide, asynchronous reads."""
    from triton.runtime.driver import driver

    from mmcyclemlp.ops.backends import triton_kernels as kernels

    def code(capability, dtype, kernel_size, channels, biased, which, **meta):
        driver.set_active(GPU(capability))
        x, weight, bias, y = make((2, 5, 7, *channels), 'cpu', dtype)
        sizes, problem = kernels._problem(x, *weight.shape, kernel_size)
        for kernel, configs, arguments in (
            (kernels.forward_kernel, kernels.FORWARD, (x, weight, bias if biased else None, y, *sizes)),
            (kernels.grad_input_kernel, kernels.GRAD_INPUT, (y, weight, x, *sizes)),
            (kernels.grad_weight_kernel, kernels.GRAD_WEIGHT, (y, x, weight.float(), *sizes, 128)),
        ):
            compiled = kernel.warmup(*arguments, grid=(1, ), **problem | meta, **configs[which].all_kwargs())
            print(kernel.__name__, capability, dtype, 'compiled')
            yield compiled.asm['ptx']

    for ptx in code(90, torch.bfloat16, [1, 3], (64, 128), True, which=0):
        assert 'wgmma.mma_async' in ptx and 'cp.async.cg.shared.global' in ptx
    for ptx in code(80, torch.float32, [3, 1], (96, 96), False, which=0, PRECISION='tf32'):
        assert 'mma.sync' in ptx and '.tf32' in ptx and 'cp.async.cg.shared.global' in ptx
    # Odd and single channels, which are no multiples and which Triton takes for constants; 64-bit offsets.
    for channels, dtype in (((1, 7), torch.float16), ((5, 1), torch.float32)):
        all(code(80, dtype, [1, 5], channels, True, which=-1, INDEX=kernels.tl.int64))


if __name__ == '__main__':
    compile_kernels()
