"""Puts pictures side by side, made smaller: `python docs/figures/tiles.py OUT.jpg COLUMNS WIDTH PICTURE...`"""

import sys

import cv2
import numpy as np


def main():
    out, columns, width = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    tiles = []
    for path in sys.argv[4:]:
        picture = cv2.imread(path)
        height = round(picture.shape[0] * width / picture.shape[1])
        shrinks = width < picture.shape[1]
        tiles.append(
            cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_NEAREST)
        )
    tallest = max(tile.shape[0] for tile in tiles)
    padded = [np.pad(tile, ((0, tallest - tile.shape[0] + 4), (0, 4), (0, 0)), constant_values=255) for tile in tiles]
    padded += [np.full_like(padded[0], 255)] * (-len(padded) % columns)
    rows = [np.hstack(padded[i : i + columns]) for i in range(0, len(padded), columns)]
    cv2.imwrite(out, np.vstack(rows), [cv2.IMWRITE_JPEG_QUALITY, 85])


if __name__ == '__main__':
    main()
