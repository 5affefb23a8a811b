"""The segmentation configs train a step and infer, by the recipes they name."""

import pytest
import torch
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, DefaultScope

from mmcyclemlp.config import load_config
from mmcyclemlp.config.edits import edited, launched

from .small_segmentation import CONFIGS, batch_of, model_of, tiny

KINDS = [
    'cyclemlp/ade20k_fpn_b1',
    'cyclemlp/ade20k_upernet_b2',
    'cyclemlp/cityscapes_fpn_b2',
    'cyclemlp/camvid_fpn_b1',
    'cyclemlp/digit-scenes_fpn_b1',
    'baselines/camvid_fpn_r18',
]


@pytest.fixture(autouse=True)
def scope():
    with DefaultScope.overwrite_default_scope('mmseg'):
        yield


@pytest.mark.slow
@pytest.mark.parametrize('name', KINDS)
def test_one_step_trains_and_the_result_infers(name):
    config = tiny(name)
    config.model.data_preprocessor.size = (64, 64)
    model = model_of(config)
    model.init_weights()
    wrapper = build_optim_wrapper(model, config.optim_wrapper)
    head = config.model.decode_head
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    losses = model.train().train_step(
        batch_of([(64, 64), (50, 61)], head.num_classes, head.get('ignore_index', 255)), wrapper
    )
    assert losses['loss'].isfinite() and losses['decode.acc_seg'] >= 0
    assert all(
        not torch.equal(before[name], parameter)
        for name, parameter in model.named_parameters()
        if 'backbone.stages' in name and 'weight' in name
    )
    with torch.no_grad():
        (sample,) = model.eval().test_step(batch_of([(45, 70)], head.num_classes))
    assert sample.pred_sem_seg.data.shape == (1, 45, 70)
    assert sample.seg_logits.data.shape == (head.num_classes, 45, 70)


@pytest.mark.parametrize('name', ['cyclemlp/ade20k_fpn_b1', 'cyclemlp/ade20k_upernet_b2', 'cyclemlp/camvid_fpn_b1'])
def test_norms_and_biases_do_not_decay(name):
    config = tiny(name)
    model = model_of(config)
    groups = build_optim_wrapper(model, config.optim_wrapper).optimizer.param_groups
    decay = {id(parameter): group['weight_decay'] for group in groups for parameter in group['params']}
    assert len(decay) == len(list(model.parameters()))
    expected = config.optim_wrapper.optimizer.weight_decay
    for name, parameter in model.named_parameters():
        assert decay[id(parameter)] == (0 if parameter.dim() == 1 else expected), name


def test_the_recipes():
    fpn, upernet, cityscapes = (load_config(CONFIGS / f'{name}.py') for name in KINDS[:3])
    assert fpn.optim_wrapper.optimizer == dict(type='AdamW', lr=2e-4, weight_decay=1e-4, fused=True)
    assert fpn.param_scheduler == [dict(type='PolyLR', power=0.9, by_epoch=False)]
    assert (fpn.train_cfg.max_iters, fpn.train_dataloader.batch_size, fpn.auto_scale_lr) == (
        40000,
        4,
        dict(enable=True, base_batch_size=32),
    )
    assert upernet.optim_wrapper.optimizer == dict(type='AdamW', lr=6e-5, weight_decay=0.01, fused=True)
    assert upernet.param_scheduler == [
        dict(type='LinearLR', start_factor=1e-6, by_epoch=False, end=1500),
        dict(type='PolyLR', power=1.0, by_epoch=False),
    ]
    assert (upernet.train_cfg.max_iters, upernet.train_dataloader.batch_size, upernet.auto_scale_lr) == (
        160000,
        2,
        dict(enable=True, base_batch_size=16),
    )
    assert cityscapes.train_cfg.max_iters == 80000 and cityscapes.model.decode_head.num_classes == 19
    for config, size in ((fpn, (512, 512)), (upernet, (512, 512)), (cityscapes, (512, 1024))):
        pipeline = {step.type: step for step in config.train_dataloader.dataset.pipeline}
        assert config.model.data_preprocessor.size == pipeline['RandomCrop'].crop_size == size
        assert 'pretrained' not in config.model


@pytest.mark.parametrize('family, archs', [('ade20k_fpn', '12345'), ('ade20k_upernet', '235')])
def test_a_family_differs_by_arch_and_channels_alone(family, archs):
    first, *others = (load_config(CONFIGS / f'cyclemlp/{family}_b{arch}.py') for arch in archs)
    for arch, config in zip(archs[1:], others):
        dims = [96, 192, 384, 768] if arch == '5' else [64, 128, 320, 512]
        backbone = config.model.backbone
        assert backbone.arch == f'b{arch}' and backbone.init_cfg == dict(
            type='Pretrained', checkpoint=f'cyclemlp://b{arch}', prefix='backbone.'
        )
        heads = [config.model.neck] if 'neck' in config.model else [config.model.decode_head]
        if 'auxiliary_head' in config.model:
            assert config.model.auxiliary_head.in_channels == dims[2]
            config.model.auxiliary_head.in_channels = first.model.auxiliary_head.in_channels
        for head in heads:
            assert head.in_channels == dims
            head.in_channels = [64, 128, 320, 512]
        backbone.arch, backbone.init_cfg = first.model.backbone.arch, first.model.backbone.init_cfg
        assert config.to_dict()['model'] == first.to_dict()['model']
        assert {**config.to_dict(), 'model': None} == {**first.to_dict(), 'model': None}


@pytest.mark.parametrize('name', KINDS)
def test_sync_batch_norm_is_for_several_gpus(name, monkeypatch):
    config = tiny(name)
    assert config.model.decode_head.norm_cfg.type == 'SyncBN'
    monkeypatch.setattr('mmcyclemlp.config.edits.get_device', lambda: 'cpu')
    config = edited(config, launched('pytorch'))  # what several processes without GPUs do
    model = MODELS.build(config.model)
    assert not any(isinstance(module, torch.nn.SyncBatchNorm) for module in model.modules())
    assert any(isinstance(module, torch.nn.BatchNorm2d) for module in model.modules())
