"""Check the annotation files of a detection run before it starts; mmdet finds faults late or not at all."""

import os
from collections import defaultdict
from pathlib import Path
from typing import IO, Any, Dict, Iterable, Iterator, List, NamedTuple, Optional, Sequence, Tuple

from mmengine import Config

from mmcyclemlp.config.walk import metrics, name_of
from mmcyclemlp.errors import InputError
from mmcyclemlp.images import UNREADABLE, size_of
from mmcyclemlp.untrusted import read_json

from . import coco
from .common import built, plain, sampled, some, uncollected, warn

SAMPLE = 200  # images whose headers are read

# What mmdet does with them.
OUTCOMES = {
    coco.OUTSIDE: 'mmdet leaves them out',
    coco.SMALL: 'mmdet leaves them out',
    coco.UNKNOWN_IMAGE: 'mmdet leaves them out',
    coco.OTHER_CATEGORY: 'mmdet leaves them out, and what they show counts as background',
    coco.CROSSING: "mmdet keeps them, and its Resize cuts them at the image's border",
    coco.NO_POLYGON: 'mmdet counts what they show neither as object nor as background',
    coco.CROWD: 'mmdet trains on none of them; a single object has iscrowd 0',
}
# What many boxes of that kind mostly are.
CORNERS = '; if they are x1, y1, x2, y2, write x, y, width, height'


class _Json:
    """In the place of ``json`` in pycocotools: any encoding, within the bounds, and what was just checked not again."""

    _checked: Dict[Tuple[str, int], Any] = {}

    @classmethod
    def keep(cls, path: str, content: Any) -> None:
        cls._checked[path, os.stat(path).st_mtime_ns] = content

    @classmethod
    def load(cls, file: IO[str]) -> Any:
        content = cls._checked.pop((file.name, os.stat(file.name).st_mtime_ns), None)
        return content or read_json(Path(file.name), "annotations in COCO's format")


class Source(NamedTuple):
    """A dataset of a config: its section's ``name``, built but not loaded, the ``transforms`` that its items go
    through, and the CocoMetric that scores it, if any."""

    name: str
    dataset: Any
    transforms: Sequence[dict]
    metric: dict

    @property
    def path(self) -> Path:
        return Path(self.dataset.ann_file)

    @property
    def filters(self) -> dict:
        """What mmdet filters images by, which it does for training only."""
        return {} if self.dataset.test_mode else self.dataset.filter_cfg or {}

    def transform(self, name: str) -> Optional[dict]:
        return next((t for t in self.transforms if name_of(t) == name), None)

    def use(self) -> coco.Use:
        loader = self.transform('LoadAnnotations') or {}
        scored = self.metric.get('metric', 'bbox')
        scores_masks = 'segm' in ([scored] if isinstance(scored, str) else scored)
        return coco.Use(
            self.name,
            self.dataset.metainfo.get('classes', ()),
            loader.get('with_mask', False) or scores_masks,
            loader.get('poly2mask', True),
            scores_masks,
            bool(self.metric) and not self.metric.get('format_only'),
        )


@uncollected()
def check_annotations(config: Config, *splits: str) -> None:
    """Check the annotation files of a detection config's ``splits`` (``train``, ``val``, ``test``).

    Covers all datasets, also those in wrappers, that read a local ``ann_file`` as mmdet's CocoDataset does. A dataset
    that makes its own data makes it now. No image is decoded.

    Refused, since mmdet fails late or goes wrong silently: a file that is missing, cut short or not in COCO's format;
    classes that are no categories, or in another order; missing keys, ids given twice, boxes that are no numbers;
    category ids that are not listed; no image, or no annotation to use; missing image files; a metric over other images
    than the dataset's. Where masks are read also: no mask, one of another size than its image, one of no area, and for
    COCO's metric one without three points.

    Warned about, since mmdet skips them: boxes outside their image or below a pixel, and annotations of images or
    categories that are not listed or among the classes; boxes that cross the border; images without annotations, in
    training; annotation id 0, which COCO's metric never finds.

    Raises:
        InputError: names the file and the entry.
    """
    if config.get('default_scope') != 'mmdet':
        return
    for split in splits:
        sources = list(_sources(config, split))
        images = {source.path: _check_source(source) for source in sources}
        for metric in metrics(config, split, 'CocoMetric'):
            if sources and metric.get('ann_file') and not metric.get('format_only'):
                _check_metric(f'{split}_evaluator', metric['ann_file'], sources, images)


def _sources(config: Config, split: str) -> Iterator[Source]:
    """The datasets of a split whose file is read as CocoDataset reads it."""
    import pycocotools.coco
    from mmdet.datasets import CocoDataset

    pycocotools.coco.json = _Json
    metric = next(iter(metrics(config, split, 'CocoMetric')), {})
    for name, dataset, transforms in built(config, split, CocoDataset):
        kind = type(dataset)
        if not dataset.ann_file or (kind.load_data_list, kind.parse_data_info) != (
            CocoDataset.load_data_list,
            CocoDataset.parse_data_info,
        ):
            continue
        if dataset.backend_args or '://' in dataset.ann_file:
            continue  # not on this machine
        if hasattr(dataset, 'make_missing'):
            dataset.make_missing()
        yield Source(name, dataset, transforms, metric)


def _check_source(source: Source) -> Dict[Any, dict]:
    """Check a dataset; returns its images by id."""
    path, use = source.path, source.use()
    keys = ('images', 'categories') if source.metric.get('format_only') else coco.KEYS
    content = coco.read_coco(path, f'put the dataset there, or set {source.name}.ann_file', keys)
    chosen = coco.check_categories(path, content['categories'], use)
    images = coco.check_images(path, content['images'])
    entries = coco.check_entries(path, content, images, chosen, use)
    if not entries.kept and 'annotations' in keys:
        reasons = ''.join(f'; {count:,} {kind}' for kind, count in entries.counts.items())
        raise InputError(
            f'expected annotations of the classes of {source.name} in {path}, but of '
            f'{len(content["annotations"]):,} none is left{reasons}; correct the file'
        )
    loaded = [
        image
        for key, image in images.items()
        if min(image['width'], image['height']) >= source.filters.get('min_size', 0)
        and (key in entries.annotated or not source.filters.get('filter_empty_gt'))
    ]
    if not loaded:
        raise InputError(
            f'{source.name}.filter_cfg={dict(source.filters)} leaves none of the {len(images):,} images '
            f'of {path}; change it'
        )
    _check_files(source, loaded)
    absent = [name for key, name in chosen.items() if key not in entries.learnt]
    _tell(source, entries, images, absent, len(content.get('annotations', ())))
    _Json.keep(source.dataset.ann_file, content)
    return images


def _check_files(source: Source, images: List[dict]) -> None:
    """Look for the image files, listing each folder once."""
    loader = source.transform('LoadImageFromFile') or source.transform('LoadReadableImage')
    prefix = source.dataset.data_prefix.get('img')
    if prefix is None:
        raise InputError(
            f'{source.name}.data_prefix must name the folder of the images as dict(img=FOLDER), got '
            f'{source.dataset.data_prefix}'
        )
    if loader is None or loader.get('skipped') or loader.get('backend_args') or '://' in prefix:
        return
    folders = defaultdict(list)
    for image in images:
        folder, name = os.path.split(os.path.join(prefix, image['file_name']))
        folders[folder or '.'].append(name)
    missing, near = [], ''
    for folder, names in folders.items():
        there = set(os.listdir(folder)) if os.path.isdir(folder) else set()
        absent = [name for name in names if name not in there]
        if absent and not near:
            alike = {plain(name): name for name in there}
            near = next((alike[plain(name)] for name in absent if plain(name) in alike), '')
        missing += [os.path.join(folder, name) for name in absent]
    if missing:
        hint = f' (there is {ascii(near)}, which differs in case, spaces or its Unicode form)' if near else ''
        slashes = '; write / for \\ in the names' if '\\' in missing[0] else ''
        raise InputError(
            f'expected the images that {source.path} lists, but {len(missing):,} of {len(images):,} are '
            f'missing: {some(missing, 3)}{hint}; put them there, or correct {source.name}.data_prefix{slashes}'
        )
    if loader.get('color_type', 'color') in ('color', 'grayscale'):
        _check_sizes(source, prefix, sampled(images, SAMPLE))


def _check_sizes(source: Source, prefix: str, images: Iterable[dict]) -> None:
    """Raise InputError for an image of another size than the file says, which puts boxes beside their objects."""
    for image in images:
        try:
            size = size_of(os.path.join(prefix, image['file_name']))
        except UNREADABLE:
            continue  # named when it is loaded
        said = image['width'], image['height']
        if size != said:
            turned = ', turned by its EXIF tag,' if size == said[::-1] else ''
            raise InputError(
                f'{source.path} says that {image["file_name"]} is {said[0]} x {said[1]}, but the image{turned} is '
                f'{size[0]} x {size[1]}, and boxes would lie beside their objects; correct width, height and boxes, or '
                'save the images without the tag'
            )


def _check_metric(name: str, ann_file: str, sources: List[Source], images: Dict[Path, Dict[Any, dict]]) -> None:
    """CocoMetric scores over all images of its own file, whatever the dataset loads."""
    part = next((source for source in sources if source.dataset._indices is not None), None)
    if part:
        raise InputError(
            f'{part.name}.indices takes a part of {part.path}, but {name} scores over all of {ann_file}, '
            'and the rest would count as missed; make a file of the part with '
            'tools/datasets/subset_coco.py'
        )
    path, advice = Path(ann_file), f'set {name}.ann_file'
    scored = images[path] if path in images else coco.check_images(path, coco.read_coco(path, advice)['images'])
    loaded = {key for part in images.values() for key in part}
    differing = sorted(loaded ^ set(scored), key=str)
    if differing:
        raise InputError(
            f'{name} scores over the images of {path}, but {len(differing):,} of them or of '
            f'{some(list(images))} are in one only, such as id {differing[0]}; {advice} to the file '
            'of the dataset'
        )


def _tell(source: Source, entries: coco.Entries, images: Dict[Any, dict], absent: Sequence[str], total: int) -> None:
    """Warn about each kind of entry that mmdet skips, and about classes and images without any."""
    for kind, count in entries.counts.items():
        if kind == coco.CROWD and 2 * count < total:
            continue  # as COCO has it
        scored = "; COCO's metric counts them as missed" if source.metric and kind in (coco.OUTSIDE, coco.SMALL) else ''
        warn(
            f'{source.path}: {count:,} of {total:,} {kind} (the first is annotation {entries.first[kind]}): '
            f'{OUTCOMES[kind]}{scored}{CORNERS if kind == coco.CROSSING and 2 * count > total else ""}'
        )
    if absent and not source.dataset.test_mode:
        warn(f'{source.path}: no annotation is of class {some(absent)}, so none of it is learnt here')
    if source.metric and 0 in entries.ids:
        warn(f"{source.path}: COCO's metric never finds annotation 0; number the annotations from 1")
    empty = [image['file_name'] for key, image in images.items() if key not in entries.annotated]
    if empty and not source.dataset.test_mode:
        outcome = 'mmdet leaves them out' if source.filters.get('filter_empty_gt') else 'they count as background'
        warn(
            f'{source.path}: {len(empty):,} of {len(images):,} images have no annotation of the classes (the first '
            f'is {empty[0]}): {outcome}'
        )
