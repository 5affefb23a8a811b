"""The metafiles: what they say is measured, and the pages made of them are the committed ones."""

import re
import subprocess
import sys
from statistics import mean

import pytest
import yaml
from mmpretrain.apis.model import ModelHub

from mmcyclemlp.config import load_config

from .helpers import NEEDS_OPERATORS, REPO, read_table

FOLDER = REPO / 'tools' / 'analysis'
sys.path.insert(0, str(FOLDER))
try:
    import model_zoo
    from cost import measure
finally:
    sys.path.remove(str(FOLDER))

FILES = [yaml.safe_load((REPO / folder / 'metafile.yml').read_text()) for folder in model_zoo.FOLDERS]
MODELS = {model['Config']: model for file in FILES for model in file['Models']}
RUNS = [
    pytest.param(model, result, id=f'{model["Name"]}-{result["Run"]["Training log"]}')
    for model in MODELS.values()
    for result in model.get('Results', ())
    if 'Run' in result
]
# Name of a metric -> its column in the curves, whose values are fractions.
COLUMNS = {
    'Top 1 Accuracy': 'test accuracy',
    'box AP': 'test bbox_mAP',
    'box AP50': 'test bbox_mAP_50',
    'mask AP': 'test segm_mAP',
    'mIoU': 'test mIoU',
}


def measured(model, result, metric):
    """The last value in the curves; of a study, which has no curves of one system alone, that of each seed."""
    log = REPO / result['Run']['Training log']
    curves = read_table(model_zoo.curves(log))
    if 'run' not in curves[0]:
        return [100 * float(curves[-1][COLUMNS[metric]])]
    return [
        100 * float(row['last test accuracy'])
        for row in read_table(log.parent / 'runs.csv')
        if int(row['parameters']) == model['Metadata']['Parameters']
    ]


@pytest.mark.parametrize('page', model_zoo.PAGES, ids=lambda path: str(path.relative_to(REPO)))
def test_a_page_is_what_its_metafile_makes(page):
    text = page.read_text()
    assert text == model_zoo.written(page), 'run `python tools/analysis/model_zoo.py` and commit what it writes'
    tables = re.findall('<!-- table (.*) -->', text)
    assert len(tables) >= 4 and text.count('<!-- end -->') == len(tables)
    for link in re.findall(r'\]\((?!https?:)([^)#]+)', text):
        assert (page.parent / link).exists(), link


def test_every_config_is_there_once():
    leaves = {str(path.relative_to(REPO)) for folder in model_zoo.FOLDERS for path in (REPO / folder).glob('*.py')}
    entries = [model for file in FILES for model in file['Models']]
    assert sorted(model['Config'] for model in entries) == sorted(leaves)
    assert len({model['Name'].lower() for model in entries}) == len(entries)


@pytest.mark.parametrize('model, result', RUNS)
def test_a_number_is_the_one_measured(model, result):
    for metric, value in result['Metrics'].items():
        values = measured(model, result, metric)
        digits = len(str(value).partition('.')[2])
        assert round(mean(values), digits) == value, metric
        least, most = result['Run'].get('Range', {}).get(metric, (value, value))
        assert (round(min(values), digits), round(max(values), digits)) == (least, most)


@pytest.mark.parametrize('model, result', RUNS)
def test_a_run_can_be_repeated(model, result):
    run = result['Run']
    commands = result['Command'] if isinstance(result['Command'], list) else [result['Command']]
    for command in commands:
        program, *arguments = command.split()
        if program == 'make':
            assert f'\n{arguments[0]}:' in (REPO / 'Makefile').read_text()
        else:
            assert program == 'python' and (REPO / arguments[0]).is_file()
    last = commands[-1].split()
    if last[1] == 'tools/study.py':
        study = yaml.safe_load((REPO / f'configs/studies/{last[2]}.yml').read_text())
        assert f'../{model["Config"].partition("/")[2]}' in [system['config'] for system in study['runs']]
    elif last[1] == 'tools/train.py':
        assert last[2] == model['Config']
    assert {'Schedule', 'Seed', 'Training Resources', 'Training log'} <= set(run)
    assert (REPO / run['Training log']).is_file()
    # As text: YAML reads some abbreviated hashes as numbers.
    assert isinstance(run['Commit'], str) and re.fullmatch(r'[0-9a-f]{7}(, [0-9a-f]{7})*|not recorded', run['Commit'])


def test_the_commits_are_in_the_history():
    hashes = {commit for run in RUNS for commit in run.values[1]['Run']['Commit'].split(', ')} - {'not recorded'}
    shallow = subprocess.run(['git', 'rev-parse', '--is-shallow-repository'], cwd=REPO, capture_output=True, text=True)
    if shallow.stdout.strip() != 'false':
        pytest.skip('no git checkout with its history')
    found = subprocess.run(
        ['git', 'cat-file', '--batch-check'],
        cwd=REPO,
        input='\n'.join(hashes),
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    assert [line.split()[1] for line in found.splitlines()] == ['commit'] * len(hashes), found


@pytest.mark.slow
@pytest.mark.parametrize(
    'config',
    [
        'cyclemlp/cifar10_b1_light',
        'cyclemlp/digit-scenes_fpn_b1',
        pytest.param('cyclemlp/digit-scenes_retinanet_b1', marks=NEEDS_OPERATORS),
        pytest.param('baselines/bccd_retinanet_r18', marks=NEEDS_OPERATORS),
    ],
)
def test_parameters_and_multiplications_are_counted(config):
    data = MODELS[f'configs/{config}.py']['Metadata']
    width, height = map(int, data['Input Size'].split('x'))
    cost = measure(REPO / f'configs/{config}.py', (height, width))
    assert (cost.parameters, round(cost.macs / 1e6)) == (data['Parameters'], data['FLOPs'] / 1e6)


@pytest.mark.parametrize('table', ['complexity-detection', 'complexity-segmentation', 'cifar10-short/runs'])
def test_parameters_and_multiplications_are_those_of_the_results(table):
    rows = read_table(REPO / f'docs/results/{table}.csv')
    counted = [(int(row['parameters']), round(int(row.get('macs') or row['multiply-adds']) / 1e6)) for row in rows]
    said = {
        config: (model['Metadata']['Parameters'], model['Metadata']['FLOPs'] / 1e6) for config, model in MODELS.items()
    }
    assert counted and set(counted) <= set(said.values())
    for row, numbers in zip(rows, counted):
        assert said.get(row.get('config'), numbers) == numbers
        if 'config' in row:
            assert MODELS[row['config']]['Metadata']['Input Size'] == f'{row["width"]}x{row["height"]}'


@pytest.mark.parametrize('arch', ['b3', 'b4'])  # of the two crops there are
def test_the_crop_is_that_of_the_config(arch):
    config = f'configs/cyclemlp/imagenet_{arch}.py'
    _, resize, crop, _ = load_config(REPO / config).test_dataloader.dataset.pipeline
    assert int(crop.crop_size / MODELS[config]['Metadata']['Crop Ratio']) == resize.scale


def test_the_study_is_quoted_as_on_its_page():
    text = (REPO / 'docs/results/seed/README.md').read_text()
    families = [family for file in FILES for family in file['Collections']]
    for data in ('STL10', 'CIFAR10'):
        numbers = re.search(rf'\| {data} \| (.*) \|', text)[1].split(' | ')
        assert sorted(numbers) == sorted(str(family['Study'][data]) for family in families)


def test_mmpretrain_finds_the_models(monkeypatch):
    monkeypatch.setattr(ModelHub, '_models_dict', {})
    monkeypatch.setattr(ModelHub, '_ModelHub__mmpretrain_registered', True)  # without its own, which takes seconds
    ModelHub.register_model_index(REPO / 'model-index.yml', config_prefix=REPO)
    assert len(ModelHub._models_dict) == len(MODELS)
    model = ModelHub.get('cyclemlp-b5_imagenet')
    assert model.config.model.backbone.arch == 'b5' and model.metadata.data['Parameters'] == 75747280
    # mmpretrain goes on with random weights where no name fits, as none in the authors' files does: so the address that
    # converts them is given.
    given = {name: model.weights for name, model in ModelHub._models_dict.items() if model.weights}
    assert given == {
        **{f'cyclemlp-b{n}_imagenet': f'cyclemlp://b{n}' for n in range(1, 6)},
        'cyclemlp-nano_digits': 'cyclemlp://digits',
        'retinanet_cyclemlp-nano_digit-scenes': 'cyclemlp://digit-scenes_retinanet',
        'fpn_cyclemlp-nano_digit-scenes': 'cyclemlp://digit-scenes_fpn',
    }


def test_a_run_of_several_seeds_and_commands():
    run = dict(Schedule='2 epochs', Seed='0, 1', Commit='0a1b2c3', Range={'mIoU': [1.0, 3.0]})
    run.update({'Training Resources': 'none', 'Training log': 'docs/results/a/log.json'})
    result = {'Task': 'Semantic Segmentation', 'Dataset': 'made', 'Metrics': {'mIoU': 2.0}, 'Command': ['a', 'b']}
    other = {**result, 'Dataset': 'other', 'Metrics': {'mAcc': 5.0}, 'Command': 'c'}
    model = {
        'Config': 'configs/x.py',
        'Results': [{**result, 'Run': run}, {**other, 'Run': {**run, 'Range': {}}}],
        'Metadata': {'Input Size': '8x8', 'Parameters': 1234567, 'FLOPs': 89000000},
    }
    last = {**model, 'Config': 'configs/y.py', 'Results': model['Results'][:1]}
    header, body = model_zoo.trained(model_zoo.Page(model_zoo.ZOO, [model, last], []), 'Semantic Segmentation')
    assert list(header[3:5]) == ['mIoU', 'mAcc'] and all(len(row) == len(header) for row in body)
    assert [row[0] for row in body] == ['[x](../configs/x.py)', '[y](../configs/y.py)', '[x](../configs/x.py)']
    assert body[0][2:8] == ['2 epochs, seed 0, 1', '2.0 (1.0 to 3.0)', '', '8x8', '1.23', '0.089']
    assert body[0][8] == '[log](results/a/log.json), [curves](results/a/curves.csv)'
    assert body[0][9] == '`a`<br>`b`' and body[2][9] == '`c`'
