"""Detectors on CycleMLP: our configs and mmdet's own train and predict, and start from the right weights."""

import copy
import json
import re
import shlex
import tarfile
from argparse import ArgumentParser
from pathlib import Path

import mmdet
import numpy as np
import pytest
import torch
from mmcv.transforms import Compose
from mmdet.testing import demo_mm_inputs
from mmengine.hub import get_config
from mmengine.model import revert_sync_batchnorm
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, init_default_scope
from PIL import Image

from mmcyclemlp.checks import check_pretrained
from mmcyclemlp.cli.arguments import OptionAction
from mmcyclemlp.config import load_config
from mmcyclemlp.config.edits import edited, mixed_precision
from mmcyclemlp.config.walk import walk
from mmcyclemlp.errors import InputError
from mmcyclemlp.models import CycleMLP

from .helpers import REPO, read_table

CONFIGS = REPO / 'configs' / 'cyclemlp'
B1 = CONFIGS / 'coco_retinanet_b1.py'
PAGE = (REPO / 'docs' / 'detection.md').read_text()
NO_WEIGHTS = {'model.backbone.init_cfg': None}
# B2's channels in few blocks.
SMALL = dict(depths=(1, 1, 1, 1), embed_dims=(64, 128, 320, 512), mlp_ratios=(1, 1, 1, 1))
# mmdet's configs that take the backbone as another does, whose example the page shows.
ALIKE = {
    'faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py': 'mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py',
    'cascade_rcnn/cascade-rcnn_r50_fpn_1x_coco.py': 'mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py',
    'atss/atss_r50_fpn_1x_coco.py': 'retinanet/retinanet_r50_fpn_1x_coco.py',
}


def build(config):
    """Model with random weights that predicts boxes however unsure it is, but few, which is quicker."""
    init_default_scope('mmdet')
    config = copy.deepcopy(config)
    config.model.test_cfg.get('rcnn', config.model.test_cfg).update(score_thr=0.0, max_per_img=9)
    if 'rpn' in config.model.test_cfg:
        config.model.test_cfg.rpn.max_per_img = config.model.train_cfg.rpn_proposal.max_per_img = 8
    model = revert_sync_batchnorm(MODELS.build(config.model))  # SyncBN needs several processes
    model.init_weights()
    return model


def batch(model):
    """Two images of different sizes, with three boxes each, and masks if the model learns them."""
    data = demo_mm_inputs(2, [(3, 64, 96), (3, 96, 64)], num_items=[3, 3], with_mask=model.with_mask, use_box_type=True)
    for sample in data['data_samples']:
        sample.set_metainfo(dict(scale_factor=(1.0, 1.0)))
        sample.gt_instances.labels %= 2
    return data


def without_gradient(model):
    """Names of parameters that a training step leaves alone."""
    model.train()
    loss, _ = model.parse_losses(model(**model.data_preprocessor(batch(model), True), mode='loss'))
    assert loss.isfinite() and loss > 0
    loss.backward()
    gradients = {name: p.grad for name, p in model.named_parameters()}
    assert all(gradient.isfinite().all() for gradient in gradients.values() if gradient is not None)
    return {name for name, gradient in gradients.items() if gradient is None}


def check_predictions(model):
    """Boxes are found, and lie inside their images; masks have the size of their image."""
    model.eval()
    with torch.no_grad():
        samples = model.test_step(batch(model))
    for sample, (height, width) in zip(samples, [(64, 96), (96, 64)], strict=True):
        found = sample.pred_instances
        assert 0 < len(found) <= 9 and ((found.scores >= 0) & (found.scores <= 1)).all()
        limits = found.bboxes.new_tensor([width, height, width, height])
        assert ((found.bboxes >= 0) & (found.bboxes <= limits)).all()
        if 'masks' in found:
            assert found.masks.shape == (len(found), height, width)


@pytest.mark.slow
@pytest.mark.parametrize('name', ['retinanet_b1', 'mask-rcnn_b1', 'cascade-mask-rcnn_b2', 'atss_b2'])
def test_every_parameter_learns_and_boxes_are_found(name):
    model = build(load_config(CONFIGS / f'coco_{name}.py', NO_WEIGHTS))
    assert without_gradient(model) == set()
    check_predictions(model)
    assert model.with_mask == ('mask' in name)


@pytest.mark.slow
@pytest.mark.parametrize('name', ['retinanet_b1', 'mask-rcnn_b1', 'cascade-mask-rcnn_b2'])
def test_mixed_precision_on_a_cpu_trains_like_float32(name, monkeypatch):
    monkeypatch.setattr('mmcyclemlp.config.edits.get_device', lambda: 'cpu')

    narrow = {256: 64, 1024: 64}

    def losses(amp):
        config = load_config(CONFIGS / f'coco_{name}.py', NO_WEIGHTS)
        config.model.backbone.arch = SMALL
        for _, section in walk(config.model):  # few channels: bfloat16 is slow on most CPUs
            section.update(
                {key: narrow[value] for key, value in section.items() if isinstance(value, int) and value in narrow}
            )
        if amp:
            config = edited(config, mixed_precision)
        torch.manual_seed(0)
        model = build(config)
        wrapper = build_optim_wrapper(model, config.optim_wrapper)
        model.train()
        data = batch(model)
        return [model.train_step(data, wrapper)['loss'].item() for _ in range(2)]

    mixed, full = losses(True), losses(False)
    assert mixed != full and mixed == pytest.approx(full, rel=0.1)


def test_our_atss_is_mmdets():
    ours, theirs = load_config(CONFIGS / 'coco_atss_b2.py'), get_config('mmdet::atss/atss_r50_fpn_1x_coco.py')

    def plain(section):
        if isinstance(section, dict):
            return {key: plain(value) for key, value in section.items() if key != '_scope_'}
        return section

    for part in ('bbox_head', 'test_cfg', 'data_preprocessor'):
        assert plain(ours.model[part]) == plain(theirs.model[part])
    assert plain(ours.model.train_cfg.assigner) == plain(theirs.model.train_cfg.assigner)
    assert plain(ours.model.neck) == {**plain(theirs.model.neck), 'in_channels': [128, 320, 512], 'start_level': 0}


def test_only_matrices_decay():
    config = load_config(B1, NO_WEIGHTS)
    model = build(config)
    groups = build_optim_wrapper(model, config.optim_wrapper).optimizer.param_groups
    decay = {id(group['params'][0]): group['weight_decay'] for group in groups}
    assert {(p.ndim > 1, decay[id(p)]) for p in model.parameters()} == {(True, 1e-4), (False, 0.0)}


@pytest.mark.parametrize('name, rate', [('retinanet_b1', 1e-4), ('mask-rcnn_b1', 2e-4), ('atss_b2', 1e-4)])
def test_the_recipe_is_pvts(name, rate):
    config = load_config(CONFIGS / f'coco_{name}.py')
    assert config.optim_wrapper.optimizer == dict(type='AdamW', lr=rate, weight_decay=1e-4, fused=True)
    warm_up, steps = config.param_scheduler
    assert (warm_up.end, warm_up.by_epoch, steps.milestones, steps.gamma) == (500, False, [8, 11], 0.1)
    assert config.train_cfg.max_epochs == 12 and config.train_dataloader.batch_size == 2
    assert config.auto_scale_lr == dict(enable=True, base_batch_size=16)
    resize = [step for step in config.train_dataloader.dataset.pipeline if step.type == 'Resize']
    assert [step.scale for step in resize] == [(1333, 800)]


def test_the_long_schedule_trains_at_many_scales():
    config = load_config(CONFIGS / 'coco_mask-rcnn_b2_ms-3x.py')
    assert config.train_cfg.max_epochs == 36 and config.param_scheduler[1].milestones == [27, 33]
    resize = Compose([step for step in config.train_dataloader.dataset.pipeline if step.type == 'RandomResize'])
    image = np.zeros((480, 640, 3), np.uint8)
    heights = {resize(dict(img=image, img_shape=image.shape[:2]))['img'].shape[0] for _ in range(200)}
    assert 480 <= min(heights) < 520 and 760 < max(heights) <= 800


def test_the_two_configs_on_blood_cells_differ_only_in_their_backbones():
    b1 = load_config(CONFIGS / 'bccd_retinanet_b1.py')
    r18 = load_config(REPO / 'configs/baselines/bccd_retinanet_r18.py')
    assert b1.model.backbone.get('init_cfg') is r18.model.backbone.init_cfg is None
    resnet = build(r18)
    assert all(p.requires_grad for p in resnet.parameters())
    assert all(m.training for m in resnet.train().modules() if isinstance(m, torch.nn.BatchNorm2d))
    assert [map.shape[1] for map in resnet.backbone(torch.zeros(1, 3, 64, 64))] == r18.model.neck.in_channels
    for config in (b1, r18):
        del config.model['backbone'], config.model.neck['in_channels']
    assert b1.to_dict() == r18.to_dict()


def test_blood_cells_are_named_in_the_order_of_their_file(shared_data, tmp_path):
    with tarfile.open(shared_data / 'bccd_trainval.tar.gz') as archive:
        names = [name for name in archive.getnames() if name.endswith(('train.json', 'val.json'))]
        contents = [json.load(archive.extractfile(name)) for name in names]
    config = load_config(CONFIGS / 'bccd_retinanet_b1.py')
    for content, loader in zip(contents, (config.train_dataloader, config.val_dataloader), strict=True):
        assert tuple(category['name'] for category in content['categories']) == loader.dataset.metainfo.classes


def example(base):
    """The page's file for a config of mmdet's, or that of one alike with this one in its place."""
    blocks = re.findall(r"```python\n(_base_ = 'mmdet::(\S+)'\n.*?)```", PAGE, re.DOTALL)
    shown = ALIKE.get(base, base)
    return {name: block for block, name in blocks}[shown].replace(shown, base)


@pytest.mark.parametrize(
    'base',
    [
        'mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py',
        'retinanet/retinanet_r50_fpn_1x_coco.py',
        'fcos/fcos_r50-caffe_fpn_gn-head_1x_coco.py',
        'rtmdet/rtmdet_s_8xb32-300e_coco.py',
        *ALIKE,
    ],
)
@pytest.mark.slow
def test_the_page_shows_how_mmdets_own_configs_take_the_backbone(base, tmp_path):
    assert f'`{base.split("/")[1]}`' in PAGE or f"'mmdet::{base}'" in PAGE
    path = tmp_path / 'detector.py'
    path.write_text(example(base))
    assert len(path.read_text().splitlines()) <= 12
    config = load_config(path)
    assert config.model.backbone.arch == 'b2'
    config.model.backbone.arch = SMALL  # the same channels, and quick
    model = build(config)
    assert isinstance(model.backbone, CycleMLP) and without_gradient(model) == set()
    check_predictions(model)


def test_four_maps_leave_a_norm_unused_where_the_neck_takes_three():
    config = load_config(
        B1,
        {
            **NO_WEIGHTS,
            'model.backbone.out_indices': (0, 1, 2, 3),
            'model.neck.in_channels': [64, 128, 320, 512],
            'model.neck.start_level': 1,
        },
    )
    config.model.backbone.arch = SMALL
    assert without_gradient(build(config)) == {'backbone.norm0.weight', 'backbone.norm0.bias'}


def test_options_alone_put_the_backbone_into_mmdets_own_config():
    command = re.search(r'mask-rcnn_r50_fpn_1x_coco.py --cfg-options \\\n(.*?)```', PAGE, re.DOTALL)[1]
    parser = ArgumentParser()
    parser.add_argument('--cfg-options', nargs='+', action=OptionAction)
    options = parser.parse_args(['--cfg-options', *shlex.split(command.replace('\\', ''))]).cfg_options
    path = Path(mmdet.__file__).parent / '.mim/configs/mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py'
    config = load_config(path, options)
    assert config.model.backbone == dict(type='CycleMLP', arch='b2', out_indices=(0, 1, 2, 3))
    config.model.backbone.arch = SMALL
    assert without_gradient(build(config)) == set()


def save_weights(path, arch='b1', prefix='backbone.', **kwargs):
    """A checkpoint of a backbone, as tools/convert_checkpoint.py writes it."""
    state = CycleMLP(arch, **kwargs).state_dict()
    torch.save(dict(state_dict={prefix + key: value for key, value in state.items()}), path)


def start(path, **options):
    """What training checks before it starts from these weights."""
    options = {f'model.backbone.{key}': value for key, value in options.items()}
    check_pretrained(load_config(B1, {'model.backbone.init_cfg.checkpoint': str(path), **options}))


@pytest.mark.parametrize(
    'kwargs',
    [
        dict(),  # a classifier's: no norms of the first stages
        dict(out_indices=(0, 1, 2, 3)),
    ],
)
def test_weights_that_fit_are_taken(tmp_path, kwargs):
    save_weights(tmp_path / 'b1.pth', **kwargs)
    start(tmp_path / 'b1.pth')


@pytest.mark.parametrize(
    'saved, options, sentence',
    [
        (dict(), dict(arch='b2'), r'weights of CycleMLP b2 for model.backbone, but .*; set model.backbone.arch=b1'),
        (dict(arch='b2'), dict(), r'weights of CycleMLP b1 for model.backbone, but .*b1.pth holds CycleMLP b2'),
        (dict(prefix=''), dict(), r'but backbone.patch_embed.proj.weight and \d+ more .*; correct the prefix'),
        (dict(out_indices=(1,)), dict(), r'but backbone.stages.2.0.norm1.weight and \d+ more are not there'),
        (dict(in_channels=1), dict(), r'but backbone.patch_embed.proj.weight and 0 more are not there in its shapes'),
    ],
)
def test_weights_that_would_be_passed_over_are_refused(tmp_path, saved, options, sentence):
    save_weights(tmp_path / 'b1.pth', **saved)
    with pytest.raises(InputError, match=sentence):
        start(tmp_path / 'b1.pth', **options)


def test_unconverted_weights_are_refused_with_the_option(tmp_path):
    torch.save(dict(model={'patch_embed.proj.weight': torch.zeros(64, 3, 7, 7)}), tmp_path / 'CycleMLP_B1.pth')
    with pytest.raises(InputError, match=r"take the authors' by .*=cyclemlp://b1"):
        start(tmp_path / 'CycleMLP_B1.pth')


def test_absent_weights_are_asked_for_with_the_option(tmp_path, tool):
    code, _, error = tool(tmp_path, 'train.py', B1, '--cfg-options', 'model.backbone.init_cfg.checkpoint=absent.pth')
    assert (code, error.splitlines()[-1]) == (
        2,
        "error: expected the weights of model.backbone in absent.pth, which does not exist; take the authors' by "
        '--cfg-options model.backbone.init_cfg.checkpoint=cyclemlp://b1, or train without by --cfg-options '
        'model.backbone.init_cfg=None',
    )


@pytest.mark.parametrize('path, run', [('work_dirs/digits_b1/epoch_15.pth', 'digits_b1'), ('work_dirs', 'work_dirs')])
def test_absent_weights_of_a_run_are_asked_for_by_its_name(path, run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=f'which does not exist; train {run} first, correct the path, or train with'):
        start(path)


FEW = f"""
_base_ = '{CONFIGS}/bccd_retinanet_b1.py'
model = dict(
    backbone=dict(
        arch=dict(_delete_=True, depths=(1, 1, 1, 1), embed_dims=(8, 8, 8, 8), mlp_ratios=(1, 1, 1, 1)),
        init_cfg=dict(type='Pretrained', checkpoint='absent.pth')),
    neck=dict(in_channels=[8, 8, 8], out_channels=32),
    bbox_head=dict(in_channels=32, feat_channels=32),
    test_cfg=dict(score_thr=0.))
train_dataloader = dict(num_workers=0, dataset=dict(data_root='few', ann_file='few.json'))
val_dataloader = dict(num_workers=0, dataset=dict(data_root='few', ann_file='few.json'))
test_dataloader = dict(num_workers=0, dataset=dict(data_root='few', ann_file='few.json'))
val_evaluator = dict(ann_file='few/few.json')
test_evaluator = dict(ann_file='few/few.json')
train_cfg = dict(max_epochs=1, val_interval=1)
"""


@pytest.mark.slow
def test_weights_are_needed_to_start_but_neither_to_test_nor_to_resume(tmp_path, tool):
    (tmp_path / 'few.py').write_text(FEW)
    (tmp_path / 'few/images').mkdir(parents=True)
    for i in (1, 2):
        Image.new('RGB', (96, 64), (90 * i, 0, 0)).save(tmp_path / f'few/images/{i}.png')
    (tmp_path / 'few/few.json').write_text(
        json.dumps(
            dict(
                images=[dict(id=i, file_name=f'{i}.png', width=96, height=64) for i in (1, 2)],
                annotations=[
                    dict(id=i, image_id=i, category_id=1, bbox=[9, 9, 50, 40], area=2000, iscrowd=0) for i in (1, 2)
                ],
                categories=[dict(id=i, name=name) for i, name in enumerate(('RBC', 'WBC', 'Platelets'), start=1)],
            )
        )
    )

    code, _, error = tool(tmp_path, 'train.py', 'few.py')
    assert code == 2 and 'model.backbone in absent.pth, which does not exist; correct the path, or train' in error
    args = 'train.py', 'few.py', '--cfg-options'
    assert tool(tmp_path, *args, 'model.backbone.init_cfg=None')[0] == 0
    code, output, _ = tool(tmp_path, 'test.py', 'few.py', 'work_dirs/few/epoch_1.pth')
    assert code == 0 and re.search(r'^coco/bbox_mAP_50: \d', output, re.MULTILINE)
    assert tool(tmp_path, *args, 'train_cfg.max_epochs=2', '--resume')[0] == 0
    rows = read_table(tmp_path / 'work_dirs/few/curves.csv')
    assert [row['epoch'] for row in rows] == ['1', '2']
    # All boxes are of medium size, and of one class: there is no AP of others.
    assert {'train loss', 'test bbox_mAP', 'test bbox_mAP_m', 'test RBC_precision'} <= set(rows[0])
    assert not {'test bbox_mAP_s', 'test bbox_mAP_l', 'test WBC_precision'} & set(rows[0])
