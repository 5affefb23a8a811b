"""What the options of tools/train.py do to a config."""
import os
from pathlib import Path
from typing import Any, Dict, Iterator, Optional, Tuple

import torch
from mmengine import Config
from mmengine.device import get_device
from mmengine.registry import MODELS

from mmcyclemlp.checkpoints import arch_of, read_checkpoint
from mmcyclemlp.errors import InputError

AUTHORS_WEIGHTS = 'https://github.com/ShoufaChen/CycleMLP/releases/download/v0.1/CycleMLP_{}.pth'


def use_amp(config: Config) -> None:
    """Train in mixed precision: mmengine's on a GPU, under bfloat16 autocast on a CPU.

    Raises:
        InputError: the config has an optimizer wrapper of another kind.
    """
    kind = config.optim_wrapper.get('type', 'OptimWrapper')
    if kind in ('AmpOptimWrapper', 'CpuAmpOptimWrapper'):
        return
    if kind != 'OptimWrapper':
        raise InputError(f'--amp expects optim_wrapper.type to be OptimWrapper, but the config has {kind}; leave --amp '
                         'out, or change the config')
    config.optim_wrapper.type = 'CpuAmpOptimWrapper' if get_device() == 'cpu' else 'AmpOptimWrapper'


def scale_learning_rate(config: Config) -> None:
    """Let the learning rate follow the total batch size.

    Raises:
        InputError: the config does not say for which batch size its learning rate is meant.
    """
    if 'base_batch_size' not in (config.get('auto_scale_lr') or {}):
        raise InputError('--auto-scale-lr expects the config to hold auto_scale_lr=dict(base_batch_size=N), the batch '
                         'size that its learning rate is meant for; add it, or set the learning rate by --cfg-options '
                         'optim_wrapper.optimizer.lr=RATE')
    config.auto_scale_lr.enable = True


def set_randomness(config: Config, seed: Optional[int], deterministic: bool) -> None:
    """Put ``--seed`` and ``--deterministic`` into the config."""
    randomness = dict(config.get('randomness') or {}, deterministic=deterministic)
    if seed is not None:
        randomness['seed'] = seed
    config.randomness = dict({'seed': None}, **randomness)
    if deterministic:
        os.environ.setdefault('CUBLAS_WORKSPACE_CONFIG', ':4096:8')  # cuBLAS is refused without


def last_checkpoint(work_dir: str) -> Optional[Path]:
    """The checkpoint last saved to a work dir, or None; the work dir may have been moved since."""
    note = Path(work_dir) / 'last_checkpoint'
    if not note.is_file():
        return None
    noted = Path(note.read_text().strip())
    return noted if noted.is_file() else Path(work_dir) / noted.name


def resume(config: Config, source: str) -> Dict[str, Any]:
    """Make the run go on from a checkpoint.

    Args:
        config (Config): gets ``load_from`` and ``resume``.
        source (str): a file, or ``auto`` for the last one in the work dir.

    Returns:
        dict: the checkpoint.

    Raises:
        InputError: there is none; it holds no state of a run; its run was complete.
    """
    path = last_checkpoint(config.work_dir) if source == 'auto' else source
    if path is None:
        raise InputError(f'--resume expects a checkpoint in {config.work_dir}, but nothing was saved there; start '
                         'without --resume, or give --work-dir or --resume FILE')
    checkpoint = read_checkpoint(path)
    if not {'meta', 'message_hub', 'optimizer'} <= set(checkpoint):
        raise InputError(f'--resume expects a checkpoint with the state of its run, but {path} holds weights only; to '
                         f'start from them, use --cfg-options load_from={path}')
    for unit, limit in (('epoch', 'max_epochs'), ('iter', 'max_iters')):
        done, target = checkpoint['meta'].get(unit, 0), config.train_cfg.get(limit)
        if target is not None and done >= target:
            raise InputError(f'--resume expects something left to do, but {path} has {done} of {target} {unit}s done; '
                             f'raise train_cfg.{limit} by --cfg-options, or test it')
    forget_pretrained(config)  # the run's own weights replace them, and their file need not be here any more
    config.load_from = str(path)
    config.resume = True
    return checkpoint


def check_start(config: Config) -> None:
    """Check the local files that a run starts from, before the model is built.

    Raises:
        InputError: ``load_from``, or the checkpoint of an ``init_cfg``, is missing or cannot be read; that of a
            CycleMLP's ``init_cfg`` does not hold its weights, which mmengine would pass over.
    """
    if config.get('load_from') and '://' not in config.load_from:
        read_checkpoint(config.load_from)
    for name, section, init_cfg in _pretrained(config.model, 'model'):
        path = init_cfg['checkpoint']
        if '://' in path:
            continue
        if not Path(path).expanduser().exists():
            raise InputError(f'expected the weights of {name} in {path}, which does not exist; '
                             f'{_remedy(name, section, path)}')
        checkpoint = read_checkpoint(path)
        if section.get('type') == 'CycleMLP':
            _check_holds(name, section, init_cfg, checkpoint.get('state_dict', checkpoint))


def forget_pretrained(config: Config) -> None:
    """Let the model start from random weights, without the checkpoints that its ``init_cfg``s name."""
    for _, section, _ in list(_pretrained(config.model, 'model')):
        section.init_cfg = None


def _pretrained(section: Any, name: str) -> Iterator[Tuple[str, dict, dict]]:
    """Dotted name, section and ``init_cfg`` of whatever in a model starts from a checkpoint."""
    if isinstance(section, dict):
        init_cfgs = section.get('init_cfg') or []
        for init_cfg in [init_cfgs] if isinstance(init_cfgs, dict) else init_cfgs:
            if init_cfg.get('type') == 'Pretrained':
                yield name, section, init_cfg
    for key, value in section.items() if isinstance(section, dict) else enumerate(section):
        if isinstance(value, (dict, list, tuple)) and key != 'init_cfg':
            yield from _pretrained(value, f'{name}.{key}')


def _remedy(name: str, section: dict, path: str) -> str:
    """What to do about weights that are not in ``path``."""
    without = f'train without by --cfg-options {name}.init_cfg=None'
    if Path(path).parts[:1] == ('work_dirs',):  # where a run of CONFIG saves to work_dirs/CONFIG
        return f'train {Path(path).parent.name or path} first, correct the path, or {without}'
    arch = section.get('arch', 'b1')
    if section.get('type') != 'CycleMLP' or not isinstance(arch, str):
        return f'correct the path, or {without}'
    folder = '' if Path(path).expanduser().absolute().parent.is_dir() else f'mkdir -p {Path(path).parent} && '
    url = AUTHORS_WEIGHTS.format(arch.upper())
    return f'make it by `{folder}python tools/convert_checkpoint.py {url} {path}`, or {without}'


def _check_holds(name: str, section: dict, init_cfg: dict, state_dict: Any) -> None:
    """Raise InputError unless a state dict holds all weights of a CycleMLP but its norms of output stages."""
    path, arch = init_cfg['checkpoint'], section.get('arch', 'b1')
    prefix = f'{init_cfg["prefix"].rstrip(".")}.' if init_cfg.get('prefix') else ''
    entries = state_dict.items() if isinstance(state_dict, dict) else ()
    weights = {key[len(prefix):]: value for key, value in entries
               if isinstance(key, str) and key.startswith(prefix) and isinstance(value, torch.Tensor)}
    held = arch_of(weights)
    if held and isinstance(arch, str) and held != arch:
        raise InputError(f'expected the weights of CycleMLP {arch} for {name}, but {path} holds CycleMLP {held}; set '
                         f'{name}.arch={held}, or give the checkpoint of {arch}')
    with torch.device('meta'):
        expected = MODELS.build({**section, 'init_cfg': None}).state_dict()
    absent = [prefix + key for key, value in expected.items()
              if not key.startswith('norm') and (key not in weights or weights[key].shape != value.shape)]
    if absent:
        raise InputError(f'expected the weights of {name} in {path}, but {absent[0]} and {len(absent) - 1} more are '
                         f'not there in its shapes; correct the prefix, or {_remedy(name, section, path)}')
