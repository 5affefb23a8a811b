"""Detect, segment or classify objects in images and videos, with a model of any task.

    mmcyclemlp infer configs/cyclemlp/bccd_retinanet_b1.py work_dirs/bccd_retinanet_b1/epoch_48.pth photos/
    python tools/infer.py CONFIG CHECKPOINT one.png two.png walk.mp4 --out found

The folder --out gets, for each image, vis/NAME.png (the image with the predictions drawn in), preds/NAME.json and, from
a segmentation model, masks/NAME.png with class indices; predictions.json for all images; for each video, NAME.mp4 with
the predictions drawn in and NAME.jsonl with one line per frame. Images that cannot be read are reported and skipped,
and the exit status is 2. User errors print one line and exit with status 2.
"""

import json
from argparse import Namespace
from itertools import chain
from pathlib import Path
from typing import Any, Dict, Iterator, List, Tuple

import numpy as np
from rich.progress import track

from mmcyclemlp.config import load_config
from mmcyclemlp.errors import InputError, tell
from mmcyclemlp.files import write_json, written_whole
from mmcyclemlp.inference import media
from mmcyclemlp.inference.predictor import Predictor

from .arguments import add_config, command, parser_of

PARSER = parser_of(__doc__)
add_config(PARSER)
PARSER.add_argument('inputs', nargs='+', type=Path, metavar='INPUT', help='images, folders of images, videos')
PARSER.add_argument('--out', type=Path, metavar='DIR', help='where results go (default: work_dirs/CONFIG NAME/infer)')
PARSER.add_argument(
    '--score',
    type=float,
    default=0.3,
    metavar='S',
    help='draw detections with at least this score (default: 0.3); the JSON holds all',
)
PARSER.add_argument(
    '--batch-size',
    type=int,
    default=1,
    metavar='N',
    help='largest batch; only images of one size share a batch (default: 1)',
)


def check_folder(out: Path, inputs: List[Path]) -> None:
    """Refuse to write among the inputs; make the folder."""
    if any(path.resolve().parent == out.resolve() for path in inputs):
        raise InputError(f'--out expects another folder than that of the inputs, but both are {out}; give a new one')
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f'--out expects a folder to write into, but {out} cannot be made ({error.strerror}); give another'
        ) from error


def infer_images(predictor: Predictor, images: List[Path], names: Dict[Path, str], out: Path) -> int:
    """Predict on images and write the results; returns how many could not be read."""
    failed = []

    def readable() -> Iterator[Tuple[Path, np.ndarray]]:
        for path in track(images, 'Images'):
            try:
                yield path, media.read_image(path)
            except InputError as error:
                failed.append(path)
                tell(error)

    for folder in ('vis', 'preds'):
        (out / folder).mkdir(exist_ok=True)
    records: List[Dict[str, Any]] = []
    for path, prediction in predictor(readable()):
        name = f'{names[path]}.png'
        media.write_image(out / 'vis' / name, prediction.drawing)
        record = dict(image=str(path), **prediction.record)
        if prediction.masks is not None:
            (out / 'masks').mkdir(exist_ok=True)
            media.write_image(out / 'masks' / name, prediction.masks)
            record['mask'] = f'masks/{name}'
        write_json(out / 'preds' / f'{names[path]}.json', record)
        records.append(record)
    write_json(out / 'predictions.json', dict(classes=predictor.classes, predictions=records))
    print(f'Wrote the predictions on {len(records):,} images to {out}')
    return len(failed)


def infer_video(predictor: Predictor, path: Path, name: str, out: Path) -> None:
    """Predict on the frames of a video and write them with what was found, and a line of json each."""
    video = media.open_video(path)
    target, codec = media.video_target(out / f'{name}.mp4')
    frames = predictor(enumerate(track((frame for frame in video), path.name, total=max(video.frame_cnt, 1))))
    first = next(frames, None)
    if first is None:
        raise InputError(f'expected a video with frames, but {path} has none; convert it to MP4 (H.264)')
    size = first[1].drawing.shape[:2]
    lines = out / f'{name}.jsonl'
    with media.video_writer(target, codec, size, video.fps) as add, written_whole(lines) as temporary:
        with temporary.open('w', encoding='utf-8') as file:
            for index, prediction in chain([first], frames):
                add(prediction.drawing)
                file.write(json.dumps(dict(frame=index, **prediction.record)) + '\n')
    print(f'Wrote {target} and {lines}' + ('' if target.suffix == '.mp4' else ' (this OpenCV cannot write MP4)'))


@command(PARSER)
def main(args: Namespace) -> int:
    if args.batch_size < 1:
        raise InputError(f'--batch-size expects a number from 1 up, got {args.batch_size}')
    images, videos = media.find_media(args.inputs)
    out = args.out or Path('work_dirs', Path(args.config).stem, 'infer')
    check_folder(out, images + videos)
    predictor = Predictor(load_config(args.config, args.cfg_options), args.checkpoint, args.score, args.batch_size)
    names = media.names_of(images + videos)
    failed = infer_images(predictor, images, names, out) if images else 0
    for path in videos:
        try:
            infer_video(predictor, path, names[path], out)
        except InputError as error:
            failed += 1
            tell(error)
    return 2 if failed else 0
