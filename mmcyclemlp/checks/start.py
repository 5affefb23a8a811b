"""Check the weights that a run starts from before the model is built."""

import logging
import re
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Tuple

import torch
from mmengine import Config
from mmengine.logging import print_log
from mmengine.registry import MODELS

from mmcyclemlp.checkpoints import arch_of, read_checkpoint
from mmcyclemlp.checkpoints.reading import keep
from mmcyclemlp.checkpoints.state_dicts import state_dict_of
from mmcyclemlp.checkpoints.zoo import SCHEME
from mmcyclemlp.config.edits import pretrained
from mmcyclemlp.config.walk import name_of
from mmcyclemlp.errors import InputError


def last_checkpoint(work_dir: str) -> Optional[Path]:
    """The checkpoint last saved to a work dir, or None; the work dir may have been moved since."""
    note = Path(work_dir) / 'last_checkpoint'
    noted = Path(note.read_text().strip()) if note.is_file() else Path()
    return noted if noted.is_file() else Path(work_dir) / noted.name if noted.name else None


def checkpoints_in(work_dir: str) -> List[Path]:
    """The checkpoints of runs in a work dir, the newest first."""
    found = [
        (path.stat().st_mtime_ns, int(name[1] or 0), path)
        for path in Path(work_dir).glob('*.pth')
        if (name := re.fullmatch(r'(?:epoch|iter)_(\d+)\.pth|stopped\.pth', path.name)) and path.is_file()
    ]
    return [path for _, _, path in sorted(found, reverse=True)]


def newest_checkpoint(work_dir: str) -> Optional[Tuple[Path, Dict[str, Any]]]:
    """The newest checkpoint in a work dir that is whole, and its content; a word on newer ones that are not."""
    for path in checkpoints_in(work_dir):
        try:
            return path, read_checkpoint(path)
        except InputError as error:
            print_log(f'{error}; looking for an older checkpoint', 'current', logging.WARNING)
    return None


def check_resumable(config: Config, checkpoint: Mapping[str, Any], path: Any) -> None:
    """Raise InputError for a checkpoint without the state of its run, or one whose run was complete."""
    if not all(isinstance(checkpoint.get(key), dict) for key in ('meta', 'message_hub', 'optimizer')):
        raise InputError(
            f'--resume expects a checkpoint with the state of its run, but {path} holds weights only; to '
            f'start from them, use --cfg-options load_from={path}'
        )
    for unit, limit in (('epoch', 'max_epochs'), ('iter', 'max_iters')):
        done, target = checkpoint['meta'].get(unit, 0), config.train_cfg.get(limit)
        if target is not None and done > target:
            raise InputError(
                f'--resume expects something left to do, but {path} has {done} of {target} {unit}s done; '
                f'raise train_cfg.{limit} by --cfg-options, or test it'
            )
        if target is not None and done == target:
            print_log(
                f'{path} has {done} of {target} {unit}s done: nothing is left to train; to go on, raise '
                f'train_cfg.{limit} by --cfg-options',
                'current',
            )


def check_pretrained(config: Config) -> None:
    """Check the checkpoints that the model's ``init_cfg``s name, but for those at other addresses.

    Raises:
        InputError: one is missing or cannot be read; that of a CycleMLP does not hold its weights, which mmengine
            would pass over.
    """
    for name, section, init_cfg in pretrained(config):
        path = init_cfg['checkpoint']
        if not isinstance(path, str):
            raise InputError(f'{name}.init_cfg.checkpoint must be the path of a checkpoint, got {path!r}; correct it')
        if '://' in path and not path.startswith(SCHEME):
            continue
        if not path.startswith(SCHEME) and not Path(path).expanduser().exists():
            raise InputError(
                f'expected the weights of {name} in {path}, which does not exist; {_remedy(name, section, path)}'
            )
        checkpoint = read_checkpoint(path)
        if name_of(section) == 'CycleMLP':
            _check_holds(name, section, init_cfg, state_dict_of(checkpoint))
        keep(path, checkpoint)  # so that it is read, or downloaded, once


def _remedy(name: str, section: dict, path: str) -> str:
    """What to do about weights that are not in ``path``."""
    without = f'train without by --cfg-options {name}.init_cfg=None'
    if Path(path).parts[:1] == ('work_dirs',):  # where a run of CONFIG saves to work_dirs/CONFIG
        return f'train {Path(path).parent.name or path} first, correct the path, or {without}'
    arch = section.get('arch', 'b1')
    if name_of(section) != 'CycleMLP' or not isinstance(arch, str):
        return f'correct the path, or {without}'
    return f"take the authors' by --cfg-options {name}.init_cfg.checkpoint={SCHEME}{arch}, or {without}"


def _check_holds(name: str, section: dict, init_cfg: dict, state_dict: Any) -> None:
    """Raise InputError unless a state dict holds all weights of a CycleMLP but its norms of output stages."""
    path, arch = init_cfg['checkpoint'], section.get('arch', 'b1')
    prefix = f'{init_cfg["prefix"].rstrip(".")}.' if init_cfg.get('prefix') else ''
    entries = state_dict.items() if isinstance(state_dict, dict) else ()
    weights = {
        key[len(prefix) :]: value
        for key, value in entries
        if isinstance(key, str) and key.startswith(prefix) and isinstance(value, torch.Tensor)
    }
    held = arch_of(weights)
    if held and isinstance(arch, str) and held != arch:
        raise InputError(
            f'expected the weights of CycleMLP {arch} for {name}, but {path} holds CycleMLP {held}; set '
            f'{name}.arch={held}, or give the checkpoint of {arch}'
        )
    with torch.device('meta'):
        expected = MODELS.build({**section, 'init_cfg': None}).state_dict()
    absent = [
        prefix + key
        for key, value in expected.items()
        if not key.startswith('norm')
        and (key not in weights or weights[key].shape != value.shape)
        # Weights for RGB are adapted to other channels.
        and not (key == 'patch_embed.proj.weight' and key in weights and weights[key].shape[1:2] == (3,))
    ]
    if absent:
        raise InputError(
            f'expected the weights of {name} in {path}, but {absent[0]} and {len(absent) - 1} more are '
            f'not there in its shapes; correct the prefix, or {_remedy(name, section, path)}'
        )
