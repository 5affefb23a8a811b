"""tools/infer.py on made images, with small models of every task: predictions, options, files, and what is wrong."""

import json
import re

import mmcv
import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools import mask as coco_mask

from mmcyclemlp.inference import failures, media

from . import small_models
from .small_models import SIZES, of_dataset

folder, infer = small_models.folder, small_models.infer  # fixtures


@pytest.mark.parametrize('name', ['retinanet', 'maskrcnn'])
@pytest.mark.slow
def test_detections_are_those_of_a_test(folder, name, infer, tmp_path, monkeypatch):
    code, output, _ = infer(name, 'photos', '--out', tmp_path, '--batch-size', 3)
    assert code == 0 and f'Wrote the predictions on 4 images to {tmp_path}' in output
    content = json.loads((tmp_path / 'predictions.json').read_text())
    assert content['classes'] == ['ant', 'bee', 'cat']
    for i, sample in enumerate(of_dataset(folder, name, monkeypatch)):
        record = content['predictions'][i]
        assert record == json.loads((tmp_path / f'preds/{i}.json').read_text())
        assert record['image'] == f'photos/{i}.png'
        expected = sample.pred_instances
        assert len(expected) > 2 and record['labels'] == expected.labels.tolist()
        np.testing.assert_allclose(record['bboxes'], expected.bboxes, atol=1e-2)
        np.testing.assert_allclose(record['scores'], expected.scores, atol=1e-4)
        if name == 'maskrcnn':
            masks = coco_mask.decode(record['masks']).transpose(2, 0, 1)
            assert masks.shape[1:] == SIZES[i]
            assert (masks != expected.masks.numpy()).mean() < 1e-3
        drawn, image = mmcv.imread(tmp_path / f'vis/{i}.png'), mmcv.imread(folder / f'photos/{i}.png')
        assert drawn.shape == image.shape


def test_options_change_the_config(infer, tmp_path):
    args = 'photos/0.png', '--out', tmp_path, '--cfg-options'
    assert infer('retinanet', *args, 'model.test_cfg.max_per_img=2')[0] == 0
    assert len(json.loads((tmp_path / 'preds/0.json').read_text())['labels']) == 2
    code, _, error = infer('retinanet', *args, 'model.test_cfg.max_per_im=2')
    assert code == 2 and 'did you mean model.test_cfg.max_per_img?' in error


def test_what_the_model_cannot_take_is_named_and_the_rest_is_done(folder, infer, tmp_path):
    photos = folder / 'mixed'
    photos.mkdir(exist_ok=True)
    for name in 'az':
        (photos / f'{name}.png').write_bytes((folder / 'photos/0.png').read_bytes())
    Image.new('RGB', (1, 1)).save(photos / 'b.png')
    Image.new('RGB', (6000, 6000)).save(photos / 'm.png')
    keep = 'test_dataloader.dataset.pipeline.1.scale_factor=1.0', 'test_dataloader.dataset.pipeline.1.scale=None'
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(failures, '_free_memory', lambda: failures.SPARE + (64 << 20))
        code, output, error = infer(
            'segmentor', 'mixed', '--out', tmp_path, '--batch-size', 2, '--device', 'cpu', '--cfg-options', *keep
        )
    small, large = sorted(line for line in error.splitlines() if line.startswith('error: '))
    assert code == 2 and 'Wrote the predictions on 2 images' in output
    assert re.search('could not predict on mixed/b.png: CycleMLP takes images .* got', small)
    assert 'could not predict on mixed/m.png: it needs more memory than this machine has left' in large
    content = json.loads((tmp_path / 'predictions.json').read_text())
    assert [record['image'] for record in content['predictions']] == ['mixed/a.png', 'mixed/z.png']


@pytest.mark.parametrize('name', ['classifier', 'segmentor'])
def test_a_model_that_gives_nan_is_told(folder, infer, name, tmp_path):
    checkpoint = torch.load(folder / f'{name}.pth')
    key = next(key for key in checkpoint['state_dict'] if key.endswith(('fc.bias', 'conv_seg.bias')))
    checkpoint['state_dict'][key][0] = float('nan')
    (folder / 'broken.py').write_text(f"_base_ = '{name}.py'\n")
    torch.save(checkpoint, folder / 'broken.pth')
    code, _, error = infer('broken', 'photos/0.png', '--out', tmp_path)
    assert code == 2 and 'could not predict on photos/0.png: expected numbers from the model, but it gives NaN' in error
    assert json.loads((tmp_path / 'predictions.json').read_text())['predictions'] == []


def test_what_a_folder_leaves_out_is_told(folder, infer, tmp_path, monkeypatch):
    photos = folder / 'various'
    (photos / 'more').mkdir(parents=True, exist_ok=True)
    Image.new('RGB', (40, 40)).save(photos / 'a.PNG')
    for name in ('b.jfif', 'c.gif'):
        Image.new('RGB', (40, 40)).save(photos / name)
    (photos / 'walk.avi').write_bytes((folder / 'walk.avi').read_bytes())
    (photos / '._a.png').write_bytes(b'\0\5\26\7')  # as macOS puts beside each file on other disks
    told = []
    monkeypatch.setattr(media, 'print_log', lambda message, *args: told.append(message))
    code, output, _ = infer('classifier', 'various', 'various/b.jfif', '--out', tmp_path)
    assert code == 0 and 'Wrote the predictions on 2 images' in output
    assert len(told) == 1 and 'Passed over in various: b.jfif, c.gif, more/, walk.avi. A folder stands for' in told[0]
    (photos / 'a.PNG').unlink()
    code, _, error = infer('classifier', 'various', '--out', tmp_path)
    assert code == 2 and 'only b.jfif, c.gif, more/, walk.avi; give their folder itself, or name the files' in error


def test_what_cannot_be_read_is_named_and_the_rest_is_done(folder, infer, tmp_path):
    whole = (folder / 'photos/0.png').read_bytes()
    (folder / 'half.png').write_bytes(whole[: len(whole) // 2])
    (folder / 'text.jpg').write_text('no image')
    (folder / 'none.mp4').write_text('no video')
    code, output, error = infer(
        'classifier', 'half.png', 'photos/0.png', 'text.jpg', 'none.mp4', 'walk.avi', '--out', tmp_path
    )
    assert code == 2
    lines = [line for line in error.splitlines() if line.startswith('error: ')]
    assert [re.search(r'but (\S+)', line)[1] for line in lines] == ['half.png', 'text.jpg', 'none.mp4']
    assert 'Wrote the predictions on 1 image to' in output and (tmp_path / 'walk.mp4').is_file()
    assert [path.name for path in (tmp_path / 'preds').iterdir()] == ['0.json']


def test_images_of_one_name_are_kept_apart(folder, infer, tmp_path):
    (folder / 'other').mkdir(exist_ok=True)
    Image.new('RGB', (40, 40)).save(folder / 'other/0.jpg')
    assert infer('classifier', 'photos', 'other/0.jpg', 'other/0.jpg', '--out', tmp_path)[0] == 0
    assert sorted(path.stem for path in (tmp_path / 'vis').iterdir()) == ['0', '0-2', '1', '2', '3']
    assert json.loads((tmp_path / 'preds/0-2.json').read_text())['image'] == 'other/0.jpg'


def test_results_go_to_the_work_dirs(folder, infer):
    before = {path: path.read_bytes() for path in (folder / 'photos').iterdir()}
    assert infer('classifier', 'photos')[0] == 0
    assert (folder / 'work_dirs/classifier/infer/predictions.json').is_file()
    assert {path: path.read_bytes() for path in (folder / 'photos').iterdir()} == before


@pytest.mark.parametrize(
    'args, sentence',
    [
        (['photos', '--out', 'photos'], 'another folder than that of the inputs, but results in photos could replace'),
        (['found/vis', '--out', 'found'], 'results in found could replace found/vis/0.png; give a new one'),
        (['photos', '--out', 'few.json'], r'few.json cannot be used \(File exists\)'),
        (['none.png'], 'none.png does not exist'),
        (['a' * 300], 'aaa does not exist'),
        (
            ['https://some.where/a.png'],
            'expected a file or a folder, but got the address https://some.where/a.png; dow',
        ),
        (['photos', '--score', 'nan'], '--score expects a number from 0 to 1, got nan'),
        (['empty'], 'expected images in empty, but it holds no file'),
        (['photos', '--batch-size', 0], '--batch-size expects a number from 1 up, got 0'),
        (['photos', '--device', 'gpu'], "expected a device of this machine, such as .*, but got 'gpu'"),
    ],
)
def test_user_errors_print_one_line_and_exit_with_status_2(folder, infer, args, sentence):
    (folder / 'empty').mkdir(exist_ok=True)
    (folder / 'found/vis').mkdir(parents=True, exist_ok=True)
    Image.new('RGB', (40, 40)).save(folder / 'found/vis/0.png')
    code, _, error = infer('classifier', *args)
    assert code == 2 and re.fullmatch(rf'error: .*{sentence}.*\n', error), error


def test_a_checkpoint_of_another_model_is_refused(folder, infer):
    (folder / 'wrong.py').write_text((folder / 'retinanet.py').read_text())
    (folder / 'wrong.pth').write_bytes((folder / 'maskrcnn.pth').read_bytes())
    code, _, error = infer('wrong', 'photos')
    assert code == 2 and re.fullmatch('error: wrong.pth does not fit the model of the config.*\n', error)


def test_a_config_without_a_test_is_refused(folder, infer):
    (folder / 'untested.py').write_text((folder / 'classifier.py').read_text() + 'test_dataloader = None\n')
    (folder / 'untested.pth').write_bytes((folder / 'classifier.pth').read_bytes())
    code, _, error = infer('untested', 'photos')
    assert code == 2 and "default_scope='mmpretrain' and no test_dataloader" in error
