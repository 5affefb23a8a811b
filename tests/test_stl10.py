"""STL-10: the original binary format, an image folder, the download, and what is refused."""

import hashlib
import shutil
import tarfile

import numpy as np
import pytest
from PIL import Image

from mmcyclemlp.datasets.stl10 import STL10, Labelled
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
def binary(tmp_path, monkeypatch):
    folder = tmp_path / 'stl10_binary'
    write_binary(folder)
    expect(folder, monkeypatch)
    return tmp_path


def md5(path):
    return hashlib.md5(path.read_bytes()).hexdigest()


def expect(folder, monkeypatch):
    """Have the files of a folder in the place of the published ones."""
    for split in COUNTS:
        names = [f'{split}_X.bin', f'{split}_y.bin']
        monkeypatch.setattr(Labelled, f'{split}_list', [[name, md5(folder / name)] for name in names])


def test_the_published_files_are_expected():
    assert dict(Labelled.train_list + Labelled.test_list) == {
        'train_X.bin': '918c2871b30a85fa023e0c44e0bee87f',
        'train_y.bin': '5a34089d4802c674881badbb80307741',
        'test_X.bin': '7f263ba9f9e0b06b93213547f721ac82',
        'test_y.bin': '36f9794fa4beb8a2c72628de14fa638e',
    }


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


def test_a_byte_is_the_pixel_that_the_format_says(binary, monkeypatch):
    path = binary / 'stl10_binary' / 'train_X.bin'
    content = np.zeros_like(np.fromfile(path, np.uint8))
    row, column, channel, image = 5, 70, 2, 3
    content[image * 27648 + channel * 9216 + column * 96 + row] = 200
    path.write_bytes(content.tobytes())
    expect(path.parent, monkeypatch)
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


@pytest.mark.parametrize('harm', [lambda path: path.unlink(), lambda path: path.write_bytes(path.read_bytes()[:-1])])
def test_binary_files_that_are_not_whole_are_refused(binary, harm):
    harm(binary / 'stl10_binary' / 'test_X.bin')
    with pytest.raises(InputError, match='neither whole files in stl10_binary/ nor train/ and test/ ') as error:
        STL10(data_root=str(binary), split='test', download=False)
    assert '\n' not in str(error.value)


def test_a_short_list_of_folds_is_refused(binary):
    (binary / 'stl10_binary' / 'fold_indices.txt').write_text('1 2\n' * 9)
    with pytest.raises(InputError, match='neither whole files in stl10_binary/'):
        STL10(data_root=str(binary), fold=9)


@pytest.mark.parametrize(
    'kwargs, message',
    [
        (dict(split='unlabeled'), r"one of \('train', 'test'\), whose images have labels, got 'unlabeled'"),
        (dict(split='val'), r"split of STL10 must be one of .* got 'val'"),
        (dict(fold=10), 'fold of STL10 must be a number from 0 to 9, of split train, got 10 of train'),
        (dict(fold=0, split='test'), 'got 0 of test'),
    ],
)
def test_other_splits_and_folds_are_refused(binary, kwargs, message):
    with pytest.raises(InputError, match=message):
        STL10(data_root=str(binary), **kwargs)


@pytest.fixture
def archive(tmp_path, monkeypatch):
    """The archive as published, but small, in the place of the network."""
    source = tmp_path / 'source'
    write_binary(source / 'stl10_binary')
    (source / 'stl10_binary' / 'unlabeled_X.bin').write_bytes(b'x' * 27648)
    path = tmp_path / 'published' / 'stl10_binary.tar.gz'
    path.parent.mkdir()
    with tarfile.open(path, 'w:gz') as tar:
        tar.add(source / 'stl10_binary', 'stl10_binary')
    expect(source / 'stl10_binary', monkeypatch)
    monkeypatch.setattr('torchvision.datasets.utils._get_redirect_url', lambda url, **kwargs: url)
    monkeypatch.setattr('torchvision.datasets.utils._urlretrieve', lambda url, target: shutil.copy(path, target))
    monkeypatch.setattr(Labelled, 'tgz_md5', md5(path))
    return path


def test_what_is_missing_is_downloaded(archive, tmp_path, monkeypatch):
    root = tmp_path / 'data' / 'stl10'
    images, _ = images_and_labels(data_root=str(root))
    np.testing.assert_array_equal(images, made('train')[0])
    monkeypatch.setattr('urllib.request.urlopen', lambda *args: pytest.fail('downloaded again'))
    assert len(STL10(data_root=str(root), split='test')) == 10


def test_another_archive_is_refused(archive, tmp_path, monkeypatch):
    monkeypatch.setattr(Labelled, 'tgz_md5', '0' * 32)
    with pytest.raises(InputError, match='neither whole files'):
        STL10(data_root=str(tmp_path / 'data'))
    assert not (tmp_path / 'data' / 'stl10_binary').exists()


def test_a_broken_archive_is_fetched_again(archive, tmp_path, monkeypatch):
    content = archive.read_bytes()
    archive.write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match='neither whole files'):
        STL10(data_root=str(tmp_path / 'data'))
    archive.write_bytes(content)
    assert len(STL10(data_root=str(tmp_path / 'data'), split='test')) == 10


def test_no_network(tmp_path, monkeypatch):

    def urlopen(*args, **kwargs):
        raise OSError('no network')

    monkeypatch.setattr('urllib.request.urlopen', urlopen)
    with pytest.raises(
        InputError,
        match=f'expected STL-10 in {tmp_path}, but found neither whole files in stl10_binary/ nor train/ and test/ '
        r'\(no network\); unpack http://.*/stl10_binary.tar.gz there, or put the images there as \{train,test\}/CLASS/',
    ):
        STL10(data_root=str(tmp_path))


def test_download_can_be_forbidden(tmp_path, monkeypatch):
    monkeypatch.setattr('urllib.request.urlopen', lambda *args: pytest.fail('tried to download'))
    with pytest.raises(InputError, match='neither whole files .* download=True'):
        STL10(data_root=str(tmp_path / 'nowhere'), download=False)
