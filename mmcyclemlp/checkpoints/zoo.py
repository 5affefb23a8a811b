"""Weights by name: where they lie, and models that start from them."""

import hashlib
import os
import re
import warnings
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Dict, Mapping, NamedTuple, Optional, Tuple, Union, cast

import torch
from torch import Tensor, nn

from mmcyclemlp.errors import InputError
from mmcyclemlp.files import written_whole
from mmcyclemlp.models import ARCHS, CycleMLP, CycleMLPClassifier
from mmcyclemlp.models.layers import inflated
from mmcyclemlp.untrusted import download

from .converting import convert, is_original
from .reading import SCHEME, PathLike, read_checkpoint
from .state_dicts import arch_of, check_state_dict, differences, numbers_of, state_dict_of

RELEASE = 'https://github.com/ShoufaChen/CycleMLP/releases/download/v0.1/'
BUNDLED = Path(__file__).with_name('weights')


class Weights(NamedTuple):
    """Published weights.

    ``url`` may be a file of this package. ``sha256`` is None where the publisher gives none; then that of the first
    download is kept, and later copies are compared with it. The rest is for classifiers: images have ``input_size``
    pixels, the share ``crop`` of the resized side, and are RGB from 0 to 255, less ``mean``, over ``std``.
    """

    arch: str
    url: str
    task: str = 'classification'
    num_classes: int = 1000
    input_size: int = 224
    crop: float = 0.9
    mean: Tuple[float, float, float] = (123.675, 116.28, 103.53)
    std: Tuple[float, float, float] = (58.395, 57.12, 57.375)
    sha256: Optional[str] = None


DIGITS = Weights(
    'nano',
    'digits_nano-646e2451.safetensors',
    num_classes=10,
    input_size=32,
    crop=1.0,
    mean=(78.0, 78.0, 78.0),
    std=(96.0, 96.0, 96.0),
    sha256='646e245136be8774aeee28db24a28c74530a6c8c19e2add92081a8e770138a4e',
)
ZOO: Dict[str, Weights] = {
    'b1': Weights('b1', f'{RELEASE}CycleMLP_B1.pth'),
    'b2': Weights('b2', f'{RELEASE}CycleMLP_B2.pth'),
    'b3': Weights('b3', f'{RELEASE}CycleMLP_B3.pth'),
    'b4': Weights('b4', f'{RELEASE}CycleMLP_B4.pth', crop=0.875),
    'b5': Weights('b5', f'{RELEASE}CycleMLP_B5.pth', crop=0.875),
    # Of this package; their metrics are in docs/model_zoo.md.
    'digits': DIGITS,
    'digit-scenes_retinanet': DIGITS._replace(
        task='detection',
        url='digit-scenes_retinanet_nano-aff717a1.safetensors',
        sha256='aff717a1970746f070b3c26af0216698fba073664f945bcfa91c449a359c64b8',
    ),
    'digit-scenes_fpn': DIGITS._replace(
        task='segmentation',
        url='digit-scenes_fpn_nano-eb7fb4a1.safetensors',
        sha256='eb7fb4a1313462b957d9949fb837e43756294ba4a9f670f110be053669dbf7f4',
    ),
}


def list_models() -> Tuple[str, ...]:
    """Names for :func:`create_model`."""
    return tuple(f'cyclemlp_{name}' for name, weights in ZOO.items() if weights.task == 'classification')


def create_model(
    name: str,
    pretrained: Union[bool, PathLike] = False,
    num_classes: Optional[int] = None,
    features_only: bool = False,
    **options: Any,
) -> nn.Module:
    """A CycleMLP by name.

    Args:
        name (str): one of :func:`list_models`.
        pretrained (bool | str | os.PathLike): True loads the published weights, which are downloaded once; a file or
            URL loads those, the authors' or of mmcyclemlp.
        num_classes (int, optional): of the classifier; default: as many as the published weights have. The head of
            weights with another number is left out, and a message says so. 0 gives the features before the head.
        features_only (bool): the backbone, which gives a map per stage of ``out_indices`` (default: all four).
        **options: of :class:`~mmcyclemlp.models.CycleMLP`, such as ``in_channels`` or ``out_indices``.

    Returns:
        torch.nn.Module: ``[B, in_channels, H, W] -> [B, num_classes]``, or a tuple of maps ``[B, C_i, H_i, W_i]``; in
        training mode.

    Raises:
        InputError: unknown name or argument; weights that cannot be had, read or do not fit.
    """
    weights = weights_of(name, 'classification')
    if features_only:
        model: nn.Module = CycleMLP(weights.arch, **{'out_indices': (0, 1, 2, 3), **options})
    else:
        if 'out_indices' in options:
            raise InputError('out_indices needs features_only=True, since a classifier has one output')
        classes = weights.num_classes if num_classes is None else num_classes
        model = CycleMLPClassifier(CycleMLP(weights.arch, **options), classes)
    if pretrained:
        if next(model.parameters()).is_meta:
            raise InputError(
                'expected a device for the pretrained weights, but got meta, which holds none; give another'
            )
        source = f'{SCHEME}{name}' if pretrained is True else os.fspath(pretrained)
        found = load_weights(source, options.get('kernel_size', 3))['state_dict']
        _fit_into(model, found, weights.arch, source)
    return model


def weights_of(name: str, task: Optional[str] = None) -> Weights:
    """The entry of a name, with or without ``cyclemlp://`` and ``cyclemlp_``; InputError names the closest."""
    short = name.removeprefix(SCHEME).removeprefix('cyclemlp_')
    known = [key for key, weights in ZOO.items() if task in (None, weights.task)]
    if short not in known:
        names, near = (
            [f'cyclemlp_{each}' for each in keys] for keys in (known, get_close_matches(short, known, n=3, cutoff=0))
        )
        raise InputError(f'expected one of {", ".join(names)}, got {name!r}; did you mean {" or ".join(near)}?')
    return ZOO[short]


def load_weights(source: PathLike, kernel_size: int = 3) -> Dict[str, Any]:
    """A checkpoint with weights under our names: of ``cyclemlp://NAME``, or of a file or URL in the authors' form or
    ours. It has a ``meta`` where the file has one.

    Raises:
        InputError: as :func:`read_checkpoint` and :func:`convert`; it cannot be downloaded, or has changed; published
            or the authors' weights are asked for with another ``kernel_size``.
    """
    name = os.fspath(source)
    checkpoint = read_checkpoint(fetch(weights_of(name)) if name.startswith(SCHEME) else name)
    weights = state_dict_of(checkpoint)
    check_state_dict(weights, name)
    original = any(map(is_original, weights))
    if kernel_size != 3 and (original or name.startswith(SCHEME)):
        raise InputError(f'the weights of {name} need kernel_size=3, got {kernel_size}; give weights of your own')
    weights = convert(weights, name).state_dict if original else dict(weights)
    return {key: checkpoint[key] for key in ('meta',) if key in checkpoint} | dict(state_dict=weights)


def fetch(weights: Weights) -> Path:
    """The file of weights, downloaded to torch's hub cache where it is not there yet.

    Raises:
        InputError: it cannot be downloaded, or is not the file that it was.
    """
    if '://' not in weights.url:
        return BUNDLED / weights.url  # its name holds the start of its SHA-256
    path = Path(torch.hub.get_dir(), 'checkpoints', weights.url.rsplit('/', 1)[1])
    if not path.is_file():
        for attempt in ('first', 'second'):
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                with written_whole(path) as temporary:
                    download(weights.url, temporary)
                break
            except (InputError, OSError) as error:
                if attempt == 'second':
                    reason = str(error).split('; ')[0]
                    raise InputError(
                        f'{reason}; check the network, or download it elsewhere and save it as {path}'
                    ) from error
    known, record = weights.sha256, path.with_name(f'{path.name}.sha256')
    if known is None and record.is_file():
        known = record.read_text().strip()
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if known is None:
        with written_whole(record) as temporary:
            temporary.write_text(digest)
    elif digest != known:
        raise InputError(
            f'expected a file of SHA-256 {known[:12]}, but {path} has {digest[:12]}; delete it to download it again, '
            f'or delete {record} if you trust it'
        )
    return path


def _fit_into(model: nn.Module, state_dict: Mapping[str, Tensor], arch: str, name: str) -> None:
    """Load weights into a model of :func:`create_model`.

    Strictly, but for what a message tells: a head of other classes, and the norms of stages that classifiers lack.
    """
    expected, weights = model.state_dict(), dict(state_dict)
    if not any(key.startswith('backbone.') for key in weights):  # of a backbone alone
        weights = {f'backbone.{key}': value for key, value in weights.items()}
    stages = numbers_of(weights)  # of the first stages alone, where a backbone has no more
    if not stages['depths'] or any(ARCHS[arch][key][: len(value)] != value for key, value in stages.items()):
        held = arch_of(weights) or 'another network'
        raise InputError(f'expected weights of CycleMLP {arch}, but {name} holds {held}')
    if isinstance(model, CycleMLP):
        backbone, stem = model, 'patch_embed.proj.weight'
        weights = {key.removeprefix('backbone.'): value for key, value in weights.items()}
        # Stages beyond the last output are not built, and outputs of a classifier are one.
        weights = {key: value for key, value in weights.items() if key in expected or not _optional(key, backbone)}
    else:
        backbone, stem = cast(CycleMLP, model.backbone), 'backbone.patch_embed.proj.weight'
        head = weights.get('head.fc.weight')
        if head is None or (head.dim() == 2 and len(head) != model.num_classes):
            weights = {key: value for key, value in weights.items() if not key.startswith('head.')}
    started = [key for key in expected if key not in weights and re.match(r'head\.|norm[012]\.', key)]
    weights.update({key: expected[key] for key in started})
    if stem in weights and weights[stem].dim() == 4 and weights[stem].shape[1] not in (0, backbone.in_channels):
        weights[stem] = inflated(weights[stem], backbone.in_channels)
    separating = differences(expected, weights)
    if separating:
        raise InputError(f'{name} does not fit this CycleMLP {arch}: {separating}; give weights of this network alone')
    model.load_state_dict(weights)
    if started:
        parts = ', '.join(sorted({key.rsplit('.', 1)[0] for key in started}))
        warnings.warn(f'{name} has no fitting {parts}, which start untrained', stacklevel=3)


def _optional(key: str, backbone: CycleMLP) -> bool:
    """Whether a key of a classifier is left out where its stage, output or head is."""
    stage = re.match(r'(?:stages\.|downsamples\.|norm)(\d)', key)
    return key.startswith('head.') or (stage is not None and key not in backbone.state_dict())
