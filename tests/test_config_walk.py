"""The one walk through a config, and edits that leave the config they are given as it is."""

import pytest
from mmengine import Config

from mmcyclemlp.config.edits import edited, from_random_weights, launched, randomness
from mmcyclemlp.config.walk import changed, datasets, metrics, walk

LEAF = dict(type='CocoDataset', ann_file='a.json', pipeline=[dict(type='Load')])


def config():
    return Config(
        dict(
            model=dict(
                type='Detector',
                init_cfg=dict(type='Pretrained', checkpoint='a.pth'),
                heads=(dict(type='Head', norm_cfg=dict(type='SyncBN')), dict(type='Head')),
            ),
            train_dataloader=dict(
                dataset=dict(
                    type='Mosaic',
                    pipeline=[dict(type='Last')],
                    dataset=dict(type='ConcatDataset', datasets=[LEAF, dict(LEAF, ann_file='b.json', pipeline=[])]),
                )
            ),
            val_evaluator=[
                dict(type='CocoMetric', metric='bbox'),
                dict(type='mmdet.CocoMetric', metric='segm'),
                dict(type='Other'),
            ],
        )
    )


def test_every_section_has_its_dotted_path():
    assert [path for path, _ in walk(config())] == [
        '',
        'model',
        'model.init_cfg',
        'model.heads.0',
        'model.heads.0.norm_cfg',
        'model.heads.1',
        'train_dataloader',
        'train_dataloader.dataset',
        'train_dataloader.dataset.pipeline.0',
        'train_dataloader.dataset.dataset',
        'train_dataloader.dataset.dataset.datasets.0',
        'train_dataloader.dataset.dataset.datasets.0.pipeline.0',
        'train_dataloader.dataset.dataset.datasets.1',
        'val_evaluator.0',
        'val_evaluator.1',
        'val_evaluator.2',
    ]
    assert dict(walk(config().model, 'model'))['model.heads.0.norm_cfg'] == dict(type='SyncBN')
    assert list(walk(None)) == []


def test_datasets_come_out_of_their_wrappers():
    found = {
        path: (section.ann_file, [step.type for step in transforms])
        for path, section, transforms in datasets(config(), 'train')
    }
    place = 'train_dataloader.dataset.dataset.datasets'
    assert found == {f'{place}.0': ('a.json', ['Load', 'Last']), f'{place}.1': ('b.json', ['Last'])}
    assert list(datasets(config(), 'val')) == []


def test_metrics_are_found_by_type():
    assert [metric.metric for metric in metrics(config(), 'val', 'CocoMetric')] == ['bbox', 'segm']
    assert metrics(config(), 'test', 'CocoMetric') == []


def test_changes_reach_into_tuples_and_make_sections():
    before = config()
    after = changed(
        before, {'model.heads.0.norm_cfg.type': 'BN', 'optim_wrapper.optimizer.lr': 0.1, 'launcher': 'none'}
    )
    assert after.model.heads[0].norm_cfg.type == 'BN' and after.optim_wrapper.optimizer.lr == 0.1
    assert before.to_dict() == config().to_dict() and 'launcher' not in before


@pytest.mark.parametrize('given', [{}, {'deterministic': True}, {'seed': 5, 'diff_rank_seed': True}])
@pytest.mark.parametrize('seed, deterministic', [(None, False), (3, True)])
def test_randomness_of_the_config_stays_where_no_option_is_given(given, seed, deterministic):
    found = edited(Config(dict(randomness=given)), randomness(seed, deterministic)).randomness
    options = {'seed': 3, 'deterministic': True} if deterministic else {}
    assert found == {'seed': None, **given, **options}


@pytest.mark.parametrize('edit', [from_random_weights, launched('pytorch'), randomness(3, True)])
def test_edits_are_pure(edit, monkeypatch):
    monkeypatch.setattr('mmcyclemlp.config.edits.get_device', lambda: 'cpu')
    before = config()
    changes = edit(before)
    assert before.to_dict() == config().to_dict() and changes
    assert edited(before, edit, None, False).to_dict() == edited(before, changes).to_dict() != before.to_dict()
