from __future__ import annotations

import importlib
import pickle
import sys
import types

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn

import fastfreq as ff
from fastfreq.models import load_weights

FACTORY = """
from __future__ import annotations
import dataclasses
from torch import nn
import fastfreq as ff

def build():
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(144, 5))

def normalised():
    return ff.NormalizedModel(build(), mean=(0.5, 0.5, 0.5), std=(0.2, 0.2, 0.2))

@dataclasses.dataclass
class Options:
    width: int = 4

def sized(width):
    return build()

def nothing():
    return 3
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "nets.py"
    path.write_text(FACTORY)
    return path


def test_a_factory_in_a_file(file):
    loaded = ff.load_model(f"{file}:build")
    assert isinstance(loaded.model, nn.Sequential) and not loaded.model.training
    assert loaded.preprocessing is None and loaded.name.endswith("nets.py:build")
    assert isinstance(ff.load_model(f"{file}:normalised").model, ff.NormalizedModel)


@pytest.mark.parametrize("how", ["safetensors", "pt", "wrapped", "prefixed", "saved by us", "half"])
def test_weights_load_strictly_from_safe_files(file, tmp_path, how):
    source = ff.load_model(f"{file}:build").model
    state = {k: torch.randn_like(v) for k, v in source.state_dict().items()}
    path = tmp_path / ("w.pt" if how in ("pt", "wrapped") else "w.safetensors")
    if how == "pt":
        torch.save(state, path)
    elif how == "wrapped":
        torch.save({"state_dict": state, "epoch": 3}, path)
    elif how == "prefixed":
        save_file({f"_orig_mod.module.{k}": v for k, v in state.items()}, path)
    elif how == "saved by us":
        save_file(ff.NormalizedModel(source, mean=[0.0], std=[1.0]).state_dict(), path)
        state = source.state_dict()
    else:
        save_file({k: v.half() if how == "half" else v for k, v in state.items()}, path)
    loaded = ff.load_model(f"{file}:normalised", weights=path).model.net.state_dict()
    for key, value in state.items():
        torch.testing.assert_close(loaded[key], value.half().float() if how == "half" else value)


def test_weights_that_do_not_fit_are_named(file, tmp_path):
    save_file({"0.weight": torch.zeros(4, 3, 5, 5), "9.bias": torch.zeros(1)}, tmp_path / "w.safetensors")
    with pytest.raises(
        ValueError, match=r"missing: 0.bias, 2.bias, 2.weight; unexpected: 9.bias; wrong shape: 0.weight"
    ):
        ff.load_model(f"{file}:build", weights=tmp_path / "w.safetensors")


@pytest.mark.parametrize(
    "dtype", ["complex64", "int8", "uint8", "int64", "bool", "float8_e4m3fn", "float8_e5m2", "float8_e8m0fnu"]
)
def test_weights_of_another_kind_are_refused_by_name(tmp_path, dtype):
    net = nn.Linear(3, 2)
    state = {"weight": torch.ones(2, 3).to(getattr(torch, dtype)), "bias": torch.zeros(2)}
    before = net.weight.detach().clone()
    for name, write in (("w.pt", torch.save), ("w.safetensors", save_file)):
        write(state, tmp_path / name)
        with pytest.raises(ValueError, match=rf"expected weight as torch.float32 in .*{name}, got torch.{dtype}, "):
            load_weights(net, tmp_path / name)
    assert torch.equal(net.weight, before)


@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor:UserWarning", "ignore:TypedStorage:UserWarning")
def test_values_that_the_network_cannot_hold_are_refused(tmp_path):
    net = nn.BatchNorm2d(2)
    for key, value, message in (
        ("weight", torch.tensor([1.0, 1e300], dtype=torch.float64), "weight as torch.float32 .* too large"),
        ("num_batches_tracked", torch.tensor(3.0), "num_batches_tracked as torch.int64 .*, got torch.float32"),
        ("weight", torch.eye(2)[0].to_sparse(), "weight is sparse"),
        ("weight", torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8), "weight is quantised"),
    ):
        torch.save(net.state_dict() | {key: value}, tmp_path / "w.pt")
        with pytest.raises(ValueError, match=message):
            load_weights(net, tmp_path / "w.pt")
    torch.save(net.state_dict() | {"num_batches_tracked": torch.tensor(3, dtype=torch.int32)}, tmp_path / "w.pt")
    load_weights(net, tmp_path / "w.pt")
    assert net.num_batches_tracked == 3
    torch.save({3: torch.ones(1)}, tmp_path / "w.pt")
    with pytest.raises(ValueError, match="state dict of tensors in .*, got the keys 3"):
        load_weights(net, tmp_path / "w.pt")


def test_a_pickle_that_would_run_code_is_refused(tmp_path):
    class Evil:
        def __reduce__(self):
            return (print, ("ran",))

    torch.save({"a": Evil()}, tmp_path / "evil.pt", pickle_module=pickle)
    with pytest.raises(ValueError, match="would run code when loaded \\(print\\); save its state_dict"):
        load_weights(nn.Linear(1, 1), tmp_path / "evil.pt")
    for content in ("hello", "", "<html>not found</html>"):
        (tmp_path / "text.pt").write_text(content)
        with pytest.raises(ValueError, match="expected a file written by torch.save"):
            load_weights(nn.Linear(1, 1), tmp_path / "text.pt")
    torch.save({"epoch": 3, "net": {}}, tmp_path / "keys.pt")
    with pytest.raises(ValueError, match="state dict of tensors in .*, got the keys epoch, net"):
        load_weights(nn.Linear(1, 1), tmp_path / "keys.pt")
    (tmp_path / "text.safetensors").write_text("hello, I am not a tensor")
    with pytest.raises(ValueError, match="damaged"):
        load_weights(nn.Linear(1, 1), tmp_path / "text.safetensors")


def test_refusals(file, tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="timm/NAME, torchvision/NAME or path/to/file.py:factory, got 'resnet50'"):
        ff.load_model("resnet50")
    with pytest.raises(ValueError, match="expected a function 'biuld' in .*, found build"):
        ff.load_model(f"{file}:biuld")
    with pytest.raises(ValueError, match="expected sized in .* to take no arguments, got missing .* 'width'"):
        ff.load_model(f"{file}:sized")
    with pytest.raises(ValueError, match="return a torch.nn.Module, got int"):
        ff.load_model(f"{file}:nothing")
    with pytest.raises(FileNotFoundError, match="expected a Python file at"):
        ff.load_model(f"{tmp_path}/none.py:build")
    with pytest.raises(FileNotFoundError, match="expected weights at"):
        ff.load_model(f"{file}:build", weights=tmp_path / "none.pt")
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ImportError, match=r"pip install 'fastfreq\[models\]'"):
        ff.load_model("timm/resnet18")


def test_a_torchvision_of_another_build_becomes_advice(monkeypatch):
    def fail(name):
        raise RuntimeError("operator torchvision::nms does not exist")

    monkeypatch.setattr(importlib, "import_module", fail)
    with pytest.raises(ImportError, match="install the torchvision of the same build"):
        ff.load_model("torchvision/resnet18")


def test_the_preprocessing_of_a_timm_model_is_split(monkeypatch):
    # a stand-in with timm's own interface; the real package is used where it imports, below
    config = {
        "input_size": (3, 288, 288), "crop_pct": 0.95, "crop_mode": "center", "interpolation": "bicubic",
        "mean": (0.5, 0.4, 0.3), "std": (0.2, 0.2, 0.3),
    }  # fmt: skip
    timm = types.SimpleNamespace(
        is_model=lambda name: name == "net",
        list_models=lambda: ["net"],
        create_model=lambda name, pretrained: nn.Conv2d(3, 2, 1),
        data=types.SimpleNamespace(resolve_model_data_config=lambda net: config),
    )
    monkeypatch.setitem(sys.modules, "timm", timm)
    loaded = ff.load_model("timm/net.tag", pretrained=False)
    assert loaded.preprocessing == ff.data.Preprocessing((288, 288), 303, "bicubic")
    torch.testing.assert_close(loaded.model.mean, torch.tensor(config["mean"]))
    config["crop_mode"] = "squash"
    assert ff.load_model("timm/net", pretrained=False).preprocessing.resize == (303, 303)
    config["crop_mode"] = "border"
    with pytest.raises(ValueError, match="centre crop or a squash, net uses 'border'"):
        ff.load_model("timm/net", pretrained=False)
    with pytest.raises(ValueError, match="did you mean net"):
        ff.load_model("timm/nett", pretrained=False)


def real(package):
    try:
        return importlib.import_module(package)
    except (ImportError, RuntimeError) as error:
        pytest.skip(f"needs a working {package}: {error}")


def assert_same_pixels(loaded, transform, folder):
    """`transform` is the package's own evaluation: our geometry and normalisation must give its tensors."""
    (folder / "only").mkdir()
    rng = np.random.default_rng(0)
    for i, shape in enumerate([(401, 533, 3), (501, 300, 3)]):
        Image.fromarray(rng.integers(0, 256, shape, dtype=np.uint8)).save(folder / "only" / f"{i}.png")
    images, _ = next(iter(ff.load_data(folder, preprocessing=loaded.preprocessing)))
    ours = (images / 255 - loaded.model.mean[:, None, None]) / loaded.model.std[:, None, None]
    theirs = torch.stack([transform(Image.open(folder / "only" / f"{i}.png")) for i in range(2)])
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("name", ["resnet18.a1_in1k", "coat_lite_medium_384"])  # centre crop, squash
def test_a_real_timm_model(name, tmp_path):
    timm = real("timm")
    loaded = ff.load_model(f"timm/{name}", pretrained=False)
    config = timm.data.resolve_model_data_config(loaded.model.net)
    assert_same_pixels(loaded, timm.data.create_transform(**config, is_training=False), tmp_path)
    with pytest.raises(ValueError, match=r"Invalid pretrained tag \(nope\) for resnet18. did you mean resnet18."):
        ff.load_model("timm/resnet18.nope", pretrained=False)
    with pytest.raises(ValueError, match="No pretrained weights exist for coatnet_0_224.* give a file of `weights`"):
        ff.load_model("timm/coatnet_0_224")


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning", "ignore::FutureWarning")
def test_a_real_torchvision_model(tmp_path):
    models = real("torchvision.models")
    loaded = ff.load_model("torchvision/resnet18", pretrained=False)
    assert loaded.preprocessing == ff.data.Preprocessing((224, 224), 256, "bilinear")
    assert_same_pixels(loaded, models.get_model_weights("resnet18").DEFAULT.transforms(), tmp_path)
    with pytest.raises(ValueError, match="classifier of images, r3d_18 has the transforms VideoClassification"):
        ff.load_model("torchvision/r3d_18", pretrained=False)
    with pytest.raises(ValueError, match="torchvision model, got 'resnt18'; did you mean resnet18"):
        ff.load_model("torchvision/resnt18")


def test_real_weights(shared_data, tmp_path):
    path = tmp_path / "resnet20.py"
    path.write_text((shared_data / "cifar_nets.py").read_text() + "\ndef resnet20():\n    return CifarResNet(3)\n")
    loaded = ff.load_model(f"{path}:resnet20", weights=shared_data / "weights" / "cifar10_resnet20.safetensors")
    model = ff.NormalizedModel(loaded.model, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
    images, labels = next(iter(ff.load_data(shared_data / "cifar10" / "cifar10_subset.npz", limit=200, batch_size=200)))
    with torch.inference_mode():
        accuracy = (model(images / 255).argmax(1) == labels).float().mean()
    assert accuracy > 0.85  # 0.915 over all 1,000
    with pytest.raises(ValueError, match="does not fit"):
        load_weights(loaded.model, shared_data / "weights" / "cifar10_resnet56.safetensors")
