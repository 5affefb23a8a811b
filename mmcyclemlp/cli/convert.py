"""Convert the authors' CycleMLP weights to a checkpoint for mmpretrain, mmdet and mmseg.

    mmcyclemlp convert CycleMLP_B1.pth checkpoints/cyclemlp_b1.pth

User errors print one line and exit with status 2.
"""

from argparse import Namespace

from mmcyclemlp.checkpoints import Converted, convert_file

from .arguments import command, parser_of

PARSER = parser_of(__doc__)
PARSER.add_argument('src', help='original .pth, a file or a URL; a classifier or a backbone for dense prediction')
PARSER.add_argument('dst', help='file to write; an existing file is replaced when the new one is complete')


def report(result: Converted, dst: str) -> str:
    """What was recognised, where it was written and how to use it."""
    parameters = sum(value.numel() for value in result.state_dict.values())
    usage = [
        f"backbone (mmpretrain, mmdet, mmseg): init_cfg=dict(type='Pretrained', checkpoint={dst!r}, prefix='backbone.')"
    ]
    if result.form == 'classifier':
        form = f'classifier of {result.num_classes} classes'
        usage.append(
            f'classifier (mmpretrain): load_from={dst!r} with arch={result.arch!r} and num_classes={result.num_classes}'
        )
    else:
        form = f'dense form with norms of stages {", ".join(map(str, result.out_indices))}'
    return '\n'.join([f'recognised CycleMLP {result.arch}, {form}, {parameters:,} parameters', f'wrote {dst}', *usage])


@command(PARSER)
def main(args: Namespace) -> None:
    print(report(convert_file(args.src, args.dst), args.dst))
