"""Convert the authors' CycleMLP weights to a checkpoint for mmpretrain, mmdet and mmseg."""
import argparse
import sys
from pathlib import Path
from typing import List, Optional

# A checkout works without installation, from any folder.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from mmcyclemlp.checkpoints import Converted, convert_file
from mmcyclemlp.errors import InputError


def parse_args(argv: Optional[List[str]]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('src', help='original .pth, a file or a URL; as classifier or in the form for dense prediction')
    parser.add_argument('dst', help='file to write; an existing one is replaced once the new one is complete')
    return parser.parse_args(argv)


def report(result: Converted, dst: str) -> str:
    """What was recognised, where it was written and how to use it."""
    parameters = sum(value.numel() for value in result.state_dict.values())
    usage = [f"backbone (mmpretrain, mmdet, mmseg): init_cfg=dict(type='Pretrained', checkpoint={dst!r}, "
             "prefix='backbone.')"]
    if result.form == 'classifier':
        form = f'classifier of {result.num_classes} classes'
        usage.append(f'classifier (mmpretrain): load_from={dst!r} with arch={result.arch!r} and '
                     f'num_classes={result.num_classes}')
    else:
        form = f'dense form with norms of stages {", ".join(map(str, result.out_indices))}'
    return '\n'.join([f'recognised CycleMLP {result.arch}, {form}, {parameters:,} parameters', f'wrote {dst}', *usage])


def main(argv: Optional[List[str]] = None) -> int:
    args = parse_args(argv)
    try:
        result = convert_file(args.src, args.dst)
    except InputError as error:
        print(f'error: {error}', file=sys.stderr)
        return 2
    print(report(result, args.dst))
    return 0


if __name__ == '__main__':
    sys.exit(main())
