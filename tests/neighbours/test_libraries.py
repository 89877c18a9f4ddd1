"""Libraries of models, of training and of adapters."""

import os
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import fusekit
from tests.support.cli_room import run
from tests.support.neighbour_networks import FEWEST, LAYERS, Net, Told, error, folded, images, layers, lively, net

os.environ.setdefault("HF_HUB_OFFLINE", "1")
X = images()


def lightning_module() -> type[nn.Module]:
    lightning: Any = pytest.importorskip("lightning")

    class Lit(lightning.LightningModule):  # type: ignore[misc]
        def __init__(self, width: int = 8, optimizer: object = None) -> None:
            super().__init__()
            self.save_hyperparameters()
            self.model = Net(width)
            self.loss = nn.CrossEntropyLoss(torch.ones(5))
            self.example_input_array = X

        def forward(self, x: Tensor) -> Any:
            return self.model(x)

        def training_step(self, batch: Any, index: int) -> Any:
            return self.loss(self(batch[0]), torch.tensor([0, 1]))

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), 0.01)

    return Lit


@pytest.mark.neighbour("lightning", "`example_input_array` where no inputs are given")
def test_lightning_inputs(told: Told, tmp_path: Path) -> None:
    model = lively(lightning_module()())
    fast = fusekit.optimize(model)
    told(folded(model, fast, fast(X), model(X)))
    assert layers(fast) == FEWEST
    assert fusekit.export(model, tmp_path / "model.onnx").ok
    assert (tmp_path / "model.onnx").is_file()


@pytest.mark.neighbour(
    "lightning",
    "`.ckpt` files with hyper-parameters, read without running code",
    advice="hyper-parameters must be numbers, words, lists and dicts: a file with other objects (`argparse.Namespace`, "
    "`pathlib.Path`) is refused, as by `torch.load(weights_only=True)`.",
)
@pytest.mark.filterwarnings("ignore")
def test_lightning_checkpoint(told: Told, tmp_path: Path) -> None:
    lightning: Any = pytest.importorskip("lightning")
    kind, path = lightning_module(), tmp_path / "last.ckpt"
    model: Any = kind(optimizer={"lr": 0.1})
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = lightning.Trainer(max_steps=1, accelerator="cpu", enable_model_summary=False, **quiet)
    trainer.fit(model, torch.utils.data.DataLoader(torch.utils.data.TensorDataset(X), batch_size=2))
    trainer.save_checkpoint(path)
    assert torch.load(path, weights_only=True)["hyper_parameters"]["optimizer"] == {"lr": 0.1}
    expected = lively(model)(X)
    trainer.save_checkpoint(path)  # with the statistics that were just set
    assert torch.equal(fusekit.load(kind, weights=path)(X), expected)
    loaded = fusekit.load(Net, weights=path)  # without `model.`, and without the weights of the loss
    assert torch.equal(loaded(X), expected)
    fast = fusekit.optimize(loaded, (X,))
    told(folded(loaded, fast, fast(X), expected))
    model.save_hyperparameters({"data": Path("/data")})
    trainer.save_checkpoint(path)
    with pytest.raises(fusekit.CheckpointError, match="Path"):
        fusekit.load(Net, weights=path)


FACTORIES = """
import transformers as T

def resnet():
    sizes = dict(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1])
    return T.ResNetForImageClassification(T.ResNetConfig(**sizes))

def convnext():
    return T.ConvNextForImageClassification(T.ConvNextConfig(hidden_sizes=[8, 16], depths=[1, 1], num_stages=2))

def regnet():
    sizes = dict(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], groups_width=8)
    return T.RegNetForImageClassification(T.RegNetConfig(**sizes))

def mobilenet():
    return T.MobileNetV2ForImageClassification(T.MobileNetV2Config(depth_multiplier=0.35, image_size=64))
"""


@pytest.mark.neighbour("transformers", "`from_pretrained` folders: optimize, load, `fusekit export --weights FOLDER`")
@pytest.mark.parametrize(("name", "left"), [("resnet", 7), ("convnext", 9), ("regnet", 14), ("mobilenet", 53)])
def test_transformers(name: str, left: int, told: Told, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("transformers")
    (tmp_path / "hugging_factories.py").write_text(FACTORIES)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "hugging_factories", raising=False)
    source, x = f"hugging_factories:{name}", images(64)
    saved: Any = lively(fusekit.load(source))
    saved.save_pretrained("whole")
    saved.save_pretrained("shards", max_shard_size="2KB")
    assert len(list(Path("shards").glob("model-*.safetensors"))) > 1
    model = type(saved).from_pretrained("whole").eval()
    with torch.no_grad():
        expected = saved(x).logits
        fast = fusekit.optimize(model, (x,))
        told(f"{name}: {folded(model, fast, fast(x).logits, expected)}")
        assert layers(fast) <= left
        for folder in ("whole", "shards"):
            loaded: Any = fusekit.load(source, weights=folder)
            assert torch.equal(loaded(x).logits, expected)
    outcome = run("export", source, "model.onnx", "--weights", "shards", "--input", "2x3x64x64", "--no-measure")
    assert outcome.code == 0, outcome.stderr
    assert fusekit.validate(model, "model.onnx", (x,)).ok


@pytest.mark.neighbour(
    "peft",
    "LoRA, DoRA, LoHa and LoKr on convolutions, folded as they are and after `merge_and_unload`",
    advice="give example inputs: peft asks for the dtype of what it is given. IA3 scales inputs at run time, and keeps "
    "its norms.",
)
@pytest.mark.parametrize("kind", ["Lora", "Dora", "LoHa", "LoKr"])
def test_peft(kind: str, told: Told, tmp_path: Path) -> None:
    peft = pytest.importorskip("peft")
    plain = net()
    targets = [path for path, part in plain.named_modules() if isinstance(part, nn.Conv2d)]
    torch.manual_seed(1)
    if kind in ("Lora", "Dora"):
        random: dict[str, Any] = {"init_lora_weights": False, "lora_dropout": 0.1 if kind == "Lora" else 0.0}
        config = peft.LoraConfig(r=4, lora_alpha=8, target_modules=targets, use_dora=kind == "Dora", **random)
    else:
        config = getattr(peft, f"{kind}Config")(r=4, target_modules=targets, init_weights=False)
    adapted = peft.get_peft_model(plain, config).eval()
    with torch.no_grad():
        expected = adapted(X)
        assert error(net()(X), expected) > 1e-2  # the adapter matters
        fast = fusekit.optimize(adapted, (X,))
        told(f"{kind}: {folded(adapted, fast, fast(X), expected)}")
        assert fusekit.export(adapted, tmp_path / "model.onnx", (X,)).ok
        merged = adapted.merge_and_unload().eval()
        assert layers(merged) == LAYERS
        again = fusekit.optimize(merged, (X,))
        assert layers(again) == FEWEST
        assert error(again(X), expected) < 1e-5
    assert layers(fast) == FEWEST


@pytest.mark.neighbour("accelerate", "`Accelerator.prepare`, `save_model`, whole and in shards")
def test_accelerate(told: Told, tmp_path: Path) -> None:
    accelerate = pytest.importorskip("accelerate")
    accelerator = accelerate.Accelerator(cpu=True)
    model = accelerator.prepare(net())
    fast = fusekit.optimize(model, (X,))
    told(folded(model, fast, fast(X), net()(X)))
    assert layers(fast) == FEWEST
    for folder, size in (("whole", "1GB"), ("shards", "4KB")):
        accelerator.save_model(model, str(tmp_path / folder), max_shard_size=size)
        assert torch.equal(fusekit.load(Net, weights=tmp_path / folder)(X), net()(X))
    assert len(list((tmp_path / "shards").glob("*.safetensors"))) > 1


@pytest.mark.neighbour(
    "accelerate",
    "`dispatch_model`, `cpu_offload`",
    advice="first `accelerate.hooks.remove_hook_from_module(model, recurse=True)`. With the hooks, a dispatched model "
    "stays as it is, and an offloaded one is refused: its weights are elsewhere.",
)
def test_accelerate_hooks(told: Told) -> None:
    accelerate = pytest.importorskip("accelerate")
    places = {"stem": "cpu", "blocks": "cpu", "head": "cpu"}
    dispatched = accelerate.dispatch_model(net(), places, main_device="cpu", force_hooks=True)
    offloaded = accelerate.cpu_offload(net(), execution_device="cpu")
    expected = net()(X)
    assert error(fusekit.optimize(dispatched, (X,))(X), expected) < 1e-5
    with pytest.raises(fusekit.FusekitError, match="meta"):
        fusekit.optimize(offloaded, (X,))
    for model in (dispatched, offloaded):
        accelerate.hooks.remove_hook_from_module(model, recurse=True)
        fast = fusekit.optimize(model, (X,))
        told(folded(model, fast, fast(X), expected))
        assert layers(fast) == FEWEST


@pytest.mark.neighbour("timm", "`create_model`, optimize, export")
@pytest.mark.parametrize(
    ("name", "left"),
    [("resnet18", 21), ("repvgg_a0", 23)],
)
def test_timm(name: str, left: int, told: Told, tmp_path: Path) -> None:
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    model, x = lively(timm.create_model(name)), images(64)
    with torch.no_grad():
        fast = fusekit.optimize(model, (x,))
        told(f"{name}: {folded(model, fast, fast(x), model(x))}")
    assert layers(fast) <= left
    assert fusekit.export(model, tmp_path / "model.onnx", (x,)).ok
