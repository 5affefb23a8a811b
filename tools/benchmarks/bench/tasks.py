"""What networks and blocks are asked to do: inference, a training step, forward and backward."""
from contextlib import nullcontext
from functools import partial
from typing import Callable, ContextManager, List, Optional, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .agreement import Expected, check, expect
from .groups import Rival
from .memory import saved_bytes
from .profile import gflop_of

CHUNK = 16  # images at once where a reference is computed: float64 takes room


def _infer(run: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    with torch.inference_mode():
        return run(x)


class Task:
    """A model's task on one batch.

    Args:
        x (Tensor): float32 input, batch first.
        dtype (torch.dtype): inference converts weights and input; training keeps float32 weights under autocast.
        training (bool): forward and backward, or the forward pass alone.
        labels (Tensor, optional): class of each image, for cross entropy and an AdamW step. Without them the
            output has the input's shape, and is multiplied by fixed noise.
    """

    def __init__(self, x: Tensor, dtype: torch.dtype, training: bool, labels: Optional[Tensor] = None):
        self.x, self.dtype, self.training, self.labels = x, dtype, training, labels
        self.noise: Optional[Tensor] = None

    def prepare(self, model: nn.Module) -> nn.Module:
        """Put a model on the device, in the mode and dtype of the task."""
        model = model.to(self.x.device).train(self.training)
        return model if self.training else model.to(self.dtype)

    def autocast(self) -> ContextManager:
        """Mixed precision for training in a reduced dtype."""
        if self.training and self.dtype != torch.float32:
            return torch.autocast(self.x.device.type, self.dtype)
        return nullcontext()

    def forward(self, model: Callable[[Tensor], Tensor], part: slice = slice(None), exact: bool = False) -> Tensor:
        """Output for a part of the batch, in float64 or as the task runs it."""
        if exact:
            return model(self.x[part].double())
        with self.autocast():
            return model(self.x[part] if self.training else self.x[part].to(self.dtype))

    def loss(self, out: Tensor, part: slice = slice(None)) -> Tensor:
        """Loss of a part of the batch, a share of the mean over the whole."""
        if self.labels is not None:
            out = out.float() if out.dtype != torch.float64 else out
            return F.cross_entropy(out, self.labels[part], reduction='sum') / len(self.x)
        if self.noise is None:
            random = torch.Generator().manual_seed(1)
            self.noise = torch.randn(self.x.shape, generator=random).to(self.x.device) / self.x.numel()**0.5
        return (out * self.noise[part].to(out.dtype)).sum()

    def call(self, model: nn.Module, run: Callable[[Tensor], Tensor]) -> Callable[[], object]:
        """What is timed; ``run`` is the model, or its compiled form."""
        if not self.training:
            return partial(_infer, run, self.x.to(self.dtype))
        # A rate so small that the weights stay what they were.
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-9) if self.labels is not None else None

        def step() -> None:
            self.loss(self.forward(run)).backward()
            if optimizer is not None:
                optimizer.step()
            self.clear(model)

        return step

    def clear(self, model: nn.Module) -> None:
        """Drop the gradients of the model and of the input."""
        model.zero_grad(set_to_none=True)
        self.x.grad = None

    def tensors(self, model: nn.Module, run: Callable[[Tensor], Tensor], chunk: Optional[int] = None,
                exact: bool = False) -> List[Tensor]:
        """What rivals must agree on: the output, and in training the gradient of every parameter, by name."""
        step = chunk or len(self.x)
        parts = [slice(start, start + step) for start in range(0, len(self.x), step)]
        if not self.training:
            with torch.inference_mode():
                return [torch.cat([self.forward(run, part, exact) for part in parts])]
        self.clear(model)
        outs = []
        for part in parts:
            out = self.forward(run, part, exact)
            self.loss(out, part).backward()
            outs.append(out.detach())
        grads = [parameter.grad for _, parameter in sorted(model.named_parameters())]
        self.clear(model)
        return [torch.cat(outs), *grads]

    def expected(self, reference: nn.Module) -> Expected:
        """From the reference form in float64 and as this task runs it."""
        reference = self.prepare(reference)
        same_dtype = self.tensors(reference, reference, CHUNK)
        reference = reference.double()
        return expect(self.tensors(reference, reference, CHUNK, exact=True), same_dtype, self.dtype)

    def gflop(self, model: nn.Module) -> float:
        """See :func:`gflop_of`; of the forward pass, with gradients on: without, ours takes operators of oneDNN."""
        return gflop_of(lambda: self.forward(model))

    def rival(self, name: str, model: nn.Module, expected: Optional[Expected], compiled: bool,
              may_fail: bool = False, counted: bool = False) -> Rival:
        """A model as a rival at this task.

        It is checked against ``expected`` where it is one of the same function; its arithmetic is ``counted`` where
        PyTorch knows its operators.
        """
        model = self.prepare(model)
        run = torch.compile(model, dynamic=False) if compiled else model
        return Rival(
            name,
            call=self.call(model, run),
            check=None if expected is None else lambda: check(self.tensors(model, run), expected),
            saved=partial(saved_bytes, lambda: self.forward(run), list(model.parameters())) if self.training else None,
            gflop=partial(self.gflop, model) if counted else None,
            may_fail=may_fail)


def images(batch: int, height: int, width: int, device: torch.device) -> Tuple[Tensor, Tensor]:
    """Random images ``[B, 3, H, W]`` and labels ``[B]``."""
    random = torch.Generator().manual_seed(0)
    return (torch.randn(batch, 3, height, width, generator=random).to(device),
            torch.randint(1000, (batch, ), generator=random).to(device))
