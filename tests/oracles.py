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


def cycle_mix_oracle(x, weights, kernel_size):
    """The mixer by its definition in float64, from the operator's oracle; x [B, H, W, C] -> float64."""
    p = {name: value.detach().double() for name, value in weights._asdict().items()}
    x = x.detach().double()
    w = cycle_fc_oracle(x, p['shift_w'], p['shift_w_bias'], (1, kernel_size))
    h = cycle_fc_oracle(x, p['shift_h'], p['shift_h_bias'], (kernel_size, 1))
    c = x @ p['channel'].T
    hidden = torch.nn.functional.gelu((w + h + c).mean(dim=(1, 2)) @ p['fc1'].T + p['fc1_bias'])
    a = (hidden @ p['fc2'].T + p['fc2_bias']).reshape(len(x), x.shape[3], 3).softmax(dim=2)[:, None, None]
    return (w * a[..., 0] + h * a[..., 1] + c * a[..., 2]) @ p['proj'].T + p['proj_bias']
