"""CycleMLP as a classifier in plain PyTorch."""

from collections import OrderedDict

from torch import Tensor, nn

from .cyclemlp import CycleMLP


class CycleMLPClassifier(nn.Module):
    """``[B, in_channels, H, W] -> [B, num_classes]``: the backbone, the mean over positions, a linear layer.

    Its state dict has the keys of mmpretrain's ``ImageClassifier``, so checkpoints fit both.

    Args:
        backbone (CycleMLP): with the last stage among its ``out_indices``.
        num_classes (int): 0 gives the mean over positions, ``[B, C]``.
    """

    def __init__(self, backbone: CycleMLP, num_classes: int):
        super().__init__()
        self.backbone = backbone
        self.num_classes = num_classes
        channels = backbone.embed_dims[-1]
        self.head = nn.Sequential(OrderedDict(fc=nn.Linear(channels, num_classes) if num_classes else nn.Identity()))
        if num_classes:
            nn.init.trunc_normal_(self.head.fc.weight, std=0.02)
            nn.init.zeros_(self.head.fc.bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.backbone(x)[-1].mean(dim=(2, 3)))
