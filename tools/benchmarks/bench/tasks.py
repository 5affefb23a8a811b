"""What networks, blocks and layers are asked to do: inference, a training step, forward and backward."""

from datetime import datetime, timezone
from functools import partial
from typing import Callable, Dict, Iterable, List, Optional, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmcyclemlp.flops import count_macs

from .measuring import DTYPES, Candidate, Expected, Settings
from .rows import Row, commit, device_name, versions

RATE_SIZES = {'cpu': 1024, 'cuda': 8192}
Run = Callable[[Tensor], Tensor]  # a model, or its compiled form


class Task:
    """A model's forward pass on float32 x ``[B, ...]`` in a dtype, with its backward pass in training.

    With ``labels [B]``, training is cross entropy and an AdamW step; without, the output has the shape of x, its
    gradient is fixed noise, and x gets one too. If ``mixed``, weights and x stay float32, under autocast; by default so
    in training and on a CPU, while inference on CUDA converts them.
    """

    def __init__(
        self,
        x: Tensor,
        dtype: torch.dtype,
        training: bool,
        labels: Optional[Tensor] = None,
        mixed: Optional[bool] = None,
    ):
        self.dtype, self.training, self.labels, self.device = dtype, training, labels, x.device
        self.mixed = dtype != torch.float32 and (training or x.device.type == 'cpu' if mixed is None else mixed)
        self.x = (x if self.mixed else x.to(dtype)).requires_grad_(training and labels is None)
        self.noise = noise_of(x.shape, x.device, 1) / x.numel() ** 0.5 if self.x.requires_grad else None

    def row(self, settings: Settings, suite: str, case: str, mode: str = 'eager', kernel: str = '') -> Row:
        """What the rows of a group at this task share; the candidate is left open."""
        words = ('forward', 'forward+backward') if self.labels is None else ('inference', 'training step')
        return Row(
            datetime.now(timezone.utc).strftime('%Y-%m-%d'),
            suite,
            case,
            'x'.join(map(str, self.x.shape)),
            kernel,
            words[self.training],
            mode,
            settings.dtype + '-amp' * self.mixed,
            device_name(self.device),
            self.device.type,
            settings.threads,
            '',
            len(self.x),
            commit=commit(),
            versions=versions(),
        )

    def prepare(self, model: nn.Module) -> nn.Module:
        """Put a model on the device, in the mode and dtype of the task."""
        return model.to(self.device, self.x.dtype).train(self.training)

    def forward(self, run: Run, x: Optional[Tensor] = None) -> Tensor:
        """Output as the task runs it; in float64 where x is."""
        x = self.x if x is None else x
        with torch.autocast(self.device.type, self.dtype, enabled=self.mixed and x.dtype != torch.float64):
            return run(x)

    def backward(self, out: Tensor) -> None:
        """Gradients of the task's loss."""
        if self.labels is None:
            out.backward(self.noise.to(out.dtype))
        else:
            F.cross_entropy(out if out.dtype == torch.float64 else out.float(), self.labels).backward()

    def call(self, model: nn.Module, run: Run) -> Callable[[], object]:
        """What is timed."""
        if not self.training:
            return torch.inference_mode()(lambda: self.forward(run))
        if self.labels is None:
            leaves, noise = [self.x, *model.parameters()], self.noise.to(self.dtype)
            return lambda: torch.autograd.grad(self.forward(run), leaves, noise)
        # A rate so small that the weights stay what they were.
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-9, fused=True)

        def step() -> None:
            self.backward(self.forward(run))
            optimizer.step()
            model.zero_grad(set_to_none=True)

        return step

    def tensors(self, model: nn.Module, run: Run, dtype: Optional[torch.dtype] = None) -> List[Tensor]:
        """What candidates must agree on: the output, and in training the gradient of every parameter and of x."""
        x = self.x.detach().to(dtype or self.x.dtype)
        if not self.training:
            with torch.inference_mode():
                return [self.forward(run, x)]
        model.zero_grad(set_to_none=True)
        out = self.forward(run, x.requires_grad_(self.x.requires_grad))
        self.backward(out)
        grads = [leaf.grad for leaf in [*model.parameters(), x] if leaf.requires_grad]
        model.zero_grad(set_to_none=True)
        return [out.detach(), *grads]

    def expected(self, reference: nn.Module) -> Expected:
        """From the definition in float64 and as this task runs it."""
        same_dtype = self.tensors(self.prepare(reference), reference)
        return Expected(self.tensors(reference.double(), reference, torch.float64), same_dtype, self.dtype)

    def candidate(
        self,
        name: str,
        model: nn.Module,
        expected: Optional[Expected] = None,
        compiled: bool = False,
        counted: bool = True,
        may_fail: bool = False,
    ) -> Candidate:
        """A model as a candidate at this task.

        It is checked against ``expected`` where it is one of the same function. Its arithmetic is ``counted`` where
        PyTorch knows its operators, by the rule that a backward pass takes that of two forward passes.
        """
        model = self.prepare(model)
        run = torch.compile(model, dynamic=False) if compiled else model
        return Candidate(
            name,
            call=self.call(model, run),
            check=None if expected is None else lambda: expected.check(self.tensors(model, run)),
            saved=partial(saved_bytes, lambda: self.forward(run), list(model.parameters())) if self.training else None,
            gflop=(lambda: gflop_of(lambda: self.forward(model)) * (3 if self.training else 1)) if counted else None,
            may_fail=may_fail,
        )


def image_task(settings: Settings, batch: int, side: int, training: bool) -> Task:
    """Classifying random images."""
    labels = torch.randint(1000, (batch,), generator=torch.Generator().manual_seed(0)).to(settings.device)
    return Task(noise_of((batch, 3, side, side), settings.device), DTYPES[settings.dtype], training, labels)


def saved_bytes(forward: Callable[[], object], parameters: Iterable[Tensor]) -> int:
    """Bytes that a forward pass keeps for the backward pass, each storage once, parameters left out."""
    storages: Dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor.detach()  # alive with the graph, so no address is used twice, but not holding the graph

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        output = forward()
    del output
    own = {parameter.untyped_storage().data_ptr() for parameter in parameters}
    return sum(size for address, size in storages.items() if address not in own)


def gflop_of(call: Callable[[], object]) -> float:
    """Arithmetic of a call in 10^9, a multiply-add as two; CycleMLP's is that of its definition."""
    return 2e-9 * count_macs(call)['Global']


def noise_of(shape: Tuple[int, ...], device: torch.device, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(device)


def machine_rates(dtype: torch.dtype, device: torch.device) -> List[Candidate]:
    """Products of two square matrices: the rate that a network's is a share of, the first by the fastest library."""
    size = RATE_SIZES[device.type]
    a, b = (noise_of((size, size), device, seed).to(dtype) for seed in (0, 1))
    by = {'product, cuBLAS' if device.type == 'cuda' else 'product, oneDNN': lambda: a @ b}
    if device.type == 'cpu' and dtype == torch.float32:  # which PyTorch gives to MKL
        by['product, MKL'] = by['product, oneDNN']
        image, kernel = a.view(1, size // 32, 32, size).permute(0, 3, 1, 2), b[:, :, None, None]
        by['product, oneDNN'] = lambda: F.conv2d(image, kernel, dilation=2)  # undilated it may be MKL's, too
        if hasattr(torch.ops.mkldnn, '_linear_pointwise'):
            by['product, oneDNN'] = lambda: torch.ops.mkldnn._linear_pointwise(a, b, None, 'none', [], 'none')
    return [
        Candidate(name, call=torch.inference_mode()(call), gflop=lambda: 2e-9 * size**3, images=False)
        for name, call in by.items()
    ]
