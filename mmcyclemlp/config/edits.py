"""Edits of a config: pure functions that return what to change, as dotted path -> value."""

from pathlib import Path
from typing import Any, Callable, Dict, Iterator, Optional, Tuple, Union

from mmengine import Config
from mmengine.device import get_device
from mmengine.logging import print_log

from mmcyclemlp.errors import InputError

from .walk import changed, name_of, walk

Changes = Dict[str, Any]
Edit = Callable[[Config], Changes]


def edited(config: Config, *edits: Union[Edit, Changes, bool, None]) -> Config:
    """A copy of ``config`` with ``edits`` applied in order; false values are skipped."""
    for edit in filter(None, edits):
        config = changed(config, edit if isinstance(edit, dict) else edit(config))
    return config


def work_dir(given: Optional[str], path: str, folder: str = '') -> Edit:
    """Write results to ``given``, else to ``folder`` in the config's work dir, which is ``work_dirs/CONFIG NAME`` by
    default."""
    default = Path('work_dirs', Path(path).stem)
    return lambda config: {'work_dir': given or str(Path(config.get('work_dir') or default, folder))}


def randomness(seed: Optional[int], deterministic: bool) -> Edit:
    """``--seed`` and ``--deterministic``, where given; a config without a seed draws one."""
    chosen = {**({} if seed is None else {'seed': seed}), **({'deterministic': True} if deterministic else {})}
    return lambda config: {'randomness': {'seed': None, **(config.get('randomness') or {}), **chosen}}


def mixed_precision(config: Config) -> Changes:
    """``--amp``: mmengine's mixed precision on a GPU, bfloat16 autocast on a CPU.

    Raises:
        InputError: the config has an optimizer wrapper of another kind.
    """
    kind = name_of({'type': 'OptimWrapper', **config.optim_wrapper})
    if kind in ('AmpOptimWrapper', 'CpuAmpOptimWrapper'):
        return {}
    if kind != 'OptimWrapper':
        raise InputError(
            f'--amp expects optim_wrapper.type to be OptimWrapper, but the config has {kind}; leave --amp '
            'out, or change the config'
        )
    return {'optim_wrapper.type': 'CpuAmpOptimWrapper' if get_device() == 'cpu' else 'AmpOptimWrapper'}


def scaled_learning_rate(config: Config) -> Changes:
    """``--auto-scale-lr``: scale the learning rate with the total batch size.

    Raises:
        InputError: the config has no base batch size.
    """
    if 'base_batch_size' not in (config.get('auto_scale_lr') or {}):
        raise InputError(
            '--auto-scale-lr expects the config to hold auto_scale_lr=dict(base_batch_size=N), the batch '
            'size that its learning rate is meant for; add it, or set the learning rate by --cfg-options '
            'optim_wrapper.optimizer.lr=RATE'
        )
    return {'auto_scale_lr.enable': True}


def launched(launcher: str, timeout: float = 1800) -> Edit:
    """``--launcher``: without GPUs, replace SyncBN by BN and wrap the model without device ids, as gloo needs;
    with them, processes wait ``timeout`` seconds for one another."""

    def edit(config: Config) -> Changes:
        if launcher == 'none' or get_device() != 'cpu':
            return {'launcher': launcher, **({} if launcher == 'none' else {'env_cfg.dist_cfg.timeout': timeout})}
        default = dict(
            type='mmengine.MMDistributedDataParallel',
            broadcast_buffers=False,
            find_unused_parameters=config.get('find_unused_parameters', False),
        )
        wrapper = config.get('model_wrapper_cfg') or {}
        if wrapper.get('type', 'DistributedDataParallel').endswith('DistributedDataParallel'):
            wrapper = {**default, **wrapper, 'device_ids': None}
        norms = [
            path for path, section in walk(config.model, 'model') if name_of(section) in ('SyncBN', 'SyncBatchNorm')
        ]
        if norms:
            print_log('SyncBN needs GPUs: using BN in each process', 'current')
        return {'launcher': launcher, 'model_wrapper_cfg': wrapper, **{f'{path}.type': 'BN' for path in norms}}

    return edit


def from_random_weights(config: Config) -> Changes:
    """Start without the checkpoints that the ``init_cfg``s of the model name."""
    return {f'{name}.init_cfg': None for name, _, _ in pretrained(config)}


def pretrained(config: Config) -> Iterator[Tuple[str, dict, dict]]:
    """Dotted path, section and ``init_cfg`` of each part of the model that starts from a checkpoint."""
    for path, section in walk(config.model, 'model'):
        init_cfgs = section.get('init_cfg') or []
        for init_cfg in [init_cfgs] if isinstance(init_cfgs, dict) else init_cfgs:
            # Without a checkpoint it cannot be built, which mmengine says.
            if name_of(init_cfg) in ('Pretrained', 'PretrainedInit') and 'checkpoint' in init_cfg:
                yield path, section, init_cfg
