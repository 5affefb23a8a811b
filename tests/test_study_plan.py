"""The plans of studies: those that ship, and wrong ones."""

import re
from copy import deepcopy

import pytest

from mmcyclemlp.errors import InputError
from mmcyclemlp.study import load_study
from mmcyclemlp.study.report import read_published

from .helpers import REPO
from .small_study import PUBLISHED, write_study

STUDIES = sorted((REPO / 'configs' / 'studies').glob('*.yml'))


@pytest.fixture(scope='module')
def plans():
    """What ships, by name."""
    return {path.stem: load_study(path) for path in STUDIES}


def test_where_the_data_lie_is_no_setting(tmp_path, monkeypatch):
    path = write_study(tmp_path, runs=[dict(name='b1', config=str(REPO / 'configs/cyclemlp/cifar10_b1.py'))])
    first = load_study(path).runs[0]
    (tmp_path / 'data' / 'cifar10').mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    second = load_study(path).runs[0]
    assert second.config.train_dataloader.dataset.data_root == 'data/cifar10'
    assert first.settings == second.settings


def test_every_shipped_study_can_be_read(plans):
    names = [path.stem for path in STUDIES]
    assert {
        'cifar10-quick',
        'cifar10-literal',
        'cifar10-start',
        'cifar10-short',
        'cifar10-stem',
        'cifar10-light',
        'cifar10-strong',
        'cifar10-seed',
        'stl10-seed',
    } <= set(names)
    for path, plan in zip(STUDIES, plans.values()):
        assert plan.name == path.stem and {run.dataset for run in plan.runs} == {plan.name.partition('-')[0]}
        assert read_published(PUBLISHED / f'{plan.runs[0].dataset}_cyclemlp_b1.csv')


def test_the_literal_study_is_the_begin_of_the_long_schedule(plans):
    (run,) = plans['cifar10-literal'].runs
    assert run.epochs == 10 and run.config.param_scheduler[0].T_max == 100


def test_the_stem_study_changes_only_what_its_names_say(plans):
    """Each run once without and once with crops and flips; nothing else differs."""
    configs = {run.name: deepcopy(run.config) for run in plans['cifar10-stem'].runs}
    assert len(configs) == 12
    for name, config in configs.items():
        *system, augmentation = name.split()
        crop, flip, _ = config.train_dataloader.dataset.pipeline
        assert (crop.padding, flip.prob) == ((4, 0.5) if augmentation == 'augmented' else (0, 0.0))
        crop.padding, flip.prob = None, None
        backbone = config.model.backbone
        if system != ['ResNet-18']:
            _, stride, _, kernel = system
            assert (backbone.pop('stem_stride'), backbone.pop('kernel_size')) == (int(stride), int(kernel))
    cyclemlp = {str(config.to_dict()) for name, config in configs.items() if name.startswith('stride')}
    resnet = {str(config.to_dict()) for name, config in configs.items() if name.startswith('ResNet')}
    assert (len(cyclemlp), len(resnet)) == (1, 1)
    assert len({str({**config.to_dict(), 'model': None}) for config in configs.values()}) == 1


@pytest.mark.parametrize(
    'changes, sentence',
    [
        (dict(epoch=3), r'tiny.yml has the unknown key epoch; did you mean epochs\?'),
        (dict(runs=[]), r'expected a study with a list of runs, but .*tiny.yml has none'),
        (dict(runs=[dict(name='a')]), r'a run of .*tiny.yml expects the keys config, name, but got name; add them'),
        (dict(runs=[dict(name='a', config='cifar10_tiny.py', seed=1)]), r'a run of .* the unknown key seed; it takes'),
        (
            dict(runs=[dict(name='a/b', config='cifar10_tiny.py')]),
            r"letters, digits, spaces and .* but got 'a/b'; rename",
        ),
        (dict(runs=[dict(name='a', config='cifar10_tiny.py')] * 2), r'but a/seed0 is there twice; rename one'),
        (dict(runs=[dict(name='a', config='cifar10_tinny.py')]), r'cifar10_tinny.py does not exist; did you mean'),
        (dict(options={'train_cfg.max_epoch': 1}), r'train_cfg.max_epoch is unknown to train_cfg; did you mean'),
        (
            dict(
                options={'train_cfg._delete_': True, 'train_cfg.by_epoch': False, 'train_cfg.max_iters': 5}, epochs=None
            ),
            'a study expects runs by epochs',
        ),
        (dict(image_size='large'), r"tiny.yml expects image_size to be of type int, but got 'large'; correct it"),
        (dict(amp=1), r'tiny.yml expects amp to be of type bool, but got 1'),
        (dict(seeds=0), r'tiny.yml expects seeds to be of type list, but got 0'),
        (dict(seeds=[]), r'tiny.yml expects seeds to be numbers from 0 up, such as \[0, 1\], but got \[\]; correct it'),
        (dict(seeds=[1, 'a']), r"tiny.yml expects seeds to be numbers from 0 up, .* but got \[1, 'a'\]; correct it"),
        (dict(epochs=0), r'tiny.yml expects epochs to be 1 or more, but got 0; correct it'),
        (dict(image_size=-32), r'tiny.yml expects image_size to be 1 or more, but got -32; correct it'),
    ],
)
def test_a_wrong_plan_is_refused_in_a_sentence(tmp_path, changes, sentence):
    with pytest.raises(InputError, match=sentence) as error:
        load_study(write_study(tmp_path, **changes))
    assert '\n' not in str(error.value)


def test_broken_yaml_is_refused_in_a_sentence(tmp_path):
    (tmp_path / 'broken.yml').write_text('runs: [\n')
    with pytest.raises(InputError, match=r'broken.yml is not valid YAML \(.*\); correct it') as error:
        load_study(tmp_path / 'broken.yml')
    assert '\n' not in str(error.value)
    (tmp_path / 'bytes.yml').write_bytes(b'\xff\xf0\x80')
    with pytest.raises(InputError, match='bytes.yml holds other bytes'):
        load_study(tmp_path / 'bytes.yml')


@pytest.mark.parametrize(
    'args, sentence',
    [
        (['cifar10-quik'], r'there is no study cifar10-quik in .*/configs/studies; did you mean cifar10-quick\?'),
        (['none.yml'], r'expected a study, but none.yml does not exist; check the path'),
        (['cifar10-quick', '--device', 'tpu'], r'--device expects cpu, cuda or cuda:N, but got tpu'),
        (['cifar10-quick', '--device', 'cuda:77'], r'--device cuda:77 expects 78 or more GPUs, but PyTorch sees \d+'),
    ],
)
def test_wrong_arguments_are_refused_in_a_sentence(tool, tmp_path, args, sentence):
    code, _, error = tool(tmp_path, 'study.py', *args)
    assert code == 2 and re.fullmatch(rf'error: .*{sentence}.*\n', error)
    assert not list(tmp_path.iterdir())


def test_the_list_names_every_study(tool, tmp_path):
    code, output, _ = tool(tmp_path, 'study.py', '--list')
    assert code == 0 and [line.split()[0] for line in output.splitlines()] == [path.stem for path in STUDIES]
