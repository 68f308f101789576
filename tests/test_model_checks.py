"""Models that a measurement refuses before it runs them, each in one sentence that says the way out."""

import pytest
import torch
from torch import nn

import fastfreq as ff


class TwoInputs(nn.Module):
    def forward(self, x, y):
        return (x + y).mean(dim=(2, 3))


class ClipLike(nn.Module):
    """What open_clip returns without text: features of the image, which are no logits."""

    def forward(self, image=None, text=None):
        return image.mean(dim=(2, 3)), text, 100.0


def small():
    return nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()


REFUSED = {
    "needs 'x', 'y'; wrap it in a module whose forward takes the images": TwoInputs().eval,
    "takes text .'text'.; wrap it in a module whose forward takes the images": ClipLike().eval,
    "expected the torch.nn.Module that RecursiveScriptModule was scripted or traced from": (
        lambda: torch.jit.script(small())
    ),
    "expected the torch.nn.Module that TopLevelTracedModule was scripted or traced from": (
        lambda: torch.jit.trace(small(), torch.rand(1, 3, 8, 8))
    ),
}
CALLS = {
    "heatmap": lambda model: ff.heatmap(model, torch.rand(4, 3, 8, 8), [0, 1, 2, 3], eps=1.0, size=(3, 3)),
    "normalised": lambda model: ff.heatmap(
        ff.NormalizedModel(model, mean=(0.5,) * 3, std=(0.2,) * 3).eval(), torch.rand(4, 3, 8, 8), [0, 1, 2, 3], eps=1.0
    ),
    "layers": lambda model: ff.singular_values(model, input_size=(3, 8, 8)),
    "bound": lambda model: ff.layers.lipschitz_bound(model, input_size=(3, 8, 8)),
    "edit": lambda model: ff.layers.edit_latent(model, "0", torch.rand(2, 3, 8, 8), frequency=(0, 0)),
}


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
@pytest.mark.parametrize("message", REFUSED)
def test_a_model_of_more_than_images_or_without_layers_is_refused(call, message):
    model = REFUSED[message]()
    with pytest.raises(TypeError, match=message):
        call(model)


@pytest.mark.parametrize("batch_size", [16, 80])
@pytest.mark.parametrize("measure", [ff.gradient_heatmap, ff.heatmap], ids=lambda f: f.__name__)
def test_an_accuracy_of_chance_is_said_once_at_the_callers_line(measure, batch_size):
    """By the first clean passes, or by a pass of its own in a measurement that makes none."""
    torch.manual_seed(0)
    images, labels = torch.rand(80, 3, 8, 8), torch.arange(80) % 4
    with pytest.warns(UserWarning, match=r"of the first 64 images, which chance among 4 classes") as caught:
        measure(small(), images, labels, eps=4.0, size=(3, 3), batch_size=batch_size)
    assert [w.filename for w in caught] == [__file__]


class Counted(nn.Module):
    """A small network that counts the images it is given, in all its copies."""

    images = 0

    def __init__(self):
        super().__init__()
        self.net = small()

    def forward(self, x):
        Counted.images += len(x)
        return self.net(x)


PROBES = 6  # images that tell one forward pass from another


@pytest.mark.filterwarnings("ignore:the model is right on:UserWarning", "ignore:the map is flat")
@pytest.mark.parametrize("n", [10, 40, 80])
def test_no_image_is_run_twice_as_it_is(n, monkeypatch):
    monkeypatch.setattr(Counted, "images", 0)
    images, labels = torch.rand(n, 3, 8, 8), torch.arange(n) % 4
    options = {"size": (3, 3), "batch_size": 16, "channels_last": True}  # nothing is timed
    found = ff.heatmap(Counted().eval(), images, labels, eps=1.0, **options)
    assert Counted.images == PROBES + n * (1 + len(found.frequencies))


@pytest.mark.parametrize("known", [True, False], ids=["tensor", "iterable"])
def test_in_a_long_run_chance_is_said_before_everything_else(known, monkeypatch):
    """Where the first chunks take long, 64 images of many thousand passes are run ahead."""
    monkeypatch.setattr(Counted, "images", 0)
    images, labels = torch.rand(65, 3, 48, 48), torch.arange(65) % 4
    given = (images, labels) if known else (zip(images.split(8), labels.split(8), strict=True),)
    with pytest.warns(UserWarning, match="of the first 64 images"), pytest.raises(RuntimeError, match="enough"):
        monkeypatch.setattr(Counted, "forward", _stopping(PROBES + 64))
        ff.heatmap(Counted().eval(), *given, eps=1.0, batch_size=16, channels_last=True)


def _stopping(most):
    def forward(self, x):
        Counted.images += len(x)
        if Counted.images > most:
            raise RuntimeError("enough")
        return self.net(x)

    return forward


@pytest.mark.filterwarnings("ignore:the map is flat")
def test_the_accuracy_of_few_images_that_are_left_is_said_at_the_end(tmp_path, capsys):
    """A run that goes on with 70 of 80 images says how good the model is on the other ten."""
    model, images, labels = small(), torch.rand(80, 3, 8, 8), torch.arange(80) % 4
    options = {"eps": 1.0, "size": (3, 3), "batch_size": 8, "checkpoint": tmp_path / "c.npz", "progress": True}
    with pytest.warns(UserWarning):
        ff.heatmap(model, images[:70], labels[:70], **options)
    capsys.readouterr()
    ff.heatmap(model, images, labels, **options)
    assert "on the first 10 images" in "".join(capsys.readouterr())


class Answering(nn.Module):
    """A small network whose answer is what a function makes of its features and its logits."""

    def __init__(self, answer):
        super().__init__()
        self.net, self.answer = small(), answer

    def forward(self, x):
        return self.answer(x.flatten(1), self.net(x))


@pytest.mark.parametrize(
    ("answer", "error", "message"),
    [
        (lambda features, logits: (features, logits), TypeError, r"got 2, of \(2, 192\) and \(2, 4\); wrap it"),
        (lambda _, logits: logits[:, :1], ValueError, "two classes or more, got 1; wrap a model"),
    ],
)
def test_answers_without_one_class_that_is_the_largest_are_refused(answer, error, message):
    with pytest.raises(error, match=message):
        ff.heatmap(Answering(answer).eval(), torch.rand(3, 3, 8, 8), "predicted", eps=1.0, size=3)


@pytest.mark.filterwarnings("ignore:the model is right on:UserWarning")
@pytest.mark.parametrize("measure", [ff.quick_heatmap, ff.adaptive_heatmap])
def test_labels_that_the_model_has_not_are_refused_where_no_clean_pass_tells(measure):
    labels = torch.arange(99) % 4
    labels[90] = 4
    with pytest.raises(ValueError, match="labels below 4, the number of logits, got 4"):
        measure(small(), torch.rand(99, 3, 8, 8), labels, eps=1.0, size=3, batch_size=16)
