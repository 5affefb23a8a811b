"""Digits and CIFAR-10: what an item holds, and what is refused."""

import hashlib
import pickle
import tarfile
import urllib.error

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from mmcyclemlp.datasets.cifar10 import CIFAR10Auto
from mmcyclemlp.datasets.digits import Digits
from mmcyclemlp.errors import InputError, MissingDependencyError

CLASSES = ('airplane', 'automobile', 'bird', 'cat', 'deer', 'dog', 'frog', 'horse', 'ship', 'truck')


def colour(split, label, i):
    """A colour of its own for each made image; the label is the red channel."""
    return label, 100 + i, 50 if split == 'train' else 60


@pytest.fixture
def cifar(tmp_path):
    """An image folder of 3 training and 2 test images a class."""
    for split, count in (('train', 3), ('test', 2)):
        for label, name in enumerate(CLASSES):
            folder = tmp_path / split / name
            folder.mkdir(parents=True)
            for i in range(count):
                Image.new('RGB', (32, 32), colour(split, label, i)).save(folder / f'{i:04}.png')
    return tmp_path


def images_and_labels(dataset):
    items = [dataset[i] for i in range(len(dataset))]
    return np.stack([item['img'] for item in items]), np.array([item['gt_label'] for item in items])


def test_digits_are_all_of_scikit_learns_split_once():
    source = load_digits()
    train, test = (images_and_labels(Digits(split=split)) for split in ('train', 'test'))
    assert (len(train[0]), len(test[0])) == (1438, 359)
    images, labels = np.concatenate([train[0], test[0]]), np.concatenate([train[1], test[1]])
    assert images.shape == (1797, 8, 8, 3) and images.dtype == np.uint8
    # As multisets of (label, pixels): every digit once, in one split.
    got = sorted((int(label), image.tobytes()) for label, image in zip(labels, images))
    scaled = np.rint(source.images / 16 * 255).astype(np.uint8)[..., None].repeat(3, -1)
    assert got == sorted((int(label), image.tobytes()) for label, image in zip(source.target, scaled))


def test_digits_use_the_whole_range():
    images, _ = images_and_labels(Digits(split='test'))
    assert images.min() == 0 and images.max() == 255


def test_digits_hold_out_a_fifth_of_each_class():
    train, test = (np.bincount(Digits(split=split).get_gt_labels()) for split in ('train', 'test'))
    assert np.all(np.abs(test - (train + test) / 5) < 1)


def test_digits_split_is_the_same_everywhere():
    images, _ = images_and_labels(Digits(split='test'))
    assert hashlib.sha256(images.tobytes()).hexdigest()[:16] == '0356a1298aa8cd8f'


def test_digits_refuse_another_split():
    with pytest.raises(InputError, match=r"split of Digits must be one of \('train', 'test'\), got 'val'"):
        Digits(split='val')


def test_digits_name_the_package_they_need(monkeypatch):
    monkeypatch.setitem(__import__('sys').modules, 'sklearn.datasets', None)
    with pytest.raises(MissingDependencyError, match='pip install scikit-learn'):
        Digits()


@pytest.mark.parametrize('split, count', [('train', 3), ('test', 2)])
def test_image_folder(cifar, split, count):
    images, labels = images_and_labels(CIFAR10Auto(data_root=str(cifar), split=split))
    assert images.shape == (10 * count, 32, 32, 3) and images.dtype == np.uint8
    # Class order is CIFAR-10's and channels are RGB: the made colours say which image is which.
    expected = [colour(split, label, i) for label in range(10) for i in range(count)]
    assert labels.tolist() == [c[0] for c in expected]
    np.testing.assert_array_equal(images, np.array(expected, np.uint8)[:, None, None].repeat(32, 1).repeat(32, 2))


def test_image_folder_says_what_it_found(cifar, monkeypatch):
    lines = []
    monkeypatch.setattr('mmcyclemlp.datasets.image_folder.print_log', lambda line, logger: lines.append(line))
    CIFAR10Auto(data_root=str(cifar), split='test')
    assert lines == [f'CIFAR-10 test: image folder {cifar}/test, decoding 20 images']


def test_hidden_files_are_no_images(cifar):
    (cifar / 'train' / 'cat' / '.DS_Store').write_bytes(b'x')
    (cifar / 'train' / '.cache').mkdir()
    assert len(CIFAR10Auto(data_root=str(cifar))) == 30


def remove_class(root):
    for path in (root / 'train' / 'deer').iterdir():
        path.unlink()
    (root / 'train' / 'deer').rmdir()


def empty_class(root):
    for path in (root / 'train' / 'deer').iterdir():
        path.unlink()


def remove_image(root):
    (root / 'train' / 'truck' / '0002.png').unlink()


def add_class(root):
    (root / 'train' / 'lorry').mkdir()


def remove_train(root):
    (root / 'train').rename(root / 'elsewhere')


def truncate(root):
    path = root / 'train' / 'frog' / '0001.png'
    Image.effect_noise((32, 32), 50).convert('RGB').save(path.with_suffix('.jpg'), quality=95)
    path.unlink()
    content = path.with_suffix('.jpg').read_bytes()
    path.with_suffix('.jpg').write_bytes(content[: len(content) * 2 // 3])


def truncate_png(root):
    path = root / 'train' / 'frog' / '0001.png'
    path.write_bytes(path.read_bytes()[:50])


def write_text(root):
    (root / 'train' / 'frog' / '0001.png').write_text('not an image')


def enlarge(root):
    Image.new('RGB', (64, 48)).save(root / 'train' / 'frog' / '0001.png')


@pytest.mark.parametrize(
    'harm, message',
    [
        (remove_class, r'images of class deer in .*/train/deer, which is missing'),
        (empty_class, r'images of class deer in .*/train/deer, which is empty'),
        (remove_image, r'equally many images of each class in .*/train, found 2 of truck but 3 of airplane'),
        (add_class, r'found lorry as well; remove it'),
        (remove_train, r'expected train/ and test/ in .*, found no train/'),
        (truncate, r'expected an image, but .*/train/frog/0001.jpg cannot be read'),
        (truncate_png, r'expected an image, but .*/train/frog/0001.png cannot be read'),
        (write_text, r'expected an image, but .*/train/frog/0001.png cannot be read'),
        (enlarge, r'an image of 32x32 as all of CIFAR-10, but .*/train/frog/0001.png is 64x48'),
    ],
)
def test_a_folder_that_is_not_whole_is_refused(cifar, harm, message):
    harm(cifar)
    with pytest.raises(InputError, match=message) as error:
        CIFAR10Auto(data_root=str(cifar))
    assert '\n' not in str(error.value)


def test_the_first_images_of_each_class(cifar, request):
    images, labels = images_and_labels(CIFAR10Auto(data_root=str(cifar), images_per_class=2))
    assert labels.tolist() == [label for label in range(10) for _ in range(2)]
    assert images[:, 0, 0].tolist() == [list(colour('train', label, i)) for label in range(10) for i in range(2)]
    binary = request.getfixturevalue('binary')  # the same images in the other order
    images, labels = images_and_labels(CIFAR10Auto(data_root=str(binary), images_per_class=2))
    assert images[:, 0, 0].tolist() == [list(colour('train', label, i)) for label in range(9, -1, -1) for i in (2, 1)]


@pytest.mark.parametrize('number', [0, 4, 1.5])
@pytest.mark.parametrize('form', ['cifar', 'binary'])
def test_images_that_a_class_has_not(request, form, number):
    with pytest.raises(InputError, match=f'images_per_class expects a number from 1 to 3, .*, but got {number}'):
        CIFAR10Auto(data_root=str(request.getfixturevalue(form)), images_per_class=number)


def test_another_split_is_refused(cifar):
    with pytest.raises(InputError, match="split of CIFAR10Auto must be one of .*, got 'val'"):
        CIFAR10Auto(data_root=str(cifar), split='val')


@pytest.mark.slow
def test_the_real_copy(shared_data, tmp_path):
    with tarfile.open(shared_data / 'cifar10_jpeg.tar.gz') as archive:
        members = [member for member in archive if member.isfile() and member.name.lstrip('./').startswith('test/')]
        assert len(members) == 10000
        archive.extractall(tmp_path, members[::10], filter='data')
    dataset = CIFAR10Auto(data_root=str(tmp_path), split='test')
    images, labels = images_and_labels(dataset)
    assert np.bincount(labels).tolist() == [100] * 10
    # Ships lie on blue water and frogs on brown ground: channels and class order, from the real pixels.
    assert dataset.metainfo['classes'] == CLASSES
    blueness = (images[..., 2].astype(float) - images[..., 0]).mean((1, 2))
    assert blueness[labels == CLASSES.index('ship')].mean() > 5
    assert blueness[labels == CLASSES.index('frog')].mean() < -10


@pytest.fixture
def binary(cifar, monkeypatch):
    """The pixels of the image folder as original binary files, beside it, with checksums of their own."""
    folder = cifar / CIFAR10Auto.base_folder
    folder.mkdir()
    for attribute, split in (('train_list', 'train'), ('test_list', 'test')):
        images, labels = images_and_labels(CIFAR10Auto(data_root=str(cifar), split=split))
        name = getattr(CIFAR10Auto, attribute)[0][0]
        # Another order than the folder's, to tell which of the two was read.
        data = images[::-1].transpose(0, 3, 1, 2).reshape(-1, 3072)
        content = pickle.dumps(dict(data=data, labels=labels[::-1].tolist()))
        (folder / name).write_bytes(content)
        monkeypatch.setattr(CIFAR10Auto, attribute, [[name, hashlib.md5(content).hexdigest()]])
    return cifar


def test_whole_binary_files_come_first(binary):
    images, labels = images_and_labels(CIFAR10Auto(data_root=str(binary)))
    assert labels.tolist() == sorted(labels, reverse=True)
    assert images[0, 0, 0].tolist() == list(colour('train', 9, 2))


def test_damaged_binary_files_give_way_to_the_folder(binary):
    path = binary / CIFAR10Auto.base_folder / CIFAR10Auto.train_list[0][0]
    path.write_bytes(path.read_bytes()[:-1])
    assert CIFAR10Auto(data_root=str(binary)).get_gt_labels()[0] == 0


@pytest.fixture
def no_network(monkeypatch):
    def urlopen(*args, **kwargs):
        raise urllib.error.URLError('no network')

    monkeypatch.setattr('urllib.request.urlopen', urlopen)


@pytest.mark.parametrize('leftover', [None, 'cifar-10-batches-py/data_batch_1'])
def test_nothing_there_and_no_download(tmp_path, no_network, leftover):
    if leftover:
        (tmp_path / leftover).parent.mkdir()
        (tmp_path / leftover).write_bytes(b'half')
    with pytest.raises(
        InputError,
        match=f'expected CIFAR-10 in {tmp_path}, found neither a whole '
        r'cifar-10-batches-py/ nor train/ and test/, and could not download it \(.*no network.*\); '
        r'unpack https://.*/cifar-10-python.tar.gz there, or put the images there as '
        r'\{train,test\}/CLASS/\*.jpg$',
    ):
        CIFAR10Auto(data_root=str(tmp_path))


def test_download_can_be_forbidden(tmp_path, monkeypatch):
    monkeypatch.setattr('urllib.request.urlopen', lambda *args: pytest.fail('tried to download'))
    with pytest.raises(InputError, match='and download=False was given; unpack'):
        CIFAR10Auto(data_root=str(tmp_path / 'nowhere'), download=False)
