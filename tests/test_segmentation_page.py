"""The configs that docs/segmentation.md and docs/your_data.md show: several scales, mmseg's with CycleMLP, own data."""

import re

import numpy as np
import pytest
import torch
from mmengine.dataset import pseudo_collate
from mmengine.optim import build_optim_wrapper
from mmengine.registry import DefaultScope
from mmseg.registry import DATASETS
from PIL import Image

from mmcyclemlp.checkpoints import check_fits
from mmcyclemlp.checks import check_masks
from mmcyclemlp.config import load_config

from .helpers import NEEDS_OPERATORS, REPO
from .small_segmentation import CONFIGS, DIMS, TINY, batch_of, logits, model_of

PAGE = REPO / 'docs/segmentation.md'
OWN_DATA = REPO / 'docs/your_data.md'


@pytest.fixture(autouse=True)
def scope():
    with DefaultScope.overwrite_default_scope('mmseg'):
        yield


def test_the_pages_dataset_of_ones_own(dataset):
    config = written(dataset, 'data/mine', OWN_DATA)
    assert [step.type for step in config.train_dataloader.dataset.pipeline] == [
        'LoadImageFromFile',
        'LoadAnnotations',
        'RandomResize',
        'RandomCrop',
        'RandomFlip',
        'PhotoMetricDistortion',
        'PackSegInputs',
    ]
    resized = [step.get('scale') for step in config.val_dataloader.dataset.pipeline]
    assert resized == [None, config.train_dataloader.dataset.pipeline[2].scale, None, None]  # tested as trained
    check_masks(config, 'train', 'val')
    np.random.seed(0)  # the image is resized by chance, and might be smaller than the crop
    sample = DATASETS.build(config.train_dataloader.dataset)[0]
    assert sample['inputs'].shape == (3, 512, 512)
    assert config.model.decode_head.num_classes == 3 and config.model.backbone.arch == 'b1'


def test_the_pages_test_at_several_scales(dataset):
    config = written(dataset, 'SegTTAModel')
    check_masks(config)
    shown = load_config(CONFIGS / 'cyclemlp/ade20k_fpn_b2.py')
    assert config.model.module.to_dict() == shown.model.to_dict()
    # Six scales and their mirror images, of an image in ADE20K's folders.
    config.test_dataloader.dataset.update(
        data_root=str(dataset / 'data/mine'), data_prefix=dict(img_path='images/val', seg_map_path='masks/val')
    )
    item = DATASETS.build(config.test_dataloader.dataset)[0]
    assert [tuple(view.shape[1:]) for view in item['inputs'][::2]] == [
        (20, 30),
        (30, 45),
        (40, 60),
        (50, 75),
        (60, 90),
        (70, 105),
    ] and len(item['inputs']) == 12
    config.model.module.update(
        backbone=dict(type='CycleMLP', arch=TINY, out_indices=(0, 1, 2, 3)),
        neck=dict(type='FPN', in_channels=list(DIMS), out_channels=256, num_outs=4),
    )
    model = model_of(config).eval()
    check_fits(model, model.module.state_dict(), 'weights')
    with torch.no_grad():
        (sample,) = model.test_step(pseudo_collate([item]))
    assert sample.pred_sem_seg.data.shape == (1, 40, 60)


@pytest.fixture
def dataset(tmp_path):
    """A folder with images and masks of three classes, as the page describes them."""
    for split in ('train', 'val'):
        for kind, suffix, shape in (('images', '.jpg', (40, 60, 3)), ('masks', '.png', (40, 60))):
            folder = tmp_path / 'data/mine' / kind / split
            folder.mkdir(parents=True)
            pixels = np.random.default_rng(0).integers(0, 3, shape, dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f'one{suffix}')
    return tmp_path


def written(folder, sign, page=PAGE):
    """The config of a page that holds a sign, saved in a folder; its data is looked for there."""
    (code,) = (code for code in re.findall(r'```python\n(.*?)```', page.read_text(), re.DOTALL) if sign in code)
    (folder / 'config.py').write_text(code.replace("'configs/", f"'{CONFIGS}/"))
    return load_config(folder / 'config.py')


def examples():
    """Those that inherit from mmseg's own, by its folder."""
    for code in re.findall(r"```python\n(_base_ = 'mmseg::.*?)```", PAGE.read_text(), re.DOTALL):
        name = re.search(r"'mmseg::(\w+)/", code)[1]
        marks = [NEEDS_OPERATORS] if 'mmdet' in code else []
        yield pytest.param(code, id=name, marks=marks)


def test_the_page_shows_configs():
    assert {example.id for example in examples()} >= {'sem_fpn', 'upernet', 'segformer', 'mask2former'}


@pytest.mark.slow
@pytest.mark.parametrize('code', examples())
def test_mmsegs_own_configs_take_the_backbone(code, tmp_path):
    (tmp_path / 'config.py').write_text(code)
    assert len(code.splitlines()) <= 13
    config = load_config(tmp_path / 'config.py')
    # One block a stage builds faster, with the channels of b2.
    config.model.backbone.update(
        arch=dict(depths=(1,) * 4, embed_dims=(64, 128, 320, 512), mlp_ratios=(1,) * 4), init_cfg=None
    )
    model = model_of(config)
    wrapper = build_optim_wrapper(model, config.optim_wrapper)
    check_adamw(wrapper, config.param_scheduler)
    if 'AdamW' in code:
        check_decay(model, wrapper)
    model.data_preprocessor.size = (64, 64)
    losses = model.train().train_step(batch_of([(64, 64), (64, 64)], 150), wrapper)
    assert losses['loss'].isfinite()
    out = logits(model.eval(), batch_of([(45, 70)], 150))
    assert out.shape == (150, 45, 70) and out.isfinite().all()


def check_adamw(wrapper, schedulers):
    """AdamW, and a rate that falls until the end of the run."""
    assert isinstance(wrapper.optimizer, torch.optim.AdamW)
    last = schedulers[-1]
    assert last['end'] == 160000 and last.get('eta_min', 0.0) == 0.0 < min(
        group['lr'] for group in wrapper.optimizer.param_groups
    )


def check_decay(model, wrapper):
    """No weight decay on norms and biases."""
    decay = {id(p): group['weight_decay'] for group in wrapper.optimizer.param_groups for p in group['params']}
    assert {(p.ndim > 1, decay[id(p)] > 0.0) for p in model.parameters()} == {(True, True), (False, False)}
