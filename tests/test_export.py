"""Export on small models of every task: each is exported once, and all checks run on that file."""

import json
import re
import subprocess
import sys
from collections import Counter

import numpy as np
import onnx
import pytest
import torch
import torch.nn.functional as F
import torchvision
from PIL import Image

import mmcyclemlp
from mmcyclemlp import Predictor
from mmcyclemlp.config import load_config
from mmcyclemlp.errors import InputError
from mmcyclemlp.export import exporting, parity
from mmcyclemlp.export.graph import prepared
from mmcyclemlp.export.quantize import calibration, metrics, quantize
from mmcyclemlp.inference.exported import KEY, Exported
from mmcyclemlp.models import CycleMixer

from .helpers import REPO, call_tool
from .small_models import CONFIGS, build, pixels, save

pytestmark = pytest.mark.slow  # the exports of a fixture take most of the time
BACKBONE = """dict(_delete_=True, type='CycleMLP', out_indices=(0, 1),
    arch=dict(depths=(1, 1), embed_dims=(8, 8), mlp_ratios=(2, 2)))"""
SMALL = dict(
    segmentor="""
_base_ = 'base.py'
model = dict(
    neck=dict(_delete_=True, type='mmseg.FPN', in_channels=[8, 8], out_channels=16, num_outs=2),
    decode_head=dict(in_index=[0, 1], in_channels=[16, 16], feature_strides=[4, 8]))
""",
    retinanet="""
_base_ = 'base.py'
model = dict(
    neck=dict(in_channels=[8, 8], start_level=0, num_outs=2, add_extra_convs=False),
    bbox_head=dict(anchor_generator=dict(strides=[4, 8])))
""",
    classifier=f"""
_base_ = '{REPO}/configs/cyclemlp/digits_b1.py'
model = dict(
    backbone=dict(arch=dict(_delete_=True, depths=(1, ), embed_dims=(8, ), mlp_ratios=(2, )), out_indices=(0, )),
    head=dict(in_channels=8))
""",
)
FILES = dict(classifier='classifier.onnx', segmentor='segmentor.xml', retinanet='retinanet.onnx')


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """Configs, checkpoints and exported files by name; images of three sizes in photos/; what the tool printed."""
    folder = tmp_path_factory.mktemp('export')
    (folder / 'photos').mkdir()
    rng = np.random.default_rng(0)
    for i, size in enumerate([(61, 90), (90, 60), (61, 90)]):
        Image.fromarray(pixels(rng, *size)).save(folder / f'photos/{i}.png')
    empty = dict(images=[], annotations=[], categories=[])
    (folder / 'few.json').write_text(json.dumps(empty))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for name, text in SMALL.items():
            (folder / f'{name}_base.py').write_text(CONFIGS[name].replace('{backbone}', BACKBONE))
            (folder / f'{name}.py').write_text(text.replace('base.py', f'{name}_base.py'))
            torch.manual_seed(0)
            save(folder / f'{name}.pth', build(load_config(folder / f'{name}.py')))
        code = call_tool(patch, folder, 'export.py', 'classifier.py', 'classifier.pth', '--out', FILES['classifier'])
        assert code == 0
        mmcyclemlp.export(Predictor('segmentor.py', 'segmentor.pth', 'cpu'), FILES['segmentor'], 'openvino')
        mmcyclemlp.export(Predictor('retinanet.py', 'retinanet.pth', 'cpu'), FILES['retinanet'])
    return folder


def predictors(folder, name, patch):
    patch.chdir(folder)
    return [Predictor(f'{name}.py', file, 'cpu', batch_size=2) for file in (f'{name}.pth', FILES[name])]


def test_the_file_holds_standard_operators_and_what_an_application_needs(folder):
    model = onnx.load(folder / FILES['classifier'])
    onnx.checker.check_model(model)
    counts = Counter(node.op_type for node in model.graph.node)
    assert {node.domain for node in model.graph.node} == {''}
    assert counts['LayerNormalization'] == 3 and counts['Gelu'] == 2 and 'Erf' not in counts
    assert not any(node.metadata_props for node in model.graph.node)  # stack traces with paths of this machine
    shapes = {
        value.name: [size.dim_param or size.dim_value for size in value.type.tensor_type.shape.dim]
        for value in (*model.graph.input, *model.graph.output)
    }
    assert shapes == dict(images=['batch', 3, 'height', 'width'], logits=['batch', 10])
    meta = Exported(folder / FILES['classifier']).meta
    assert meta['prepare'] == [dict(type='Resize', scale=32)] and meta['channels'] == 'RGB'
    assert meta['mean'] == [78.0] * 3 and meta['std'] == [96.0] * 3
    assert meta['dataset_meta']['classes'] == list('0123456789')


@pytest.mark.parametrize('name', SMALL)
def test_a_file_predicts_as_its_model(folder, name, monkeypatch):
    model, file = predictors(folder, name, monkeypatch)
    assert not list(file.model.backbone.parameters()) and file.classes == model.classes
    # An image without structure would give scores that are equal but for rounding, in any order.
    images = ['photos/0.png', 'photos/1.png', 'photos/2.png', pixels(np.random.default_rng(1), 35, 47)]
    for expected, found in zip(model(images), file(images)):
        assert type(found) is type(expected)
        assert abs(found.plot(0).astype(int) - expected.plot(0)).mean() < 0.1
        if name == 'segmentor':
            assert (found.masks != expected.masks).mean() <= 1e-4
            np.testing.assert_allclose(found.seg_logits.data, expected.seg_logits.data, rtol=0, atol=1e-4)
        elif name == 'retinanet':
            assert len(expected.pred_instances) == 7
            np.testing.assert_allclose(found.pred_instances.bboxes, expected.pred_instances.bboxes, atol=1e-2)
            np.testing.assert_allclose(found.pred_instances.scores, expected.pred_instances.scores, atol=1e-4)
        else:
            np.testing.assert_allclose(found.pred_score, expected.pred_score, atol=1e-5)


def test_infer_takes_exported_files(folder, monkeypatch, tmp_path):
    for name in ('classifier', 'retinanet'):
        content = []
        for file in (f'{name}.pth', FILES[name]):
            assert call_tool(monkeypatch, folder, 'infer.py', f'{name}.py', file, 'photos', '--out', tmp_path) == 0
            content.append(json.loads((tmp_path / 'predictions.json').read_text())['predictions'])
        assert len(content[0]) == 3
        for expected, found in zip(*content):
            assert found['image'] == expected['image']
            if name == 'classifier':
                assert found['pred_class'] == expected['pred_class']
                assert found['pred_scores'] == pytest.approx(expected['pred_scores'], abs=1e-5)
            else:
                assert found['labels'] == expected['labels'] and len(expected['labels']) == 7
                assert found['scores'] == pytest.approx(expected['scores'], abs=1e-5)
                np.testing.assert_allclose(found['bboxes'], expected['bboxes'], atol=1e-2)


@pytest.mark.parametrize('steps', ['digits_b1', 'imagenet_b1'])
def test_the_script_of_the_page_needs_the_file_alone(folder, tmp_path, monkeypatch, steps):
    script = re.search(r'```python\n(import json.*?)```', (REPO / 'docs/export.md').read_text(), re.DOTALL)[1]
    assert not re.search('torch|mmcyclemlp import|mmengine|mmpretrain', script)
    (tmp_path / 'classify.py').write_text(script)
    monkeypatch.chdir(folder)
    pipeline = load_config(REPO / f'configs/cyclemlp/{steps}.py').test_dataloader.dataset.pipeline
    config = load_config('classifier.py', {'test_dataloader.dataset.pipeline': pipeline})
    model = Predictor(config, 'classifier.pth', 'cpu')
    file = onnx.load('classifier.onnx')
    meta = dict(Exported('classifier.onnx').meta, **prepared(model))
    onnx.helper.set_model_props(file, {KEY: json.dumps(meta)})  # as an export with this config writes it
    onnx.save(file, tmp_path / 'file.onnx')
    for name in ('photos/0.png', 'photos/1.png'):
        command = [sys.executable, '-I', str(tmp_path / 'classify.py'), str(tmp_path / 'file.onnx'), name]
        label, score = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
        (expected,) = model(name)
        assert label == expected.to_dict()['pred_class']
        assert float(score) == pytest.approx(expected.to_dict()['pred_score'], abs=1e-4)


def test_a_backbone_becomes_a_program_of_torch_export(tmp_path, monkeypatch):
    arch = dict(depths=(1, 1), embed_dims=(8, 8), mlp_ratios=(2, 2))
    backbone = mmcyclemlp.CycleMLP(arch, out_indices=(0, 1))
    differences = mmcyclemlp.export(backbone, tmp_path / 'maps.pt2', 'torch-export')
    backbone.eval()
    assert [each.shape for each in differences] == list(parity.SHAPES)
    assert max(each.error for each in differences) < 1e-5
    extra = {f'{KEY}.json': ''}
    program = torch.export.load(tmp_path / 'maps.pt2', extra_files=extra)
    assert json.loads(extra[f'{KEY}.json']) == dict(precision='fp32')
    images = torch.randn(1, 3, 41, 67)
    for found, expected in zip(program.module()(images), backbone(images)):
        torch.testing.assert_close(found, expected)


def test_a_difference_above_the_bound_is_an_error_and_nothing_is_written(folder, tmp_path, monkeypatch, capsys):
    def write(graph, path, calibration):
        path.write_text('half')
        return lambda images: [graph(images)[0] * (1.001 if images.shape[2] == 65 else 1)]

    monkeypatch.setattr(exporting, '_program', write)
    model, _ = predictors(folder, 'classifier', monkeypatch)
    with pytest.raises(InputError, match='within 0.0001 of the model, but it is 0.001 off at 3x65x97'):
        mmcyclemlp.export(model, tmp_path / 'wrong.pt2', 'torch-export')
    assert '| 3x65x97 | 1.0e-03 |' in capsys.readouterr().out and not list(tmp_path.iterdir())
    differences = mmcyclemlp.export(model, tmp_path / 'wrong.pt2', 'torch-export', check_parity=False)
    assert differences == [] and [path.name for path in tmp_path.iterdir()] == ['wrong.pt2']


def test_a_full_disk_is_told_and_leaves_nothing(tmp_path, short_of_space):
    model = mmcyclemlp.CycleMLP(dict(depths=(1,), embed_dims=(64,), mlp_ratios=(4,)), out_indices=(0,))
    with short_of_space(), pytest.raises(InputError, match=r'could not write .*a.pt2 \(File too large\)'):
        mmcyclemlp.export(model, tmp_path / 'a.pt2', 'torch-export')
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(InputError, match='expected a Predictor or a module of PyTorch to export, got str'):
        mmcyclemlp.export('cyclemlp_b1', tmp_path / 'a.pt2', 'torch-export')


def test_int8_is_calibrated_by_the_training_images(folder, tmp_path, monkeypatch):
    model, file = predictors(folder, 'classifier', monkeypatch)
    config = load_config('classifier.py')
    batches = list(calibration(model, config, 24))
    assert len(batches) == 24 and {tuple(batch.shape) for batch in batches} == {(1, 3, 32, 32)}
    (tmp_path / 'int8.onnx').write_bytes((folder / FILES['classifier']).read_bytes())
    quantize(tmp_path / 'int8.onnx', batches)
    assert [path.name for path in tmp_path.iterdir()] == ['int8.onnx']
    kinds = Counter(node.op_type for node in onnx.load(tmp_path / 'int8.onnx').graph.node)
    assert kinds['QuantizeLinear'] and kinds['DequantizeLinear']
    small = Predictor(config, tmp_path / 'int8.onnx')
    for batch in batches[:4]:
        exact, rounded = (each.model.extract_feat(batch)[0] for each in (file, small))
        assert 0 < (exact - rounded).abs().max() < 0.2 * exact.abs().max()
    before, after = (metrics(each, config) for each in (model, file))
    assert before == pytest.approx(after, abs=1e-4) and 'accuracy/top1' in before


@pytest.mark.parametrize(
    'args, sentence',
    [
        (
            ['--format', 'tflite', '--out', 'm.tflite'],
            r'expected a format with its suffix, onnx \(FILE.onnx\), .* tflite',
        ),
        (['--format', 'openvino', '--out', 'm.onnx'], 'but got openvino and m.onnx'),
        (['--precision', 'bf16', '--out', 'm.onnx'], 'expected precision fp32 or int8 for onnx, got bf16'),
        (['--cfg-options', 'default_scope=mmagic', '--out', 'm.onnx'], "of mmdet, .* default_scope='mmagic'"),
        (['--cfg-options', 'model.type=Nobody', '--out', 'm.onnx'], 'Nobody'),
        (['--precision', 'int8', '--images', '0', '--out', 'm.onnx'], '--images expects a number from 1 up, got 0'),
        (['--out', 'classifier.py/m.onnx'], r'classifier.py cannot be used \(File exists\); give another by out'),
    ],
)
def test_wrong_arguments_are_told(folder, args, sentence, monkeypatch, capsys):
    assert call_tool(monkeypatch, folder, 'export.py', 'classifier.py', 'classifier.pth', *args) == 2
    assert re.fullmatch(rf'error: .*{sentence}.*\n', capsys.readouterr().err)
    assert not list(folder.glob('m.*'))


def test_a_missing_package_is_named_with_its_command(folder, monkeypatch, tmp_path):
    model, _ = predictors(folder, 'classifier', monkeypatch)
    for missing, format, suffix in (('onnxscript', 'onnx', '.onnx'), ('openvino', 'openvino', '.xml')):
        monkeypatch.setitem(sys.modules, missing, None)
        with pytest.raises(InputError, match=rf"need {missing}, .* `pip install 'mmcyclemlp\[export\]'`"):
            mmcyclemlp.export(model, tmp_path / f'm{suffix}', format)
    assert not list(tmp_path.iterdir())


def test_what_a_predictor_cannot_use_is_told(folder, monkeypatch):
    _, file = predictors(folder, 'classifier', monkeypatch)
    with pytest.raises(InputError, match='expected images of at least 3x3'):
        file.model.extract_feat(torch.zeros(1, 3, 2, 40))
    for name in ('wrong.onnx', 'wrong.xml'):
        (folder / name).write_text('no model')
        with pytest.raises(InputError, match=f'that tools/export.py wrote, but {name} is damaged'):
            Predictor('classifier.py', name)
    model = onnx.load('retinanet.onnx')
    meta = Exported('retinanet.onnx').meta
    for wrong in (dict(kinds=0), dict(kinds='two'), dict(kinds=None)):
        onnx.helper.set_model_props(model, {KEY: json.dumps(dict(meta, **wrong))})
        onnx.save(model, 'wrong.onnx')
        with pytest.raises(InputError, match='that tools/export.py wrote, but wrong.onnx is damaged'):
            Predictor('retinanet.py', 'wrong.onnx')
    for wrong in (dict(classes='ant'), dict(classes=7), dict(classes=[None]), dict(palette=[[1, 2]]), ['ant']):
        onnx.helper.set_model_props(model, {KEY: json.dumps(dict(meta, dataset_meta=wrong))})
        onnx.save(model, 'wrong.onnx')
        with pytest.raises(InputError, match='expected a list of names as classes, .* but wrong.onnx has'):
            Predictor('retinanet.py', 'wrong.onnx')
    for wrong in ('', '{', '[1]', '5', 'null', '{"precision": []}'):
        onnx.helper.set_model_props(model, {KEY: wrong})
        onnx.save(model, 'wrong.onnx')
        with pytest.raises(InputError):
            Predictor('retinanet.py', 'wrong.onnx')
    with pytest.raises(InputError, match='none.onnx does not exist'):
        Predictor('classifier.py', 'none.onnx')
    with pytest.raises(InputError, match='of mmseg with 3 classes, .* the file is of mmpretrain with 10'):
        Predictor('segmentor.py', 'classifier.onnx')
    options = {'test_dataloader.dataset.metainfo.classes': ('ox', 'cow', 'bee')}
    with pytest.raises(InputError, match=r'the config has \(ox, cow, bee\), but the file has others \(ant, bee, cat\)'):
        Predictor(load_config('retinanet.py', options), 'retinanet.onnx')
    with pytest.raises(InputError, match='expected device cpu for an exported model'):
        monkeypatch.setattr('mmcyclemlp.inference.predictor.check_device', lambda device: device)
        Predictor('classifier.py', 'classifier.onnx', device='cuda')


def test_a_model_of_two_stages_is_refused(folder, monkeypatch):
    monkeypatch.chdir(folder)
    (folder / 'maskrcnn.py').write_text(
        CONFIGS['maskrcnn'].replace('{backbone}', BACKBONE).replace('8, 8, 16, 16', '8, 8')
    )
    save(folder / 'maskrcnn.pth', build(load_config('maskrcnn.py')))
    with pytest.raises(InputError, match='a detector of one stage or .* has a MaskRCNN; export its backbone'):
        mmcyclemlp.export(Predictor('maskrcnn.py', 'maskrcnn.pth', 'cpu'), 'maskrcnn.onnx')


def test_a_head_that_needs_more_than_features_is_refused(folder, monkeypatch):
    predictor = Predictor(load_config(folder / 'segmentor.py'), folder / 'segmentor.pth', 'cpu')
    predictor.model.decode_head.forward = lambda x, batch_data_samples: x  # as Mask2Former's
    with pytest.raises(InputError, match='FPNHead needs x, batch_data_samples; export its backbone'):
        mmcyclemlp.export(predictor, folder / 'm.onnx')


def test_a_detector_of_another_kind_is_refused(folder, monkeypatch):
    predictor = Predictor(load_config(folder / 'retinanet.py'), folder / 'retinanet.pth', 'cpu')
    monkeypatch.setattr('mmdet.models.SingleStageDetector', type('Other', (), {}))
    with pytest.raises(InputError, match='a detector of one stage or .* has a RetinaNet; export its backbone'):
        mmcyclemlp.export(predictor, folder / 'm.onnx')


class Halved(torch.nn.Module):
    """A map upsampled by two beside the one before, as in the necks of RTMDet and YOLOX."""

    def forward(self, x):
        x = F.avg_pool2d(x, 8)
        return F.interpolate(F.avg_pool2d(x, 2), scale_factor=2.0) + x


def test_a_network_of_even_sizes_is_compared_at_these(tmp_path):
    differences = mmcyclemlp.export(Halved(), tmp_path / 'm.onnx')
    assert [d.shape for d in differences] == [(1, 224, 224), (2, 192, 256), (1, 320, 256), (3, 96, 128), (1, 256, 352)]


class Deformed(torch.nn.Module):
    """An operator that ONNX has, and OpenVINO does not read."""

    def forward(self, x):
        return torchvision.ops.deform_conv2d(x, x.new_zeros(len(x), 2, *x.shape[2:]), torch.ones(3, 3, 1, 1))


def test_what_a_runtime_cannot_read_is_told_and_nothing_is_written(tmp_path):
    with pytest.raises(InputError, match='could not export the model .* No conversion rule'):
        mmcyclemlp.export(Deformed(), tmp_path / 'a.xml', 'openvino')
    assert not any(tmp_path.iterdir())


class Mixed(torch.nn.Module):
    """A mixer on images: all of a network that is no operator of PyTorch's own. Compiling a network takes minutes."""

    def __init__(self):
        super().__init__()
        self.mixer = CycleMixer(4)

    def forward(self, images):
        return self.mixer(images.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def test_a_network_is_compiled_ahead_of_time(tmp_path):
    differences = mmcyclemlp.export(Mixed(), tmp_path / 'map.pt2', 'aoti')
    assert len(differences) == 5 and max(each.error for each in differences) < 1e-5
