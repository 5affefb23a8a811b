"""Detect, segment or classify objects in images and videos, with a model of any task.

    mmcyclemlp infer configs/cyclemlp/bccd_retinanet_b1.py work_dirs/bccd_retinanet_b1/epoch_48.pth photos/
    python tools/infer.py CONFIG CHECKPOINT one.png two.png walk.mp4 --out found

CHECKPOINT may also be an exported .onnx or .xml file.

The folder --out gets, for each image, vis/NAME.png (the image with the predictions drawn in), preds/NAME.json and, from
a segmentation model, masks/NAME.png with class indices; predictions.json for all images; for each video, NAME.mp4 with
the predictions drawn in and NAME.jsonl with one line per frame. What cannot be read or predicted on is named and
skipped, and the exit status is 2. User errors print one line and exit with status 2.
"""

import json
from argparse import Namespace
from itertools import chain
from pathlib import Path
from typing import Any, Dict, List

from rich.progress import track

from mmcyclemlp.config import load_config
from mmcyclemlp.errors import InputError, tell
from mmcyclemlp.files import make_folder, write_json, written_whole
from mmcyclemlp.inference import media
from mmcyclemlp.inference.failures import about, bounded_memory
from mmcyclemlp.inference.predictor import Predictor

from .arguments import add_config, command, parser_of

FOLDERS = ('vis', 'preds', 'masks')

PARSER = parser_of(__doc__)
add_config(PARSER)
PARSER.add_argument('inputs', nargs='+', metavar='INPUT', help='images, folders of images, videos')
PARSER.add_argument('--out', type=Path, metavar='DIR', help='where results go (default: work_dirs/CONFIG NAME/infer)')
PARSER.add_argument(
    '--score',
    type=float,
    default=0.3,
    metavar='S',
    help='draw detections with at least this score (default: 0.3); the JSON files contain all',
)
PARSER.add_argument('--device', metavar='D', help='such as cpu or cuda:1 (default: a GPU if there is one)')
PARSER.add_argument(
    '--batch-size',
    type=int,
    default=1,
    metavar='N',
    help='largest batch; only images of one size share a batch (default: 1)',
)


def check_folder(out: Path, inputs: List[Path]) -> None:
    """Refuse to write among the inputs; make the folder."""
    written = {folder.resolve() for folder in (out, *(out / name for name in FOLDERS))}
    for path in inputs:
        if path.resolve().parent in written:
            raise InputError(
                f'--out expects another folder than that of the inputs, but results in {out} could replace {path}; '
                'give a new one'
            )
    make_folder(out, '--out')


def infer_images(
    predictor: Predictor, images: List[Path], names: Dict[Path, str], out: Path, score: float, failed: media.Failed
) -> None:
    """Predict on images and write the results."""
    for folder in ('vis', 'preds'):
        (out / folder).mkdir(exist_ok=True)
    records: List[Dict[str, Any]] = []
    for found in predictor.stream(track(images, 'Images'), failed):
        try:
            with about(found.source):
                drawing, record = found.plot(score), dict(image=found.source, **found.to_dict())
        except InputError as error:
            failed(error)
            continue
        name = f'{names[Path(found.source)]}.png'
        media.write_image(out / 'vis' / name, drawing)
        if found.masks is not None:
            (out / 'masks').mkdir(exist_ok=True)
            media.write_image(out / 'masks' / name, found.masks)
            record['mask'] = f'masks/{name}'
        write_json(out / 'preds' / f'{names[Path(found.source)]}.json', record)
        records.append(record)
    content: Dict[str, Any] = dict(classes=predictor.classes, predictions=records)
    drawn = predictor.drawn_as
    write_json(out / 'predictions.json', dict(content, drawn_as=drawn) if drawn else content)
    print(f'Wrote the predictions on {len(records):,} image{"s" * (len(records) != 1)} to {out}')


def infer_video(predictor: Predictor, path: Path, name: str, out: Path, score: float, failed: media.Failed) -> None:
    """Predict on the frames of a video and write them with what was found, and a line of json each."""
    video = media.open_video(path)
    target, codec = media.video_target(out / f'{name}.mp4')
    done = 0

    def failed_here(error: InputError) -> None:
        if not done:
            raise error  # what is wrong with the first frame is wrong with all
        failed(error)

    frames = predictor.stream(path, failed_here)
    first = next(frames, None)
    if first is None:
        raise InputError(f'expected a video with frames, but {path} has none; convert it to MP4 (H.264)')
    size = first.plot(score).shape[:2]
    lines = out / f'{name}.jsonl'
    with media.video_writer(target, codec, size, video.fps) as add, written_whole(lines) as temporary:
        with temporary.open('w', encoding='utf-8') as file:
            for found in track(chain([first], frames), path.name, total=max(video.frame_cnt, 1)):
                add(found.plot(score))
                file.write(json.dumps(dict(frame=found.frame, **found.to_dict())) + '\n')
                done += 1
    print(f'Wrote {target} and {lines}' + ('' if target.suffix == '.mp4' else ' (this OpenCV cannot write MP4)'))


@command(PARSER)
def main(args: Namespace) -> int:
    if args.batch_size < 1:
        raise InputError(f'--batch-size expects a number from 1 up, got {args.batch_size}')
    if not 0 <= args.score <= 1:
        raise InputError(f'--score expects a number from 0 to 1, got {args.score}')
    images, videos = (list(dict.fromkeys(found)) for found in media.find_media(args.inputs))
    out = args.out or Path('work_dirs', Path(args.config).stem, 'infer')
    check_folder(out, images + videos)
    config = load_config(args.config, args.cfg_options)
    predictor = Predictor(config, args.checkpoint, args.device, args.batch_size)
    names = media.names_of(images + videos)
    errors: List[InputError] = []

    def failed(error: InputError) -> None:
        errors.append(error)
        tell(error)

    with bounded_memory():
        if images:
            infer_images(predictor, images, names, out, args.score, failed)
        for path in videos:
            try:
                infer_video(predictor, path, names[path], out, args.score, failed)
            except InputError as error:
                failed(error)
    return 2 if errors else 0
