"""The example of complex layers learns."""

import importlib.util
from pathlib import Path
from typing import Any

import torch

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "complex_digits.py"


def test_the_complex_network_learns_digits_from_their_spectra() -> None:
    """Guessing is right once in ten times; one pass over the data, and the batch norm's statistics are young."""
    spec = importlib.util.spec_from_file_location("complex_digits", EXAMPLE)
    assert spec is not None and spec.loader is not None
    example: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    torch.manual_seed(0)
    assert example.accuracy_after(2, example.complex_network(), *example.spectra()) > 0.8
