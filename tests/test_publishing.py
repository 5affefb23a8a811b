"""Weights made ready for others, in both formats and in the authors' form."""

import json
import subprocess

import pytest
import torch
from safetensors import safe_open

from mmcyclemlp.checkpoints import convert, read_checkpoint
from mmcyclemlp.checkpoints.publishing import in_authors_form, publish
from mmcyclemlp.cli.publish import _commit
from mmcyclemlp.errors import InputError
from mmcyclemlp.models import CycleMLP, CycleMLPClassifier

from .helpers import REPO

CONFIG = REPO / 'configs/cyclemlp/digits_nano.py'
IMAGE = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def run(tmp_path):
    """A run's folder with a checkpoint and its curves, and the model."""
    model = CycleMLPClassifier(CycleMLP('nano'), 10).eval()
    meta = dict(epoch=2, iter=46, dataset_meta=dict(classes=tuple('0123456789')))
    optimizer = dict(state={0: dict(exp_avg=torch.zeros(100_000))}, param_groups=[])
    torch.save(dict(meta=meta, state_dict=model.state_dict(), optimizer=optimizer), tmp_path / 'epoch_2.pth')
    (tmp_path / 'curves.csv').write_text('epoch,train loss,test accuracy\n1,2.0,0.5\n2,1.0,0.75\n')
    return tmp_path, model


def test_files_and_card(run, tool):
    folder, model = run
    code, output, _ = tool(folder, 'publish.py', CONFIG, folder / 'epoch_2.pth', '--original')
    names = ('digits_nano-[!o]*.pth', 'digits_nano-[!o]*.safetensors', 'digits_nano-original-*.pth', 'digits_nano.md')
    files = [file for name in names for file in (folder / 'published').glob(name)]
    assert code == 0 and len(output.splitlines()) == len(files) == len(list((folder / 'published').iterdir())) == 4
    for file in files[:2]:
        checkpoint = read_checkpoint(file)
        loaded = CycleMLPClassifier(CycleMLP('nano'), 10).eval()
        loaded.load_state_dict(checkpoint['state_dict'])
        assert list(checkpoint['meta']['dataset_meta']['classes']) == list('0123456789')
        assert torch.equal(loaded(IMAGE), model(IMAGE))
        assert file.stat().st_size < 1.1 * 4 * 1_116_650  # no optimizer
    with safe_open(files[1], 'pt') as opened:
        assert json.loads(opened.metadata()['mmcyclemlp'])['dataset_meta']['classes'] == list('0123456789')
    card = files[3].read_text()
    for words in (
        '| data | Digits (embedded) |',
        '| test accuracy | 0.75 |',
        '| trained for | 2 epochs, 46 iterations |',
    ):
        assert words in card
    assert all(file.name in card for file in files[:3])


def test_a_stopped_checkpoint_has_not_the_metric_of_the_epoch_before(run, tool):
    folder, model = run
    meta = dict(epoch=1, iter=1, batches=1)
    torch.save(dict(meta=meta, state_dict=model.state_dict()), folder / 'stopped.pth')
    assert tool(folder, 'publish.py', CONFIG, folder / 'stopped.pth')[0] == 0
    card = (folder / 'published/digits_nano.md').read_text()
    assert 'test accuracy' not in card and '| trained for | 1 epoch, 1 iteration |' in card


def test_the_commit_is_that_of_this_project(run, tool, monkeypatch):
    folder, _ = run
    subprocess.run(['git', 'init', '-q'], cwd=folder, check=True)
    message = ['-c', 'user.name=a', '-c', 'user.email=a', 'commit', '-q', '--allow-empty', '-m', 'a']
    subprocess.run(['git', *message], cwd=folder, check=True)
    theirs = subprocess.check_output(['git', 'describe', '--always'], cwd=folder, text=True).strip()
    monkeypatch.chdir(folder)
    assert theirs not in _commit()
    monkeypatch.setenv('PATH', str(folder))  # without git
    assert tool(folder, 'publish.py', CONFIG, folder / 'epoch_2.pth')[0] == 0
    assert '| commit | unknown |' in (folder / 'published/digits_nano.md').read_text()


def test_half_the_size(run, tool):
    folder, model = run
    assert tool(folder, 'publish.py', CONFIG, folder / 'epoch_2.pth', '--half', '--name', 'small')[0] == 0
    (file,) = (folder / 'published').glob('small-*.safetensors')
    assert file.stat().st_size < 1.1 * 2 * 1_116_650
    loaded = CycleMLPClassifier(CycleMLP('nano'), 10).eval()
    loaded.load_state_dict(read_checkpoint(file)['state_dict'])
    torch.testing.assert_close(loaded(IMAGE), model(IMAGE), rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize('form', ['classifier', 'features'])
def test_the_authors_form_has_their_keys(form, golden):
    expected = json.loads((golden / 'official_keys.json').read_text())['b1'][form]
    with torch.device('meta'):
        backbone = CycleMLP('b1', out_indices=(3,) if form == 'classifier' else range(4))
        state_dict = {f'backbone.{key}': value for key, value in backbone.state_dict().items()}
        if form == 'classifier':
            state_dict = CycleMLPClassifier(backbone, 1000).state_dict()
    weights = {key: torch.zeros(()).expand(value.shape) for key, value in state_dict.items()}
    found = in_authors_form(weights, backbone)
    assert {key: list(value.shape) for key, value in found.items() if not key.endswith('offset')} == expected


def test_the_authors_form_is_read_back(run):
    _, model = run
    original = in_authors_form(model.state_dict(), model.backbone)
    assert sum(key.endswith('.offset') for key in original) == 10  # which convert compares with ours
    back = convert(original).state_dict
    assert back.keys() == model.state_dict().keys()
    assert all(torch.equal(back[key], value) for key, value in model.state_dict().items())


@pytest.mark.parametrize(
    'options, reason',
    [
        (dict(kernel_size=5), 'it has kernel_size=5 and stem_stride=4'),
        (dict(stem_stride=1), 'it has kernel_size=3 and stem_stride=1'),
        (dict(out_indices=(2, 3)), r'it differs \(our names\): unexpected backbone.norm2'),
        (dict(arch=dict(depths=(1,) * 4, embed_dims=(8,) * 4, mlp_ratios=(1,) * 4)), 'it has stages of'),
    ],
)
def test_a_network_that_the_authors_code_cannot_have_is_refused(options, reason):
    model = CycleMLPClassifier(CycleMLP(**{'arch': 'nano', **options}), 10)
    with pytest.raises(InputError, match=f"expected a network that the authors' code has, but {reason}"):
        in_authors_form(model.state_dict(), model.backbone)


def test_nothing_is_published_of_a_network_that_the_authors_code_cannot_have(tmp_path, tool):
    state_dict = CycleMLPClassifier(CycleMLP('nano', kernel_size=5), 10).state_dict()
    torch.save(dict(state_dict=state_dict), tmp_path / 'five.pth')
    options = ('--original', '--cfg-options', 'model.backbone.kernel_size=5')
    code, _, error = tool(tmp_path, 'publish.py', CONFIG, tmp_path / 'five.pth', *options)
    assert code == 2 and error.startswith("error: expected a network that the authors' code has, but it has kernel")
    assert not (tmp_path / 'published').exists()


def test_the_same_weights_have_the_same_hash(tmp_path):
    first = publish(dict(a=torch.ones(3)), dict(epoch=2), tmp_path / 'few.pth')
    assert publish(dict(a=torch.ones(3)), dict(epoch=2), tmp_path / 'few.pth') == first
    assert publish(dict(a=torch.zeros(3)), dict(epoch=2), tmp_path / 'few.pth') != first


def test_wrong_arguments(run, tool):
    folder, _ = run
    assert tool(folder, 'publish.py', CONFIG, folder / 'absent.pth')[::2] == (
        2,
        f'error: expected a checkpoint file, but {folder}/absent.pth does not exist; check the path\n',
    )
    other = REPO / 'mmcyclemlp/checkpoints/weights/digits_nano-646e2451.safetensors'
    code, _, error = tool(folder, 'publish.py', REPO / 'configs/cyclemlp/digits_b1.py', other)
    assert code == 2 and 'holds CycleMLP nano, the config builds CycleMLP b1; take the config of this' in error
    code, _, error = tool(folder, 'publish.py', CONFIG, folder / 'epoch_2.pth', '--name', 'a/b')
    assert code == 2 and 'without folders, but got a/b; give the folder by --out' in error
    (folder / 'file').touch()
    code, _, error = tool(folder, 'publish.py', CONFIG, folder / 'epoch_2.pth', '--out', folder / 'file')
    assert code == 2 and error.startswith(
        f'error: expected a folder to write to, but {folder}/file cannot be used (File exists)'
    )


@pytest.mark.parametrize('suffix', ['.pth', '.safetensors'])
def test_a_full_disk_is_told_and_nothing_is_left(tmp_path, suffix, short_of_space):
    with short_of_space(), pytest.raises(InputError, match=r'could not write .* \(File too large\)'):
        publish(dict(weight=torch.zeros(30_000)), {}, tmp_path / f'a{suffix}')
    assert list(tmp_path.iterdir()) == []
