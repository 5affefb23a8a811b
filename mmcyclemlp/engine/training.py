"""What the options of tools/train.py do to a config."""
import os
from pathlib import Path
from typing import Any, Dict, Optional

from mmengine import Config
from mmengine.device import get_device

from mmcyclemlp.checkpoints import read_checkpoint
from mmcyclemlp.errors import InputError


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
    config.load_from = str(path)
    config.resume = True
    return checkpoint


def check_start(config: Config) -> None:
    """Raise InputError for a local ``load_from`` that cannot be read, before the model is built."""
    if config.get('load_from') and '://' not in config.load_from:
        read_checkpoint(config.load_from)
