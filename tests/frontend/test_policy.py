"""Graphs that stay in torch whole, and graphs that look like them."""

import pytest
import torch

from onelaunch.frontend import policy


class Products(torch.nn.Module):
    """Products with weights in a row: of ``x``, then of ``y``."""

    def __init__(self, of_x, of_y):
        super().__init__()
        self.of_x = torch.nn.ModuleList(torch.nn.Linear(8, 8) for _ in range(of_x))
        self.of_y = torch.nn.ModuleList(torch.nn.Linear(8, 8) for _ in range(of_y))

    def forward(self, x, y):
        for layer in self.of_x:
            x = layer(x)
        for layer in self.of_y:
            y = layer(y)
        return x, y


@torch.no_grad()
def found(harness, of_x, of_y, rows):
    model = Products(of_x, of_y)
    x, y = torch.randn(1, rows, 8), torch.randn(1, 1, 8)
    torch.testing.assert_close(harness.compile(model)(x, y), model(x, y))
    return harness.fallbacks, harness.launches


@pytest.mark.parametrize(("of_x", "of_y"), [(1, 0), (3, 0), (3, 1), (1, 1)])  # the last but one: a prompt and its head
def test_products_of_a_prompt(harness, of_x, of_y):
    fallbacks, launches = found(harness, of_x, of_y, policy.MAX_ROWS + 1)
    assert launches == 0
    assert [f.reason for f in fallbacks] == ["prefill: 33 rows in its products with weights, more than 32"]


@pytest.mark.parametrize(("of_x", "of_y", "rows"), [(3, 1, 32), (1, 2, 33), (1, 3, 500)])
def test_products_of_a_step(harness, of_x, of_y, rows):
    """Few rows; or many in the lesser part of the products, as where a cache is kept compressed."""
    fallbacks, launches = found(harness, of_x, of_y, rows)
    assert launches == 1 and not fallbacks
