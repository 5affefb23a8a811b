"""CycleMLP with its layers computed in several ways, and the networks it stands beside."""

from copy import deepcopy
from functools import cache, partial
from typing import Callable, Dict, Iterable, List, Optional

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmcyclemlp.errors import InputError, MissingDependencyError
from mmcyclemlp.models import CycleFC, CycleMixer, CycleMLP
from mmcyclemlp.ops import cycle_fc, linear, naive, staircase_offsets, use_shift

Makers = Dict[str, Callable[[], nn.Module]]
NUM_CLASSES = 1000
# Convolutional networks are faster with channels last in memory.
NEIGHBOURS = (
    'resnet18 channels last',
    'resnet50 channels last',
    'poolformer_s12',
    'pvt_v2_b1',
    'swin_tiny_patch4_window7_224',
    'mixer_b16_224',
)


class Classifier(nn.Module):
    """A backbone under the linear head of the others: mean over positions, then 1000 classes."""

    def __init__(self, backbone: CycleMLP, channels: int):
        super().__init__()
        self.backbone = backbone
        self.head = nn.Linear(channels, NUM_CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.backbone(x)[-1].mean(dim=(2, 3)))  # [B, 3, H, W] -> [B, 1000]


def original_mix(self: CycleMixer, x: Tensor) -> Tensor:
    """The mixer as the authors' code computes it."""
    w, h, c = self.shift_w(x), self.shift_h(x), self.channel(x)
    mean = (w + h + c).permute(0, 3, 1, 2).flatten(2).mean(2)  # [B, C]
    a = self.reweight(mean).reshape(*mean.shape, 3).permute(2, 0, 1).softmax(dim=0)[:, :, None, None]
    return self.proj(w * a[0] + h * a[1] + c * a[2])


def original_fc(self: CycleFC, x: Tensor) -> Tensor:
    """CycleFC as the authors' code calls it: torchvision's deformable convolution, its offsets made once.

    It has no bfloat16 kernel, so it computes bfloat16 in float32, as it does by itself under autocast.
    """
    from torchvision.ops import deform_conv2d

    dtype = torch.float32 if x.dtype == torch.bfloat16 else x.dtype
    offset = _offset(self.in_channels, self.kernel_size, dtype, x.device).expand(len(x), -1, *x.shape[1:3])
    with torch.autocast(x.device.type, enabled=False):
        weight, bias = self.weight[:, :, None, None].to(dtype), self.bias.to(dtype)
        out = deform_conv2d(x.permute(0, 3, 1, 2).to(dtype), offset, weight, bias)  # [B, C_out, H, W]
    return out.permute(0, 2, 3, 1).to(x.dtype)


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


def form(kind: type, forward: Callable[..., Tensor]) -> Dict[type, type]:
    """A class whose forward is another function."""
    return {kind: type(kind.__name__, (kind,), dict(forward=forward))}


def layer_by(function: Callable[..., Tensor]) -> Dict[type, type]:
    """CycleFC by a function of ``(x, weight, bias, kernel_size)``."""
    return form(CycleFC, lambda self, x: function(x, self.weight, self.bias, self.kernel_size))


DEFINED = {
    **form(CycleMixer, lambda self, x: naive.cycle_mix(x, self.weights(), self.kernel_size)),
    **layer_by(naive.cycle_fc),
}
# Our layers find the fastest library for those that are ``nn.Linear`` itself, which the authors' do not.
ORIGINAL = {**form(CycleMixer, original_mix), **form(CycleFC, original_fc), **form(nn.Linear, nn.Linear.forward)}
LINEAR = layer_by(lambda x, weight, bias, _: linear(x, weight, bias))  # no shift at all: the limit
PLAIN = layer_by(lambda x, weight, bias, _: F.linear(x, weight, bias))  # by PyTorch's choice of library
COPIED = layer_by(use_shift('copy')(cycle_fc))  # strided copies, also on CUDA


def network_variants(model: nn.Module, name: str) -> Makers:
    """Candidate -> maker of a network or block with the same weights; ``-shift_gemm`` is by branches alone."""
    return {
        name: partial(recast, model, {}),
        f'{name} channels last': lambda: recast(model, {}).to(memory_format=torch.channels_last),
        f'{name}-shift_gemm': partial(recast, model, {}, 'shift_gemm'),
        f'{name}-linear': partial(recast, model, LINEAR),
        f'{name}-deform_conv': partial(recast, model, {}, 'deform_conv'),
        f'{name}-original': partial(recast, model, ORIGINAL),
    }


def layer_variants(layer: CycleFC, device: torch.device) -> Makers:
    """The same for one layer."""
    makers: Makers = {
        name: partial(recast, layer, classes)
        for name, classes in (
            ('auto', {}),
            ('copy', COPIED),
            ('linear', PLAIN),
            ('linear-ours', LINEAR),
            ('torchvision', ORIGINAL),
        )
    }
    makers.pop('linear-ours' if device.type == 'cuda' else 'copy')  # the same as the one before
    return {**makers, 'deform_conv': partial(recast, layer, {}, 'deform_conv')}


def randomise(model: nn.Module) -> nn.Module:
    """Weights that let every branch matter, so that a wrong one shows: std 1 / sqrt(fan in), biases and norms too."""
    random = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise, mean = torch.randn(parameter.shape, generator=random), 0 if name.endswith('bias') else 1
            parameter.copy_(noise / parameter[0].numel() ** 0.5 if parameter.dim() > 1 else noise / 10 + mean)
    return model


def cyclemlp(arch: str) -> Classifier:
    """A randomised CycleMLP classifier."""
    backbone = CycleMLP(arch)
    return randomise(Classifier(backbone, backbone.norm3.normalized_shape[0]))


def neighbours(any_size: bool = False) -> Makers:
    """Candidate -> maker of another network of about this size, from timm; or only those for images of any size."""

    def make(name: str) -> nn.Module:
        try:
            import timm
        except ImportError as error:
            raise MissingDependencyError(
                "the networks beside CycleMLP are timm's, and timm is not installed; run `pip install 'timm>=1.0'`"
            ) from error
        name, _, layout = name.partition(' ')
        options = dict(strict_img_size=False) if any_size and name.startswith('swin') else {}
        model = timm.create_model(name, pretrained=False, num_classes=NUM_CLASSES, **options)
        return model.to(memory_format=torch.channels_last) if layout else model

    return {name: partial(make, name) for name in NEIGHBOURS if not (any_size and name.startswith('mixer'))}


def choose(names: Optional[Iterable[str]], *groups: Makers) -> List[Makers]:
    """The makers of some candidates of each group, or all."""
    available = {name for makers in groups for name in makers}
    if names is not None and not available.issuperset(names):
        raise InputError(
            f'--candidates: {sorted(set(names) - available)} take no part here; choose from {sorted(available)}'
        )
    return [{name: make for name, make in makers.items() if names is None or name in names} for makers in groups]
