"""Markdown and CSV, and the count of multiply-adds that the tables show."""

import torch
from torch import nn

from mmcyclemlp.flops import count_macs, count_parameters
from mmcyclemlp.tables import markdown, read_csv, write_csv


def test_columns_of_numbers_align_right():
    assert markdown(['name', 'value'], [['a', '1.5'], ['b', '-2'], ['c', '']]) == (
        '| name | value |\n| --- | ---: |\n| a | 1.5 |\n| b | -2 |\n| c |  |'
    )
    assert markdown(['name', 'value'], []) == '| name | value |\n| --- | --- |'


def test_what_a_row_lacks_stays_empty(tmp_path):
    write_csv(tmp_path / 'a.csv', ['x', 'y'], [dict(x=1), dict(y='a,b')])
    assert (tmp_path / 'a.csv').read_text() == 'x,y\n1,\n,"a,b"\n'
    assert read_csv(tmp_path / 'a.csv') == [dict(x='1'), dict(y='a,b')]
    assert read_csv(tmp_path / 'none.csv') == []


def test_products_convolutions_and_attention_are_counted():
    model = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.Flatten(2), nn.Linear(25, 7))
    macs = count_macs(lambda: model(torch.zeros(2, 3, 5, 5)))
    assert macs['Global'] == 2 * 25 * 3 * 9 * 8 + 2 * 8 * 25 * 7
    assert macs['Sequential.2'] == 2 * 8 * 25 * 7
    assert count_parameters(model) == 3 * 9 * 8 + 8 + 25 * 7 + 7
    heads = torch.zeros(1, 2, 10, 4)
    assert count_macs(lambda: nn.functional.scaled_dot_product_attention(heads, heads, heads))['Global'] == 2 * (
        2 * 10 * 10 * 4
    )
    assert count_macs(lambda: None) == {'Global': 0}
