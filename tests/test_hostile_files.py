"""Files that mean harm: nothing in them runs or deletes, and none takes the process down."""

import io
import itertools
import json
import os
import pickle
import struct
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib import import_module

import mmcv
import mmengine
import numpy as np
import pytest
import torch
import yaml
from mmengine.logging import HistoryBuffer
from mmengine.registry import init_default_scope
from mmengine.runner import CheckpointLoader
from PIL import Image

from mmcyclemlp import pickles, untrusted
from mmcyclemlp.checkpoints import read_checkpoint, reading, register_safe_loader
from mmcyclemlp.config import load_config
from mmcyclemlp.errors import InputError, tell
from mmcyclemlp.inference.predictor import build_model
from mmcyclemlp.untrusted import download, parse_yaml, read_json

from .small_runs import TINY

register_safe_loader()

# Functions that run a command, evaluate a text, open, load or delete a file, or lead on to one that does.
NAMES = """
os.system posix.system os.popen os.execv os.remove os.unlink os.rmdir os.rename os.kill nt.system
subprocess.Popen subprocess.run subprocess.call subprocess.check_output subprocess.getoutput pty.spawn
builtins.eval builtins.exec builtins.compile builtins.open builtins.getattr builtins.setattr builtins.__import__
builtins.vars builtins.globals __builtin__.eval io.open io.FileIO codecs.open _codecs.lookup
importlib.import_module importlib._bootstrap._load runpy.run_path runpy.run_module runpy._run_code code.interact
shutil.rmtree shutil.move pathlib.Path pathlib.PosixPath.unlink tempfile.mktemp webbrowser.open ctypes.CDLL
pickle.loads pickle.load marshal.loads types.FunctionType types.CodeType functools.partial operator.attrgetter
operator.methodcaller copyreg._reconstructor timeit.timeit cProfile.run pdb.run doctest.debug_script
torch.load torch.hub.load torch.storage._load_from_bytes torch.serialization.load torch.jit.load
torch.utils.cpp_extension.load_inline torch._dynamo.external_utils.call_backward
numpy.load numpy.fromfile numpy.memmap numpy.f2py.compile numpy.distutils.exec_command.exec_command
mmengine.fileio.io.load mmengine.config.config.Config.fromfile mmengine.fileio.io.rmtree
mmengine.registry.utils.build_from_cfg mmcyclemlp.pickles._PlainUnpickler
""".split()


def naming(module, name, argument):
    """A pickle that calls ``module.name(argument)``."""
    text = argument.encode()
    return f'\x80\x02c{module}\n{name}\n'.encode('latin1') + b'X' + struct.pack('<I', len(text)) + text + b'\x85R.'


def archive(data, deflate=False):
    """A torch.save archive around a pickle."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, 'w', zipfile.ZIP_DEFLATED if deflate else zipfile.ZIP_STORED) as target:
        for name, content in (('data.pkl', data), ('byteorder', b'little'), ('version', b'3\n')):
            target.writestr(f'archive/{name}', content)
    return file.getvalue()


def saved(path, value):
    torch.save(value, path)
    return path


@pytest.mark.parametrize('dotted', NAMES)
def test_what_a_pickle_names_is_never_called(tmp_path, dotted):
    module, _, name = dotted.rpartition('.')
    data = naming(module, name, f'touch {tmp_path / "RAN"}')
    (tmp_path / 'victim').mkdir()
    for suffix, content in (('pth', archive(data)), ('pt', data), ('pkl', data), ('pickle', b'\x80\x04' + data[2:])):
        path = tmp_path / f'evil.{suffix}'
        path.write_bytes(content)
        with pytest.raises(InputError, match=r'evil.*(asks to run|damaged)'):
            read_checkpoint(path) if suffix.startswith('pt') else mmengine.load(path)
    assert sorted(os.listdir(tmp_path)) == ['evil.pickle', 'evil.pkl', 'evil.pt', 'evil.pth', 'victim']


def test_the_commands_in_these_pickles_do_run_elsewhere(tmp_path):
    """The refused files are no empty ones."""
    pickle.loads(naming('os', 'system', f'touch {tmp_path / "RAN"}'))
    assert (tmp_path / 'RAN').exists()


ARRAYS = dict(
    a=np.arange(6, dtype='>i2').reshape(2, 3),
    b=np.asfortranarray(np.eye(3, dtype=np.float32)),
    c=[np.float64(2.5), (np.array(['x', 'yz']), np.array(True))],
)


def check_arrays(found):
    for key in 'ab':
        assert type(found[key]) is np.ndarray and found[key].dtype == ARRAYS[key].dtype
        np.testing.assert_array_equal(found[key], ARRAYS[key])
    assert found['c'][0] == 2.5 and found['c'][1][0].tolist() == ['x', 'yz'] and found['c'][1][1].item() is True


@pytest.mark.parametrize('protocol', [0, 2, 4, 5])
def test_plain_pickles_are_read(tmp_path, protocol):
    (tmp_path / 'a.pkl').write_bytes(pickle.dumps(ARRAYS, protocol))
    check_arrays(mmengine.load(tmp_path / 'a.pkl'))


def test_arrays_in_checkpoints_are_read(tmp_path):
    history = HistoryBuffer([1.0, 2.0], [1, 1])
    found = read_checkpoint(saved(tmp_path / 'a.pth', dict(ARRAYS, history=history)))
    check_arrays(found)
    assert found['history'].mean() == 1.5 and type(found['history'].data[0]) is np.ndarray
    check_arrays(read_checkpoint(saved(tmp_path / 'again.pth', found)))  # it is saved as it came


@pytest.mark.parametrize(
    'change, reason',
    [
        # Objects, whose bytes numpy would take for addresses, and bytes without a type.
        ((b'X\x02\x00\x00\x00f8', b'X\x02\x00\x00\x00O8'), 'numpy.dtype'),
        ((b'X\x02\x00\x00\x00f8', b'X\x02\x00\x00\x00V8'), 'numpy.dtype'),
        ((b'K\x04\x85', b'K\xff\x85'), 'is damaged'),  # a shape of more than its bytes
    ],
)
def test_forged_arrays_are_refused(tmp_path, change, reason):
    data = pickle.dumps({'a': np.arange(4, dtype=float)}, 2)
    forged = data.replace(*change)
    assert forged != data
    (tmp_path / 'a.pth').write_bytes(archive(forged))
    (tmp_path / 'a.pkl').write_bytes(forged)
    for read, name in ((read_checkpoint, 'a.pth'), (mmengine.load, 'a.pkl')):
        with pytest.raises(InputError, match=reason):
            read(tmp_path / name)


def test_a_forged_layout_is_not_taken_from_the_file(tmp_path):
    """One with fields, on which numpy crashes."""
    data = pickle.dumps({'a': np.arange(4, dtype=float)}, 2)
    forged = data.replace(b'NNNJ', b'N}NJ')
    assert forged != data
    (tmp_path / 'a.pth').write_bytes(archive(forged))
    np.testing.assert_array_equal(read_checkpoint(tmp_path / 'a.pth')['a'], np.arange(4.0))


def test_one_list_in_many_places_is_read_once(tmp_path):
    bomb = []
    for _ in range(60):
        bomb = [bomb] * 10
    assert isinstance(pickles.loads(pickle.dumps(bomb, 2)), list)
    assert isinstance(read_checkpoint(saved(tmp_path / 'bomb.pth', dict(a=bomb)))['a'], list)


def test_what_a_checkpoint_would_have_mmengine_evaluate_or_delete_is_dropped(tmp_path):
    info = dict(best_ckpt='/etc', best_ckpt_a='../../x/best_a.pth', last_ckpt='a\nb', keep_ckpt_ids=['/../../x'], n=1)
    content = dict(meta=dict(config='import os', epoch=1), message_hub=dict(runtime_info=info))
    found = read_checkpoint(saved(tmp_path / 'a.pth', content))
    assert found['meta'] == dict(epoch=1)
    assert found['message_hub']['runtime_info'] == dict(best_ckpt_a='best_a.pth', keep_ckpt_ids=[], n=1)


@pytest.mark.parametrize('number', [-1, 1e12, 1 << 50, '1', None])
def test_strange_numbers_of_iterations_are_refused(tmp_path, number):
    with pytest.raises(InputError, match=r"expected a number from 0 up for meta\['iter'\]"):
        read_checkpoint(saved(tmp_path / 'a.pth', dict(meta=dict(iter=number))))


def test_one_flipped_byte_is_found(tmp_path):
    data = bytearray(saved(tmp_path / 'a.pth', dict(a=torch.zeros(10_000))).read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / 'a.pth').write_bytes(data)
    with pytest.raises(InputError, match='a.pth is damaged: the checksum of .*data/0 in it differs'):
        read_checkpoint(tmp_path / 'a.pth')


def test_a_compressed_checkpoint_is_not_unpacked(tmp_path):
    (tmp_path / 'a.pth').write_bytes(archive(pickle.dumps({'a': 'x' * 100_000}, 2), deflate=True))
    with pytest.raises(InputError, match='a.pth is compressed'):
        read_checkpoint(tmp_path / 'a.pth')


def test_safetensors_are_read_as_such(tmp_path):
    from safetensors.torch import save_file

    save_file({'w': torch.arange(3.0)}, tmp_path / 'a.pth')  # whatever its name
    assert torch.equal(read_checkpoint(tmp_path / 'a.pth')['w'], torch.arange(3.0))
    data = (tmp_path / 'a.pth').read_bytes()
    (tmp_path / 'a.pth').write_bytes(data[:-4])
    with pytest.raises(InputError, match='a.pth is damaged'):
        read_checkpoint(tmp_path / 'a.pth')


@pytest.mark.parametrize(
    ('card', 'message'),
    [
        ('{"dataset_meta": {"classes": 3}}', 'has 3 as classes'),
        ('{"dataset_meta": "x"}', "has 'x' as classes"),
        ('[' * 100_000, 'nested too deeply|no whole json'),
    ],
)
def test_the_card_in_safetensors_is_not_trusted(tmp_path, card, message):
    from safetensors.torch import save_file

    save_file({'w': torch.zeros(1)}, tmp_path / 'a.safetensors', dict(mmcyclemlp=card))
    with pytest.raises(InputError, match=message):
        read_checkpoint(tmp_path / 'a.safetensors')


@pytest.mark.parametrize(
    'address', ['s3://b/a.pth', 'x:s3://b/a.pth', 'petrel://b/a.pth', 'x:petrel://b/a.pth', 'pavi://a.pth']
)
def test_stores_without_a_safe_reader_are_refused(address):
    with pytest.raises(InputError, match=f'got {address}; download it first'):
        CheckpointLoader.load_checkpoint(address)


@pytest.mark.parametrize('scheme', ['open-mmlab', 'openmmlab', 'mmcls', 'torchvision', 'modelzoo'])
def test_names_of_the_libraries_reach_the_safe_reader(tmp_path, monkeypatch, scheme):
    with pytest.raises(InputError, match=f'could not find {scheme}://no-such-name'):
        CheckpointLoader.load_checkpoint(f'{scheme}://no-such-name')
    (tmp_path / 'evil.pth').write_bytes(archive(naming('os', 'system', f'touch {tmp_path / "RAN"}')))
    monkeypatch.setattr(reading, 'download', lambda url, path: path.write_bytes((tmp_path / 'evil.pth').read_bytes()))
    known = dict(mmcls='mobilenet_v2', torchvision='resnet18', modelzoo='resnet18').get(scheme, 'resnet18_v1c')
    with pytest.raises(InputError, match='asks to run'):
        CheckpointLoader.load_checkpoint(f'{scheme}://{known}')
    assert not (tmp_path / 'RAN').exists()


def test_a_device_is_no_file(tmp_path):
    (tmp_path / 'zero.png').symlink_to('/dev/zero')
    os.mkfifo(tmp_path / 'pipe.json')
    for read, name in (
        (read_checkpoint, 'zero.png'),
        (mmcv.imread, 'zero.png'),
        (read_json, 'pipe.json'),
        (mmengine.load, 'pipe.json'),
    ):
        with pytest.raises(InputError, match=f'{name} is a device or a pipe'):
            read(tmp_path / name)


@pytest.mark.parametrize(
    'text, reason',
    [
        ('[' * 100_000, 'nested too deeply'),
        ('[' * 100_000 + ']' * 100_000, 'nested too deeply'),
        ('{"a":' * 100_000, 'nested too deeply'),
        (f'[{"1" * 5000}]', 'a number that is too long'),
        ('[1, 2', r'no whole json \(.*line 1 column 6\)'),
        ('[' + '[],' * 300 + '1]', 'at most 200 lists and dicts'),
    ],
)
def test_json_has_bounds(tmp_path, monkeypatch, text, reason):
    monkeypatch.setattr(untrusted, 'JSON_CONTAINERS', 10**9 if 'at most' not in reason else 200)
    (tmp_path / 'a.json').write_text(text)
    for read in (read_json, mmengine.load):
        with pytest.raises(InputError, match=f'a.json.* {reason}|{reason}.*a.json'):
            read(tmp_path / 'a.json')


def test_json_of_usual_kind_is_read(tmp_path):
    content = dict(images=[dict(id=i, file_name=f'[{{{i}') for i in range(100)])
    (tmp_path / 'a.json').write_text(json.dumps(content))
    assert read_json(tmp_path / 'a.json') == content == mmengine.load(tmp_path / 'a.json')


def alias_bomb(levels=12):
    lines = ['a0: &a0 [x, x, x, x, x, x, x, x, x, x]']
    lines += [f'a{i}: &a{i} [{", ".join([f"*a{i - 1}"] * 10)}]' for i in range(1, levels)]
    return '\n'.join(lines)


@pytest.mark.parametrize(
    'text, reason',
    [
        ('a: !!python/object/apply:os.system ["touch RAN"]', 'could not determine a constructor for the tag'),
        ('a: !!python/object/new:subprocess.Popen [["touch", "RAN"]]', 'could not determine a constructor'),
        ('a: !!python/name:os.system', 'could not determine a constructor'),
        ('a: !!python/module:os', 'could not determine a constructor'),
        (alias_bomb(), 'values, aliases counted'),
        ('a: &a [*a]', 'values, aliases counted'),
        ('a: ' + '[' * 1_000, 'nested too deeply'),
        ('a: [', 'expected the node content'),
    ],
)
def test_yaml_is_plain_and_bounded(tmp_path, monkeypatch, text, reason):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'a.yaml').write_text(text)
    for read in (mmengine.load, load_config, lambda path: parse_yaml(path.read_text(), str(path))):
        with pytest.raises(InputError, match=f'a.yaml.*{reason}'):
            read(tmp_path / 'a.yaml')
    assert os.listdir(tmp_path) == ['a.yaml']


def test_yaml_of_usual_kind_is_read(tmp_path):
    (tmp_path / 'a.yml').write_text('base: &base {lr: 0.1}\nruns: [*base, {<<: *base, seed: 1}]\n')
    expected = dict(base=dict(lr=0.1), runs=[dict(lr=0.1), dict(lr=0.1, seed=1)])
    assert mmengine.load(tmp_path / 'a.yml') == expected
    (tmp_path / 'empty.yml').write_text('')
    assert mmengine.load(tmp_path / 'empty.yml') is None


@pytest.mark.parametrize(
    'section',
    [
        dict(type='os.system', command='touch RAN'),
        dict(type='subprocess.Popen', args=['touch', 'RAN']),
        dict(type='torch.hub.load', repo_or_dir='x'),
        dict(type='mmengine.dump', obj='import os', file='evil.py'),
        dict(type='nms', max_num=1, inner=[dict(type='__import__("os").system("touch RAN")')]),
        dict(type='torchvision/ConvertImageDtype', dtype='float32 if __import__("os").system("touch RAN") else 1'),
        dict(constructor='builtins.exec'),
    ],
)
@pytest.mark.parametrize('suffix', ['json', 'yaml'])
def test_a_config_that_is_no_program_names_registered_classes_only(tmp_path, section, suffix):
    config = tmp_path / f'a.{suffix}'
    config.write_text(json.dumps(dict(model=section)) if suffix == 'json' else yaml.safe_dump(dict(model=section)))
    with pytest.raises(InputError, match=f'a.{suffix}: model.* is .*, but only a config in Python'):
        load_config(config)


def test_a_plain_json_config_is_read(tmp_path):
    section = dict(type='mmpretrain.ImageClassifier', head=dict(type='LinearClsHead'))
    (tmp_path / 'a.json').write_text(json.dumps(dict(default_scope='mmpretrain', model=section)))
    assert load_config(tmp_path / 'a.json').model.head.type == 'LinearClsHead'


def png(width, height):
    """A PNG whose header claims a size."""
    import zlib

    def chunk(kind, data):
        return struct.pack('>I', len(data)) + kind + data + struct.pack('>I', zlib.crc32(kind + data))

    header = struct.pack('>IIBBBBB', width, height, 1, 0, 0, 0, 0)
    return (
        b'\x89PNG\r\n\x1a\n'
        + chunk(b'IHDR', header)
        + chunk(b'IDAT', zlib.compress(b'\0' * 1000))
        + chunk(b'IEND', b'')
    )


@pytest.mark.parametrize('backend', ['cv2', 'pillow'])
@pytest.mark.parametrize('scope, name', [('mmdet', 'LoadImageFromFile'), ('mmseg', 'LoadImageFromFile')])
def test_an_image_that_is_too_large_is_refused_by_every_loader(tmp_path, backend, scope, name):
    from mmengine.registry import TRANSFORMS

    import_module(f'{scope}.datasets')
    (tmp_path / 'a.png').write_bytes(png(30_000, 30_000))
    with TRANSFORMS.switch_scope_and_registry(scope) as registry:
        load = registry.build(dict(type=name, imdecode_backend=backend))
    with pytest.raises(InputError, match=r'a.png is too large \(.*900000000 pixels'):
        load(dict(img_path=str(tmp_path / 'a.png')))


def test_ghostscript_is_not_started(tmp_path, monkeypatch):
    (tmp_path / 'gs').write_text(f'#!/bin/sh\ntouch {tmp_path / "RAN"}\n')
    (tmp_path / 'gs').chmod(0o755)
    monkeypatch.setenv('PATH', f'{tmp_path}:{os.environ["PATH"]}')
    (tmp_path / 'a.png').write_bytes(
        b'%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n%%EOF\n'
    )
    with pytest.raises(OSError, match='Ghostscript'), Image.open(tmp_path / 'a.png') as image:
        image.load()
    assert not (tmp_path / 'RAN').exists()


@pytest.fixture
def server():
    """An address that answers with an endless file, or with few bytes; paths say which."""

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            if 'short' in self.path:
                self.send_header('Content-Length', '100')
            self.end_headers()
            for _ in itertools.count() if 'endless' in self.path else range(1):
                try:
                    self.wfile.write(b'12345678' * (10_000 if 'endless' in self.path else 1))
                except OSError:
                    break

        def log_message(self, *args):
            pass

    server = HTTPServer(('127.0.0.1', 0), Answer)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f'http://127.0.0.1:{server.server_port}'
    server.shutdown()
    server.server_close()


def test_downloads_have_bounds(tmp_path, server, monkeypatch):
    monkeypatch.setenv('no_proxy', '127.0.0.1')
    monkeypatch.setattr(untrusted, 'DOWNLOAD_BYTES', 1_000_000)
    path = tmp_path / 'a'
    with pytest.raises(InputError, match='more than 1,000,000 bytes'):
        download(f'{server}/endless', path)
    with pytest.raises(InputError, match='ended after 8 of 100 bytes'):
        download(f'{server}/short', path)
    with pytest.raises(InputError, match='SHA-256 starts with 00000000, .* has ef797c81'):
        download(f'{server}/a-00000000.pth', path)
    for name in ('a-ef797c81.pth', 'a-20261127.pth', 'a.pth'):  # the second is a date
        download(f'{server}/{name}', path)
        assert path.read_bytes() == b'12345678'
    with pytest.raises(InputError, match='more than 1,000,000 bytes'):
        mmcv.imread(f'{server}/endless')
    monkeypatch.setattr(untrusted, 'DOWNLOAD_SECONDS', -1)
    with pytest.raises(InputError, match='took more than -1 s'):
        download(f'{server}/a.pth', path)


@pytest.fixture(scope='module')
def tiny(tmp_path_factory):
    """A folder with a small config and the weights of its model."""
    folder = tmp_path_factory.mktemp('tiny')
    (folder / 'tiny.py').write_text(TINY)
    config = load_config(folder / 'tiny.py')
    init_default_scope('mmpretrain')
    model = build_model(config)
    torch.save(dict(state_dict=model.state_dict(), meta={}, message_hub={}, optimizer={}), folder / 'good.pth')
    Image.new('RGB', (32, 32)).save(folder / 'a.png')
    return folder


@pytest.mark.parametrize(
    'args',
    [
        ['train.py', 'tiny.py', '--resume', 'EVIL'],
        ['train.py', 'tiny.py', '--cfg-options', 'load_from=EVIL'],
        ['train.py', 'tiny.py', '--cfg-options', 'load_from=file://FOLDER/EVIL'],
        ['train.py', 'tiny.py', '--cfg-options', 'load_from=s3://b/EVIL'],
        ['train.py', 'pretrained.py'],
        ['test.py', 'tiny.py', 'EVIL'],
        ['test.py', 'tiny.py', 'file://FOLDER/EVIL'],
        ['infer.py', 'tiny.py', 'EVIL', 'a.png'],
        ['convert_checkpoint.py', 'EVIL', 'out.pth'],
        ['analysis/scales.py', 'tiny.py', 'EVIL'],
    ],
)
@pytest.mark.parametrize('evil', ['pickle.pth', 'archive.pth', 'getattr.pth', 'a.safetensors'])
@pytest.mark.slow
def test_no_command_runs_what_a_checkpoint_holds(tiny, tool, evil, args):
    data = naming('os', 'system', f'touch {tiny / "RAN"}')
    if evil == 'getattr.pth':
        data = naming('builtins', 'getattr', 'x')
    init_cfg = f"dict(type='Pretrained', checkpoint='{evil}')"
    (tiny / 'pretrained.py').write_text(f"_base_ = 'tiny.py'\nmodel = dict(backbone=dict(init_cfg={init_cfg}))\n")
    (tiny / evil).write_bytes(data if evil == 'pickle.pth' else archive(data))
    code, _, error = tool(tiny, *(each.replace('EVIL', evil).replace('FOLDER', str(tiny)) for each in args))
    assert code == 2 and error.startswith('error: ') and error.count('\n') == 1, error
    assert not (tiny / 'RAN').exists() and not (tiny / 'out.pth').exists()


def test_terminal_codes_from_files_are_shown_not_obeyed(capsys):
    tell(InputError('a\x1b[2Jb\nc\u202ed é'))
    assert capsys.readouterr().err == r'error: a\x1b[2Jb\nc\u202ed é' + '\n'
