"""What parts of a config raise that do not fit each other, when the first batch reaches them, as a sentence that says
where."""

import inspect
import re
import traceback
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any, Iterator, List, Optional, Sequence, Tuple

from mmcv.transforms import BaseTransform
from mmengine.evaluator import BaseMetric
from mmengine.optim import OptimWrapper
from mmengine.runner import BaseLoop, Runner
from torch import Tensor
from torch.utils.data import dataloader

from mmcyclemlp.errors import InputError, named

from .building import is_own
from .keys import classes_of
from .walk import walk

PACKING = 'PackInputs, PackDetInputs or PackSegInputs'  # in mmpretrain, mmdet and mmseg


def about_first_batch(error: BaseException) -> Optional[InputError]:
    """The sentence for an error of a pipeline, or of the model in the first batch of a loop; None for one that arose
    elsewhere or later, or in code of the user's own. The traceback goes to a file beside the log."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    owners = [frame.f_locals.get('self') for frame in frames]
    runner = next((owner for owner in owners if isinstance(owner, Runner)), None)
    # Validation is within training: the last one.
    loop = next((owner for owner in reversed(owners) if isinstance(owner, BaseLoop)), None)
    if runner is None or loop is None:
        return None
    loader = next(
        f'{split}_dataloader' for split in ('train', 'val', 'test') if getattr(runner, f'_{split}_loop') is loop
    )
    text = ''.join(traceback.format_exception(error))  # that of a process that loads data is in it
    reason = named(error)
    if re.search("out of memory|can't allocate memory|bad_alloc", reason):
        return InputError(
            f'a batch of {loop.dataloader.batch_size} images needs more memory than there is; lower batch_size or the '
            'sizes of images; in training, also try --amp or model.backbone.with_cp=True'
        )
    if 'DataLoader worker (pid' in reason:
        return InputError(
            f'a process that loads data has ended ({reason:.200}), perhaps for want of memory; lower num_workers, or '
            'give a container more shared memory, by docker run --shm-size'
        )
    steps = [i for i, frame in enumerate(frames) if frame.f_code.co_name == 'run_iter']
    told = None
    if any(frame.f_code.co_filename == dataloader.__file__ for frame in frames):
        told = _about_pipeline(runner, loader, text)
    elif steps and not frames[steps[0]].f_locals.get('idx') and not getattr(loop, 'iter', 0):
        told = _about_model(runner, loader, frames[steps[0] + 1 :], reason)
    if told is None:
        return None
    file = Path(runner.log_dir) / 'traceback.txt'
    file.parent.mkdir(parents=True, exist_ok=True)  # another machine may not share the folder
    file.write_text(text)
    return InputError(f'{told}; the traceback is in {file}')


def _about_pipeline(runner: Runner, name: str, text: str) -> Optional[str]:
    calls = re.findall(r'File "(.+)", line (\d+), in ', text.rpartition('Original Traceback')[2])
    if is_own([file for file, _ in calls]):
        return None
    reason = (re.findall(r'^[\w.]+: .+', text, re.MULTILINE) or text.split())[-1]
    found = []
    for path, section in walk(runner.cfg[name], name):
        kinds = classes_of(str(section.get('type')), runner.cfg.get('default_scope'))
        for kind, _ in kinds if 'pipeline' in path.split('.') else ():
            found += [(depth, path, kind.__name__) for depth in _depths(kind, calls)]
    if found:
        _, path, kind = min(found)
        return f'{path} ({kind}) cannot take what it gets ({reason:.200}); correct it, or the steps before it'
    if 'collate' in text:
        return f'{name} cannot make a batch ({reason:.200}); let its pipeline give one size, and end with {PACKING}'
    return f'{name} cannot load its data ({reason:.200}); correct its pipeline'


def _depths(kind: Any, calls: Sequence[Tuple[str, str]]) -> Iterator[int]:
    """How far up the bases of a transform one is that is called at a file and line."""
    for depth, base in enumerate(inspect.getmro(kind) if inspect.isclass(kind) else ()):
        with suppress(OSError, TypeError):  # of a class that has no source
            lines, start = inspect.getsourcelines(base)
            where = [int(line) - start for file, line in calls if file == inspect.getsourcefile(base)]
            # All transforms are called through BaseTransform.
            if base is not BaseTransform and any(0 <= line < len(lines) for line in where):
                yield depth


def _about_model(runner: Runner, loader: str, frames: List[FrameType], reason: str) -> Optional[str]:
    owners = [frame.f_locals.get('self') for frame in frames]
    if is_own([frame.f_code.co_filename for frame in frames]) or any(isinstance(own, OptimWrapper) for own in owners):
        return None
    # Of the parts, or else of the whole model, which is itself a module of what distributes it.
    modules = [(name.removeprefix('module.'), module) for name, module in runner.model.named_modules()]
    names = {id(module): name for name, module in modules if name not in ('', 'module')}
    inner = [(names[id(owner)], frame) for owner, frame in zip(owners, frames) if id(owner) in names]
    metric = next((type(owner).__name__ for owner in owners if isinstance(owner, BaseMetric)), None)
    if metric:
        of_sizes = 'let LoadAnnotations follow what resizes' if re.search('(?i)shape|size', reason) else 'correct it'
        evaluator = loader.replace('dataloader', 'evaluator')
        return f'{evaluator} ({metric}) cannot compare the predictions with the annotations ({reason:.200}); {of_sizes}'
    if not inner:
        return f'the model cannot take the first batch ({reason:.200}); correct its settings'
    name = inner[-1][0]
    part = name.split('.')[0]
    if part == 'data_preprocessor':
        remedy = 'correct its settings, or the pipeline'
        if 'KeyError' in reason:
            remedy = f'let the pipeline end with {PACKING}'
        elif 'size in a batch' in reason:
            remedy = f'set {loader}.batch_size=1, or let the pipeline give one size'
        return f'model.{part} cannot take the first batch ({reason:.200}); {remedy}'
    if re.search('(?i)implementation for device|not (implemented for|compiled with)|only supports? (gpu|cuda)', reason):
        does_not = f'model.{name} does not run on this device or in this precision ({reason:.200})'
        return f'{does_not}; take another layer, or a GPU'
    cannot = f'model.{name} cannot take what it gets ({reason:.200})'
    if re.search("(?i)smaller than kernel|kernel size can't be greater|output size is too small", reason):
        return f'{cannot}; take larger images, for its maps are too small'
    if re.search("no attribute '(_gt_|gt_|bboxes|labels|masks)", reason):
        return f'{cannot}; let the pipeline load it by LoadAnnotations'
    if 'KeyError' in reason:
        return f'{cannot}; let the pipeline give it, such as by meta_keys of its last step'
    if re.search('num_classes|Target .* is out of bounds', reason):
        return f'{cannot}; correct the labels, or its num_classes'
    if 'loss' in name.rpartition('.')[2]:
        return f'{cannot}; correct its settings'
    got = next(filter(None, (_channels(frame) for own, frame in inner if own.split('.')[0] == part)), None)
    shapes = re.findall(r'\d+', reason) if re.search('(?i)shape|size', reason) else None
    if shapes and not set(shapes) & set((got or '').split(', ')):
        return f'{cannot}; correct its settings of sizes, or the sizes of the images'
    maps = f'model.{part} gets maps of {got} channels: ' if got else ''
    return f'{cannot}; {maps}correct its settings, such as in_channels'


def _channels(frame: FrameType) -> Optional[str]:
    """The numbers of channels of the maps that a method was called with."""
    arguments = frame.f_code.co_varnames[1 : frame.f_code.co_argcount]
    for value in [frame.f_locals.get(name) for name in arguments] + list(frame.f_locals.get('args', ())):
        maps: Any = [value] if isinstance(value, Tensor) else value
        if isinstance(maps, (list, tuple)) and maps and all(isinstance(x, Tensor) and x.dim() > 1 for x in maps):
            return ', '.join(str(x.shape[1]) for x in maps)
    return None
