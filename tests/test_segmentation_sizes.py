"""Segmentation at any size, in windows, and averaged over scales and mirror images."""

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample

from .small_segmentation import batch_of, logits, model_of, tiny


@pytest.fixture(autouse=True)
def scope():
    with DefaultScope.overwrite_default_scope('mmseg'):
        yield


@pytest.fixture(params=['cyclemlp/ade20k_fpn_b1', 'cyclemlp/ade20k_upernet_b2'], ids=['fpn', 'upernet'], scope='module')
def network(request):
    """A network with weights that let all of the image matter, in evaluation mode."""
    with DefaultScope.overwrite_default_scope('mmseg'):
        config = tiny(request.param)
        config.model.decode_head.num_classes = 5
        torch.manual_seed(0)
        model = model_of(config).eval()
    for parameter in model.parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=parameter[0].numel() ** -0.5)
    return model


@pytest.mark.parametrize('shape', [(64, 64), (33, 47), (101, 30), (3, 3), (3, 90), (90, 3), (5, 31)])
def test_whole_images_of_any_size(network, shape):
    network.test_cfg = Config(dict(mode='whole'))
    out = logits(network, batch_of([shape], 5))
    assert out.shape == (5, *shape) and out.isfinite().all()


@pytest.mark.parametrize('shape', [(64, 64), (33, 47), (101, 30), (3, 90), (40, 41)])
@pytest.mark.parametrize('crop, stride', [((32, 32), (21, 21)), ((33, 47), (32, 46)), ((40, 24), (40, 24))])
def test_sliding_windows_at_any_size(network, shape, crop, stride):
    batch = batch_of([shape], 5)
    network.test_cfg = Config(dict(mode='slide', crop_size=crop, stride=stride))
    out = logits(network, batch)
    assert out.shape == (5, *shape) and out.isfinite().all()
    # One window around all of the image is the image.
    network.test_cfg = Config(dict(mode='slide', crop_size=(128, 128), stride=(85, 85)))
    one = logits(network, batch)
    network.test_cfg = Config(dict(mode='whole'))
    torch.testing.assert_close(one, logits(network, batch))
    if any(side > window for side, window in zip(shape, crop)):
        assert not torch.allclose(one, out)


@pytest.mark.parametrize('shape', [(1, 40), (40, 1), (2, 2), (1, 1)])
def test_what_is_smaller_than_three_pixels_is_padded_where_the_config_says_so(network, shape):
    batch = batch_of([shape], 5)
    network.test_cfg = Config(dict(mode='whole'))
    with pytest.raises(ValueError, match='H and W at least 3'):
        logits(network, batch)
    network.data_preprocessor.test_cfg = dict(size_divisor=32)
    try:
        out = logits(network, batch)
        assert out.shape == (5, *shape) and out.isfinite().all()
        # The padding is cut off again.
        larger = batch_of([(32, 64) if shape[1] > 32 else (64, 32) if shape[0] > 32 else (32, 32)], 5)
        assert logits(network, larger).shape[1:] == larger['inputs'][0].shape[1:]
    finally:
        network.data_preprocessor.test_cfg = None


def scaled(image, labels, factor, flip):
    """An image [3, H, W] with its mask as TestTimeAug gives them."""
    size = [max(3, round(side * factor)) for side in image.shape[1:]]
    view = torch.nn.functional.interpolate(image[None].float(), size, mode='bilinear', align_corners=False)[0]
    view = (view.flip(2) if flip else view).round().to(torch.uint8)
    sample = SegDataSample(
        gt_sem_seg=PixelData(data=labels),
        metainfo=dict(
            img_path='image',
            img_shape=tuple(size),
            ori_shape=tuple(image.shape[1:]),
            flip=flip,
            flip_direction='horizontal' if flip else None,
        ),
    )
    return view, sample


@pytest.mark.parametrize('shape', [(33, 47), (64, 40), (3, 50), (50, 3)])
def test_several_scales_and_mirror_images_are_averaged(network, shape):
    network.test_cfg = Config(dict(mode='whole'))
    merged = MODELS.build(dict(type='SegTTAModel', module=network))
    batch = batch_of([shape], 5)
    image, labels = batch['inputs'][0], batch['data_samples'][0].gt_sem_seg.data

    def predict(image, labels):
        views = [scaled(image, labels, factor, flip) for factor in (0.5, 1.0, 1.7) for flip in (False, True)]
        with torch.no_grad():
            (sample,) = merged.test_step(
                dict(inputs=[[view] for view, _ in views], data_samples=[[sample] for _, sample in views])
            )
        return sample.pred_sem_seg.data[0]

    out = predict(image, labels)
    assert out.shape == shape
    # The mean of both ways is the same for the mirror image, but for rounded ties.
    mirrored = predict(image.flip(2), labels.flip(2)).flip(1)
    assert (out == mirrored).float().mean() > 0.97
