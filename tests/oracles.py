"""Naive references, in loops and float64, that share no code with the package."""
import torch


def cycle_fc_oracle(x, weight, bias, kernel_size):
    """CycleFC by its definition: x [B, H, W, C_in] -> float64 [B, H, W, C_out]."""
    x, weight = x.detach().double(), weight.detach().double()
    batch, height, width, c_in = x.shape
    kh, kw = kernel_size
    out = torch.zeros(batch, height, width, weight.shape[0], dtype=torch.float64)
    for c in range(c_in):
        # The step of the staircase: 0, 1, ..., k//2, -k//2, ..., -1, and again.
        step_h = [*range(kh // 2 + 1), *range(-(kh // 2), 0)][c % kh]
        step_w = [*range(kw // 2 + 1), *range(-(kw // 2), 0)][c % kw]
        for i in range(height):
            for j in range(width):
                row, column = i + step_h, j + step_w
                if 0 <= row < height and 0 <= column < width:
                    out[:, i, j] += x[:, row, column, c, None] * weight[:, c]
    return out if bias is None else out + bias.detach().double()
