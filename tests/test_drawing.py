"""What tools/infer.py draws: boxes, masks, legends, names of classes, videos."""

import json
import re
import warnings

import mmcv
import numpy as np
import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.structures import InstanceData, PixelData
from mmseg.structures import SegDataSample
from PIL import Image

from mmcyclemlp.inference import fonts, media
from mmcyclemlp.inference.prediction import Style

from . import small_models
from .small_models import of_dataset

folder, infer = small_models.folder, small_models.infer  # fixtures


def test_only_detections_above_the_score_are_drawn(folder, infer, tmp_path):
    image = mmcv.imread(folder / 'photos/0.png')
    for score, same in ((0, False), (1, True)):
        assert infer('retinanet', 'photos/0.png', '--out', tmp_path, '--score', score)[0] == 0
        assert np.array_equal(mmcv.imread(tmp_path / 'vis/0.png'), image) == same
    assert len(json.loads((tmp_path / 'preds/0.json').read_text())['labels']) == 7


def test_the_visualizer_of_the_config_draws(folder, infer, tmp_path):
    drawn = {}
    for width in (1, 9):
        (folder / 'drawn.py').write_text(
            f"_base_ = 'retinanet.py'\nvisualizer = dict(type='DetLocalVisualizer', "
            f"vis_backends=[dict(type='LocalVisBackend')], line_width={width})\n"
        )
        (folder / 'drawn.pth').write_bytes((folder / 'retinanet.pth').read_bytes())
        assert infer('drawn', 'photos/0.png', '--out', tmp_path, '--score', 0)[0] == 0
        drawn[width] = mmcv.imread(tmp_path / 'vis/0.png')
    assert not np.array_equal(drawn[1], drawn[9])
    (folder / 'drawn.py').write_text("_base_ = 'retinanet.py'\nvisualizer = dict(type='DetLocalVisualiser')\n")
    code, _, error = infer('drawn', 'photos/0.png', '--out', tmp_path)
    assert code == 2 and 'visualizer.type=DetLocalVisualiser is not registered' in error


def test_the_best_detection_is_drawn_last():
    from mmcyclemlp.inference.detection import Detections

    box = [[8.0, 8.0, 40.0, 40.0]]
    instances = InstanceData(bboxes=torch.tensor(box * 2), labels=torch.tensor([0, 1]), scores=torch.tensor([0.9, 0.8]))
    style = Style(('ant', 'bee'), ((255, 0, 0), (0, 255, 0)))
    sample, image = DetDataSample(pred_instances=instances), np.zeros((48, 48, 3), np.uint8)
    found = Detections.of(sample, image, None, None, style)
    assert found.to_dict()['scores'] == pytest.approx([0.9, 0.8])
    red, green, _ = found.plot()[40, 24].astype(int)  # of the edge that both share
    assert red > 2 * green


def test_masks_hold_indices_and_the_drawing_a_legend(folder, infer, tmp_path, monkeypatch):
    assert infer('segmentor', 'photos', '--out', tmp_path, '--batch-size', 2)[0] == 0
    for i, sample in enumerate(of_dataset(folder, 'segmentor', monkeypatch)):
        mask = np.asarray(Image.open(tmp_path / f'masks/{i}.png'))
        expected = sample.pred_sem_seg.data[0].numpy()
        assert mask.dtype == np.uint8 and (mask != expected).mean() < 1e-3
        record = json.loads((tmp_path / f'preds/{i}.json').read_text())
        assert record['mask'] == f'masks/{i}.png'
        names = ('sky', 'tree', 'house')
        shares = {name: (mask == k).mean() for k, name in enumerate(names) if (mask == k).any()}
        assert record['shares'] == pytest.approx(shares)
        assert list(record['shares'].values()) == sorted(shares.values(), reverse=True)
        image, drawn = (
            mmcv.imread(path, channel_order='rgb').astype(int)
            for path in (folder / f'photos/{i}.png', tmp_path / f'vis/{i}.png')
        )
        height, width = image.shape[:2]
        colours = np.array([(0, 0, 200), (0, 200, 0), (200, 0, 0)])
        assert abs(drawn[:height, :width] - (image + colours[mask]) / 2).max() <= 0.5
        legend = drawn[:, width:].reshape(-1, 3)
        for k in range(3):
            assert (legend == colours[k]).all(axis=1).any() == bool((mask == k).any())


def test_a_legend_that_is_too_long_says_so():
    from mmcyclemlp.inference.segmentation import _legend

    names, palette = [f'class {i}' for i in range(40)], np.array([(i, i, i) for i in range(40)])
    few, many = (
        _legend(names, palette, fonts.drawable(tuple(names)).font, list(range(count)), 100) for count in (3, 40)
    )
    assert few.shape == many.shape == (12 * 18, few.shape[1], 3)
    swatch = [tuple(many[18 * row + 9, 10]) for row in range(12)]
    assert swatch == [*((i, i, i) for i in range(11)), (255, 255, 255)]  # the last line is "29 more"


def test_names_in_any_script_are_drawn(folder, infer, tmp_path, monkeypatch):
    from mmcyclemlp.inference.segmentation import _legend

    names = 'érable', 'Straße', '地面', 'дом'
    own = next(fonts._fonts())
    monkeypatch.setattr(fonts, '_fonts', lambda: iter([own]))  # whatever this machine has
    fonts.drawable.cache_clear()
    assert fonts.drawable(names) == (['érable', 'Straße', '2', 'дом'], own)
    legends = [_legend([name], np.zeros((1, 3), np.uint8), own, [0], 20) for name in ('é', 'e', '?')]
    assert not any(np.array_equal(legends[0], other) for other in legends[1:])
    for name, kind in (('segmentor', 'seg'), ('retinanet', 'det'), ('classifier', 'cls')):
        (folder / f'{kind}.py').write_text(f"_base_ = '{name}.py'\n")
        checkpoint = torch.load(folder / f'{name}.pth')
        count = 10 if kind == 'cls' else 3
        checkpoint['meta']['dataset_meta'] = dict(classes=('地面', 'érable', 'Straße', *'3456789')[:count])
        torch.save(checkpoint, folder / f'{kind}.pth')
        with warnings.catch_warnings():
            warnings.filterwarnings('error', 'Glyph')  # of matplotlib, which draws a box then
            assert infer(kind, 'photos/0.png', '--out', tmp_path / kind, '--score', 0)[0] == 0
        content = json.loads((tmp_path / kind / 'predictions.json').read_text())
        assert content['drawn_as'] == {'地面': '0'} and content['classes'][0] == '地面'
    fonts.drawable.cache_clear()


def test_masks_hold_more_than_256_classes(tmp_path):
    from mmcyclemlp.inference.segmentation import Segmentation

    indices = torch.tensor([[[0, 255], [256, 299]]])
    sample = SegDataSample(pred_sem_seg=PixelData(data=indices))
    style = Style(tuple(f'class {i}' for i in range(300)), tuple((i % 256, i // 256, 0) for i in range(300)))
    found = Segmentation.of(sample, np.zeros((2, 2, 3), np.uint8), None, None, style)
    media.write_image(tmp_path / 'mask.png', found.masks)
    assert np.array_equal(Image.open(tmp_path / 'mask.png'), indices[0])
    assert found.to_dict()['shares'] == {f'class {i}': 0.25 for i in (0, 255, 256, 299)}
    assert found.plot()[1, 1].tolist() == [22, 0, 0]  # half of class 299's colour


@pytest.mark.parametrize('name', ['retinanet', 'segmentor', 'classifier'])
def test_a_video_becomes_a_video(infer, name, tmp_path):
    code, output, error = infer(name, 'walk.avi', '--out', tmp_path, '--batch-size', 4)
    assert code == 0, error
    assert f'Wrote {tmp_path}/walk.mp4 and {tmp_path}/walk.jsonl\n' in output
    video = mmcv.VideoReader(str(tmp_path / 'walk.mp4'))
    assert len([frame for frame in video]) == 6 and video.fps == pytest.approx(10)
    if name == 'retinanet':
        assert video.resolution == (90, 60)
    lines = [json.loads(line) for line in (tmp_path / 'walk.jsonl').read_text().splitlines()]
    assert [line['frame'] for line in lines] == list(range(6))
    assert {'retinanet': 'bboxes', 'segmentor': 'shares', 'classifier': 'pred_class'}[name] in lines[0]
    assert sorted(path.name for path in tmp_path.iterdir()) == ['walk.jsonl', 'walk.mp4']


def test_a_video_that_ends_early_says_so(folder, infer, tmp_path):
    whole = (folder / 'walk.avi').read_bytes()
    (folder / 'cut.avi').write_bytes(whole[: whole.rfind(b'00dc', 0, whole.rfind(b'idx1')) - 2000])
    code, output, error = infer('classifier', 'cut.avi', '--out', tmp_path)
    count = len((tmp_path / 'cut.jsonl').read_text().splitlines())
    assert code == 2 and 0 < count < 5
    assert re.search(rf'error: expected 6 frames, but cut.avi ends after {count}, which were used', error)
    assert len([frame for frame in mmcv.VideoReader(str(tmp_path / 'cut.mp4'))]) == count


def test_without_a_codec_for_mp4_it_becomes_avi(infer, tmp_path, monkeypatch):
    monkeypatch.setattr(media, 'CODECS', (('.mp4', 'none'), ('.avi', 'MJPG')))
    code, output, _ = infer('classifier', 'walk.avi', '--out', tmp_path)
    assert code == 0 and f'Wrote {tmp_path}/walk.avi and {tmp_path}/walk.jsonl (this OpenCV cannot write MP4)' in output
    assert len([frame for frame in mmcv.VideoReader(str(tmp_path / 'walk.avi'))]) == 6
    monkeypatch.setattr(media, 'CODECS', (('.mp4', 'none'),))
    code, _, error = infer('classifier', 'walk.avi', '--out', tmp_path)
    assert code == 2 and 'this OpenCV has no codec for .mp4' in error
