"""Models and weights by name, with a small network in the authors' form behind a name."""

import http.server
import os
import subprocess
import sys
import threading

import pytest
import torch
from mmengine.registry import MODELS
from mmengine.runner.checkpoint import load_checkpoint

import mmcyclemlp
from mmcyclemlp import create_model
from mmcyclemlp.checkpoints import read_checkpoint, reading, zoo
from mmcyclemlp.checks.start import check_pretrained
from mmcyclemlp.config import load_config
from mmcyclemlp.errors import InputError
from mmcyclemlp.models import CycleMLP, CycleMLPClassifier

from .helpers import REPO
from .originals import add_offsets, original_name, save_original


@pytest.fixture(scope='module')
def trained():
    torch.manual_seed(1)
    return CycleMLPClassifier(CycleMLP('nano'), 7).eval()


def originals(model):
    """A state dict in the authors' form."""
    state = {}
    for key, value in model.state_dict().items():
        name = original_name(key).replace('norm6', 'norm')
        state[name] = value[:, :, None, None] if '.sfc_' in name and value.dim() == 2 else value.clone()
    return add_offsets(state)


@pytest.fixture
def published(trained, tmp_path, monkeypatch):
    """The file of a zoo that has the small network as ``cyclemlp_b1``; the cache is empty."""
    monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'cache'))
    path = save_original(originals(trained), tmp_path / 'CycleMLP_B1.pth')
    monkeypatch.setitem(zoo.ZOO, 'b1', zoo.Weights('nano', path.as_uri(), num_classes=7))
    return path


IMAGE = torch.randn(2, 3, 40, 33, generator=torch.Generator().manual_seed(0))


def test_weights_by_name_are_downloaded_once(published, trained):
    expected = trained(IMAGE)
    assert torch.equal(create_model('cyclemlp_b1', pretrained=True).eval()(IMAGE), expected)
    assert not torch.equal(create_model('cyclemlp_b1').eval()(IMAGE), expected)
    cached = zoo.fetch(zoo.ZOO['b1'])
    published.unlink()
    assert torch.equal(create_model('cyclemlp_b1', pretrained=True).eval()(IMAGE), expected)
    assert sorted(os.listdir(cached.parent)) == ['CycleMLP_B1.pth', 'CycleMLP_B1.pth.sha256']
    # A file of the user's, too, in the authors' form and in ours.
    assert torch.equal(create_model('cyclemlp_b1', pretrained=cached).eval()(IMAGE), expected)
    torch.save(dict(state_dict=trained.state_dict()), published)
    assert torch.equal(create_model('cyclemlp_b1', pretrained=published.as_uri()).eval()(IMAGE), expected)


def test_configs_take_the_name(published, trained):
    init_cfg = dict(type='Pretrained', checkpoint='cyclemlp://b1', prefix='backbone.')
    backbone = MODELS.build(dict(type='CycleMLP', arch='nano', init_cfg=init_cfg))
    backbone.init_weights()
    assert all(torch.equal(value, trained.backbone.state_dict()[key]) for key, value in backbone.state_dict().items())
    model = CycleMLPClassifier(CycleMLP('nano'), 7)
    load_checkpoint(model, 'cyclemlp://b1', strict=True)  # as load_from does
    assert torch.equal(model.eval()(IMAGE), trained(IMAGE))
    assert read_checkpoint('cyclemlp://b1')['state_dict'].keys() == model.state_dict().keys()
    config = REPO / 'configs/cyclemlp/coco_retinanet_b1.py'
    check_pretrained(load_config(config, {'model.backbone.arch': 'nano', 'model.neck.in_channels': [64, 128, 160]}))
    with pytest.raises(
        InputError, match=r'weights of CycleMLP b1 for model.backbone, but cyclemlp://b1 holds CycleMLP n'
    ):
        check_pretrained(load_config(config))


def test_a_start_reads_its_weights_once(published, trained, monkeypatch):
    read = []
    monkeypatch.setattr(reading, '_load', lambda *args, load=reading._load: read.append(args[1]) or load(*args))
    config = load_config(REPO / 'configs/cyclemlp/coco_retinanet_b1.py', {'model.backbone.arch': 'nano'})
    check_pretrained(config)
    backbone = MODELS.build(config.model.backbone)
    backbone.init_weights()
    assert len(read) == 1 and torch.equal(backbone.norm3.weight, trained.backbone.norm3.weight)
    assert torch.equal(backbone.stages[2][1].mlp.fc1.weight, trained.backbone.stages[2][1].mlp.fc1.weight)
    MODELS.build(config.model.backbone).init_weights()  # later users read the file anew
    assert len(read) == 2


def test_features(published, trained):
    with pytest.warns(UserWarning, match='no fitting norm0, norm1, norm2,'):
        backbone = create_model('cyclemlp_b1', pretrained=True, features_only=True).eval()
    maps = backbone(IMAGE)
    assert [m.shape[1] for m in maps] == [32, 64, 128, 160]
    assert torch.equal(maps[3], trained.backbone(IMAGE)[0])
    with pytest.warns(UserWarning, match='no fitting norm0, norm1,'):
        two = create_model('cyclemlp_b1', pretrained=True, features_only=True, out_indices=(0, 1)).eval()
    assert torch.equal(two(IMAGE)[1], maps[1])
    classifier = create_model('cyclemlp_b1', pretrained=True, num_classes=0).eval()
    assert torch.equal(classifier(IMAGE), maps[3].mean(dim=(2, 3)))


def test_weights_of_the_first_stages(published, tmp_path):
    own = CycleMLP('nano', out_indices=(0, 1, 2)).eval()
    torch.save(own.state_dict(), tmp_path / 'own.pth')
    for indices in ((0, 1, 2), (1,)):
        model = create_model('cyclemlp_b1', tmp_path / 'own.pth', features_only=True, out_indices=indices).eval()
        assert all(torch.equal(out, own(IMAGE)[i]) for i, out in zip(indices, model(IMAGE)))
    with pytest.raises(InputError, match='does not fit this CycleMLP nano: missing stages.3.0'):
        create_model('cyclemlp_b1', tmp_path / 'own.pth', features_only=True)
    torch.save({'fc.weight': torch.zeros(2, 2)}, tmp_path / 'other.pth')
    with pytest.raises(InputError, match='expected weights of CycleMLP nano, but .* holds another network'):
        create_model('cyclemlp_b1', tmp_path / 'other.pth')


def test_another_head_and_other_channels(published, trained):
    with pytest.warns(UserWarning, match='cyclemlp_b1 has no fitting head.fc, which start untrained'):
        model = create_model('cyclemlp_b1', pretrained=True, num_classes=4).eval()
    assert model(IMAGE).shape == (2, 4)
    assert torch.equal(model.backbone(IMAGE)[0], trained.backbone(IMAGE)[0])
    grey = IMAGE[:, :1]
    expected = trained(grey.expand(-1, 3, -1, -1))
    for channels in (1, 6):
        model = create_model('cyclemlp_b1', pretrained=True, in_channels=channels).eval()
        torch.testing.assert_close(model(grey.expand(-1, channels, -1, -1)), expected)


def test_wrong_names_and_arguments(published, tmp_path):
    assert mmcyclemlp.list_models() == tuple(f'cyclemlp_{name}' for name in ('b1', 'b2', 'b3', 'b4', 'b5', 'digits'))
    for name, near in (
        ('cyclemlp_b6', 'cyclemlp_b'),
        ('cyclemlp_digit-scenes_retinanet', 'cyclemlp_digits'),  # the weights of a detector
        ('cyclemlp_digit-scenes_fpm', 'cyclemlp_digits'),
        ('cyclemlp_', 'cyclemlp_'),
    ):
        with pytest.raises(
            InputError, match=f'expected one of cyclemlp_b1, .*, got {name!r}; did you mean {near}'
        ) as error:
            create_model(name)
        suggested = str(error.value).partition('did you mean ')[2].rstrip('?').split(' or ')
        assert suggested and set(suggested) <= set(mmcyclemlp.list_models())
    with pytest.raises(InputError, match=r'did you mean cyclemlp_digit-scenes_retinanet or'):
        read_checkpoint('cyclemlp://digit-scenes_retinanett')
    with pytest.raises(InputError, match=r'out_indices must be rising stage numbers from 0 to 3.*got \(1, 4\)'):
        create_model('cyclemlp_b1', features_only=True, out_indices=(1, 4))
    with pytest.raises(InputError, match='out_indices needs features_only=True'):
        create_model('cyclemlp_b1', out_indices=(1, 2))
    with pytest.raises(InputError, match='need kernel_size=3, got 5'):
        create_model('cyclemlp_b1', pretrained=True, kernel_size=5)
    with pytest.raises(InputError, match=r'expected weights of CycleMLP b2, but .*B1.pth holds nano'):
        create_model('cyclemlp_b2', pretrained=published)
    with torch.device('meta'), pytest.raises(InputError, match='expected a device for the pretrained weights, but got'):
        create_model('cyclemlp_b1', pretrained=True)
    with pytest.raises(InputError, match='does not exist; check the path'):
        create_model('cyclemlp_b1', pretrained=tmp_path / 'absent.pth')


def test_weights_of_ones_own_may_have_another_kernel(published, tmp_path):
    torch.manual_seed(2)
    own = CycleMLPClassifier(CycleMLP('nano', kernel_size=5), 7).eval()
    torch.save(dict(state_dict=own.state_dict()), tmp_path / 'own.pth')
    model = create_model('cyclemlp_b1', pretrained=tmp_path / 'own.pth', kernel_size=5).eval()
    assert torch.equal(model(IMAGE), own(IMAGE))
    for source in (True, 'cyclemlp://b1', published):  # the last in the authors' form
        with pytest.raises(InputError, match='need kernel_size=3, got 5'):
            create_model('cyclemlp_b1', pretrained=source, kernel_size=5)


@pytest.mark.parametrize(
    'change, sentence',
    [
        ({'backbone.stages.0.0.mlp.fc1.weight': 5}, 'holds something else under backbone.stages.0.0.mlp.fc1.weight'),
        ({'backbone.norm3.weight': 5}, 'holds something else under backbone.norm3.weight'),
        ({'backbone.patch_embed.proj.weight': torch.zeros(32)}, r'proj.weight \[32\] instead of \[32, 3, 7, 7\]'),
        ({'backbone.patch_embed.proj.weight': torch.zeros(32, 0, 7, 7)}, r'proj.weight \[32, 0, 7, 7\] instead'),
        ({'head.fc.weight': torch.zeros(())}, r'head.fc.weight \[\] instead of \[7, 160\]'),
        (5, 'expected a state dict, but .*odd.pth holds none'),
    ],
)
def test_odd_files_are_told(published, trained, tmp_path, change, sentence):
    state_dict = {**trained.state_dict(), **change} if isinstance(change, dict) else change
    torch.save(dict(state_dict=state_dict), tmp_path / 'odd.pth')
    with pytest.raises(InputError, match=sentence):
        create_model('cyclemlp_b1', pretrained=tmp_path / 'odd.pth')


class Bomb:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


def test_a_hostile_file_behind_a_name_runs_nothing(published, tmp_path):
    torch.save(dict(model=Bomb(str(tmp_path / 'ran'))), published)
    with pytest.raises(InputError, match='mkdir'):
        create_model('cyclemlp_b1', pretrained=True)
    assert not (tmp_path / 'ran').exists()


def test_a_file_that_changed_is_refused(published, monkeypatch):
    cached = zoo.fetch(zoo.ZOO['b1'])
    cached.write_bytes(cached.read_bytes() + b' ')
    with pytest.raises(InputError, match=r'expected a file of SHA-256 [0-9a-f]{12}, but .*; delete it to download it'):
        create_model('cyclemlp_b1', pretrained=True)
    cached.unlink()
    cached.with_name(f'{cached.name}.sha256').unlink()
    monkeypatch.setitem(zoo.ZOO, 'b1', zoo.ZOO['b1']._replace(sha256='0' * 64))
    with pytest.raises(InputError, match='expected a file of SHA-256 000000000000'):
        create_model('cyclemlp_b1', pretrained=True)


def test_half_a_download_is_removed_and_tried_again(published, trained, monkeypatch):
    content, asked = published.read_bytes(), []

    class Server(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_response(200)
            self.send_header('Content-Length', str(len(content)))
            self.end_headers()
            self.wfile.write(content if len(asked) == stop else content[:1000])

        def log_message(self, *args):
            pass

    with http.server.ThreadingHTTPServer(('127.0.0.1', 0), Server) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f'http://127.0.0.1:{server.server_address[1]}/half.pth'
        monkeypatch.setitem(zoo.ZOO, 'b1', zoo.ZOO['b1']._replace(url=url))
        stop = None
        with pytest.raises(
            InputError, match=r'could not download .*; check the network, or download it elsewhere and sav'
        ):
            create_model('cyclemlp_b1', pretrained=True)
        folder = published.parent / 'cache/hub/checkpoints'
        assert len(asked) == 2 and not os.listdir(folder)
        stop = 4
        assert torch.equal(create_model('cyclemlp_b1', pretrained=True).eval()(IMAGE), trained(IMAGE))
        assert len(asked) == 4
        server.shutdown()


def test_an_address_of_a_hub_leads_elsewhere():
    (weights,) = zoo.BUNDLED.glob('digits_nano-*.safetensors')

    class Hub(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            if self.path.startswith('/user/digits/resolve/main/'):  # to an address that does not have the file's name
                self.send_response(302)
                self.send_header('Location', '/0f3c?signature=1')
                self.end_headers()
                return
            self.send_response(200)
            self.end_headers()
            self.wfile.write(weights.read_bytes())

        def log_message(self, *args):
            pass

    with http.server.ThreadingHTTPServer(('127.0.0.1', 0), Hub) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f'http://127.0.0.1:{server.server_address[1]}/user/digits/resolve/main/{weights.name}'
        images = torch.rand(1, 3, 32, 32)
        model, expected = (create_model('cyclemlp_digits', pretrained=source).eval() for source in (url, True))
        assert torch.equal(model(images), expected(images))
        with pytest.raises(InputError, match='expected a file whose SHA-256 starts with 00000000, as its name says'):
            create_model('cyclemlp_digits', pretrained=url.replace(weights.stem[-8:], '0' * 8))
        server.shutdown()


def test_the_readmes_first_block(published):
    kind, *code = (REPO / 'README.md').read_text().split('```')[1].splitlines()
    assert kind == 'python' and len(list(filter(None, code))) == 3
    found = {}
    with pytest.warns(UserWarning, match='no fitting norm0, norm1, norm2,'):
        exec('\n'.join(code), found)
    assert [m.shape[2] for m in found['maps']] == [56, 28, 14, 7]


@pytest.mark.slow
def test_importing_is_enough_for_safe_reading(published, tmp_path):
    torch.save(dict(state_dict=Bomb(str(tmp_path / 'ran'))), tmp_path / 'evil.pth')
    code = f"""
import mmcyclemlp
from mmengine.runner.checkpoint import load_checkpoint
try:
    load_checkpoint(mmcyclemlp.CycleMLP('nano'), {str(tmp_path / 'evil.pth')!r})
except ValueError as error:
    print(type(error).__name__)
"""
    done = subprocess.run([sys.executable, '-c', code], cwd=REPO, capture_output=True, text=True)
    assert done.stdout.endswith('\nInputError\n') and not (tmp_path / 'ran').exists(), done.stderr
