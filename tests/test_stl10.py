"""STL-10: the original binary format, an image folder, the download, and what is refused."""

import hashlib
import io
import tarfile

import numpy as np
import pytest
from PIL import Image

from mmcyclemlp.datasets.stl10 import STL10
from mmcyclemlp.errors import InputError

CLASSES = ('airplane', 'bird', 'car', 'cat', 'deer', 'dog', 'horse', 'monkey', 'ship', 'truck')
COUNTS = dict(train=20, test=10)


def made(split):
    """Images [N, 96, 96, 3] and labels 0 to 9 in a mixed order."""
    rng = np.random.default_rng(len(split))
    images = rng.integers(0, 256, (COUNTS[split], 96, 96, 3), dtype=np.uint8)
    return images, rng.permutation(np.arange(COUNTS[split]) % 10)


def write_binary(folder):
    folder.mkdir(parents=True)
    for split in COUNTS:
        images, labels = made(split)
        # Red, green, blue; each of them column by column.
        planes = [image[:, :, channel].T for image in images for channel in range(3)]
        (folder / f'{split}_X.bin').write_bytes(b''.join(plane.tobytes() for plane in planes))
        (folder / f'{split}_y.bin').write_bytes(bytes(int(label) + 1 for label in labels))
    folds = [' '.join(str((i + 3 * fold) % 20) for i in range(4)) for fold in range(10)]
    (folder / 'fold_indices.txt').write_text('\n'.join(folds) + '\n')
    (folder / 'class_names.txt').write_text('\n'.join(CLASSES) + '\n')


@pytest.fixture
def binary(tmp_path):
    write_binary(tmp_path / 'stl10_binary')
    return tmp_path


def images_and_labels(**kwargs):
    dataset = STL10(**kwargs)
    items = [dataset[i] for i in range(len(dataset))]
    return np.stack([item['img'] for item in items]), [item['gt_label'] for item in items]


@pytest.mark.parametrize('split', COUNTS)
def test_binary_files(binary, split):
    images, labels = images_and_labels(data_root=str(binary), split=split)
    expected = made(split)
    assert images.dtype == np.uint8 and labels == expected[1].tolist()
    np.testing.assert_array_equal(images, expected[0])


def test_a_byte_is_the_pixel_that_the_format_says(binary):
    path = binary / 'stl10_binary' / 'train_X.bin'
    content = np.zeros_like(np.fromfile(path, np.uint8))
    row, column, channel, image = 5, 70, 2, 3
    content[image * 27648 + channel * 9216 + column * 96 + row] = 200
    path.write_bytes(content.tobytes())
    images, _ = images_and_labels(data_root=str(binary))
    assert np.argwhere(images).tolist() == [[image, row, column, channel]]


def test_a_fold_is_the_images_that_its_line_lists(binary):
    images, labels = images_and_labels(data_root=str(binary), fold=6)
    chosen = [18, 19, 0, 1]
    np.testing.assert_array_equal(images, made('train')[0][chosen])
    assert labels == made('train')[1][chosen].tolist()


def test_image_folder(tmp_path):
    for split, count in COUNTS.items():
        for label, name in enumerate(CLASSES):
            folder = tmp_path / split / name
            folder.mkdir(parents=True)
            for i in range(count // 10):
                Image.new('RGB', (96, 96), (label, i, 7)).save(folder / f'{i}.png')
    images, labels = images_and_labels(data_root=str(tmp_path))
    assert labels == [label for label in range(10) for _ in range(2)]
    assert images[:, 0, 0].tolist() == [[label, i, 7] for label in range(10) for i in range(2)]
    with pytest.raises(InputError, match='fold of STL10 is defined for the order of the original binary files'):
        STL10(data_root=str(tmp_path), fold=0)
    (tmp_path / 'train' / 'monkey' / '0.png').rename(tmp_path / 'monkey.png')
    with pytest.raises(InputError, match='equally many images of each class in .*/train, found 1 of monkey but 2 of'):
        STL10(data_root=str(tmp_path))


def remove(folder):
    (folder / 'train_y.bin').unlink()


def shorten(folder):
    path = folder / 'train_X.bin'
    path.write_bytes(path.read_bytes()[:-1000])


def lose_an_image(folder):
    path = folder / 'train_X.bin'
    path.write_bytes(path.read_bytes()[:-27648])


def count_labels_from_zero(folder):
    path = folder / 'train_y.bin'
    path.write_bytes(bytes(byte - 1 for byte in path.read_bytes()))


@pytest.mark.parametrize(
    'harm, message',
    [
        (
            remove,
            'expected STL-10 as stl10_binary/, found no .*/train_y.bin; remove .*/stl10_binary to have it made again',
        ),
        (shorten, r'as many images as labels from 1 to 10, but 551,960 bytes .* do not fit 20 labels; remove'),
        (lose_an_image, 'do not fit 20 labels'),
        (count_labels_from_zero, 'labels from 1 to 10'),
    ],
)
def test_binary_files_that_are_not_whole_are_refused(binary, harm, message):
    harm(binary / 'stl10_binary')
    with pytest.raises(InputError, match=message) as error:
        STL10(data_root=str(binary))
    assert '\n' not in str(error.value)


@pytest.mark.parametrize('lines', ['', '1 2\n' * 9, '1 2\n' * 9 + '1 20\n', '1 2\n' * 9 + 'x\n'])
def test_a_wrong_list_of_folds_is_refused(binary, lines):
    (binary / 'stl10_binary' / 'fold_indices.txt').write_text(lines)
    with pytest.raises(InputError, match='fold 9 of STL10 expects .*/fold_indices.txt to hold 10 lines of indices'):
        STL10(data_root=str(binary), fold=9)


@pytest.mark.parametrize(
    'kwargs, message',
    [
        (dict(split='unlabeled'), 'split is unlabeled, whose images have no labels; use train or test'),
        (dict(split='val'), r"split of STL10 must be one of \('train', 'test'\), got 'val'"),
        (dict(fold=10), 'fold of STL10 must be a number from 0 to 9, of split train, got 10 of train'),
        (dict(fold=0, split='test'), 'got 0 of test'),
    ],
)
def test_other_splits_and_folds_are_refused(binary, kwargs, message):
    with pytest.raises(InputError, match=message):
        STL10(data_root=str(binary), **kwargs)


@pytest.fixture
def archive(tmp_path, monkeypatch):
    """The archive as published, but small, at a file:// URL."""
    source = tmp_path / 'source'
    write_binary(source / 'stl10_binary')
    (source / 'stl10_binary' / 'unlabeled_X.bin').write_bytes(b'x' * 27648)
    path = tmp_path / 'published' / 'stl10_binary.tar.gz'
    path.parent.mkdir()
    with tarfile.open(path, 'w:gz') as tar:
        tar.add(source / 'stl10_binary', 'stl10_binary')
    publish(path, monkeypatch)
    return path


def publish(path, monkeypatch):
    monkeypatch.setattr(STL10, 'url', path.as_uri())
    monkeypatch.setattr(STL10, 'md5', hashlib.md5(path.read_bytes()).hexdigest())


def test_what_is_missing_is_downloaded(archive, tmp_path, monkeypatch):
    root = tmp_path / 'data' / 'stl10'
    images, _ = images_and_labels(data_root=str(root))
    np.testing.assert_array_equal(images, made('train')[0])
    assert sorted(path.name for path in root.iterdir()) == ['stl10_binary', 'stl10_binary.tar.gz']
    assert not (root / 'stl10_binary' / 'unlabeled_X.bin').exists()
    monkeypatch.setattr('urllib.request.urlopen', lambda *args: pytest.fail('downloaded again'))
    assert len(STL10(data_root=str(root), split='test')) == 10


def test_another_archive_is_refused(archive, tmp_path, monkeypatch):
    monkeypatch.setattr(STL10, 'md5', '0' * 32)
    with pytest.raises(InputError, match='and could not fetch it'):
        STL10(data_root=str(tmp_path / 'data'))
    assert not (tmp_path / 'data' / 'stl10_binary').exists()


def test_a_broken_archive_leaves_nothing_half_unpacked(archive, tmp_path, monkeypatch):
    content = archive.read_bytes()
    archive.write_bytes(content[: len(content) // 2])
    publish(archive, monkeypatch)
    with pytest.raises(InputError, match='and could not fetch it'):
        STL10(data_root=str(tmp_path / 'data'))
    assert [path.name for path in (tmp_path / 'data').iterdir()] == ['stl10_binary.tar.gz']


def test_an_archive_cannot_write_elsewhere(archive, tmp_path, monkeypatch):
    with tarfile.open(archive, 'w:gz') as tar:
        member = tarfile.TarInfo('../escaped')
        member.size = 1
        tar.addfile(member, io.BytesIO(b'x'))
    publish(archive, monkeypatch)
    with pytest.raises(InputError, match='could not fetch it'):
        STL10(data_root=str(tmp_path / 'data'))
    assert not list(tmp_path.rglob('escaped'))


def test_no_network(tmp_path, monkeypatch):

    def urlopen(*args, **kwargs):
        raise OSError('no network')

    monkeypatch.setattr('urllib.request.urlopen', urlopen)
    with pytest.raises(
        InputError,
        match=f'expected STL-10 in {tmp_path}, found neither stl10_binary/ nor train/ and '
        r'test/, and could not fetch it \(no network\); unpack http://.*/stl10_binary.tar.gz there, or '
        r'put the images there as \{train,test\}/CLASS/\*.png$',
    ):
        STL10(data_root=str(tmp_path))


def test_download_can_be_forbidden(tmp_path, monkeypatch):
    monkeypatch.setattr('urllib.request.urlopen', lambda *args: pytest.fail('tried to download'))
    with pytest.raises(InputError, match='and download=False was given; unpack'):
        STL10(data_root=str(tmp_path / 'nowhere'), download=False)
