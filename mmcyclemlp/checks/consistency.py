"""Whether the parts of a config agree, in any task: what would end a run late, or go wrong without a word."""

import re
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path
from typing import Any, Iterator, Mapping, Optional, Sequence, Set, Tuple

from mmengine import Config, registry

from mmcyclemlp.config.keys import classes_of, section_arguments
from mmcyclemlp.config.walk import datasets, name_of, walk
from mmcyclemlp.errors import InputError

from .common import check_heads, check_same, heads, named_classes, some, trained_classes, warn

ALIKE = 0.92  # a slip of a letter; no variable of the libraries' configs is so close to a key
SCOPES = ('mmdet', 'mmpretrain', 'mmseg')
# Heads of mmseg that average over the whole image, where batch norm of a single image has one value a channel.
AVERAGING = ('UPerHead', 'PSPHead', 'ASPPHead', 'DepthwiseSeparableASPPHead')
COCO_ITEMS = ('mAP', 'mAP_50', 'mAP_75', 'mAP_s', 'mAP_m', 'mAP_l')
LABEL_METRICS = {'SingleLabelMetric': 'single-label', 'MultiLabelMetric': 'multi-label'}
IOU_ITEMS = {'mIoU': ('mIoU', 'mAcc'), 'mDice': ('mDice', 'mAcc'), 'mFscore': ('mFscore', 'mPrecision', 'mRecall')}


def check_consistency(config: Config, *splits: str, checkpoint: Optional[Mapping[str, Any]] = None) -> None:
    """Check a config before the data of its ``splits`` (``train``, ``val``, ``test``) are looked at.

    Raises:
        InputError: text in place of a tuple of classes; fewer colours than classes; of detection and segmentation,
            other classes in training than in ``splits``, or those of ``checkpoint`` in another order; a detector with
            another number of classes than its data; a softmax over one class; windows that leave gaps; an evaluator of
            another task; weights of another number of classes; for training, ``save_best`` of what the evaluator does
            not give, and a batch of one where batch norm needs two.
    """
    read = section_arguments((), config, config.get('default_scope'))[0]
    for key in set(config) - read:
        if near := get_close_matches(key, read, 1, ALIKE):
            warn(f'{key} of the config is read by nothing; did you mean {near[0]}?')
    for split in ('train', 'val', 'test'):
        for name, section, _ in datasets(config, split):
            _check_dataset(config, name, section)
    if config.get('default_scope') in ('mmdet', 'mmseg') and 'language_model' not in (config.get('model') or {}):
        _check_classes(config, splits, trained_classes(checkpoint))
    for split in splits:
        _check_evaluator(config, split)
        _check_counts(config, split)
    _check_losses(config)
    _check_windows(config)
    if 'train' in splits:
        _check_save_best(config)
        _check_switch(config)
        check_batch(config, None)


def _check_dataset(config: Config, name: str, section: dict) -> None:
    metainfo = section.get('metainfo') or {}
    classes, palette = metainfo.get('classes', section.get('classes')), metainfo.get('palette')
    if isinstance(classes, str) and not Path(classes).expanduser().is_file():
        if Path(classes).suffix:
            raise InputError(f'{name}.metainfo.classes names the file {classes}, which does not exist; correct it')
        raise InputError(
            f'{name}.metainfo.classes must be a tuple of names, got {classes!r}; a tuple of one name is ({classes!r}, )'
        )
    if not isinstance(classes, (list, tuple)):
        return
    if isinstance(palette, (list, tuple)) and len(palette) < len(classes):
        raise InputError(
            f'expected a colour for each of the {len(classes)} classes of {name}, but its metainfo.palette has '
            f'{len(palette)}; add the others, or leave palette out'
        )
    # Panoptic data lists stuff as well, and heads that read language have room for more.
    counts = 'Panoptic' not in name_of(section) and 'language_model' not in (config.get('model') or {})
    if counts and config.get('default_scope') == 'mmdet':
        check_heads(config, name, classes)


def _check_classes(config: Config, splits: Sequence[str], trained: Tuple[str, ...]) -> None:
    named = []
    for split in dict.fromkeys(['train', *splits]):
        for name, section, _ in datasets(config, split):
            kind, classes = named_classes(config, section)
            # What is tracked is one of the classes of a video.
            if classes and 'BaseVideoDataset' not in [base.__name__ for base in getattr(kind, '__mro__', ())]:
                named.append((name, classes))
    check_same(named, 'give all the same metainfo.classes')
    for name, classes in named[-1:] if trained else ():
        if sorted(classes) == sorted(trained):
            check_same([('the checkpoint', trained), (name, classes)], f'set {name}.metainfo.classes')
        else:
            warn(f'the checkpoint was trained on the classes {some(trained)}, but {name} has {some(classes)}')


def _check_losses(config: Config) -> None:
    for path, head in heads(config) if config.get('default_scope') != 'mmdet' else ():
        losses = [loss for key in ('loss', 'loss_decode') for _, loss in walk(head.get(key)) if 'type' in loss]
        for loss in losses:
            weights = loss.get('class_weight')
            if isinstance(weights, (list, tuple)) and len(weights) != head['num_classes']:
                raise InputError(
                    f'{path} has {head["num_classes"]} classes, but class_weight of its {name_of(loss)} has '
                    f'{len(weights)}; give one for each class, or leave them out'
                )
        if losses:
            softmax = all(name_of(loss) in ('CrossEntropyLoss', 'LabelSmoothLoss') for loss in losses)
        else:  # that of the head's class; a data_preprocessor has none
            softmax = 'Head' in name_of(head) and not re.search('Regression|MultiLabel', name_of(head))
        if head['num_classes'] == 1 and softmax and not any(loss.get('use_sigmoid') for loss in losses):
            raise InputError(
                f'{path}.num_classes is 1, but a softmax over one class is always 1, and learns nothing; give what is '
                'not of the class a class of its own, such as ground, and set num_classes=2'
            )


def _check_windows(config: Config) -> None:
    test_cfg = (config.get('model') or {}).get('test_cfg') or {}
    crop, stride = test_cfg.get('crop_size'), test_cfg.get('stride')
    if test_cfg.get('mode') != 'slide':
        return
    if not all(isinstance(pair, (list, tuple)) and len(pair) == 2 for pair in (crop, stride)):
        raise InputError(
            f'model.test_cfg of windows needs crop_size and stride, two numbers each such as (512, 512), got {crop} '
            f'and {stride}'
        )
    if any(step > size for step, size in zip(stride, crop)):
        raise InputError(
            f'model.test_cfg slides windows of {tuple(crop)} by {tuple(stride)}, which leaves gaps; set stride to '
            'crop_size or less'
        )


def _metrics(config: Config, split: str) -> Iterator[dict]:
    for path, section in walk(config.get(f'{split}_evaluator')):
        if (not path or path.isdigit()) and 'type' in section and 'metrics' not in section:  # else it is an evaluator
            yield section


def _check_evaluator(config: Config, split: str) -> None:
    scope = config.get('default_scope')
    known = import_module(f'{scope}.registry').METRICS if scope in SCOPES else registry.METRICS
    for metric in _metrics(config, split):
        kind = known.get(metric['type'])
        home = kind.__module__.split('.')[0] if kind is not None else None
        if kind is None or (home in SCOPES and scope in SCOPES and home != scope):
            raise InputError(
                f'{split}_evaluator has {metric["type"]}, which is no metric of {scope}, the library of this config; '
                'take one for this task, such as '
                + {'mmdet': 'CocoMetric', 'mmseg': 'IoUMetric'}.get(str(scope), 'Accuracy')
            )
        unknown = set(_list(metric, 'iou_metrics', 'mIoU')) - set(IOU_ITEMS) if name_of(metric) == 'IoUMetric' else ()
        if unknown:
            raise InputError(f'{split}_evaluator.iou_metrics has {min(unknown)}; expected {some(list(IOU_ITEMS))}')


def _check_counts(config: Config, split: str) -> None:
    """Numbers that would end a run late, as at its first validation."""
    places = {f'{split}_dataloader': ['batch_size'], f'{split}_cfg': ['max_epochs', 'max_iters', 'val_interval']}
    for place, keys in places.items():
        for key in keys:
            value = (config.get(place) or {}).get(key, 1)
            whole = isinstance(value, float) and value.is_integer() and place.endswith('_cfg')  # as in max_iters=4e4
            if (type(value) is not int and not whole) or value < 1:
                raise InputError(f'{place}.{key} is {value!r}; expected a whole number from 1 up')
    for metric in _metrics(config, split) if config.get('default_scope') == 'mmpretrain' else ():
        topk = metric.get('topk', 1)
        for place, head in heads(config) if name_of(metric) == 'Accuracy' else ():
            if max([topk] if isinstance(topk, int) else topk) > head['num_classes']:
                raise InputError(
                    f'{split}_evaluator has topk={topk}, but {place} has {head["num_classes"]} classes; correct one'
                )


def _check_save_best(config: Config) -> None:
    wanted = ((config.get('default_hooks') or {}).get('checkpoint') or {}).get('save_best')
    metrics = [_given(metric) for metric in _metrics(config, 'val')]
    if not wanted or not config.get('val_dataloader') or not metrics or any(given is None for given in metrics):
        return
    given = sorted(key for each in metrics for key in each or ())
    for key in [wanted] if isinstance(wanted, str) else wanted:
        if key != 'auto' and key not in given:
            raise InputError(
                f'default_hooks.checkpoint.save_best is {key}, but val_evaluator gives {some(given, 8) or "nothing"}; '
                'set it to one of these, or to None'
            )


def _check_switch(config: Config) -> None:
    """YOLOX's hook, which would end a run some epochs before its end."""
    data = (config.get('train_dataloader') or {}).get('dataset') or {}
    for i, hook in enumerate(config.get('custom_hooks') or ()):
        if name_of(hook) != 'YOLOXModeSwitchHook':
            continue
        if not any(hasattr(kind, 'update_skip_type_keys') for kind, _ in classes_of(name_of(data), 'mmdet')):
            raise InputError(
                f'custom_hooks.{i}, YOLOXModeSwitchHook, ends the mosaics of a MultiImageMixDataset, but '
                f'train_dataloader.dataset is of {name_of(data)}; wrap it in one, or leave the hook out'
            )


def _given(metric: dict) -> Optional[Set[str]]:
    """The names that a metric gives, or None where nobody knows."""
    name = name_of(metric)
    items: Sequence[Any]
    if metric.get('format_only'):
        return set()
    if name == 'Accuracy' and 'thrs' not in metric:
        topk = metric.get('topk', (1,))
        prefix, items = 'accuracy', [f'top{k}' for k in ([topk] if isinstance(topk, int) else topk)]
    elif name == 'MeanCrossEntropy':
        prefix, items = 'cross_entropy', ['mean']
    elif name == 'AveragePrecision' and metric.get('average', 'macro') == 'macro':
        prefix, items = 'multi-label', ['mAP']
    elif (
        name in LABEL_METRICS
        and metric.get('average', 'macro') == 'macro'
        and not {'thr', 'thrs', 'topk'} & set(metric)
    ):
        prefix, items = LABEL_METRICS[name], metric.get('items', ('precision', 'recall', 'f1-score'))
    elif name == 'IoUMetric':
        kinds = _list(metric, 'iou_metrics', 'mIoU')
        prefix, items = '', ['aAcc', *(item for kind in kinds for item in IOU_ITEMS[kind])]
    elif name == 'CocoMetric' and 'metric_items' not in metric:
        kinds = _list(metric, 'metric', 'bbox')
        if not set(kinds) <= {'bbox', 'segm'}:
            return None
        prefix, items = 'coco', [f'{kind}_{item}' for kind in kinds for item in COCO_ITEMS]
    else:
        return None
    prefix = metric.get('prefix') or prefix
    return {f'{prefix}/{item}' if prefix else item for item in items}


def _list(metric: dict, key: str, default: str) -> Sequence[str]:
    value = metric.get(key, default)
    return [value] if isinstance(value, str) else value


def check_batch(config: Config, images: Optional[int]) -> None:
    """Raise InputError for a batch of one image under batch norm over one position, also if it is the last one of an
    epoch of so many ``images``."""
    loader = config.get('train_dataloader') or {}
    size = loader.get('batch_size')
    for path, section in walk(config.get('model'), 'model'):
        norm = name_of(section.get('norm_cfg') or {})
        alone = norm in ('BN', 'BatchNorm2d', 'SyncBN', 'SyncBatchNorm') and name_of(section) in AVERAGING
        shared = norm.startswith('Sync') and config.get('launcher', 'none') != 'none'
        several = 'ReID' in name_of(section)  # images that make one item of the data
        if shared or several or not (alone or norm in ('BN1d', 'BatchNorm1d')):
            continue
        sampler = name_of(loader.get('sampler') or {})
        if size == 1:
            what, remedy = 'train_dataloader.batch_size is 1', 'set it to 2 or more'
        elif images and size and images % size == 1 and sampler == 'DefaultSampler' and not loader.get('drop_last'):
            what, remedy = f'the last batch of {images:,} images is of one', 'set train_dataloader.drop_last=True'
        else:
            continue
        raise InputError(
            f'{path} ({name_of(section)}) has batch norm over a single position of an image, and needs two images a '
            f'batch, but {what}; {remedy}'
        )
