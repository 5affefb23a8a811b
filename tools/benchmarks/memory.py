"""Time and peak memory of a segmentation network and its backbone on one image, mixers computed in several ways."""
import sys
from pathlib import Path
from typing import List, Optional

from bench import cli
from bench.groups import Settings, check_names, measure, row_of
from bench.networks import defined, randomise, select, variants
from bench.operators import DTYPES
from bench.rows import Row
from bench.tasks import Task, images
from mmengine.registry import MODELS, DefaultScope
from models import rivals_of
from torch import Tensor, nn

from mmcyclemlp.engine import load_config
from mmcyclemlp.errors import InputError

CONFIG = Path(__file__).resolve().parents[2] / 'configs' / 'cyclemlp' / 'cityscapes_fpn_b2.py'


class Segmenter(nn.Module):
    """A network of mmseg as a function, ``[B, 3, H, W] -> [B, classes, H/4, W/4]``."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        return self.network(x, mode='tensor')


class LastMap(nn.Module):
    """A backbone of which the last map is looked at, ``[B, 3, H, W] -> [B, C, H/32, W/32]``."""

    def __init__(self, backbone: nn.Module):
        super().__init__()
        self.backbone = backbone

    def forward(self, x: Tensor) -> Tensor:
        return self.backbone(x)[-1]


def segmenter(path: Path) -> Segmenter:
    """The network of a segmentation config, randomised.

    Raises:
        InputError: the config is of another task, or its backbone is no CycleMLP.
    """
    config = load_config(path)
    if config.get('default_scope') != 'mmseg' or config.model.backbone.type != 'CycleMLP':
        raise InputError(f'expected a config of segmentation with CycleMLP, but {path} is another; give one of '
                         'configs/cyclemlp/')
    with DefaultScope.overwrite_default_scope('mmseg'):
        return randomise(Segmenter(MODELS.build(config.model)))


def measure_image(settings: Settings, model: nn.Module, case: str, width: int, height: int,
                  names: Optional[List[str]] = None) -> List[Row]:
    """The rows of a network on one image, as it comes and with deformable convolutions in its mixers."""
    dtype = DTYPES[settings.dtype]
    ours = variants(model, 'ours', dtype, settings.device)
    check_names(names, ours)
    x, _ = images(1, height, width, settings.device)
    base = row_of(settings, 'whole image', case, f'1x3x{height}x{width}', 'inference', 1)
    rivals = rivals_of(Task(x, dtype, False), select(ours, names), defined(model), {}, compiled=False)
    for rival in rivals:
        rival.gflop = None  # it is counted with gradients on, which keeps all maps of the image
    return measure(base, rivals, settings)


def main(argv: Optional[List[str]] = None) -> int:
    parser = cli.parser(__doc__, seconds=60.)
    parser.add_argument('config', nargs='?', type=Path, default=CONFIG, metavar='CONFIG',
                        help='of segmentation (default: cityscapes_fpn_b2)')
    parser.add_argument('--size', nargs=2, type=cli.positive, default=(2048, 1024), metavar=('WIDTH', 'HEIGHT'),
                        help='of the image (default: 2048 1024)')
    args = parser.parse_args(argv)
    if args.train or args.compile or args.batch:
        raise InputError('memory.py measures the inference of one image, but got --train, --compile or --batch; leave '
                         'them out')
    settings = cli.settings_of(args)
    names = args.rivals or ['ours', 'ours-deform_conv', 'ours-original']
    book = cli.Book(args.out, args.quick)
    model = segmenter(args.config)
    backbone = model.network.backbone
    arch = backbone.arch if isinstance(backbone.arch, str) else 'custom'
    for case, part in ((args.config.stem, model), (f'its backbone, {arch}', LastMap(backbone))):
        book.measure(case, lambda: measure_image(settings, part, case, *args.size, names))  # noqa: B023
    return book.close()


if __name__ == '__main__':
    sys.exit(cli.run(main))
