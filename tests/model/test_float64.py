"""A float64 run of a model that names dtypes itself."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fusekit.model import Inputs, run_float64
from fusekit.model.copies import deep_copy
from fusekit.model.float64 import _wide_weights, in_float64


class Casting(nn.Module):
    """Casts, makes tensors, writes in place, reads buffers: all that `.double()` alone gets wrong."""

    offset: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.relu = nn.ReLU(inplace=True)
        self.register_buffer("offset", torch.rand(4, 1, 1))
        self.plain = torch.rand(4, 1, 1)
        self.seen = 0

    def forward(self, frames: Tensor) -> Tensor:
        x = self.relu(self.norm(self.conv(frames.float().div_(255.0))))
        made = torch.zeros(x.shape[0], 4, 1, 1, dtype=torch.float32) + self.offset
        made[:, 1] += 0.1
        made = made + torch.full((4, 1, 1), 1 / 3).type_as(x) * self.plain.to(torch.float32)
        self.seen += 1
        return F.softmax(x + made, dim=1, dtype=torch.float32).to(torch.float32)


def by_hand(model: Casting, frames: Tensor) -> Tensor:
    def double(tensor: Tensor | None) -> Tensor:
        assert tensor is not None
        return tensor.detach().double()

    x = F.conv2d(frames.double() / 255, double(model.conv.weight), double(model.conv.bias), padding=1)
    norm = model.norm
    x = F.batch_norm(x, double(norm.running_mean), double(norm.running_var), double(norm.weight), double(norm.bias))
    made = double(model.offset).expand(frames.shape[0], 4, 1, 1).clone()
    made[:, 1] += 0.1
    return torch.softmax(x.relu() + made + double(model.plain) / 3, dim=1)


def test_every_operator_runs_in_float64_and_the_model_is_untouched() -> None:
    torch.manual_seed(0)
    model = Casting().eval()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    plain = model.plain.clone()
    frames = torch.randint(0, 256, (2, 3, 5, 6), dtype=torch.uint8)
    result = run_float64(model, Inputs.of(frames))
    assert result.dtype == torch.float64
    assert torch.allclose(result, by_hand(model, frames), rtol=1e-13, atol=1e-15)
    assert all(tensor.equal(before[name]) and tensor.dtype == before[name].dtype
               for name, tensor in model.state_dict().items())  # fmt: skip
    assert model.plain.equal(plain)
    assert model.seen == 0
    assert torch.get_default_dtype() == torch.float32


def test_parameters_need_not_be_converted() -> None:
    torch.manual_seed(0)
    model = Casting().eval()
    frames = torch.randint(0, 256, (1, 3, 4, 4), dtype=torch.uint8)
    with torch.no_grad(), in_float64():
        result = model(frames)
    assert result.dtype == torch.float64
    assert torch.allclose(result, by_hand(model, frames), rtol=1e-13, atol=1e-15)
    assert model.conv.weight.dtype == torch.float32


def test_in_place_writes_to_a_float32_tensor_are_seen_by_later_reads() -> None:
    x = torch.full((3,), 0.5)
    with in_float64():
        view = x[1:]
        y = x.add_(1e-12)
        seen_by_view, seen_by_result = view * 1.0, y * 1.0
    assert seen_by_view.tolist() == [0.5 + 1e-12] * 2
    assert seen_by_result.tolist() == [0.5 + 1e-12] * 3
    assert x.tolist() == [0.5] * 3


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_models_of_any_floating_dtype(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True), nn.Conv2d(4, 2, 1)).to(dtype).eval()
    x = torch.rand(1, 3, 5, 5).to(dtype)
    expected = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 1)).double()
    expected.load_state_dict(model.state_dict())
    result = run_float64(model, Inputs.of(x))
    assert result.dtype == torch.float64
    assert torch.allclose(result, expected(x.double()), rtol=1e-13)
    assert model[0].weight.dtype == dtype


def test_complex_weights_and_spectra() -> None:
    class Spectral(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.randn(5, dtype=torch.complex64))

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = torch.fft.irfft(torch.fft.rfft(x) * self.weight, n=8)
            return y

    model = Spectral()
    x = torch.rand(2, 8)
    expected = torch.fft.irfft(torch.fft.rfft(x.double()) * model.weight.detach().to(torch.complex128), n=8)
    assert torch.allclose(run_float64(model, Inputs.of(x)), expected, rtol=1e-13)


def test_recurrent_layers_and_forwards_that_insist_on_a_dtype() -> None:
    class Insisting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rnn = nn.GRU(3, 4, batch_first=True)
            self.fc = nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.fc(self.rnn(x)[0])
            return y

    class Strict(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            assert x.dtype == torch.float32
            return super().forward(x)

    for model in (Insisting(), Strict(3, 2)):
        x = torch.rand(2, 5, 3)
        result = run_float64(model, Inputs.of(x))
        assert result.dtype == torch.float64
        assert torch.allclose(result.float(), model(x), rtol=1e-4, atol=1e-6)


def test_the_given_inputs_are_not_written_and_the_mode_ends_after_an_error() -> None:
    x = torch.rand(2, 3) - 0.5
    kept = x.clone()
    run_float64(nn.ReLU(inplace=True), Inputs.of(x))
    assert x.equal(kept)
    with pytest.raises(RuntimeError):
        run_float64(nn.Linear(4, 2), Inputs.of(x))
    assert torch.get_default_dtype() == torch.float32
    assert (x + 1).dtype == torch.float32


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_layer_that_is_also_compiled_is_wide_where_it_is_not() -> None:
    """TorchScript keeps its dtype, also where another part shares its weights."""
    layer = nn.Linear(4, 4)
    model = nn.Sequential(layer, torch.jit.script(layer), nn.Linear(4, 2)).eval()
    x = torch.randn(3, 4)
    result = run_float64(model, Inputs.of(x))
    assert result.dtype == torch.float64 and torch.allclose(result.float(), model(x), atol=1e-6)
    assert layer.weight.dtype == torch.float32 and layer.weight.requires_grad


def test_weights_are_copied_in_float64_alone() -> None:
    """Tied weights stay tied, parameters stay parameters, and the narrow ones are not copied beside them."""
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4), nn.BatchNorm1d(4)).eval()
    model[1].weight = model[0].weight
    wide = _wide_weights(model)
    assert len(wide) == len({*map(id, model.parameters())} | {id(b) for b in model.buffers() if b.is_floating_point()})
    copied = deep_copy(model, weights=wide)
    assert copied[1].weight is copied[0].weight and isinstance(copied[0].weight, nn.Parameter)  # type: ignore[index]
    assert {p.dtype for p in copied.parameters()} == {torch.float64}
    assert {p.dtype for p in model.parameters()} == {torch.float32}
