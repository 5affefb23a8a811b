"""The README and the pages of docs/: links lead somewhere, and the code that they show runs."""

import json
import re
import subprocess
import sys
from importlib import import_module

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from .helpers import NEEDS_OPERATORS, REPO

PAGES = [REPO / 'README.md', *sorted((REPO / 'docs').rglob('*.md'))]
GENERATED = {REPO / 'docs/model_zoo.md'}
OWN_DATA = REPO / 'docs/your_data.md'
# One block per stage, so that a run is quick.
SMALL = """_base_ = '{}'
model = dict(backbone=dict(
    init_cfg=None,
    arch=dict(_delete_=True, depths=(1, 1, 1, 1), embed_dims=(64, 128, 320, 512), mlp_ratios=(1, 1, 1, 1))))
"""


def text_of(page):
    """A page without its code blocks."""
    return re.sub(r'^ *```.*?^ *```', '', page.read_text(), flags=re.DOTALL | re.MULTILINE)


def blocks(page):
    """The Python code that a page shows."""
    return re.findall(r'^```python\n(.*?)^```', page.read_text(), re.DOTALL | re.MULTILINE)


def anchors(page):
    """Those that GitHub makes of a page's headings."""
    headings = re.findall(r'^#+ (.*)', text_of(page), re.MULTILINE)
    return {re.sub(r'[^\w\- ]', '', heading.lower()).replace(' ', '-') for heading in headings}


@pytest.mark.parametrize('page', PAGES, ids=lambda page: str(page.relative_to(REPO)))
def test_links_lead_somewhere(page):
    for link in re.findall(r'\]\(([^)\s]+)\)', text_of(page)):
        if link.startswith(('http://', 'https://')):
            continue
        path, _, anchor = link.partition('#')
        target = (page.parent / path).resolve() if path else page
        if target in GENERATED:
            continue
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_every_page_is_listed():
    listed = {
        (REPO / 'docs' / link).resolve()
        for link in re.findall(r'\]\(([^)#\s]+\.md)\)', (REPO / 'docs/index.md').read_text())
    }
    assert listed | {REPO / 'docs/index.md'} >= {page for page in PAGES if REPO / 'docs' in page.parents}


@pytest.mark.slow
def test_the_site_has_every_page_and_public_name(tmp_path):
    command = ['sphinx', '-q', '-W', '--keep-going', '-c', 'docs', '.', tmp_path]  # as `make docs`
    run = subprocess.run([sys.executable, '-m', *command], cwd=REPO, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    pages = {page.relative_to(tmp_path).with_suffix('.md') for page in tmp_path.rglob('*.html')}
    assert pages >= {page.relative_to(REPO) for page in PAGES}
    reference = (tmp_path / 'docs/api.html').read_text()
    for name in ('models', 'ops', 'checkpoints', 'engine'):
        module = import_module(f'mmcyclemlp.{name}')
        for each in module.__all__:
            value = getattr(module, each)
            names = f'mmcyclemlp.{name}.{each}', f'mmcyclemlp.{each}', f'{getattr(value, "__module__", "")}.{each}'
            assert isinstance(value, (tuple, dict)) or any(f'id="{full}"' in reference for full in names), each


def test_the_tests_of_each_guarantee_exist():
    tests = {path: path.read_text() for path in (REPO / 'tests').glob('test_*.py')}
    named = re.findall(r'`(?:(test_\w+\.py)(?:::)?)?(test_\w+)?`', (REPO / 'docs/reliability.md').read_text())
    assert len(named) > 30
    for file, test in named:  # a file, a test of a file, or a test of any file
        texts = [text for path, text in tests.items() if file in ('', path.name)]
        assert any(not test or f'def {test}(' in text for text in texts), (file, test)


def test_the_backbone_of_the_readme_and_of_its_page():
    from mmcyclemlp.models import CycleMLP

    for page, block in (('README.md', 1), ('docs/backbone.md', 0)):  # tests/test_zoo.py has the README's first
        config = {}
        exec(blocks(REPO / page)[block], config)
        backbone = dict(config['model']['backbone'], init_cfg=None)
        assert config['custom_imports']['imports'] == ['mmcyclemlp']
        assert (backbone.pop('type'), backbone.pop('_delete_')) == ('CycleMLP', True)
        stages = CycleMLP(**backbone)
        assert config['model']['neck']['in_channels'] == [
            getattr(stages, f'norm{i}').normalized_shape[0] for i in backbone['out_indices']
        ]


def test_the_layers_on_their_own():
    shown = {}
    exec(blocks(REPO / 'docs/backbone.md')[1], shown)
    assert shown['y'].shape == (2, 14, 14, 128) and shown['z'].shape == (2, 14, 14, 64)


@pytest.mark.slow
def test_live_curves_early_stopping_and_a_confusion_matrix(tmp_path, tool):
    (shown,) = [block for block in blocks(REPO / 'docs/training.md') if 'EarlyStoppingHook' in block]
    shown = shown.replace('configs/cyclemlp/cifar10_b1.py', str(REPO / 'configs/cyclemlp/digits_nano.py'))
    (tmp_path / 'more.py').write_text(shown.replace('patience=5', 'patience=1, min_delta=90.0'))  # in percent
    code, output, error = tool(tmp_path, 'train.py', 'more.py')
    assert code == 0 and 'did not improve in the last 1 records' in output, error
    assert list(tmp_path.glob('work_dirs/more/*/vis_data/events.out.tfevents.*'))
    assert list(tmp_path.glob('work_dirs/more/*/vis_data/scalars.json'))
    code, _, error = tool(tmp_path, 'test.py', 'more.py', 'cyclemlp://digits', '--out', 'found.json')
    found = json.loads((tmp_path / 'found.json').read_text())
    matrix = np.array(found['confusion_matrix/result'])
    assert code == 0 and matrix.shape == (10, 10) and matrix.sum() == 359, error
    assert 100 * matrix.trace() / 359 == pytest.approx(found['accuracy/top1'])
    assert matrix.sum(axis=1).tolist() == [36, 36, 35, 37, 36, 36, 36, 36, 35, 36]  # of each true class


def test_the_map_of_a_class():
    shown = {}
    exec(blocks(REPO / 'docs/backbone.md')[-1], shown)
    model, images, maps = shown['model'].double(), shown['images'].double(), shown['kept']['maps'].detach().double()
    assert maps.shape == (2, 4, 4, 64)

    def scores(channel, step):
        def add(stage, inputs, output):
            return output + step * nn.functional.one_hot(torch.tensor(channel), 64)

        with torch.no_grad():
            handle = model.backbone.stages[1].register_forward_hook(add)
            found = model(images).amax(dim=1)
            handle.remove()
        return found

    # The weight of a channel is what the score gains where all of it gets larger.
    weights = [(scores(channel, 1e-4) - scores(channel, -1e-4)) / 2e-4 / 16 for channel in range(64)]
    expected = torch.einsum('bhwc,cb->bhw', maps, torch.stack(weights)).relu()
    torch.testing.assert_close(shown['heat'].double(), expected, rtol=1e-3, atol=1e-5)
    assert expected.max() > 1e-3


@pytest.mark.slow
def test_own_images_are_classified(tmp_path, tool, monkeypatch):
    for split, count in (('train', 4), ('val', 1)):
        for kind in ('aster', 'rose', 'tulip', '.cache'):
            folder = tmp_path / f'data/flowers/{split}/{kind}'
            folder.mkdir(parents=True)
            for i in range(count):
                pixels = np.random.default_rng(i).integers(0, 40 * len(kind), (250, 300, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f'{i}.jpg')
    monkeypatch.setenv('DATA', 'data/flowers')
    (tmp_path / 'small.py').write_text(SMALL.format(REPO / 'configs/cyclemlp/finetune_b1.py'))
    workers = [f'{split}_dataloader.num_workers=0' for split in ('train', 'val')]
    code, output, error = tool(tmp_path, 'train.py', 'small.py', '--cfg-options', 'train_cfg.max_epochs=1', *workers)
    assert code == 0 and 'accuracy/top1' in output, error
    # Without the variable, by the config that the run left.
    monkeypatch.delenv('DATA')
    image = tmp_path / 'data/flowers/val/rose/0.jpg'
    run = 'work_dirs/small/small.py', 'work_dirs/small/epoch_1.pth', image, '--out', 'found'
    code, output, error = tool(tmp_path, 'infer.py', *run)
    assert code == 0, error
    (found,) = json.loads((tmp_path / 'found/predictions.json').read_text())['predictions']
    assert found['pred_class'] in ('aster', 'rose', 'tulip') and len(found['pred_scores']) == 3


@pytest.mark.slow
@NEEDS_OPERATORS
def test_own_objects_are_found(tmp_path, train):
    (tmp_path / 'data/fruit/annotations').mkdir(parents=True)
    categories = [dict(id=1, name='apple'), dict(id=2, name='pear')]
    for split in ('train', 'val'):
        (tmp_path / f'data/fruit/{split}').mkdir()
        for i in (1, 2):
            Image.new('RGB', (96, 64), (90 * i, 0, 0)).save(tmp_path / f'data/fruit/{split}/{i}.jpg')
        images = [dict(id=i, file_name=f'{i}.jpg', width=96, height=64) for i in (1, 2)]
        boxes = [dict(id=i, image_id=i, category_id=i, bbox=[9, 9, 50, 40], area=2000, iscrowd=0) for i in (1, 2)]
        (tmp_path / f'data/fruit/annotations/{split}.json').write_text(
            json.dumps(dict(images=images, annotations=boxes, categories=categories))
        )
    code, output, error = train(
        'fruit',
        'train_cfg.max_epochs=1',
        'train_dataloader.dataset.pipeline.2.scale=(96,64)',
        'val_dataloader.dataset.pipeline.1.scale=(96,64)',
        'model.test_cfg.score_thr=0.',
    )
    assert code == 0, error
    assert (tmp_path / 'work_dirs/small/epoch_1.pth').is_file() and 'coco/bbox_mAP' in output


@pytest.fixture
def train(tool, tmp_path):
    """Train the example of docs/your_data.md that holds a sign, with a small backbone; returns as `tool` does."""

    def run(sign, *options):
        (code,) = (code for code in blocks(OWN_DATA) if sign in code and '_base_' in code)
        (tmp_path / 'shown.py').write_text(code.replace("'configs/", f"'{REPO / 'configs'}/"))
        (tmp_path / 'small.py').write_text(SMALL.format('shown.py'))
        options = 'train_dataloader.num_workers=0', 'val_dataloader.num_workers=0', *options
        return tool(tmp_path, 'train.py', 'small.py', '--cfg-options', *options)

    return run
