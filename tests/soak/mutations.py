"""Files of every kind, damaged at random, given to every reader: each may raise an InputError, and nothing else."""

import copy
import io
import json
import os
import pickle
import random
import resource
import signal
import sys
import time
import traceback
from collections import Counter
from pathlib import Path

import mmengine
import numpy as np
import torch
import yaml
from mmengine import Config
from mmengine.logging import HistoryBuffer
from PIL import Image

from mmcyclemlp.checkpoints import convert, read_checkpoint, register_safe_loader
from mmcyclemlp.checks import check_annotations
from mmcyclemlp.config import load_config
from mmcyclemlp.datasets.load_images import LoadReadableImage
from mmcyclemlp.datasets.masks import Labels, read_mask
from mmcyclemlp.errors import InputError
from mmcyclemlp.inference.media import read_image

BATCH = 100  # files read by one process, which is watched for crashes
MEMORY, SECONDS = 8 << 30, 60
VALUES = (None, True, -1, 0, 1e308, float('nan'), 10**30, '', 'a' * 1000, '\x1b[2J', [], [[]], {}, {'a': []}, [0] * 5)


def contents() -> dict:
    """Name of a file -> its content, whole."""

    def saved(value, **kwargs):
        file = io.BytesIO()
        torch.save(value, file, **kwargs)
        return file.getvalue()

    def image(mode, kind, **kwargs):
        file = io.BytesIO()
        Image.effect_noise((40, 30), 60).convert(mode).save(file, kind, **kwargs)
        return file.getvalue()

    state = {f'stages.0.{i}.norm1.weight': torch.randn(8) for i in range(4)}
    run = dict(
        meta=dict(epoch=1, iter=4, seed=0),
        state_dict=state,
        optimizer=dict(state={0: dict(step=torch.tensor(1.0))}, param_groups=[dict(lr=0.1, params=[0])]),
        message_hub=dict(log_scalars={'a': HistoryBuffer([1.0], [1])}, runtime_info=dict(best=np.float64(1.0))),
    )
    coco = annotations()
    from safetensors.torch import save

    return {
        'zip.pth': saved(run),
        'old.pth': saved(run, _use_new_zipfile_serialization=False),
        'a.safetensors': save(state),
        'a.pkl': pickle.dumps(dict(a=np.arange(9), b=[1, (2, 'c')]), 4),
        'coco.json': json.dumps(coco).encode(),
        'a.yaml': yaml.safe_dump(dict(model=dict(type='A', depth=[1, 2]), lr=0.1)).encode(),
        'config.json': json.dumps(dict(default_scope='mmpretrain', model=dict(type='ImageClassifier'))).encode(),
        **{f'{kind.lower()}.png': image('RGB', kind) for kind in ('PNG', 'JPEG', 'BMP', 'TIFF', 'WEBP', 'GIF', 'PPM')},
        'mask.png': image('L', 'PNG'),
    }


def annotations() -> dict:
    square = [[4, 4, 12, 4, 12, 12, 4, 12]]
    runs = dict(size=[30, 40], counts=[10, 200, 990])
    return dict(
        images=[dict(id=1, file_name='png.png', width=40, height=30)],
        annotations=[
            dict(id=i, image_id=1, category_id=1, bbox=[4, 4, 8, 8], area=64, iscrowd=i, segmentation=mask)
            for i, mask in enumerate((square, runs))
        ],
        categories=[dict(id=1, name='cat')],
    )


def check_coco(path: Path) -> None:
    dataset = dict(
        type='CocoDataset',
        ann_file=str(path),
        data_prefix=dict(img=str(path.parent)),
        metainfo=dict(classes=('cat',)),
        pipeline=[dict(type='LoadAnnotations', with_bbox=True, with_mask=True)],
    )
    check_annotations(Config(dict(default_scope='mmdet', train_dataloader=dict(dataset=dataset))), 'train')


def readers(name: str) -> list:
    if name.endswith(('.pth', '.safetensors')):
        return [read_checkpoint, lambda path: convert(read_checkpoint(path).get('state_dict', {}))]
    if name.endswith('.png'):
        loader = LoadReadableImage()
        mask = Labels(255)
        return [read_image, lambda path: loader(dict(img_path=str(path))), lambda path: read_mask(str(path), mask)]
    return [
        mmengine.load,
        *{'coco.json': [check_coco], 'a.yaml': [load_config], 'config.json': [load_config]}.get(name, []),
    ]


def damaged(name: str, content: bytes, draw: random.Random) -> bytes:
    """Bytes changed, cut out, doubled; or, of json, one value replaced."""
    if name.endswith('.json') and draw.random() < 0.7:
        tree = copy.deepcopy(json.loads(content))
        for _ in range(draw.choice((1, 1, 2))):
            section, path = tree, draw.randint(1, 5)
            for _ in range(path):
                if not isinstance(section, (dict, list)) or not section:
                    break
                parent, key = section, draw.choice(list(section) if isinstance(section, dict) else range(len(section)))
                section = section[key]
            parent[key] = copy.deepcopy(draw.choice(VALUES))
        return json.dumps(tree).encode()
    data = bytearray(content)
    for _ in range(draw.choice((1, 1, 2, 5, 20))):
        at, length = draw.randrange(len(data) or 1), draw.choice((1, 1, 2, 8, 100))
        kind = draw.randrange(4)
        if kind == 0:
            data[at : at + length] = draw.randbytes(length)
        elif kind == 1:
            del data[at : at + length]
        elif kind == 2:
            data[at:at] = data[at : at + length]
        else:
            data[at : at + 1] = draw.choice((b'\x00', b'\xff', b'\x7f', b'(', b'[', b'{', b'c', b'R', b'b'))
    return bytes(data)


def read_batch(folder: Path, seed: int) -> None:
    """Damage and read; print what is wrong. In a process of its own."""
    draw, whole = random.Random(seed), contents()
    for i in range(BATCH):
        name = draw.choice(list(whole))
        path = folder / name
        path.write_bytes(damaged(name, whole[name], draw))
        for number, read in enumerate(readers(name)):
            try:
                signal.alarm(SECONDS)
                read(path)
            except InputError:
                pass
            except BaseException:
                print(f'batch {seed}, file {i}, {name}, reader {number}:\n{traceback.format_exc(limit=-4)}', flush=True)
                os._exit(3)
            finally:
                signal.alarm(0)
        path.write_bytes(whole[name])


def run(folder: Path, seconds: float, draw: random.Random) -> int:
    """Read damaged files for some time; returns the number of batches with an exception, a crash or no end."""
    register_safe_loader()
    for name, content in contents().items():
        (folder / name).write_bytes(content)
        for read in readers(name):
            try:
                read(folder / name)  # whole, it passes, or is refused for what it is
            except InputError:
                pass
    until, results = time.monotonic() + seconds, Counter()
    while time.monotonic() < until:
        seed = draw.randrange(1 << 40)
        sys.stdout.flush()
        child = os.fork()
        if not child:
            resource.setrlimit(resource.RLIMIT_AS, (MEMORY + (4 << 30), MEMORY + (4 << 30)))
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
            read_batch(folder, seed)
            os._exit(0)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        results[status] += 1
        if status:
            print(f'batch {seed} ended with {status}', flush=True)
    print(f'damaged files: {BATCH * sum(results.values()):,} read, batches by status {dict(results)}', flush=True)
    return sum(results.values()) - results[0]
