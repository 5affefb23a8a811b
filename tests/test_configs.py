"""Every config builds its model, runs it, and is written the same way."""

import copy
import os
import re
import subprocess
import sys

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope

from mmcyclemlp.config import load_config
from mmcyclemlp.config.keys import section_arguments
from mmcyclemlp.errors import InputError
from mmcyclemlp.models import ARCHS

from .helpers import REPO

LEAVES = sorted(path for path in (REPO / 'configs').rglob('*.py') if '_base_' not in path.parts)
NAMES = [str(path.relative_to(REPO / 'configs')) for path in LEAVES]


@pytest.fixture(scope='module', params=LEAVES, ids=NAMES)
def leaf(request):
    """A config's path and content, read once for all tests."""
    return request.param, load_config(request.param)


def depth(path):
    """Steps of inheritance from a config of ours to its farthest root."""
    bases = [path.parent / base for base in Config._get_base_files(str(path)) if '::' not in base]
    return 1 + max(map(depth, bases)) if bases else 0


def set_by_libraries(path):
    """Names that bases of the libraries set at their top, read or not."""
    names = set()
    for base in Config._get_base_files(str(path)):
        if '::' in base:
            names.update(Config.fromfile(Config._get_cfg_path(base, str(path))[0]))
        else:
            names |= set_by_libraries(path.parent / base)
    return names


def test_the_leaves_are_found():
    assert {'cyclemlp/cifar10_b1.py', 'cyclemlp/digits_b1.py'} <= set(NAMES)
    assert {
        'cyclemlp/coco_mask-rcnn_b2_ms-3x.py',
        'cyclemlp/coco_cascade-mask-rcnn_b2.py',
        'cyclemlp/coco_atss_b2.py',
        'cyclemlp/coco-mini_mask-rcnn_b1.py',
        'cyclemlp/digit-scenes_retinanet_b1.py',
        'cyclemlp/bccd_retinanet_b1.py',
        'baselines/bccd_retinanet_r18.py',
        *(f'cyclemlp/coco_{head}_b{i}.py' for head in ('retinanet', 'mask-rcnn') for i in '12345'),
    } <= set(NAMES)
    assert {
        'cyclemlp/cityscapes_fpn_b2.py',
        'cyclemlp/camvid_fpn_b1.py',
        'cyclemlp/digit-scenes_fpn_b1.py',
        'baselines/camvid_fpn_r18.py',
        *(f'cyclemlp/ade20k_fpn_b{i}.py' for i in '12345'),
        *(f'cyclemlp/ade20k_upernet_b{i}.py' for i in '235'),
    } <= set(NAMES)


@pytest.mark.parametrize('path', LEAVES, ids=NAMES)
def test_a_leaf_says_only_what_differs(path):
    assert len(path.read_text().splitlines()) <= 30
    assert 1 <= depth(path) <= 3


def image_side(path):
    """Of a leaf's images; some networks take no other."""
    return dict(cifar10=32, stl10=96, imagenet=224).get(path.stem.partition('_')[0], 64)


@pytest.mark.slow
def test_a_config_builds_its_model_and_runs_it(leaf):
    path, config = leaf
    init_default_scope(config.default_scope)
    settings = copy.deepcopy(config.model)
    if 'data_preprocessor' in config:
        settings.setdefault('data_preprocessor', config.data_preprocessor)
    model = MODELS.build(settings).eval()
    images = torch.randn(2, 3, image_side(path), image_side(path))
    with torch.no_grad():
        # A detector's heads need more than images; that the neck fits its backbone shows here.
        out = model.extract_feat(images) if config.default_scope == 'mmdet' else model(images, mode='tensor')
    tensors = [out] if isinstance(out, torch.Tensor) else list(flat(out))
    assert tensors and all(t.isfinite().all() for t in tensors)
    if config.default_scope == 'mmpretrain':
        assert out.shape == (2, config.model.head.num_classes)


def flat(out):
    for part in out:
        if isinstance(part, torch.Tensor):
            yield part
        else:
            yield from flat(part)


def test_nothing_in_a_config_goes_unread(leaf):
    path, config = leaf
    known, _ = section_arguments((), config, config.default_scope)
    assert set(config) <= known | set_by_libraries(path)


def test_every_run_draws_its_curves_and_resumes_its_schedule(leaf):
    hooks = {hook['type'] for hook in leaf[1].custom_hooks}
    assert {'CurvesHook', 'ResumeScheduleHook'} <= hooks


def test_the_name_says_dataset_and_arch(leaf):
    path, config = leaf
    if path.parent.name == 'cyclemlp':
        arch = config.model.backbone.arch
        if not isinstance(arch, str):  # of depths of its own: named after the first as wide, stage by stage
            arch = next(
                name
                for name, known in ARCHS.items()
                if known['embed_dims'][: len(arch.embed_dims)] == tuple(arch.embed_dims)
            )
        assert re.fullmatch(rf'.*_{arch}(_(seed-literal|light|strong|ms-3x))?', path.stem)


def test_cifar10_follows_the_studys_recipe():
    config = load_config(REPO / 'configs' / 'cyclemlp' / 'cifar10_b1.py')
    assert config.optim_wrapper.optimizer == dict(type='AdamW', lr=1e-3, weight_decay=0.05, fused=True)
    assert config.param_scheduler == [dict(type='CosineAnnealingLR', by_epoch=True)]  # T_max follows max_epochs
    assert (config.train_cfg.max_epochs, config.train_dataloader.batch_size) == (100, 256)
    assert [step.type for step in config.train_dataloader.dataset.pipeline] == ['PackInputs']
    assert config.train_dataloader.sampler.shuffle


def test_warnings_are_seen_where_a_config_reads_the_environment(tmp_path):
    (tmp_path / 'a.py').write_text("batch = '{{$SIZE:8}}'\n")
    code = 'from mmcyclemlp.config import load_config; from mmcyclemlp.checks.common import warn; load_config("a.py")'
    line = [sys.executable, '-c', f'{code}; warn("mind the gap")']
    done = subprocess.run(line, cwd=tmp_path, text=True, capture_output=True, env={**os.environ, 'SIZE': '4'})
    assert done.returncode == 0, done.stderr
    assert 'WARNING - mind the gap' in done.stdout


def test_folders_of_images_may_have_any_name(tmp_path, monkeypatch):
    for split, name in (('train', 'a'), ('val', 'a')):
        (tmp_path / "it's mine" / split / name).mkdir(parents=True)
    monkeypatch.setenv('DATA', str(tmp_path / "it's mine"))
    config = load_config(REPO / 'configs/cyclemlp/finetune_b1.py')
    assert config.train_dataloader.dataset.data_root == str(tmp_path / "it's mine")


@pytest.mark.parametrize(
    'text, sentence',
    [
        ("model = 'x'", r"model must be a section, as in model=dict\(...\), got 'x'"),
        ('val_dataloader = [1]', r'val_dataloader must be a section'),
        ("default_scope = 'a.b'", r"default_scope is 'a.b'; expected mmpretrain, mmdet or mmseg"),
    ],
)
def test_sections_and_scopes_are_what_they_must_be(tmp_path, text, sentence):
    (tmp_path / 'a.py').write_text(text)
    with pytest.raises(InputError, match=sentence):
        load_config(tmp_path / 'a.py')
