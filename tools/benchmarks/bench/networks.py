"""CycleMLP with its layers computed in several ways, and the networks it stands beside."""
from copy import deepcopy
from functools import partial
from typing import Callable, Dict, List, Optional

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmcyclemlp.errors import MissingDependencyError
from mmcyclemlp.models import CycleFC, CycleMixer, CycleMLP
from mmcyclemlp.models.layers import Mlp
from mmcyclemlp.ops import BACKENDS, linear

from .operators import TorchvisionOperator, definition, torchvision_dtypes

Makers = Dict[str, Callable[[], nn.Module]]
NUM_CLASSES = 1000
NEIGHBOURS = ('resnet18', 'resnet50', 'poolformer_s12', 'pvt_v2_b1', 'swin_tiny_patch4_window7_224', 'mixer_b16_224')
CONVOLUTIONAL = ('resnet18', 'resnet50')  # often faster with channels last in memory, so measured both ways


class Classifier(nn.Module):
    """A backbone under the linear head of the others: mean over positions, then 1000 classes."""

    def __init__(self, backbone: CycleMLP, channels: int):
        super().__init__()
        self.backbone = backbone
        self.head = nn.Linear(channels, NUM_CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.backbone(x)[-1].mean(dim=(2, 3)))  # [B, 3, H, W] -> [B, 1000]


class LayerOf(nn.Module):
    """The parameters of a CycleFC under another function of ``(x, weight, bias)``."""

    def __init__(self, layer: CycleFC, function: Callable[..., Tensor]):
        super().__init__()
        self.weight, self.bias = layer.weight, layer.bias
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x, self.weight, self.bias)


class MlpOf(nn.Module):
    """The parameters of an Mlp under another product; ``[..., C] -> [..., out]``."""

    def __init__(self, mlp: Mlp, product: Callable[..., Tensor]):
        super().__init__()
        self.fc1, self.fc2, self.product = mlp.fc1, mlp.fc2, product

    def forward(self, x: Tensor) -> Tensor:
        x = F.gelu(self.product(x, self.fc1.weight, self.fc1.bias))
        return self.product(x, self.fc2.weight, self.fc2.bias)


class MixerOf(nn.Module):
    """The parameters of a CycleMixer, combined as the original does, over shifted layers of another kind.

    ``[B, H, W, C] -> [B, H, W, C]``; ``make`` turns a CycleFC into a function of ``(x, weight, bias)``, and
    ``product`` computes the linear layers.
    """

    def __init__(self, mixer: CycleMixer, make: Callable[[CycleFC], Callable[..., Tensor]],
                 product: Callable[..., Tensor]):
        super().__init__()
        self.product = product
        self.shift_w = LayerOf(mixer.shift_w, make(mixer.shift_w))
        self.shift_h = LayerOf(mixer.shift_h, make(mixer.shift_h))
        self.channel, self.reweight, self.proj = mixer.channel, mixer.reweight, mixer.proj

    def forward(self, x: Tensor) -> Tensor:
        w, h, c = self.shift_w(x), self.shift_h(x), self.product(x, self.channel.weight)
        mean = (w + h + c).permute(0, 3, 1, 2).flatten(2).mean(2)  # [B, C]
        a = self.reweight(mean).reshape(*mean.shape, 3).permute(2, 0, 1).softmax(dim=0)[:, :, None, None]
        return self.product(w * a[0] + h * a[1] + c * a[2], self.proj.weight, self.proj.bias)


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


def with_layers(model: nn.Module, make: Callable[[CycleFC], Callable[..., Tensor]],
                product: Callable[..., Tensor] = F.linear) -> nn.Module:
    """A copy of a model in which every mixer is a :class:`MixerOf` and every MLP a :class:`MlpOf`."""
    model = deepcopy(model)
    for parent in list(model.modules()):
        for name, child in parent.named_children():
            if isinstance(child, CycleMixer):
                setattr(parent, name, MixerOf(child, make, product))
            elif isinstance(child, Mlp) and product is F.linear:  # ours are by the library of `linear` already
                setattr(parent, name, MlpOf(child, product))
    return model


def with_backend(model: nn.Module, backend: str) -> nn.Module:
    """A copy of a model whose mixers use a backend."""
    model = deepcopy(model)
    for module in model.modules():
        if isinstance(module, (CycleMixer, CycleFC)):
            module.backend = backend
    return model


def defined(model: nn.Module) -> nn.Module:
    """The reference form: the mixer by its definition, CycleFC by its formula."""
    return with_layers(model, lambda layer: partial(definition, kernel_size=layer.kernel_size))


def variants(model: nn.Module, name: str, dtype: torch.dtype, device: torch.device) -> Makers:
    """Rival -> maker of a copy of ``model`` whose mixers are computed its way, with the same weights.

    ``NAME`` is ours as it comes; ``NAME-BACKEND`` forces a backend; ``NAME-original`` calls torchvision's
    deformable convolution as the authors' code does; ``NAME-linear`` has plain linear layers instead, by the
    library that ours take, the limit.
    """

    def original(inside: torch.dtype) -> nn.Module:
        return with_layers(
            model, lambda layer: TorchvisionOperator(layer.in_channels, layer.kernel_size, inside, device))

    makers: Makers = {name: partial(with_backend, model, 'auto')}
    makers.update({f'{name}-{backend}': partial(with_backend, model, backend) for backend in BACKENDS})
    makers.update({f'{name}-original{suffix}': partial(original, inside)
                   for suffix, inside in torchvision_dtypes(dtype, device).items()})
    makers[f'{name}-linear'] = partial(with_layers, model, lambda layer: linear, linear)
    return makers


def backend_reason(backend: str, dtype: torch.dtype, device: torch.device) -> Optional[str]:
    """Why a backend cannot compute a network's layers on a device, or None."""
    x = torch.zeros(1, 2, 2, 16, dtype=dtype, device=device)
    return BACKENDS[backend].unsupported_reason(x, x.new_zeros(16, 16), x.new_zeros(16), (1, 3))


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
    """Rival -> maker of another network of about this size, from timm."""

    def make(name: str, **kwargs) -> nn.Module:
        import timm
        return timm.create_model(name, pretrained=False, num_classes=NUM_CLASSES).to(**kwargs)

    makers: Makers = {}
    for name in NEIGHBOURS:
        makers[name] = partial(make, name)
        if name in CONVOLUTIONAL:
            makers[f'{name} channels last'] = partial(make, name, memory_format=torch.channels_last)
    return makers


def select(makers: Makers, names: Optional[List[str]]) -> Makers:
    """The makers of some rivals, or all."""
    return makers if names is None else {name: makers[name] for name in makers if name in names}
