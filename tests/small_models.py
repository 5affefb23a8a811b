"""Small models of every task with random weights, and images and a video for them."""

import json

import cv2
import numpy as np
import pytest
import torch
from mmengine.registry import DATASETS, MODELS, init_default_scope
from PIL import Image

from mmcyclemlp.config import load_config

from .helpers import REPO

BACKBONE = """dict(_delete_=True, type='CycleMLP', out_indices=(0, 1, 2, 3),
    arch=dict(depths=(1, 1, 1, 1), embed_dims=(8, 8, 16, 16), mlp_ratios=(2, 2, 2, 2)))"""
RUN = """
custom_imports = dict(imports=['mmcyclemlp'], allow_failed_imports=False)
backbone = {backbone}
"""
DETECTION = (
    RUN
    + """
default_scope = 'mmdet'
test_dataloader = dict(dataset=dict(
    type='CocoDataset', test_mode=True, ann_file='few.json', data_prefix=dict(img=''),
    metainfo=dict(classes=('ant', 'bee', 'cat'), palette=[(255, 0, 0), (0, 255, 0), (0, 0, 255)]),
    pipeline=[
        dict(type='LoadImageFromFile'),
        dict(type='Resize', scale=(96, 64), keep_ratio=True),
        dict(type='LoadAnnotations', with_bbox=True),
        dict(type='PackDetInputs', meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor'))]))
"""
)
CONFIGS = dict(
    retinanet="_base_ = 'mmdet::_base_/models/retinanet_r50_fpn.py'"
    + DETECTION
    + """
model = dict(
    backbone=backbone,
    neck=dict(in_channels=[8, 8, 16, 16], out_channels=16),
    bbox_head=dict(num_classes=3, in_channels=16, feat_channels=16, stacked_convs=1),
    test_cfg=dict(score_thr=0.0, max_per_img=7))
""",
    maskrcnn="_base_ = 'mmdet::_base_/models/mask-rcnn_r50_fpn.py'"
    + DETECTION
    + """
model = dict(
    backbone=backbone,
    neck=dict(in_channels=[8, 8, 16, 16], out_channels=16),
    rpn_head=dict(in_channels=16, feat_channels=16),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=16),
        bbox_head=dict(num_classes=3, in_channels=16, fc_out_channels=16),
        mask_roi_extractor=dict(out_channels=16),
        mask_head=dict(num_classes=3, num_convs=1, in_channels=16, conv_out_channels=16)),
    test_cfg=dict(rcnn=dict(score_thr=0.0, max_per_img=5)))
""",
    segmentor="_base_ = 'mmseg::_base_/models/fpn_r50.py'"
    + RUN
    + """
default_scope = 'mmseg'
model = dict(
    pretrained=None,
    backbone=backbone,
    neck=dict(in_channels=[8, 8, 16, 16], out_channels=16),
    decode_head=dict(num_classes=3, in_channels=[16, 16, 16, 16], channels=8))
test_dataloader = dict(dataset=dict(
    type='BaseSegDataset', test_mode=True, data_prefix=dict(img_path='photos'), img_suffix='.png',
    metainfo=dict(classes=('sky', 'tree', 'house'), palette=[(0, 0, 200), (0, 200, 0), (200, 0, 0)]),
    pipeline=[
        dict(type='LoadImageFromFile'),
        dict(type='Resize', scale=(96, 64), keep_ratio=True),
        dict(type='LoadAnnotations'),
        dict(type='PackSegInputs')]))
""",
    classifier=f"""
_base_ = '{REPO}/configs/cyclemlp/digits_b1.py'
model = dict(
    backbone=dict(arch=dict(_delete_=True, depths=(1, 1), embed_dims=(8, 16), mlp_ratios=(2, 2)), out_indices=(1, )),
    head=dict(in_channels=16))
""",
)
SIZES = ((60, 90), (60, 90), (90, 60), (60, 90))  # height, width


def pixels(rng, height, width):
    """An image uint8 [H, W, 3] with smooth structure."""
    coarse = rng.integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.BICUBIC))


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """Configs and checkpoints by name, four images in photos/ with few.json, and six frames in walk.avi."""
    folder = tmp_path_factory.mktemp('infer')
    rng = np.random.default_rng(0)
    (folder / 'photos').mkdir()
    for i, size in enumerate(SIZES):
        Image.fromarray(pixels(rng, *size)).save(folder / f'photos/{i}.png')
    images = [dict(id=i + 1, file_name=f'photos/{i}.png', height=h, width=w) for i, (h, w) in enumerate(SIZES)]
    categories = [dict(id=i, name=name) for i, name in enumerate(('ant', 'bee', 'cat'))]
    (folder / 'few.json').write_text(json.dumps(dict(images=images, annotations=[], categories=categories)))
    writer = cv2.VideoWriter(str(folder / 'walk.avi'), cv2.VideoWriter_fourcc(*'MJPG'), 10, (90, 60))
    for _ in range(6):
        writer.write(pixels(rng, 60, 90))
    writer.release()
    for name, text in CONFIGS.items():
        (folder / f'{name}.py').write_text(text.replace('{backbone}', BACKBONE))
        config = load_config(folder / f'{name}.py')
        torch.manual_seed(0)
        save(folder / f'{name}.pth', build(config))
    return folder


def build(config):
    init_default_scope(config.default_scope)
    settings = config.model.copy()
    if 'data_preprocessor' in config:
        settings.setdefault('data_preprocessor', config.data_preprocessor)
    model = MODELS.build(settings)
    for parameter in model.parameters():
        if parameter.dim() > 1:  # far from a head's all-but-constant start
            torch.nn.init.normal_(parameter, std=parameter[0].numel() ** -0.5)
    return model


def save(path, model):
    torch.save(dict(state_dict=model.state_dict(), meta={}), path)


@pytest.fixture
def infer(folder, tool):
    return lambda name, *args: tool(folder, 'infer.py', f'{name}.py', f'{name}.pth', *args)


def of_dataset(folder, name, monkeypatch):
    """Samples of a model on photos/ through its config's dataset, as tools/test.py does it."""
    monkeypatch.chdir(folder)
    config = load_config(folder / f'{name}.py')
    init_default_scope(config.default_scope)
    section = config.test_dataloader.dataset
    section.pipeline = [step for step in section.pipeline if step.type != 'LoadAnnotations']
    dataset = DATASETS.build(section)
    model = build(config)
    model.load_state_dict(torch.load(folder / f'{name}.pth')['state_dict'])
    with torch.no_grad():
        for i in range(len(dataset)):
            item = dataset[i]
            yield model.eval().test_step(dict(inputs=[item['inputs']], data_samples=[item['data_samples']]))[0]
