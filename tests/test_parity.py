"""The comparison of an exported file with its model, and what an export leaves as it was; nothing is exported here."""

import math

import pytest
import torch
from torch import nn

import mmcyclemlp
from mmcyclemlp.errors import InputError
from mmcyclemlp.export import exporting, parity
from mmcyclemlp.export.graph import Graph


class Two(nn.Module):
    """Two maps, of which the second is 0."""

    in_channels = 1

    def forward(self, images):
        return images + 1, images * 0


IMAGES = torch.ones(2, 1, 4, 6)


def compared(run, precision='fp32'):
    differences = parity.compare(Graph(Two()), run, [IMAGES])
    parity.check(differences, precision)
    return differences


def test_the_largest_difference_of_all_outputs_counts():
    assert compared(lambda images: [images + 1, images * 0]) == [((2, 4, 6), 0.0, 0.0)]  # 0 of 0 is no difference
    assert compared(lambda images: [images * 2.00002, images * 0])[0].error == pytest.approx(1e-5, rel=1e-2)
    with pytest.raises(InputError, match='is 0.5 off at 2x4x6'):
        compared(lambda images: [images + 2, images * 0])
    with pytest.raises(InputError, match='is 0.3 off at 2x4x6'):
        compared(lambda images: [images + 1, images * 0 + 0.3])


@pytest.mark.parametrize('precision', ['fp32', 'int8'])
@pytest.mark.parametrize('output', [0, 1])
def test_nan_in_any_output_is_an_error(output, precision):
    def run(images):
        outputs = [images + 1, images * 0]
        outputs[output][1, 0, 2, 3] = math.nan
        return outputs

    with pytest.raises(InputError, match='but it is nan off at 2x4x6'):
        compared(run, precision)


@pytest.mark.parametrize('few', [[], [IMAGES + 1], [IMAGES + 1, IMAGES[:1] * 0]])
def test_outputs_that_are_missing_are_an_error(few):
    with pytest.raises(InputError, match=r'expected outputs \[2, 1, 4, 6\], \[2, 1, 4, 6\] from the exported file'):
        compared(lambda images: few)


@pytest.fixture
def written(monkeypatch):
    """Stands in for torch.export: any file, which runs as the model."""

    def write(graph, path, calibration):
        path.write_text('a file')
        return lambda images: list(graph(images))

    monkeypatch.setattr(exporting, '_program', write)


def test_the_model_stays_as_it_was(written, tmp_path):
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Dropout(0.5), nn.BatchNorm2d(4)).train()
    model[0].bias.requires_grad_(False)
    model[1].eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    mmcyclemlp.export(model, tmp_path / 'model.pt2', 'torch-export', check_parity=False)
    assert [module.training for module in model.modules()] == [True, True, False, True]
    assert [name for name, value in model.named_parameters() if not value.requires_grad] == ['0.bias']
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_a_place_that_cannot_be_written_to_is_told(written, tmp_path):
    (tmp_path / 'two.pt2').mkdir()
    with pytest.raises(InputError, match=r'could not write .*/two.pt2 \(Is a directory\); check the permissions'):
        mmcyclemlp.export(Two(), tmp_path / 'two.pt2', 'torch-export', check_parity=False)
    assert [path.name for path in tmp_path.iterdir()] == ['two.pt2']
