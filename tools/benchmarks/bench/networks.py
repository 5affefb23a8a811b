"""CycleMLP with its layers computed in several ways, and the networks it stands beside."""
from copy import deepcopy
from functools import cache, partial
from typing import Callable, Dict, List, Optional

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmcyclemlp.errors import MissingDependencyError
from mmcyclemlp.models import CycleFC, CycleMixer, CycleMLP
from mmcyclemlp.ops import cycle_fc, linear, naive, staircase_offsets, use_shift

Makers = Dict[str, Callable[[], nn.Module]]
NUM_CLASSES = 1000
# Convolutional networks are faster with channels last in memory.
NEIGHBOURS = ('resnet18 channels last', 'resnet50 channels last', 'poolformer_s12', 'pvt_v2_b1',
              'swin_tiny_patch4_window7_224', 'mixer_b16_224')


class Classifier(nn.Module):
    """A backbone under the linear head of the others: mean over positions, then 1000 classes."""

    def __init__(self, backbone: CycleMLP, channels: int):
        super().__init__()
        self.backbone = backbone
        self.head = nn.Linear(channels, NUM_CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.backbone(x)[-1].mean(dim=(2, 3)))  # [B, 3, H, W] -> [B, 1000]


class DefinedMixer(CycleMixer):
    """The mixer by its definition, which all others are checked against."""

    def forward(self, x: Tensor) -> Tensor:
        return naive.cycle_mix(x, self.weights(), self.kernel_size)


class OriginalMixer(CycleMixer):
    """The mixer as the authors' code computes it."""

    def forward(self, x: Tensor) -> Tensor:
        w, h, c = self.shift_w(x), self.shift_h(x), self.channel(x)
        mean = (w + h + c).permute(0, 3, 1, 2).flatten(2).mean(2)  # [B, C]
        a = self.reweight(mean).reshape(*mean.shape, 3).permute(2, 0, 1).softmax(dim=0)[:, :, None, None]
        return self.proj(w * a[0] + h * a[1] + c * a[2])


class OriginalFC(CycleFC):
    """CycleFC as the authors' code calls it: torchvision's deformable convolution, its offsets made once.

    It has no bfloat16 kernel, so it computes bfloat16 in float32, as it does by itself under autocast.
    """

    def forward(self, x: Tensor) -> Tensor:
        from torchvision.ops import deform_conv2d
        dtype = torch.float32 if x.dtype == torch.bfloat16 else x.dtype
        offset = _offset(self.in_channels, self.kernel_size, dtype, x.device)
        with torch.autocast(x.device.type, enabled=False):
            out = deform_conv2d(
                x.permute(0, 3, 1, 2).to(dtype),  # [B, C_in, H, W]
                offset.expand(len(x), -1, *x.shape[1:3]),
                self.weight[:, :, None, None].to(dtype),
                self.bias.to(dtype))
        return out.permute(0, 2, 3, 1).to(x.dtype)  # [B, H, W, C_out]


class PlainLinear(nn.Linear):
    """A linear layer by PyTorch's choice of library: our layers look for ``nn.Linear`` itself."""


@cache
@torch.inference_mode(False)
def _offset(channels: int, kernel_size: tuple, dtype: torch.dtype, device: torch.device) -> Tensor:
    pairs = torch.tensor(staircase_offsets(channels, kernel_size), dtype=dtype, device=device)
    return pairs.reshape(1, 2 * channels, 1, 1)


def recast(model: nn.Module, classes: Dict[type, type], backend: str = 'auto') -> nn.Module:
    """A copy of a model whose modules of some classes are of others, with the same parameters, and use a backend."""
    model = deepcopy(model)
    for module in model.modules():
        if hasattr(module, 'backend'):
            module.backend = backend
        module.__class__ = classes.get(type(module), type(module))
    return model


def layer_of(function: Callable[..., Tensor]) -> type:
    """CycleFC by another function of ``(x, weight, bias, kernel_size)``."""
    return type('FunctionFC', (CycleFC, ), dict(
        forward=lambda self, x: function(x, self.weight, self.bias, self.kernel_size)))


DEFINED = {CycleMixer: DefinedMixer, CycleFC: layer_of(naive.cycle_fc)}
ORIGINAL = {CycleMixer: OriginalMixer, CycleFC: OriginalFC, nn.Linear: PlainLinear}
LINEAR = {CycleFC: layer_of(lambda x, weight, bias, _: linear(x, weight, bias))}  # no shift at all: the limit
PLAIN = {CycleFC: layer_of(lambda x, weight, bias, _: F.linear(x, weight, bias))}  # by PyTorch's choice of library
COPIED = {CycleFC: layer_of(use_shift('copy')(cycle_fc))}  # strided copies, also on CUDA


def network_variants(model: nn.Module, name: str) -> Makers:
    """Candidate -> maker of a network or block with the same weights; ``-shift_gemm`` is by branches alone."""
    return {name: partial(recast, model, {}), f'{name}-shift_gemm': partial(recast, model, {}, 'shift_gemm'),
            f'{name}-linear': partial(recast, model, LINEAR),
            f'{name}-deform_conv': partial(recast, model, {}, 'deform_conv'),
            f'{name}-original': partial(recast, model, ORIGINAL)}


def layer_variants(layer: CycleFC, device: torch.device) -> Makers:
    """Candidate -> maker of one layer with the same weights."""
    makers: Makers = {name: partial(recast, layer, classes) for name, classes in (
        ('auto', {}), ('copy', COPIED), ('linear', PLAIN), ('linear-ours', LINEAR), ('torchvision', ORIGINAL))}
    makers.pop('linear-ours' if device.type == 'cuda' else 'copy')  # the same as the one before
    return {**makers, 'deform_conv': partial(recast, layer, {}, 'deform_conv')}


def randomise(model: nn.Module) -> nn.Module:
    """Weights that let every branch matter, so that a wrong one shows: std 1 / sqrt(fan in), biases and norms too.

    The initial values would hide much: small weights, no bias, and a softmax that is nearly even.
    """
    random = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=random)
            if parameter.dim() > 1:
                parameter.copy_(noise / parameter[0].numel()**0.5)
            else:
                parameter.copy_(noise / 10 + (0 if name.endswith('bias') else 1))
    return model


def cyclemlp(arch: str) -> Classifier:
    """A randomised CycleMLP classifier."""
    backbone = CycleMLP(arch)
    return randomise(Classifier(backbone, backbone.norm3.normalized_shape[0]))


def require_timm() -> None:
    """Raise MissingDependencyError unless timm can be imported."""
    try:
        import timm  # noqa: F401
    except ImportError as error:
        raise MissingDependencyError('the networks beside CycleMLP are timm\'s, and timm is not installed; run '
                                     '`pip install -r requirements/benchmarks.txt`') from error


def neighbours() -> Makers:
    """Candidate -> maker of another network of about this size, from timm."""

    def make(name: str) -> nn.Module:
        import timm
        name, _, layout = name.partition(' ')
        model = timm.create_model(name, pretrained=False, num_classes=NUM_CLASSES)
        return model.to(memory_format=torch.channels_last) if layout else model

    return {name: partial(make, name) for name in NEIGHBOURS}


def select(makers: Makers, names: Optional[List[str]]) -> Makers:
    """The makers of some candidates, or all."""
    return makers if names is None else {name: makers[name] for name in makers if name in names}
