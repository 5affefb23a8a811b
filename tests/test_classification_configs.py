"""The classification configs: what their recipes say, and two iterations of each on made images."""

import copy
import itertools
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mmengine.hooks import Hook
from mmengine.registry import DATA_SAMPLERS, MODELS, PARAM_SCHEDULERS, init_default_scope
from mmpretrain.models.losses import CrossEntropyLoss, LabelSmoothLoss
from PIL import Image

from mmcyclemlp.config import load_config
from mmcyclemlp.datasets.fixed_order import FixedOrderSampler
from mmcyclemlp.engine import ConsoleRunner

from .helpers import REPO, read_table

CONFIGS = REPO / 'configs'
NUMBER = itertools.count()  # mmengine keeps its loggers by experiment name
SYSTEMS = {
    'resnet18': 'baselines/{}_resnet18.py',
    'regnet': 'baselines/{}_regnet.py',
    'vit': 'baselines/{}_vit.py',
    'mixer': 'baselines/{}_mixer.py',
    'b1': 'cyclemlp/{}_b1.py',
}
SIDES = dict(cifar10=32, stl10=96, imagenet=224)
CLASSES = dict(
    cifar10=('airplane', 'automobile', 'bird', 'cat', 'deer', 'dog', 'frog', 'horse', 'ship', 'truck'),
    stl10=('airplane', 'bird', 'car', 'cat', 'deer', 'dog', 'horse', 'monkey', 'ship', 'truck'),
)
each_system = pytest.mark.parametrize('system', SYSTEMS)


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    """CIFAR-10 and STL-10 of one image a class and split, ImageNet of four images; the class is the brightness."""
    root = tmp_path_factory.mktemp('data')
    rng = np.random.default_rng(0)

    def write(path, side, label):
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(20 * label, 20 * label + 30, (side, side, 3))
        Image.fromarray(pixels.astype(np.uint8)).save(path)

    for dataset, classes in CLASSES.items():
        for split in ('train', 'test'):
            for label, name in enumerate(classes):
                write(root / dataset / split / name / '0.png', SIDES[dataset], label)
    for split in ('train', 'val'):
        lines = []
        for label in range(4):
            write(root / 'imagenet' / split / f'{label}.png', 64, label)
            lines.append(f'{label}.png {label}')
        (root / 'imagenet' / 'meta').mkdir(exist_ok=True)
        (root / 'imagenet' / 'meta' / f'{split}.txt').write_text('\n'.join(lines) + '\n')
    return root


def config_of(system, dataset, recipe=None, folder=None):
    """A leaf's config; with another recipe, the same leaf with that one line changed."""
    path = CONFIGS / SYSTEMS[system].format(dataset)
    if recipe is None:
        return load_config(path)
    text, old = path.read_text(), f'recipes/{dataset}_seed.py'
    assert text.count(old) == 1
    changed = folder / f'{system}_{dataset}_{recipe}.py'
    text = text.replace(old, f'recipes/{dataset}_{recipe}.py')
    changed.write_text(text.replace('../_base_', str(CONFIGS / '_base_')))
    return load_config(changed)


def shortened(config, data, work_dir, batch_size=4):
    """The config with made images, two iterations an epoch, one epoch."""
    dataset = config.train_dataloader.dataset.data_root.rpartition('/')[2]
    for name in ('train', 'val', 'test'):
        loader = config[f'{name}_dataloader']
        loader.batch_size, loader.num_workers, loader.persistent_workers = batch_size, 0, False
        loader.dataset.data_root = str(data / dataset)
        loader.dataset.update(indices=list(range(2 * batch_size if name == 'train' else 2)), serialize_data=False)
    config.train_cfg.max_epochs = 1
    config.work_dir, config.experiment_name = str(work_dir), f'classification{next(NUMBER)}'
    config.default_hooks.checkpoint.update(interval=-1, save_last=False, save_best=None)
    config.log_level = 'ERROR'
    return config


def two_iterations(config, data, work_dir, batch_size=4):
    """Train on made images; returns the runner and the row of its curves."""
    runner = ConsoleRunner.from_cfg(shortened(config, data, work_dir, batch_size))
    before = [parameter.detach().clone() for parameter in runner.model.parameters()]
    runner.train()
    assert runner.iter == 2
    changed = [not torch.equal(a, b) for a, b in zip(before, runner.model.parameters())]
    assert sum(changed) > 0.9 * len(changed)
    (row,) = read_table(work_dir / 'curves.csv')
    assert math.isfinite(float(row['train loss'])) and math.isfinite(float(row['test loss']))
    return runner, row


class AverageAtStart(Hook):
    """Remembers the averaged weights with which training begins."""

    def before_train(self, runner):
        average = average_of(runner)
        self.steps, self.weights = average.steps.item(), copy.deepcopy(average.module.state_dict())


def average_of(runner):
    return next(hook for hook in runner.hooks if type(hook).__name__ == 'EMAHook').ema_model


@pytest.mark.slow
@each_system
@pytest.mark.parametrize('dataset', ['cifar10', 'stl10'])
def test_small_images_train_under_the_studys_recipe(system, dataset, data, tmp_path):
    config = config_of(system, dataset)
    assert config.optim_wrapper.optimizer == dict(type='AdamW', lr=1e-3, weight_decay=0.05, fused=True)
    assert 'paramwise_cfg' not in config.optim_wrapper  # the study decays all
    assert (config.train_cfg.max_epochs, config.train_dataloader.batch_size) == (100, 256)
    runner, row = two_iterations(config, data, tmp_path)
    assert type(runner.model.head.loss_module) is CrossEntropyLoss
    assert 0 <= float(row['train accuracy']) <= 1


@pytest.mark.slow
@each_system
def test_one_line_switches_to_the_strong_recipe(system, data, tmp_path):
    config = config_of(system, 'cifar10', 'strong', tmp_path)
    assert config.model == config_of(system, 'cifar10').model
    assert [step.type for step in config.train_dataloader.dataset.pipeline] == [
        'RandomCrop',
        'RandomFlip',
        'RandAugment',
        'PackInputs',
    ]
    assert [step.type for step in config.val_dataloader.dataset.pipeline] == ['PackInputs']
    runner, row = two_iterations(config, data, tmp_path)
    loss = runner.model.head.loss_module
    assert isinstance(loss, LabelSmoothLoss) and loss.label_smooth_val == 0.1
    assert {type(each).__name__ for each in runner.model.data_preprocessor.batch_augments.augments} == {
        'Mixup',
        'CutMix',
    }
    assert 'train accuracy' not in row
    assert average_of(runner).steps == 2
    decays = {group['weight_decay'] for group in runner.optim_wrapper.param_groups}
    assert decays == {0.0, 0.05}


@each_system
@pytest.mark.parametrize('dataset', ['cifar10', 'stl10'])
def test_one_line_switches_to_the_literal_recipe(system, dataset, tmp_path):
    config, seed = config_of(system, dataset, 'seed-literal', tmp_path), config_of(system, dataset)
    assert config.model == seed.model
    assert (config.data_preprocessor.mean, config.data_preprocessor.std) == ([0.0] * 3, [255.0] * 3)
    assert config.train_dataloader.sampler.type == 'FixedOrderSampler'
    assert config.param_scheduler == [dict(type='CosineAnnealingLR', by_epoch=True, T_max=100)]
    splits = ('train', 'test') if dataset == 'cifar10' else ('test', 'train')
    assert (config.train_dataloader.dataset.split, config.val_dataloader.dataset.split) == splits
    assert config.test_dataloader == config.val_dataloader
    assert config.optim_wrapper == seed.optim_wrapper


@pytest.mark.slow
def test_the_strong_recipe_resumes(data, tmp_path):
    """Averaged weights and label smoothing come back with a checkpoint."""
    first = shortened(config_of('vit', 'cifar10', 'strong', tmp_path), data, tmp_path / 'run')
    first.default_hooks.checkpoint.interval = 1
    runner = ConsoleRunner.from_cfg(first)
    runner.train()
    end = average_of(runner).module.state_dict()

    second = shortened(config_of('vit', 'cifar10', 'strong', tmp_path), data, tmp_path / 'run')
    second.train_cfg.max_epochs = 2
    second.load_from, second.resume = str(tmp_path / 'run' / 'epoch_1.pth'), True
    runner, start = ConsoleRunner.from_cfg(second), AverageAtStart()
    runner.register_hook(start)
    runner.train()
    assert start.steps == 2 and all(torch.equal(weight, end[name]) for name, weight in start.weights.items())
    assert average_of(runner).steps == 4 and isinstance(runner.model.head.loss_module, LabelSmoothLoss)
    assert [row['epoch'] for row in read_table(tmp_path / 'run/curves.csv')] == ['1', '2']


@pytest.mark.slow
def test_stl10_trains_under_the_strong_recipe(data, tmp_path):
    two_iterations(config_of('b1', 'stl10', 'strong', tmp_path), data, tmp_path)


@pytest.mark.slow
def test_the_literal_recipe_trains(data, tmp_path):
    _, row = two_iterations(load_config(CONFIGS / 'cyclemlp/cifar10_b1_seed-literal.py'), data, tmp_path)
    assert 0 <= float(row['train accuracy']) <= 1


@pytest.mark.slow
def test_the_light_recipe_crops_and_flips(data, tmp_path):
    config = load_config(CONFIGS / 'cyclemlp/cifar10_b1_light.py')
    assert [step.type for step in config.train_dataloader.dataset.pipeline] == [
        'RandomCrop',
        'RandomFlip',
        'PackInputs',
    ]
    assert [step.type for step in config.val_dataloader.dataset.pipeline] == ['PackInputs']
    assert config.model.backbone.stem_stride == 2
    runner, row = two_iterations(config, data, tmp_path)
    assert type(runner.model.head.loss_module) is CrossEntropyLoss and 0 <= float(row['train accuracy']) <= 1


@pytest.mark.parametrize('name', ['cyclemlp/cifar10_b1_strong.py', 'baselines/cifar10_resnet18_strong.py'])
def test_strong_leaves_are_those_of_the_study_with_another_recipe(name, tmp_path):
    config = load_config(CONFIGS / name)
    system = 'b1' if 'b1' in name else 'resnet18'
    if system == 'b1':
        assert config.model.backbone.pop('stem_stride') == 2
    expected = config_of(system, 'cifar10', 'strong', tmp_path)
    assert config.to_dict() == expected.to_dict()


def test_one_order_for_all_epochs():
    data = range(50)

    def orders(sampler):
        result = []
        for epoch in range(3):
            sampler.set_epoch(epoch)
            result.append(list(sampler))
        return result

    fixed = orders(DATA_SAMPLERS.build(dict(type='FixedOrderSampler', shuffle=True, seed=0, dataset=data)))
    assert fixed[0] == fixed[1] == fixed[2] and sorted(fixed[0]) == list(data) and fixed[0] != list(data)
    assert orders(FixedOrderSampler(data, seed=1))[0] != fixed[0]
    moving = orders(DATA_SAMPLERS.build(dict(type='DefaultSampler', shuffle=True, seed=0, dataset=data)))
    assert moving[0] == fixed[0] and moving[1] != fixed[1]


@pytest.mark.slow
@each_system
def test_imagenet_trains_under_the_authors_recipe(system, data, tmp_path):
    config = config_of(system, 'imagenet')
    assert config.model.head.num_classes == 1000
    runner, row = two_iterations(config, data, tmp_path, batch_size=2)
    assert isinstance(runner.model.head.loss_module, LabelSmoothLoss) and 'train accuracy' not in row


@pytest.mark.parametrize('batches', [1, 16])
def test_fine_tuning_reaches_its_full_rate_with_a_few_images(batches, monkeypatch):
    monkeypatch.setenv('DATA', 'nowhere')
    options = dict(load_config(CONFIGS / 'cyclemlp/finetune_b1.py').param_scheduler[0])
    kind, optimizer, reached = options.pop('type'), torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0), []
    assert options.pop('convert_to_iter_based')
    schedule = PARAM_SCHEDULERS.get(kind).build_iter_from_epoch(optimizer, **options, epoch_length=batches)
    for _ in range(3 * batches):
        reached.append(schedule.get_last_value()[0])
        optimizer.step()
        schedule.step()
    assert reached[0] == pytest.approx(0.01) and reached == sorted(reached)
    assert schedule.get_last_value() == [pytest.approx(1.0)]


def test_the_authors_recipe():
    config = load_config(CONFIGS / 'cyclemlp/imagenet_b1.py')
    optimizer = config.optim_wrapper.optimizer
    # 5e-4 x batch / 512 at 8 x 128.
    assert (optimizer.type, optimizer.lr, optimizer.weight_decay) == ('AdamW', pytest.approx(1e-3), 0.05)
    assert config.auto_scale_lr.base_batch_size == 8 * config.train_dataloader.batch_size == 1024
    warmup, cosine = config.param_scheduler
    assert (warmup.begin, warmup.end, cosine.begin, cosine.end, cosine.eta_min) == (0, 5, 5, 300, 1e-5)
    assert config.train_cfg.max_epochs == 300
    steps = {step.type: step for step in config.train_dataloader.dataset.pipeline}
    assert (steps['RandAugment'].magnitude_level, steps['RandAugment'].num_policies) == (9, 2)
    assert steps['RandomErasing'].erase_prob == 0.25
    assert config.train_dataloader.sampler.type == 'RepeatAugSampler'
    assert config.data_preprocessor.batch_augments.augments == [
        dict(type='Mixup', alpha=0.8),
        dict(type='CutMix', alpha=1.0),
    ]
    hooks = {hook.type: hook for hook in config.custom_hooks}
    assert hooks['SwitchRecipeHook'].schedule[0].loss.label_smooth_val == 0.1
    assert 1 - hooks['EMAHook'].momentum == pytest.approx(0.99996)
    assert config.model.backbone.drop_path_rate == 0.1


@pytest.mark.parametrize(
    'arch, crop, parameters',
    [
        ('b1', 0.9, 15155400),
        ('b2', 0.9, 26802504),
        ('b3', 0.9, 38385720),
        ('b4', 0.875, 51796552),
        ('b5', 0.875, 75747280),
    ],
)
def test_imagenet_networks_and_crops_are_the_published_ones(arch, crop, parameters):
    config = load_config(CONFIGS / f'cyclemlp/imagenet_{arch}.py')
    init_default_scope('mmpretrain')
    with torch.device('meta'):
        model = MODELS.build(config.model)
    assert sum(parameter.numel() for parameter in model.parameters()) == parameters
    for loader in (config.val_dataloader, config.test_dataloader):
        resize, centre = loader.dataset.pipeline[1:3]
        assert (resize.scale, centre.crop_size) == (int(224 / crop), 224)
        assert (resize.edge, resize.interpolation) == ('short', 'bicubic')


@pytest.mark.slow
def test_weights_alone_are_tested_as_they_are(data, tmp_path):
    """As the authors', converted: no averaged weights come with them, though the recipe tests averaged ones."""
    config = shortened(config_of('b1', 'imagenet'), data, tmp_path, batch_size=2)
    init_default_scope('mmpretrain')
    model = MODELS.build(copy.deepcopy(config.model)).eval()
    model.init_weights()
    model.head.fc.weight.data *= 100  # so that other weights would give another loss
    torch.save({'state_dict': model.state_dict()}, tmp_path / 'weights.pth')
    config.load_from = str(tmp_path / 'weights.pth')
    runner = ConsoleRunner.from_cfg(config)
    metrics = runner.test()
    batch = runner.model.data_preprocessor(next(iter(runner.test_dataloader)))
    with torch.no_grad():
        logits = model(batch['inputs'], mode='tensor')
    labels = torch.cat([sample.gt_label for sample in batch['data_samples']])
    assert batch['inputs'].shape == (2, 3, 224, 224)
    assert metrics['cross_entropy/mean'] == pytest.approx(F.cross_entropy(logits, labels).item(), rel=1e-4)
