"""Write a trained model as ONNX, OpenVINO, torch.export or AOTInductor, and compare the file with the model.

    mmcyclemlp export configs/cyclemlp/imagenet_b1.py cyclemlp_b1.pth --format onnx --out cyclemlp_b1.onnx
    python tools/export.py CONFIG CHECKPOINT --format openvino --precision int8 --out model.xml

The file takes batches and images of any size. It is run at five sizes and compared with the model; a difference above
the bound is an error, and nothing is written. User errors print one line and exit with status 2.
"""

from argparse import Namespace

from mmcyclemlp.config import load_config
from mmcyclemlp.errors import InputError
from mmcyclemlp.export.exporting import FORMATS, export
from mmcyclemlp.export.quantize import calibration, metrics
from mmcyclemlp.inference.predictor import Predictor
from mmcyclemlp.tables import markdown

from .arguments import add_config, command, parser_of

PARSER = parser_of(__doc__)
add_config(PARSER)
PARSER.add_argument('--format', default='onnx', metavar='F', help=f'{", ".join(FORMATS)} (default: onnx)')
PARSER.add_argument('--out', required=True, metavar='FILE', help='.onnx, .xml for openvino, .pt2 for the others')
PARSER.add_argument('--precision', default='fp32', metavar='P', help='fp32 (default), int8, or bf16 for openvino')
PARSER.add_argument('--images', type=int, default=128, metavar='N', help='training images for int8 (default: 128)')
PARSER.add_argument('--backbone', action='store_true', help='export the backbone alone, to its maps')
PARSER.add_argument('--metrics', action='store_true', help="compare the config's test metrics, too (onnx, openvino)")
PARSER.add_argument('--no-check', action='store_true', help='do not compare the file with the model')


@command(PARSER)
def main(args: Namespace) -> None:
    if args.images < 1:
        raise InputError(f'--images expects a number from 1 up, got {args.images}')
    config = load_config(args.config, args.cfg_options)
    predictor = Predictor(config, args.checkpoint, device='cpu')
    images = calibration(predictor, config, args.images) if args.precision == 'int8' else None
    source = predictor.model.backbone if args.backbone else predictor
    export(source, args.out, args.format, args.precision, not args.no_check, images)
    print(f'Wrote {args.out}')
    if args.metrics and not args.backbone:
        before, after = (metrics(each, config) for each in (predictor, Predictor(config, args.out)))
        print(markdown(('metric', 'model', 'file'), [(k, f'{before[k]:.4f}', f'{after[k]:.4f}') for k in before]))
