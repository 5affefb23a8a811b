"""What networks, blocks and layers are asked to do: inference, a training step, forward and backward."""
from contextlib import nullcontext
from functools import partial
from typing import Callable, ContextManager, List, Optional, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .measuring import Candidate, Expected, check, expect
from .memory import gflop_of, saved_bytes

RATE_SIZES = {'cpu': 1024, 'cuda': 8192}
CHUNK = 16  # images at once where a reference is computed: float64 takes room


class Task:
    """A model's task on one batch.

    Args:
        x (Tensor): float32 input, batch first.
        dtype (torch.dtype): what it computes in.
        training (bool): forward and backward, or the forward pass alone.
        labels (Tensor, optional): class of each image, for cross entropy and an AdamW step. Without them the
            output has the input's shape, its gradient is fixed noise, and the input gets one too.
        mixed (bool, optional): whether weights and input stay float32, under autocast. By default so in training and
            on a CPU; inference on CUDA converts them.
    """

    def __init__(self, x: Tensor, dtype: torch.dtype, training: bool, labels: Optional[Tensor] = None,
                 mixed: Optional[bool] = None):
        self.dtype, self.training, self.labels, self.device = dtype, training, labels, x.device
        self.mixed = dtype != torch.float32 and (training or x.device.type == 'cpu' if mixed is None else mixed)
        self.x = (x if self.mixed else x.to(dtype)).requires_grad_(training and labels is None)
        if self.x.requires_grad:
            noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(1)) / x.numel()**0.5
            self.noise = noise.to(x.device, self.dtype if self.mixed else self.x.dtype)

    def prepare(self, model: nn.Module) -> nn.Module:
        """Put a model on the device, in the mode and dtype of the task."""
        return model.to(self.device, self.x.dtype).train(self.training)

    def autocast(self) -> ContextManager:
        """Mixed precision, or nothing."""
        return torch.autocast(self.device.type, self.dtype) if self.mixed else nullcontext()

    def forward(self, run: Callable[[Tensor], Tensor], x: Optional[Tensor] = None) -> Tensor:
        """Output as the task runs it; in float64 where x is."""
        x = self.x if x is None else x
        with nullcontext() if x.dtype == torch.float64 else self.autocast():
            return run(x)

    def backward(self, out: Tensor, part: slice = slice(None)) -> None:
        """Gradients for a part of the batch, whose loss is a share of the mean over the whole."""
        if self.labels is None:
            out.backward(self.noise[part].to(out.dtype))
        else:
            out = out if out.dtype == torch.float64 else out.float()
            (F.cross_entropy(out, self.labels[part], reduction='sum') / len(self.x)).backward()

    def call(self, model: nn.Module, run: Callable[[Tensor], Tensor]) -> Callable[[], object]:
        """What is timed; ``run`` is the model, or its compiled form."""
        if not self.training:
            return torch.inference_mode()(lambda: self.forward(run))
        if self.labels is None:
            leaves = [self.x, *model.parameters()]

            def both() -> object:
                out = self.forward(run)
                return torch.autograd.grad(out, leaves, self.noise.to(out.dtype))

            return both
        # A rate so small that the weights stay what they were.
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-9)

        def step() -> None:
            self.backward(self.forward(run))
            optimizer.step()
            model.zero_grad(set_to_none=True)

        return step

    def tensors(self, model: nn.Module, run: Callable[[Tensor], Tensor], chunk: Optional[int] = None,
                dtype: Optional[torch.dtype] = None) -> List[Tensor]:
        """What candidates must agree on: the output, and in training the gradient of every parameter and of x."""
        x = self.x.detach().to(dtype or self.x.dtype)
        parts = [slice(start, start + (chunk or len(x))) for start in range(0, len(x), chunk or len(x))]
        if not self.training:
            with torch.inference_mode():
                return [torch.cat([self.forward(run, x[part]) for part in parts])]
        model.zero_grad(set_to_none=True)
        x.requires_grad_(self.x.requires_grad)
        outs = []
        for part in parts:
            outs.append(self.forward(run, x[part]))
            self.backward(outs[-1], part)
        grads = [leaf.grad for leaf in [*model.parameters(), x] if leaf.requires_grad]
        model.zero_grad(set_to_none=True)
        return [torch.cat(outs).detach(), *grads]

    def expected(self, reference: nn.Module) -> Expected:
        """From the definition in float64 and as this task runs it."""
        reference, chunk = self.prepare(reference), CHUNK if self.labels is not None else None
        same_dtype = self.tensors(reference, reference, chunk)
        return expect(self.tensors(reference.double(), reference, chunk, torch.float64), same_dtype, self.dtype)

    def gflop(self, model: nn.Module) -> float:
        """Arithmetic of the task; that of training by the rule that a backward pass is two forward passes."""
        return gflop_of(lambda: self.forward(model)) * (3 if self.training else 1)

    def candidate(self, name: str, model: nn.Module, expected: Optional[Expected] = None, compiled: bool = False,
                  counted: bool = True, may_fail: bool = False) -> Candidate:
        """A model as a candidate at this task.

        It is checked against ``expected`` where it is one of the same function; its arithmetic is ``counted`` where
        PyTorch knows its operators.
        """
        model = self.prepare(model)
        run = torch.compile(model, dynamic=False) if compiled else model
        return Candidate(
            name,
            call=self.call(model, run),
            check=None if expected is None else lambda: check(self.tensors(model, run), expected),
            saved=partial(saved_bytes, lambda: self.forward(run), list(model.parameters())) if self.training else None,
            gflop=partial(self.gflop, model) if counted else None,
            may_fail=may_fail)


def images(batch: int, side: int, device: torch.device) -> Tuple[Tensor, Tensor]:
    """Random images ``[B, 3, side, side]`` and labels ``[B]``."""
    random = torch.Generator().manual_seed(0)
    return (torch.randn(batch, 3, side, side, generator=random).to(device),
            torch.randint(1000, (batch, ), generator=random).to(device))


def machine_rates(dtype: torch.dtype, device: torch.device) -> List[Candidate]:
    """Products of two square matrices: the rate that a network's is a share of, the first by the fastest library."""
    size = RATE_SIZES[device.type]
    a, b = (torch.randn(size, size, generator=torch.Generator().manual_seed(seed)).to(device, dtype) for seed in (0, 1))
    by = {'product, cuBLAS' if device.type == 'cuda' else 'product, oneDNN': lambda: a @ b}
    if device.type == 'cpu' and dtype == torch.float32:  # which PyTorch gives to MKL
        by['product, MKL'] = by['product, oneDNN']
        image, kernel = a.view(1, size // 32, 32, size).permute(0, 3, 1, 2), b[:, :, None, None]
        by['product, oneDNN'] = lambda: F.conv2d(image, kernel, dilation=2)  # undilated it may be MKL's, too
        if hasattr(torch.ops.mkldnn, '_linear_pointwise'):
            by['product, oneDNN'] = lambda: torch.ops.mkldnn._linear_pointwise(a, b, None, 'none', [], 'none')
    return [Candidate(name, call=torch.inference_mode()(call), gflop=lambda: 2e-9 * size**3, images=False)
            for name, call in by.items()]
