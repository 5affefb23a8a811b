"""What padding does to features, as mmdet pads the images of a batch to one size.

The mixer weighs its branches by means over the whole map, padding included, so an image in a padded batch has other
features everywhere. All else in the network is local: apart from those weights, padding changes only what lies within
the receptive field of its border, exactly.
"""

import pytest
import torch
from mmdet.structures import DetDataSample
from mmengine.registry import MODELS

from mmcyclemlp.models import ARCHS, CycleMLP

SIZES = ((256, 384), (320, 288))  # of two images, which are padded to 320x384


def untouched(side, depths):
    """Rows or columns of each stage's map that padding after ``side`` pixels cannot reach."""
    count, counts = (side + 1) // 4, []  # the stem reads zeros beyond the image, padded or not
    for i, depth in enumerate(depths):
        count = count // 2 if i > 0 else count  # position j reads up to 2j + 1
        count -= depth  # each block reads one position further
        counts.append(count)
    return counts


def maps(model, images):
    """Features of a batch as mmdet preprocesses it."""
    preprocessor = MODELS.build(dict(type='mmdet.DetDataPreprocessor', mean=[120.0], std=[60.0], pad_size_divisor=32))
    data = preprocessor(dict(inputs=images, data_samples=[DetDataSample() for _ in images]), False)
    with torch.no_grad():
        return model(data['inputs'].double())


def differences(model):
    """By image and stage: the image's size, stage, the map [C, H, W] of the image alone, and the difference that the
    other's presence in the batch makes to it."""
    images = [torch.randint(256, (3, *size), dtype=torch.uint8) for size in SIZES]
    together = maps(model, images)
    for k, image in enumerate(images):
        for stage, alone in enumerate(maps(model, [image])):
            padded = together[stage][k, :, : alone.shape[2], : alone.shape[3]]
            yield SIZES[k], stage, alone[0], padded - alone[0]


@pytest.fixture
def model():
    """B1 in float64, with matrices large enough that everything reaches everything it can."""
    model = CycleMLP('b1', out_indices=(0, 1, 2, 3)).double().eval()
    for parameter in model.stages.parameters():
        if parameter.ndim == 2:
            torch.nn.init.normal_(parameter, std=parameter.shape[1] ** -0.5)
    return model


def test_padding_acts_locally_but_for_the_mixers_weights(model):
    for name, parameter in model.named_parameters():
        if 'reweight.fc2' in name:
            torch.nn.init.zeros_(parameter)  # the branches weigh a third each, whatever their means are
    for (height, width), stage, _, difference in differences(model):
        # One image is padded below, the other at its right.
        count = untouched(min(height, width), ARCHS['b1']['depths'])[stage]
        by_distance = difference.abs().amax((0, 2) if height < 320 else (0, 1))
        assert count > 0 and by_distance[:count].max() < 1e-10
        assert by_distance[count] > 1e-9  # the bound is exact


def changes_inside(model):
    """Relative to the image's own features, by image and stage, out of reach of the padding."""
    for (height, width), stage, alone, difference in differences(model):
        count = untouched(min(height, width), ARCHS['b1']['depths'])[stage]
        part = (slice(None), slice(count)) if height < 320 else (slice(None), slice(None), slice(count))
        yield difference[part].norm() / alone[part].norm()


def test_padding_changes_features_everywhere_by_the_mixers_weights(model):
    assert all(0.05 < change < 0.35 for change in changes_inside(model))


def test_it_changes_little_at_the_initial_weights():
    changes = list(changes_inside(CycleMLP('b1', out_indices=(0, 1, 2, 3)).double().eval()))
    assert max(changes) < 5e-3 and max(changes) > 1e-4
