"""The libraries' own configs, one of each folder, pass what is checked without their data."""

from importlib.util import find_spec
from pathlib import Path

import pytest

from mmcyclemlp.checks.classification import check_named_classes
from mmcyclemlp.checks.consistency import check_consistency
from mmcyclemlp.config import load_config
from mmcyclemlp.errors import InputError

from .helpers import NEEDS_OPERATORS

SPLITS = 'train', 'val', 'test'
# What is told of the others is true of them.
EXPECTED = {
    'mmdet': {},
    'mmpretrain': {},
    'mmseg': {
        'beit': 'has batch norm over a single position of an image',  # on one GPU; the config is for eight
        'san': 'but val_dataloader.dataset has aeroplane',  # it is trained with a background, and tested without
    },
}


@pytest.mark.slow
@NEEDS_OPERATORS
@pytest.mark.parametrize('library', EXPECTED)
def test_configs_of_the_libraries_pass(library):
    root = Path(find_spec(library).origin).parent / '.mim/configs'
    folders = {path.parent: path for path in sorted(root.rglob('*.py')) if '_base_' not in path.parts}
    assert len(folders) > 50
    told = {}
    for folder, path in folders.items():
        try:
            config = load_config(path)
            check_consistency(config, *SPLITS)
            if library == 'mmpretrain':
                check_named_classes(config, *SPLITS)
        except InputError as error:
            told[folder.name] = str(error)
    assert set(told) == set(EXPECTED[library]), told
    assert all(part in told[name] for name, part in EXPECTED[library].items()), told
