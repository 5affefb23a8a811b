"""Make the weights of a run ready for others: without optimizer state, with a hash in the name, and a model card.

    mmcyclemlp publish configs/cyclemlp/digits_b1.py work_dirs/digits_b1/epoch_15.pth --out published

The folder --out gets CONFIG-HASH.pth and CONFIG-HASH.safetensors, which all tools and OpenMMLab's libraries load, and
CONFIG.md with config, data, metric, commit and versions. Averaged weights (EMAHook) take the place of the others.
User errors print one line and exit with status 2.
"""

import subprocess
from argparse import Namespace
from pathlib import Path
from typing import Any, Dict

import torch
from mmengine.registry import init_default_scope

from mmcyclemlp.checkpoints import check_fits, read_checkpoint
from mmcyclemlp.checkpoints.publishing import in_authors_form, publish
from mmcyclemlp.checkpoints.state_dicts import state_dict_of
from mmcyclemlp.config import load_config
from mmcyclemlp.config.walk import dataset_sections
from mmcyclemlp.errors import InputError
from mmcyclemlp.files import PROJECT, make_folder, written_whole
from mmcyclemlp.inference.predictor import build_model
from mmcyclemlp.tables import markdown, read_csv
from mmcyclemlp.version import __version__

from .arguments import add_config, command, parser_of

PARSER = parser_of(__doc__)
add_config(PARSER)
PARSER.add_argument('--out', type=Path, default=Path('published'), metavar='DIR', help='default: published')
PARSER.add_argument('--name', metavar='NAME', help="of the files (default: the config's)")
PARSER.add_argument('--half', action='store_true', help='weights in float16: half the size')
PARSER.add_argument('--original', action='store_true', help="also CONFIG-original-HASH.pth, for the authors' code")


@command(PARSER)
def main(args: Namespace) -> None:
    if args.name and Path(args.name).name != args.name:
        raise InputError(
            f'--name expects the name of a file without folders, but got {args.name}; give the folder by --out'
        )
    config = load_config(args.config, args.cfg_options)
    checkpoint = read_checkpoint(args.checkpoint)
    weights = state_dict_of(checkpoint)
    name = args.name or Path(args.config).stem
    card = card_of(args, config, checkpoint)
    init_default_scope(config.get('default_scope'))
    model = build_model(config, 'cpu')
    check_fits(model, checkpoint, args.checkpoint)
    original = in_authors_form(weights, getattr(model, 'backbone', None)) if args.original else None
    make_folder(args.out, '--out')
    meta = dict(card, dataset_meta=checkpoint.get('meta', {}).get('dataset_meta'))
    files = [publish(weights, meta, args.out / f'{name}{suffix}', args.half) for suffix in ('.pth', '.safetensors')]
    if original:
        files.append(publish(original, card, args.out / f'{name}-original.pth', args.half))
    lines = [f'# {name}', '', markdown(['', ''], list(card.items())), '']
    lines += [f'- `{file.name}`, {file.stat().st_size / 1e6:.1f} MB' for file in files]
    with written_whole(args.out / f'{name}.md') as temporary:
        temporary.write_text('\n'.join(lines) + '\n', encoding='utf-8')
    print('\n'.join(f'wrote {file}' for file in [*files, args.out / f'{name}.md']))


def card_of(args: Namespace, config: Any, checkpoint: Dict[str, Any]) -> Dict[str, str]:
    """What the weights are."""
    meta = checkpoint.get('meta') or {}
    counted = [(meta.get(key), unit) for key, unit in (('epoch', 'epoch'), ('iter', 'iteration'))]
    data = [section for _, section in dataset_sections(config, 'train')]
    weights = state_dict_of(checkpoint)
    card = {
        'config': args.config,
        'data': ', '.join(f'{section["type"]} ({section.get("data_root") or "embedded"})' for section in data),
        'trained for': ', '.join(f'{count:,} {unit}{"s" * (count > 1)}' for count, unit in counted if count),
        'parameters': f'{sum(value.numel() for value in weights.values() if isinstance(value, torch.Tensor)):,}',
        **_metrics(Path(args.checkpoint), meta),
        'commit': _commit() or 'unknown',
        'versions': f'mmcyclemlp {__version__}, torch {torch.__version__.split("+")[0]}',
    }
    return {key: value for key, value in card.items() if value}


def _metrics(checkpoint: Path, meta: Dict[str, Any]) -> Dict[str, str]:
    """The row of the run's curves.csv for this checkpoint; a run that was stopped within an epoch has none."""
    for row in [] if meta.get('batches') else read_csv(checkpoint.with_name('curves.csv')):
        if row.get('epoch') == str(meta.get('epoch')) or row.get('iteration') == str(meta.get('iter')):
            return {key: value for key, value in row.items() if key.startswith('test ')}
    return {}


def _commit() -> str:
    """Of this project, if it is a checkout and there is git."""
    if not (PROJECT / '.git').exists():
        return ''  # git would tell that of a folder above
    command = ['git', 'describe', '--always', '--dirty']
    try:
        return subprocess.run(command, capture_output=True, text=True, cwd=PROJECT).stdout.strip()
    except OSError:
        return ''
