"""Parts of a config that do not agree are refused before a run, in any task."""

import pytest
from mmengine import Config

from mmcyclemlp.checks import common
from mmcyclemlp.checks.consistency import check_batch, check_consistency
from mmcyclemlp.errors import InputError

from .helpers import NEEDS_OPERATORS

NAMES = ('ant', 'bee', 'cat')


def dataset(**metainfo):
    return dict(dataset=dict(type='BaseSegDataset', metainfo=metainfo))


def segmentation(classes=('ground', 'leaf'), number=2, loss=None, evaluator=None, save_best='mIoU', **more):
    head = dict(type='FPNHead', num_classes=number, loss_decode=loss or dict(type='CrossEntropyLoss'))
    return Config(
        dict(
            default_scope='mmseg',
            model=dict(type='EncoderDecoder', decode_head=head),
            train_dataloader=dict(batch_size=2, **dataset(classes=classes, **more)),
            val_dataloader=dataset(classes=classes),
            val_evaluator=evaluator or dict(type='IoUMetric'),
            default_hooks=dict(checkpoint=dict(type='CheckpointHook', save_best=save_best)),
        )
    )


def detection(number, **more):
    rpn = dict(type='RPNHead', num_classes=1)
    boxes = dict(type='StandardRoIHead', bbox_head=[dict(type='Shared2FCBBoxHead', num_classes=number)])
    return Config(
        dict(
            default_scope='mmdet',
            model=dict(rpn_head=rpn, roi_head=boxes),
            train_dataloader=dict(
                dataset=dict(type='CocoDataset', metainfo=dict(classes=('ant', 'bee', 'cat'), **more))
            ),
        )
    )


@pytest.fixture
def lines(monkeypatch):
    """What is told."""
    lines = []
    monkeypatch.setattr(common, 'print_log', lambda line, *args: lines.append(line))
    return lines


def refused(config, match):
    with pytest.raises(InputError, match=match) as error:
        check_consistency(config, 'train', 'val')
    assert '\n' not in str(error.value)


def test_parts_that_agree_pass():
    pytest.importorskip('mmdet')
    sigmoid = dict(type='CrossEntropyLoss', use_sigmoid=True)
    for config in (segmentation(), segmentation(('leaf',), 1, sigmoid), detection(3)):
        check_consistency(config, 'train', 'val')


@pytest.mark.parametrize('number', [2, 80])
def test_a_detector_has_as_many_classes_as_its_data(number):
    refused(
        detection(number), rf'of model.roi_head.bbox_head.0 as of train_.*, but they have {number} and 3 \(ant, bee'
    )


def test_a_palette_has_a_colour_for_each_class():
    refused(detection(3, palette=[(0, 0, 0), (1, 1, 1)]), 'a colour for each of the 3 classes .*palette has 2; add')
    refused(segmentation(palette=[(0, 0, 0)]), 'a colour for each of the 2 classes of train_dataloader')


def test_text_is_no_tuple_of_classes(tmp_path):
    refused(segmentation('leaf', 1), r"classes must be a tuple of names, got 'leaf'; a tuple .* is \('leaf', \)")
    refused(segmentation('no.txt', 1), 'metainfo.classes names the file no.txt, which does not exist')
    (tmp_path / 'classes.txt').write_text('ground\nleaf\n')  # mmengine reads them from a file
    check_consistency(segmentation(str(tmp_path / 'classes.txt')), 'train', 'val')


@pytest.mark.parametrize('place', ['train_dataloader.batch_size', 'train_cfg.val_interval', 'train_cfg.max_epochs'])
@pytest.mark.parametrize('value', [0, -1, 2.5, '3'])
def test_counts_are_from_one_up(place, value):
    config = segmentation()
    config.merge_from_dict({place: value})
    refused(config, f'{place} is {value!r}; expected a whole number from 1 up')
    config.merge_from_dict({place: 1, 'train_cfg.max_iters': 4e4})
    check_consistency(config, 'train', 'val')


def test_no_more_classes_are_asked_for_than_there_are():
    pytest.importorskip('mmpretrain')
    metric = dict(type='Accuracy', topk=(1, 5))
    config = Config(
        dict(
            default_scope='mmpretrain',
            model=dict(head=dict(type='LinearClsHead', num_classes=4)),
            val_evaluator=[metric],
        )
    )
    refused(config, r'val_evaluator has topk=\(1, 5\), but model.head has 4 classes')
    config.model.head.num_classes = 5
    check_consistency(config, 'train', 'val')


def test_all_splits_have_the_classes_of_training(lines):
    config = segmentation()
    config.val_dataloader.dataset.metainfo.classes = ('leaf', 'ground')
    refused(
        config,
        'classes of train_dataloader.dataset, ground, leaf, but val_dataloader.dataset has leaf, ground, and their '
        'labels would not be the same; give all the same metainfo.classes',
    )
    config.val_dataloader.dataset = dict(type='CityscapesDataset')  # which knows its own
    refused(config, r'ground, leaf, but val_.* has road, sidewalk, building, .* \(with road')


def test_a_checkpoint_has_the_classes_of_its_data(lines):
    config = segmentation()

    def trained(*classes):
        return dict(meta=dict(dataset_meta=dict(classes=classes)))

    check_consistency(config, 'val', checkpoint=trained('ground', 'leaf'))
    assert not lines
    with pytest.raises(InputError, match='of the checkpoint, leaf, ground, but val_dataloader.dataset has ground, l'):
        check_consistency(config, 'val', checkpoint=trained('leaf', 'ground'))
    check_consistency(config, 'val', checkpoint=trained('ground', 'leaves'))
    assert lines == [
        'the checkpoint was trained on the classes ground, leaves, but val_dataloader.dataset has ground, leaf'
    ]


def test_a_softmax_over_one_class_learns_nothing():
    refused(segmentation(('leaf',), 1), 'model.decode_head.num_classes is 1, but a softmax .* set num_classes=2')
    config = Config(dict(default_scope='mmpretrain', model=dict(head=dict(type='LinearClsHead', num_classes=1))))
    refused(config, 'model.head.num_classes is 1, but a softmax')


@pytest.mark.parametrize(
    'head',
    [
        dict(type='LinearRegressionHead'),
        dict(type='LinearRegressionHead', loss=dict(type='RegressionLoss')),
        dict(type='MultiLabelLinearClsHead'),
    ],
)
def test_one_output_without_a_softmax_is_fine(head):
    config = dict(data_preprocessor=dict(num_classes=1), model=dict(head=dict(num_classes=1, **head)))
    check_consistency(Config(dict(default_scope='mmpretrain', **config)), 'train', 'val')


@pytest.mark.parametrize(
    'scope, evaluator, wanted, given',
    [
        ('mmseg', dict(type='IoUMetric', iou_metrics=['mDice']), 'mIoU', 'aAcc, mAcc, mDice'),
        ('mmseg', dict(type='IoUMetric', prefix='seg'), 'mIoU', 'seg/aAcc, seg/mAcc, seg/mIoU'),
        ('mmpretrain', [dict(type='SingleLabelMetric')], 'accuracy/top1', 'single-label/f1-score, .*'),
        ('mmpretrain', [dict(type='MultiLabelMetric')], 'accuracy/top1', 'multi-label/f1-score, .*'),
        ('mmpretrain', [dict(type='AveragePrecision')], 'accuracy/top1', 'multi-label/mAP'),
        ('mmpretrain', [dict(type='Accuracy', topk=(1, 5))], ['accuracy/top5', 'auc'], 'accuracy/top1, accuracy/top5'),
        ('mmdet', dict(type='CocoMetric', metric='bbox'), 'coco/segm_mAP', 'coco/bbox_mAP, .*'),
    ],
)
def test_the_best_is_by_a_metric_that_is_computed(scope, evaluator, wanted, given):
    pytest.importorskip(scope)
    config = segmentation(evaluator=evaluator, save_best=wanted)
    config.default_scope, config.model = scope, {}
    last = wanted if isinstance(wanted, str) else wanted[-1]
    refused(config, f'save_best is {last}, but val_evaluator gives {given}; set it')
    for best in ('auto', None, given.split(',')[0]):
        config.default_hooks.checkpoint.save_best = best
        check_consistency(config, 'train', 'val')
    config.val_evaluator = [dict(type='DumpResults', out_file_path='a.pkl')]
    config.default_hooks.checkpoint.save_best = 'whatever'  # where nobody knows what is given
    check_consistency(config, 'train', 'val')


@NEEDS_OPERATORS
def test_the_hook_of_yolox_has_mosaics_to_end():
    config = detection(3)
    config.custom_hooks = [dict(type='NumClassCheckHook'), dict(type='YOLOXModeSwitchHook', num_last_epochs=5)]
    with pytest.raises(
        InputError, match='custom_hooks.1, YOLOXModeSwitchHook, ends the mosaics .* of CocoDataset; wrap'
    ):
        check_consistency(config, 'train')
    check_consistency(config, 'val')
    config.train_dataloader.dataset = dict(type='mmdet.MultiImageMixDataset', dataset=config.train_dataloader.dataset)
    check_consistency(config, 'train')


def test_windows_leave_no_gaps():
    config = segmentation()
    config.model.test_cfg = dict(mode='slide', crop_size=(192, 256), stride=(192, 256))
    check_consistency(config, 'train', 'val')
    config.model.test_cfg.crop_size = (256, 192)
    refused(config, r'slides windows of \(256, 192\) by \(192, 256\), which leaves gaps; set stride to')
    for stride in (192, None):
        config.model.test_cfg.update(crop_size=(256, 192), stride=stride)
        refused(config, rf'needs crop_size and stride, two numbers each .* got \(256, 192\) and {stride}')


def test_metrics_of_masks_are_those_of_mmseg():
    refused(segmentation(evaluator=dict(type='IoUMetric', iou_metrics=['mIOU'])), 'iou_metrics has mIOU; expected mIoU')


def test_weights_are_given_for_each_class():
    config = segmentation(loss=dict(type='CrossEntropyLoss', class_weight=[1.0, 2.0]))
    check_consistency(config, 'train', 'val')
    config.model.decode_head.loss_decode.class_weight.append(1.0)
    refused(
        config, 'model.decode_head has 2 classes, but class_weight of its CrossEntropyLoss has 3; give one for each'
    )


def test_an_evaluator_of_another_task_is_refused():
    refused(segmentation(evaluator=dict(type='Accuracy')), 'val_evaluator has Accuracy, which is no metric of mmseg')
    pytest.importorskip('mmdet')
    refused(segmentation(evaluator=dict(type='mmdet.CocoMetric')), 'mmdet.CocoMetric, which is no metric of mmseg')


@pytest.mark.parametrize('head', ['UPerHead', 'PSPHead'])
def test_a_batch_of_one_under_batch_norm(head):
    config = segmentation()
    config.model.decode_head.update(type=head, norm_cfg=dict(type='SyncBN'))
    check_batch(config, 5)  # drawn without end
    config.train_dataloader.sampler = dict(type='DefaultSampler')
    check_batch(config, 6)
    with pytest.raises(InputError, match='the last batch of 5 images is of one; set train_dataloader.drop_last=True'):
        check_batch(config, 5)
    config.train_dataloader.drop_last = True
    check_batch(config, 5)
    config.train_dataloader.batch_size = 1
    refused(config, rf'model.decode_head \({head}\) has batch norm .*batch_size is 1; set it to 2 or more')
    config.model.decode_head.norm_cfg.type = 'GN'
    check_consistency(config, 'train', 'val')
