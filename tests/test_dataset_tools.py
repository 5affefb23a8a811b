"""tools/datasets: from VOC to COCO, and the first images of a COCO file."""

import json
import tarfile
import unicodedata
import xml.etree.ElementTree as ElementTree

import pytest
from mmdet.registry import DATASETS
from mmengine.registry import init_default_scope
from PIL import Image

WIDTH, HEIGHT = 60, 40


@pytest.fixture
def tool(tool, tmp_path):
    return lambda name, *args: tool(tmp_path, f'datasets/{name}', *args)


def voc_xml(name, objects, size=(WIDTH, HEIGHT)):
    """An annotation file; an object is (class, (xmin, ymin, xmax, ymax), difficult)."""
    root = ElementTree.Element('annotation')
    ElementTree.SubElement(root, 'filename').text = f'{name}.jpg'
    if size:
        node = ElementTree.SubElement(root, 'size')
        for tag, value in zip(('width', 'height', 'depth'), (*size, 3)):
            ElementTree.SubElement(node, tag).text = str(value)
    for label, corners, difficult in objects:
        node = ElementTree.SubElement(root, 'object')
        ElementTree.SubElement(node, 'name').text = label
        ElementTree.SubElement(node, 'difficult').text = str(int(difficult))
        bounds = ElementTree.SubElement(node, 'bndbox')
        for tag, value in zip(('xmin', 'ymin', 'xmax', 'ymax'), corners):
            ElementTree.SubElement(bounds, tag).text = str(value)
    return ElementTree.tostring(root, encoding='unicode')


@pytest.fixture
def voc(tmp_path):
    """A folder in VOC's layout: two training images and one for validation."""
    root = tmp_path / 'voc'
    for folder in ('JPEGImages', 'Annotations', 'ImageSets/Main'):
        (root / folder).mkdir(parents=True)
    add(root, 'a', [('dog', (1, 1, 60, 40), False), ('cat', (11, 21, 30, 30), True)])
    add(root, 'b', [('cat', (5.5, 6, 20, 25.25), False)])
    add(root, 'c', [('elk', (2, 2, 9, 9), False)])
    (root / 'ImageSets/Main/train.txt').write_text('b\na\n')
    (root / 'ImageSets/Main/val.txt').write_text('c  1\n\n')
    return root


def add(root, name, objects, size=(WIDTH, HEIGHT), suffix='.jpg'):
    (root / f'Annotations/{name}.xml').write_text(voc_xml(name, objects, size))
    Image.new('RGB', (WIDTH, HEIGHT)).save(root / f'JPEGImages/{name}{suffix}')


def boxes(content):
    """(file name, class, box, iscrowd) of each annotation."""
    names = {image['id']: image['file_name'] for image in content['images']}
    classes = {category['id']: category['name'] for category in content['categories']}
    return [
        (names[entry['image_id']], classes[entry['category_id']], entry['bbox'], entry['iscrowd'])
        for entry in content['annotations']
    ]


def test_a_split_becomes_coco(voc, tool, tmp_path):
    code, output, error = tool('voc_to_coco.py', 'voc', 'train.json', '--split', 'train')
    assert code == 0, error
    content = json.loads((tmp_path / 'train.json').read_text())
    assert content['images'] == [
        dict(id=1, file_name='b.jpg', width=WIDTH, height=HEIGHT),
        dict(id=2, file_name='a.jpg', width=WIDTH, height=HEIGHT),
    ]
    assert boxes(content) == [
        ('b.jpg', 'cat', [4.5, 5, 15.5, 20.25], 0),
        ('a.jpg', 'dog', [0, 0, 60, 40], 0),
        ('a.jpg', 'cat', [10, 20, 20, 10], 1),
    ]
    assert [entry['area'] for entry in content['annotations']] == [15.5 * 20.25, 2400, 200]
    assert [entry['id'] for entry in content['annotations']] == [1, 2, 3]
    # The classes are those of the whole folder, so that the splits agree.
    assert content['categories'] == [dict(id=1, name='cat'), dict(id=2, name='dog'), dict(id=3, name='elk')]
    assert 'No boxes of elk\n' in output
    assert 'Wrote 2 images with 3 boxes of 3 classes to train.json; the images are in voc/JPEGImages\n' in output
    assert tool('voc_to_coco.py', 'voc', 'val.json', '--split', 'val')[0] == 0
    content = json.loads((tmp_path / 'val.json').read_text())
    assert boxes(content) == [('c.jpg', 'elk', [1, 1, 8, 8], 0)]


def test_mmdet_reads_what_was_converted(voc, tool, tmp_path):
    tool('voc_to_coco.py', 'voc', 'train.json', '--split', 'train')
    init_default_scope('mmdet')
    dataset = DATASETS.build(
        dict(
            type='CocoDataset',
            ann_file=str(tmp_path / 'train.json'),
            data_prefix=dict(img=str(voc / 'JPEGImages')),
            metainfo=dict(classes=('cat', 'dog', 'elk')),
            pipeline=[dict(type='LoadImageFromFile'), dict(type='LoadAnnotations', with_bbox=True)],
        )
    )
    assert dataset[1]['gt_bboxes'].numpy().tolist() == [[0, 0, 60, 40], [10, 20, 30, 30]]
    assert dataset[1]['gt_bboxes_labels'].tolist() == [1, 0]
    assert dataset[1]['gt_ignore_flags'].tolist() == [False, True]


def test_classes_are_taken_in_their_order(voc, tool, tmp_path):
    code, output, _ = tool('voc_to_coco.py', 'voc', 'all.json', '--classes', 'elk', 'cat', 'emu')
    assert code == 0
    content = json.loads((tmp_path / 'all.json').read_text())
    assert [category['name'] for category in content['categories']] == ['elk', 'cat', 'emu']
    assert [label for _, label, _, _ in boxes(content)] == ['cat', 'cat', 'elk'] and len(content['images']) == 3
    assert '1 objects are of other classes: a.xml\n' in output and 'No boxes of emu\n' in output


def test_a_flat_folder_of_xml(tool, tmp_path):
    (tmp_path / 'flat').mkdir()
    (tmp_path / 'flat/a.xml').write_text(voc_xml('other', [('cat', (1, 1, 5, 5), False)]))
    Image.new('RGB', (WIDTH, HEIGHT)).save(tmp_path / 'flat/a.PNG')
    (tmp_path / 'flat/b.XML').write_text(voc_xml('named', [('cat', (1, 1, 6, 6), False)]))
    Image.new('RGB', (WIDTH, HEIGHT)).save(tmp_path / 'flat/named.jpg')  # as the XML says
    code, output, _ = tool('voc_to_coco.py', 'flat', 'flat.json')
    assert code == 0 and 'the images are in flat\n' in output
    assert boxes(json.loads((tmp_path / 'flat.json').read_text())) == [
        ('a.PNG', 'cat', [0, 0, 5, 5], 0),
        ('named.jpg', 'cat', [0, 0, 6, 6], 0),
    ]


def test_what_cannot_be_used_is_told(voc, tool, tmp_path):
    add(
        voc,
        'd',
        [
            ('cat', (5, 5, 5, 9), False),
            ('cat', (9, 5, 5, 9), False),
            ('cat', (61, 1, 80, 9), False),
            ('cat', (-20, 1, 0, 9), False),
            ('cat', ('', 1, 5, 9), False),
            ('', (1, 1, 5, 9), False),
            ('cat', (0, 0, 70, 20), False),
        ],
    )
    add(voc, 'e', [('cat', (1, 1, 9, 9), False)], size=(100, 100))
    add(voc, 'f', [('cat', (1, 1, 9, 9), False)], size=None)
    (voc / 'Annotations/g.xml').write_text(voc_xml('g', [('cat', (1, 1, 9, 9), False)]))
    (voc / 'Annotations/h.xml').write_text(voc_xml('h', [])[:40])
    (voc / 'Annotations/i.xml').write_text(voc_xml('i', [('cat', (1, 1, 9, 9), False)]))
    (voc / 'JPEGImages/i.jpg').write_text('no image')
    (voc / 'ImageSets/Main/odd.txt').write_text('\n'.join('defghij'))
    code, output, _ = tool('voc_to_coco.py', 'voc', 'odd.json', '--split', 'odd', '--classes', 'cat')
    assert code == 0
    for line in (
        '1 boxes have corners in the wrong order: d.xml',
        '2 boxes lie outside their image: d.xml',
        '2 objects lack a name or a corner: d.xml',
        '1 boxes were cut at the border of their image: d.xml',
        '2 sizes in the XML are not those of the image, which were taken: e.xml, f.xml',
        '1 images are missing: g.xml',
        '1 XML files are malformed: h.xml',
        '1 images cannot be read: i.xml',
        '1 XML files are missing: j.xml',
    ):
        assert line + '\n' in output
    content = json.loads((tmp_path / 'odd.json').read_text())
    assert boxes(content) == [
        ('d.jpg', 'cat', [4, 4, 1, 5], 0),  # both ends count, so it is one pixel wide
        ('d.jpg', 'cat', [0, 0, 60, 20], 0),
        ('e.jpg', 'cat', [0, 0, 9, 9], 0),
        ('f.jpg', 'cat', [0, 0, 9, 9], 0),
    ]
    assert all((image['width'], image['height']) == (WIDTH, HEIGHT) for image in content['images'])


@pytest.mark.parametrize(
    'args, sentence',
    [
        (['none', 'x.json'], "expected a folder with annotations in VOC's format, but none is no folder"),
        (['voc/JPEGImages', 'x.json'], 'expected XML files in voc/JPEGImages, but it holds none'),
        (['voc', 'x.json', '--split', 'test'], 'which does not exist; there are train, val'),
        (['voc', 'none/x.json'], 'expected an existing folder to write into, but none is no folder'),
        (['voc', 'x.json', '--classes', 'emu'], 'expected annotations to convert in voc, but none is left; see above'),
    ],
)
def test_user_errors_print_one_line_and_exit_with_status_2(voc, tool, tmp_path, args, sentence):
    code, _, error = tool('voc_to_coco.py', *args)
    assert code == 2 and error.startswith('error: ') and sentence in error and error.count('\n') == 1
    assert [path.name for path in tmp_path.iterdir()] == ['voc']


def test_photos_that_an_exif_tag_turns(voc, tool, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    add(voc, 'turned', [('cat', (1, 51, 40, 60), False)], size=(HEIGHT, WIDTH))
    Image.new('RGB', (WIDTH, HEIGHT)).save(voc / 'JPEGImages/turned.jpg', exif=exif.tobytes())
    (voc / 'ImageSets/Main/one.txt').write_text('turned')
    code, output, _ = tool('voc_to_coco.py', 'voc', 'one.json', '--split', 'one')
    content = json.loads((tmp_path / 'one.json').read_text())
    assert code == 0 and 'sizes' not in output and 'cut' not in output
    assert (content['images'][0]['width'], content['images'][0]['height']) == (HEIGHT, WIDTH)
    assert boxes(content) == [('turned.jpg', 'cat', [0, 50, 40, 10], 0)]


NAMES = ('one', 'é two', 'three')


@pytest.mark.parametrize(
    'content',
    [
        '\ufeffone\r\né two\r\nthree\r\n'.encode(),
        'one\né two\nthree\n'.encode('utf-16'),
        'JPEGImages/one.jpg\nJPEGImages\\é two.JPG\nthree.jpg\n'.encode(),
        'one  1\né two -1\nthree 0\n'.encode(),
        unicodedata.normalize('NFD', 'one\né two\nthree').encode(),
    ],
)
def test_split_files_as_other_systems_write_them(voc, tool, tmp_path, content):
    for name, form in zip(NAMES, ('one.jPg', unicodedata.normalize('NFD', 'é two.jpg'), 'three.PNG')):
        text = f'<?xml version="1.0" encoding="gb2312"?>{voc_xml(name, [("红", (1, 1, 9, 9), False)])}'
        (voc / f'Annotations/{name}.xml').write_bytes(text.encode('gb18030'))
        Image.new('RGB', (WIDTH, HEIGHT)).save(voc / 'JPEGImages' / form, 'PNG')
    (voc / 'ImageSets/Main/some.txt').write_bytes(content)
    code, output, error = tool('voc_to_coco.py', 'voc', 'some.json', '--split', 'some', '--classes', '红')
    assert code == 0, error
    found = boxes(json.loads((tmp_path / 'some.json').read_text()))
    assert [entry[1:] for entry in found] == [('红', [0, 0, 9, 9], 0)] * 3
    assert all((voc / 'JPEGImages' / entry[0]).is_file() for entry in found)


@pytest.mark.parametrize('split', ['train', 'val'])
def test_bccd_comes_out_as_it_was_converted_before(shared_data, tool, tmp_path, split):
    """From its COCO file back to VOC, with the two boxes of a single pixel that were dropped then, and forth again."""
    with tarfile.open(shared_data / 'bccd_trainval.tar.gz') as tar:
        tar.extractall(tmp_path, filter='data')
    root = next(path for path in (tmp_path, tmp_path / 'bccd') if (path / 'annotations').is_dir())
    expected = json.loads((root / f'annotations/{split}.json').read_text())
    voc = tmp_path / 'voc'
    (voc / 'Annotations').mkdir(parents=True)
    (voc / 'JPEGImages').symlink_to(root / 'images')
    (voc / 'ImageSets/Main').mkdir(parents=True)
    classes = {category['id']: category['name'] for category in expected['categories']}
    points = 0
    for image in expected['images']:
        objects = [
            (classes[entry['category_id']], (x + 1, y + 1, x + w, y + h), False)
            for entry in expected['annotations']
            if entry['image_id'] == image['id']
            for x, y, w, h in [entry['bbox']]
        ]
        name = image['file_name'].rsplit('.', 1)[0]
        if name in ('BloodImage_00338', 'BloodImage_00343'):
            objects.append(('RBC', (7, 7, 7, 7), False))
            points += 1
        (voc / f'Annotations/{name}.xml').write_text(voc_xml(name, objects, (image['width'], image['height'])))
    names = [image['file_name'].rsplit('.', 1)[0] for image in expected['images']]
    (voc / f'ImageSets/Main/{split}.txt').write_text('\n'.join(names))
    code, output, error = tool('voc_to_coco.py', 'voc', 'bccd.json', '--split', split, '--classes', *classes.values())
    assert code == 0, error
    content = json.loads((tmp_path / 'bccd.json').read_text())
    assert [entry for entry in boxes(content) if entry[2] != [6, 6, 1, 1]] == boxes(expected)
    counts = dict(train=(205, 2804), val=(87, 1137))[split]
    assert (len(content['images']), len(content['annotations']) - points) == counts
    assert (f'{points} boxes are of a single pixel, and were kept: ' in output) == (points > 0)
    assert 'cut' not in output and 'outside' not in output


@pytest.fixture
def coco(tmp_path):
    """Five images: the second has no annotation, the third only a crowd, the fourth an object and a crowd."""
    entries = [(1, 0), (3, 1), (4, 0), (4, 1), (5, 0), (1, 0)]
    content = dict(
        info=dict(year=2000),
        images=[dict(id=i, file_name=f'{i}.jpg', width=9, height=9) for i in (1, 2, 3, 4, 5)],
        annotations=[
            dict(id=i, image_id=image, iscrowd=crowd, category_id=1, bbox=[1, 1, 5, 5], area=25)
            for i, (image, crowd) in enumerate(entries, start=1)
        ],
        categories=[dict(id=1, name='cat')],
    )
    (tmp_path / 'all.json').write_text(json.dumps(content))
    return content


def test_the_first_images_with_objects(coco, tool, tmp_path):
    code, output, _ = tool('subset_coco.py', 'all.json', 'few.json', '--images', 2)
    assert code == 0 and output == 'Wrote 2 images with 4 annotations to few.json\n'
    content = json.loads((tmp_path / 'few.json').read_text())
    assert [image['id'] for image in content['images']] == [1, 4]
    assert [entry['id'] for entry in content['annotations']] == [1, 3, 4, 6]
    assert content['categories'] == coco['categories'] and content['info'] == coco['info']


@pytest.mark.parametrize(
    'args, sentence',
    [
        (['all.json', 'few.json', '--images', 4], '--images 4 asks for more than the 3 images with annotations'),
        (['all.json', 'few.json', '--images', 0], '--images expects a number from 1 up, got 0'),
        (['al.json', 'few.json', '--images', 1], 'al.json does not exist; did you mean all.json?'),
        (['all.json', 'all.json', '--images', 1], 'another file to write than the one to read, but both are all.json'),
        (['all.json', 'none/few.json', '--images', 1], 'could not write none/few.json (No such file or directory)'),
    ],
)
def test_a_subset_that_cannot_be_made(coco, tool, tmp_path, args, sentence):
    code, _, error = tool('subset_coco.py', *args)
    assert code == 2 and sentence in error and error.count('\n') == 1
    assert [path.name for path in tmp_path.iterdir()] == ['all.json']
