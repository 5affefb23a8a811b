"""Images that cannot be read are named, or passed over and counted."""

import re

import pytest
from mmengine.dataset import BaseDataset
from mmseg.datasets import BaseSegDataset

from mmcyclemlp.engine import LoadReadableImage
from mmcyclemlp.errors import InputError, tell

from .pictures import cut, photo


def damaged(folder, count=12):
    """A folder of images, of which the third and eighth cannot be read."""
    paths = [photo(folder / f'{i:02}.jpg', 40, 60) for i in range(count)]
    cut(folder / '02.jpg')
    (folder / '07.jpg').write_bytes(b'')
    return paths


def dataset_of(kind, paths, load, **settings):
    """A dataset of a library over the paths; its own loading of a list is left out."""

    class Listed(kind):
        METAINFO = dict(classes=('a',), palette=[[0, 0, 0]])

        def load_data_list(self):
            return [dict(img_path=path, height=40, width=60, instances=[]) for path in paths]

    return Listed(pipeline=[load], **settings)


def kinds():
    from mmpretrain.datasets import BaseDataset as Classification

    yield pytest.param(BaseDataset, {}, id='mmengine')
    yield pytest.param(BaseSegDataset, {}, id='mmseg')
    yield pytest.param(Classification, dict(ann_file=''), id='mmpretrain')


@pytest.mark.parametrize('kind, settings', kinds())
def test_unreadable_images_are_passed_over_and_counted(tmp_path, kind, settings, caplog):
    paths = damaged(tmp_path / 'images')
    note = tmp_path / 'run' / 'skipped.txt'
    dataset = dataset_of(kind, paths, LoadReadableImage(str(note)), **settings)
    for _ in range(2):  # the second round counts none again
        read = {dataset[i]['img_path'] for i in range(len(dataset))}
        assert read <= set(paths) - {paths[2], paths[7]}
    assert note.read_text().splitlines() == [paths[2], paths[7]]
    LoadReadableImage(str(note))  # of another run
    assert not note.exists()


def test_detection_passes_over_unreadable_images_too(tmp_path):
    datasets = pytest.importorskip('mmdet.datasets', exc_type=ImportError)
    paths = damaged(tmp_path / 'images')
    note = tmp_path / 'skipped.txt'
    dataset = dataset_of(datasets.BaseDetDataset, paths, LoadReadableImage(str(note)))
    assert all(dataset[i]['img'].shape == (40, 60, 3) for i in range(len(dataset)))
    assert len(note.read_text().splitlines()) == 2


@pytest.mark.slow
def test_several_processes_keep_one_count(tmp_path):
    from torch.utils.data import DataLoader

    paths = damaged(tmp_path / 'images')
    note = tmp_path / 'skipped.txt'
    dataset = dataset_of(BaseDataset, paths, LoadReadableImage(str(note)))
    loader = DataLoader(dataset, num_workers=2, collate_fn=lambda items: [item['img_path'] for item in items])
    for _ in range(2):
        assert len([path for batch in loader for path in batch]) == len(paths)
    assert sorted(note.read_text().splitlines()) == [paths[2], paths[7]]


def test_too_many_unreadable_images_end_the_run(tmp_path):
    paths = damaged(tmp_path / 'images')
    note = tmp_path / 'skipped.txt'
    dataset = dataset_of(BaseDataset, paths, LoadReadableImage(str(note), most=1))
    with pytest.raises(InputError, match=f'at most 1 images .* but {re.escape(paths[7])} is the 2th; they are listed'):
        for i in range(len(paths)):
            dataset[i]


def test_unreadable_images_are_named_where_none_is_passed_over(tmp_path):
    paths = damaged(tmp_path / 'images')
    for backend in ('pillow', 'cv2'):
        load = LoadReadableImage(imdecode_backend=backend)
        for path in (paths[2], paths[7], str(tmp_path / 'absent.jpg')):
            with pytest.raises(InputError, match=rf'an image, but {re.escape(path)} cannot be read \(.+\); copy'):
                load(dict(img_path=path))
        assert load(dict(img_path=paths[0]))['img'].shape == (40, 60, 3)


def test_an_error_of_a_loading_process_is_one_line(tmp_path, capsys):
    from torch._utils import ExceptionWrapper

    path = damaged(tmp_path / 'images')[2]
    try:
        LoadReadableImage()(dict(img_path=path))
    except InputError:
        error = ExceptionWrapper(where='in DataLoader worker process 0')  # what torch sends to the main process
    with pytest.raises(InputError) as raised:
        error.reraise()
    tell(raised.value)
    assert re.fullmatch(
        rf'error: expected an image, but {re.escape(path)} cannot be read \(.+\); .* remove it\n',
        capsys.readouterr().err,
    )
