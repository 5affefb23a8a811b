"""The Triton kernel on a GPU, or in Triton's interpreter where there is none (see conftest.py).

The interpreter runs the kernel's Python, not what the compiler makes of it, so it is also compiled here, which needs no
GPU: ``python -m tests.test_triton`` compiles, the tests run the rest.
"""

import os
import subprocess
import sys

import pytest
import torch
from torch.library import opcheck

from mmcyclemlp.ops import cycle_fc, use_shift
from mmcyclemlp.ops.shift import _numbers, gathering, shifting, triton_reason

from .helpers import REPO

triton = pytest.importorskip('triton')
ON_GPU = torch.cuda.is_available()
DEVICE = 'cuda' if ON_GPU else 'cpu'
# (B, H, W, C). The interpreter takes some 10 ms a row.
SHAPES = [(2, 2, 5, 7), (1, 3, 1, 12), (0, 4, 5, 6), (1, 2, 3, 0), (1, 1, 40, 2)]
WIDE = (1, 1, 34, 150)  # several blocks of positions and of columns


def movements(channels, k):
    return [shifting(channels, (1, k)), shifting(channels, (k, 1)), gathering(channels, k)]


def by(way, function, *inputs):
    with use_shift(way):
        return function(*inputs)


@pytest.mark.parametrize('k', [3, 5])
@pytest.mark.parametrize('shape', SHAPES, ids=str)
def test_moves_as_the_copies_do(shape, k):
    x = torch.randn(shape).to(DEVICE)
    for movement in movements(shape[3], k):
        out = by('triton', movement, x)
        assert torch.equal(out, by('copy', movement, x)) and out.is_contiguous()
        grad = torch.randn_like(out)
        torch.testing.assert_close(by('triton', movement.adjoint, grad), by('copy', movement.adjoint, grad))


@pytest.mark.parametrize('k', [1, 3, 9])
def test_several_blocks(k):
    x = torch.randn(WIDE).to(DEVICE)
    for movement in movements(WIDE[3], k):
        assert torch.equal(by('triton', movement, x), by('copy', movement, x))


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16, torch.float64], ids=str)
def test_any_dtype(dtype):
    x = torch.randn(1, 2, 4, 7).to(DEVICE, dtype)
    for movement in movements(7, 3):
        out = by('triton', movement, x)
        assert torch.equal(out, by('copy', movement, x))  # nothing is computed
        exact = by('copy', movement.adjoint, out.double())
        # Up to three terms are added, and rounded once.
        torch.testing.assert_close(
            by('triton', movement.adjoint, out).double(), exact, rtol=torch.finfo(dtype).eps, atol=0
        )


def test_memory_layout_does_not_matter():
    x = torch.randn(1, 2, 4, 6).to(DEVICE)
    layout = x.permute(0, 3, 1, 2).contiguous().permute(0, 2, 3, 1)
    assert torch.equal(by('triton', shifting(6, (1, 3)), layout), by('copy', shifting(6, (1, 3)), x))


@pytest.mark.cuda
@pytest.mark.skipif(not ON_GPU, reason='needs 20 GiB of GPU memory')
@pytest.mark.parametrize('kernel', [(3, 1), (1, 3)], ids=str)
def test_more_than_two_to_the_31_elements(kernel):
    if torch.cuda.mem_get_info()[0] < 20 * 2**30:
        pytest.skip('needs 20 GiB of free GPU memory')
    x = torch.randn(700, 224, 224, 64, device=DEVICE, dtype=torch.bfloat16)
    assert x.numel() > 2**31
    movement = shifting(64, kernel)
    assert torch.equal(by('triton', movement, x)[-1:], by('copy', movement, x[-1:]))


@pytest.mark.parametrize('kernel', [(1, 3), (5, 1)], ids=str)
def test_gradients_of_the_layer_up_to_the_third_order(kernel):

    def chain(way, dtype):
        torch.manual_seed(1)
        shapes = (1, 2, 3, 7), (5, 7), (5,)
        leaves = [torch.randn(s).to(DEVICE, dtype).mul_(0.3).requires_grad_() for s in shapes]
        with use_shift(way):
            values = [cycle_fc(*leaves, kernel).pow(3).sum()]
            for _ in range(3):
                grads = torch.autograd.grad(values[-1], leaves, create_graph=True)
                values += grads
                values.append(sum((g * torch.randn(g.shape).to(g)).sum() for g in grads))
        return [v.detach() for v in values]

    for got, expected in zip(chain('triton', torch.float32), chain('copy', torch.float64)):
        # Errors of each order enter the next.
        torch.testing.assert_close(got.double(), expected, rtol=0, atol=2e-5 * max(1.0, expected.abs().max().item()))


def test_operator_keeps_pytorchs_rules():
    for movement in movements(5, 3):
        x = torch.randn(1, 2, 2, 5, device=DEVICE, requires_grad=True)
        opcheck(torch.ops.mmcyclemlp.move, (x, movement.columns, _numbers(movement), False))
    gathered = torch.randn(1, 2, 2, movement.columns, device=DEVICE, requires_grad=True)
    opcheck(torch.ops.mmcyclemlp.move, (gathered, 5, _numbers(movement), True))


def test_graphs_hold_an_expression_that_a_compiler_can_fuse():

    class Layer(torch.nn.Module):
        def forward(self, x, weight):
            return cycle_fc(x, weight, None, (1, 3))

    inputs = torch.randn(1, 2, 4, 6, device=DEVICE), torch.randn(5, 6, device=DEVICE)
    graphs = []
    with use_shift('triton'):
        exported = torch.export.export(Layer(), inputs)
        backend = lambda module, _: graphs.append(str(module.graph)) or module  # noqa: E731
        compiled = torch.compile(Layer(), backend=backend, fullgraph=True)(*inputs)
    assert not any(name in str(exported.graph) for name in ('mmcyclemlp', 'where'))  # other runtimes are slow at where
    assert 'mmcyclemlp' not in graphs[0] and 'where' in graphs[0]
    torch.testing.assert_close(exported.module()(*inputs), compiled)
    torch.testing.assert_close(compiled, cycle_fc(*inputs, None, (1, 3)))


@pytest.mark.cuda
@pytest.mark.skipif(not ON_GPU, reason='needs a GPU')
def test_a_gpu_takes_the_kernel(monkeypatch):
    from mmcyclemlp.ops import shift_triton

    calls, move = [], shift_triton.move
    monkeypatch.setattr(shift_triton, 'move', lambda *args: calls.append(args) or move(*args))
    shifting(6, (1, 3))(torch.randn(1, 2, 4, 6, device=DEVICE))
    assert len(calls) == 1


def test_says_why_it_cannot(monkeypatch):
    gpu = torch.device('cuda', 0)
    monkeypatch.setattr(torch.cuda, 'get_device_capability', lambda device: (6, 1))
    assert 'capability 7.0 or later, and cuda:0 has less' in triton_reason(gpu)
    monkeypatch.setattr(torch.cuda, 'get_device_capability', lambda device: (9, 0))
    assert triton_reason(gpu) is None


def run_python(*arguments, **environment):
    process = subprocess.run(
        [sys.executable, *arguments], cwd=REPO, env={**os.environ, **environment}, capture_output=True, text=True
    )
    assert process.returncode == 0, process.stdout + process.stderr
    return process.stdout


@pytest.mark.slow
def test_kernel_compiles(tmp_path):
    pytest.importorskip('triton.backends.nvidia')
    run_python('-m', 'tests.test_triton', TRITON_INTERPRET='0', TRITON_CACHE_DIR=str(tmp_path))


class GPU:
    """What Triton's compiler asks of a device that it compiles for."""

    def __init__(self, capability):
        from triton.backends.compiler import GPUTarget

        # Triton keeps compiled kernels by device, so each kind needs a number of its own.
        self.get_current_device = lambda: capability
        self.get_current_target = lambda: GPUTarget('cuda', capability, 32)
        self.get_current_stream = lambda device: 0


def compile_kernel():
    """Compile the kernel as launches would, for old and new devices, all dtypes, one term and three."""
    from triton.runtime.driver import driver

    from mmcyclemlp.ops.shift_triton import move_kernel

    table = torch.zeros(3, 3, 64, dtype=torch.int32)
    for capability, dtype, terms in (
        (90, torch.bfloat16, 1),
        (90, torch.bfloat16, 3),
        (75, torch.float16, 3),
        (80, torch.float32, 1),
        (80, torch.float64, 3),
    ):
        driver.set_active(GPU(capability))
        x = torch.zeros(2, 5, 7, 64, dtype=dtype)
        compiled = move_kernel.warmup(x, x, table, 5, 7, 64, 64, TERMS=terms, BLOCK_W=8, BLOCK_C=64, grid=(1,))
        assert 'st.global' in compiled.asm['ptx']


if __name__ == '__main__':
    compile_kernel()
