from __future__ import annotations

import dataclasses
import warnings

import fastfreq_kernels as kernels
import numpy as np
import pytest
import torch
from torch import nn

import fastfreq as ff
from fastfreq.vocabulary import fourier


def by_hand(model, images, labels, eps, convention, seed=0):
    """The definition, one frequency at a time, with NumPy basis images: (f, n) wrong or not."""
    h, w = images.shape[2:]
    rows = []
    for ky, kx in fourier.unique_frequencies((h, w))[0]:
        k = convention.oriented(np.array([ky, kx]), (h, w))
        basis = torch.from_numpy(fourier.basis_image(tuple(k), (h, w), convention.phase))
        signs = kernels.fourier_signs(
            torch.arange(len(images)),
            torch.tensor([[0, 0] if convention.common else [ky, kx]]),
            tuple(images.shape[1:]),
            seed=seed,
        )[0]
        moved = images.double() + eps * signs[:, :, None, None] * basis
        moved = moved.clamp(0, 1) if convention.clip else moved
        with torch.inference_mode():
            rows.append(model(moved.float()).argmax(dim=1) != labels)
    return torch.stack(rows).numpy()


def outcomes(result):
    return result.wrong.unpack()


@pytest.mark.parametrize(
    ("convention", "shape"),
    [
        ("yin2019", (3, 8, 8)), ("yin2019", (5, 7, 10)), ("common_signs", (1, 9, 9)), ("common_signs", (3, 6, 7)),
        ("fhmap", (5, 7, 10)), ("rai", (1, 9, 9)), ("rai", (3, 8, 8)),
    ],
)  # fmt: skip
def test_a_heat_map_equals_the_definition(make_net, make_images, shape, convention):
    net = make_net(channels=shape[0])
    images, labels = make_images(net, n=9, shape=shape)
    result = ff.heatmap(net, images, labels, eps=2.0, convention=convention)
    expected = by_hand(net, images, labels, 2.0, ff.CONVENTIONS[convention])
    assert 0 < expected.mean() < 1
    np.testing.assert_array_equal(outcomes(result), expected)
    assert result.error.shape == shape[1:]
    assert result.clean_error == 0
    zero = np.flatnonzero((result.frequencies == 0).all(axis=1))[0]
    assert result.error[shape[1] // 2, shape[2] // 2] == expected[zero].mean()
    assert (result.low <= result.error).all() and (result.error <= result.high).all()


def test_one_seed_gives_one_answer_whatever_the_batches_orders_and_shards(make_net, make_images):
    net = make_net()
    images, labels = make_images(net, n=23)
    whole = ff.heatmap(net, images, labels, eps=2.0, seed=7, metrics=("loss",), batch_size=64)
    for batch_size in (1, 7):
        other = ff.heatmap(net, images, labels, eps=2.0, seed=7, metrics=("loss",), batch_size=batch_size)
        np.testing.assert_array_equal(other.wrong, whole.wrong)
        np.testing.assert_allclose(other.metric("loss"), whole.metric("loss"), rtol=1e-5)

    shards = [ff.heatmap(net, images, labels, eps=2.0, seed=7, metrics=("loss",), shard=(i, 4)) for i in range(4)]
    by_hand_split = [
        ff.heatmap(net, images[a:b], labels[a:b], eps=2.0, seed=7, metrics=("loss",), first_image=a)
        for a, b in [(0, 5), (5, 6), (6, 23)]
    ]
    order = np.random.default_rng(0).permutation(whole.frequencies)
    parts = [
        ff.heatmap(net, images, labels, eps=2.0, seed=7, metrics=("loss",), frequencies=-part)
        for part in np.array_split(order, 3)
    ]
    for merged in (
        shards[3] + shards[1] + (shards[0] + shards[2]),
        by_hand_split[2] + by_hand_split[0] + by_hand_split[1],
        parts[1] + parts[2] + parts[0],
    ):
        np.testing.assert_array_equal(merged.wrong, whole.wrong)
        np.testing.assert_array_equal(merged.image_ids, whole.image_ids)
        np.testing.assert_array_equal(merged.clean_wrong, whole.clean_wrong)
        np.testing.assert_allclose(merged.norms, whole.norms, rtol=1e-12)
        np.testing.assert_allclose(merged.metric("loss"), whole.metric("loss"), rtol=1e-5)
    assert not np.array_equal(ff.heatmap(net, images, labels, eps=2.0, seed=8).wrong, whole.wrong)


def test_batches_arrays_and_uint8_are_the_same_images(make_net):
    net = make_net()
    rng = np.random.default_rng(0)
    pixels, labels = rng.integers(0, 256, (10, 3, 9, 12), dtype=np.uint8), rng.integers(0, 5, 10)
    reference = ff.heatmap(net, torch.from_numpy(pixels).float() / 255, torch.from_numpy(labels), eps=2.0)
    data = torch.utils.data.TensorDataset(torch.from_numpy(pixels), torch.from_numpy(labels))
    for result in (
        ff.heatmap(net, pixels, labels, eps=2.0),
        ff.heatmap(net, torch.utils.data.DataLoader(data, batch_size=3), eps=2.0),
        ff.heatmap(net, ((pixels[i : i + 4], labels[i : i + 4]) for i in (0, 4, 8)), eps=2.0, batch_size=64),
    ):
        np.testing.assert_array_equal(result.wrong, reference.wrong)


def test_an_iterable_is_read_once(make_net, make_images):
    net = make_net()
    images, labels = make_images(net, n=10)
    reads = []

    def batches():
        for i in range(0, 10, 2):
            reads.append(i)
            yield images[i : i + 2], labels[i : i + 2]

    ff.heatmap(net, batches(), eps=2.0, size=5)
    assert reads == [0, 2, 4, 6, 8]


def test_normalisation_belongs_to_the_model(make_net, make_images):
    mean, std = (0.4, 0.5, 0.6), (0.2, 0.3, 0.25)
    net = make_net()
    wrapped = ff.NormalizedModel(net, mean=mean, std=std).eval()
    images, labels = make_images(wrapped)
    result = ff.heatmap(wrapped, images, labels, eps=1.0)
    np.testing.assert_array_equal(outcomes(result), by_hand(wrapped, images, labels, 1.0, ff.CONVENTIONS["yin2019"]))


def test_the_model_comes_back_as_it_was(make_net, make_images):
    net = make_net()
    images, labels = make_images(net)
    state = {name: (value.clone(), value.stride(), value.dtype) for name, value in net.state_dict().items()}
    ff.heatmap(net, images, labels, eps=2.0, size=3, precision="bf16", layers=["stem"])
    for name, value in net.state_dict().items():
        assert (value.stride(), value.dtype) == state[name][1:]
        assert torch.equal(value, state[name][0])
    assert all(p.requires_grad for p in net.parameters())
    assert not any(m._forward_hooks for m in net.modules())


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_lower_precision_agrees_within_its_rounding(make_net, make_images, precision):
    net = make_net()
    images, labels = make_images(net, n=40)
    full = ff.heatmap(net, images, labels, eps=2.0, size=5)
    low = ff.heatmap(net, images, labels, eps=2.0, size=5, precision=precision)
    assert np.abs(full.error - low.error).max() <= 0.15
    assert low.details["precision"] == precision


def test_compiled_networks_give_the_same_map(make_net, make_images, monkeypatch):
    net = make_net()
    images, labels = make_images(net)
    real = torch.compile
    monkeypatch.setattr(torch, "compile", lambda m, **options: real(m, backend="eager", fullgraph=True, **options))
    plain = ff.heatmap(net, images, labels, eps=2.0, size=5, batch_size=8)
    compiled = ff.heatmap(net, images, labels, eps=2.0, size=5, batch_size=8, compile=True)
    np.testing.assert_array_equal(plain.wrong, compiled.wrong)


@pytest.mark.filterwarnings("ignore:the map is flat")
def test_the_norm_left_after_clipping_is_reported(make_net):
    net = make_net()
    images = torch.full((3, 3, 8, 8), 0.5)
    labels = torch.zeros(3, dtype=torch.int64)
    gentle = ff.heatmap(net, images, labels, eps=1.0)
    np.testing.assert_allclose(gentle.effective_eps, 1.0, rtol=1e-5)  # peak 0.18: nothing is clipped
    dark = ff.heatmap(net, torch.zeros_like(images), labels, eps=1.0, convention="fhmap")
    # away from the self-conjugate frequencies a clipped cosine keeps half of its energy
    assert dark.effective_eps[4 + 1, 4 + 2] == pytest.approx(np.sqrt(0.5), abs=0.05)
    unclipped = ff.heatmap(net, torch.zeros_like(images), labels, eps=1.0, clip=False)
    np.testing.assert_allclose(unclipped.effective_eps, 1.0)
    assert unclipped.convention.name == "yin2019, clip=False"


def test_metrics_by_name_and_by_function(make_net, make_images):
    net = make_net()
    images, labels = make_images(net, n=8)

    def confidence(logits, labels):
        return logits.softmax(dim=1).max(dim=1).values

    def mean_confidence(logits, labels):
        return confidence(logits, labels).mean()

    result = ff.heatmap(
        net, images, labels, eps=2.0, size=5, batch_size=24,
        metrics={"loss": "loss", "top2": "top2_error", "confidence": confidence, "mean": mean_confidence},
    )  # fmt: skip
    assert (result.metric("top2") <= result.error).all()
    np.testing.assert_allclose(result.metric("mean"), result.metric("confidence"), rtol=1e-6)
    with torch.inference_mode():
        loss = nn.functional.cross_entropy(net(images), labels)
    assert result.clean_metric("loss") == pytest.approx(float(loss), rel=1e-5)
    low, high = result.interval("loss")
    assert (low < result.metric("loss")).all() and (result.metric("loss") < high).all()
    assert np.isfinite(result.interval("confidence")).all() and np.isnan(result.interval("mean")).all()
    with pytest.raises(ValueError, match="'flip' or a function, got 'accuracy'"):
        ff.heatmap(net, images, labels, eps=2.0, metrics=["accuracy"])


def test_hidden_layers_change_as_defined(make_net, make_images):
    net = make_net()
    images, labels = make_images(net, n=6, shape=(3, 8, 8))
    result = ff.heatmap(net, images, labels, eps=2.0, layers=["stem", "body"], convention="rai", batch_size=12)
    index = 7
    k = result.frequencies[index]
    wave = result.convention.oriented(k, (8, 8))
    basis = torch.from_numpy(fourier.basis_image(tuple(wave), (8, 8), result.convention.phase)).float()
    signs = kernels.fourier_signs(torch.arange(6), torch.from_numpy(k[None]), (3, 8, 8), seed=0)[0]
    with torch.inference_mode():
        before = net.stem(images).flatten(1)
        after = net.stem(images + 2.0 * signs[:, :, None, None] * basis).flatten(1)
    change = (after - before).norm(dim=1)
    sums = result.layers["stem"].value[index] / 6
    np.testing.assert_allclose(sums[0], change.mean(), rtol=1e-4)
    np.testing.assert_allclose(sums[1], (change / before.norm(dim=1)).mean(), rtol=1e-4)
    np.testing.assert_allclose(sums[2], torch.cosine_similarity(after, before).mean(), rtol=1e-4)
    assert result.layer("body", "absolute").shape == (8, 8)
    with pytest.raises(KeyError, match="such as stem, norm, body, head; got 'layer9'"):
        ff.heatmap(net, images, labels, eps=2.0, layers=["layer9"])


@pytest.mark.parametrize("layout", [True, False], ids=["channels_last", "contiguous"])
def test_a_shared_first_layer_gives_the_same_map(make_net, make_images, layout):
    net = ff.NormalizedModel(make_net(), mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.25)).eval()
    images, labels = make_images(net, n=11)
    plain = ff.heatmap(net, images, labels, eps=1.0, clip=False, channels_last=layout)
    shared = ff.heatmap(net, images, labels, eps=1.0, clip=False, share_stem=True, batch_size=4, channels_last=layout)
    np.testing.assert_array_equal(shared.wrong, plain.wrong)


def test_a_first_layer_that_cannot_be_shared_is_refused_with_the_reason(make_net, make_images):
    net = make_net()
    images, labels = make_images(net)

    class Skip(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = net

        def forward(self, x):
            return self.net(x) + 10 * x.mean(dim=(1, 2, 3))[:, None] * torch.arange(5)

    class Scaled(Skip):
        def forward(self, x):
            return self.net(2 * x)

    with pytest.raises(ValueError, match="input is also used elsewhere"):
        ff.heatmap(Skip().eval(), images, labels, eps=1.0, clip=False, share_stem=True)
    with pytest.raises(ValueError, match="changes the images before the first convolution"):
        ff.heatmap(Scaled().eval(), images, labels, eps=1.0, clip=False, share_stem=True)
    linear = nn.Sequential(nn.Flatten(), nn.Linear(images[0].numel(), 5)).eval()
    with pytest.raises(ValueError, match="first layer is Flatten, not a convolution"):
        ff.heatmap(linear, images, labels, eps=1.0, clip=False, share_stem=True)
    with pytest.raises(ValueError, match="clip=False with share_stem=True"):
        ff.heatmap(net, images, labels, eps=1.0, share_stem=True)


def test_running_out_of_memory_loses_no_count(make_net, make_images):
    net = make_net()
    images, labels = make_images(net, n=20)

    class Small(nn.Module):
        """Holds five images at most."""

        def __init__(self):
            super().__init__()
            self.net = net

        def forward(self, x):
            if len(x) > 5:
                raise torch.OutOfMemoryError("out of memory")
            return self.net(x)

    expected = ff.heatmap(net, images, labels, eps=2.0, size=5)
    for n in (20, 3):  # many images, and few images with packed frequencies
        part = ff.heatmap(Small().eval(), images[:n], labels[:n], eps=2.0, size=5, batch_size=64)
        np.testing.assert_array_equal(part.wrong, outcomes(expected)[:, :n])


def test_an_interrupted_run_goes_on_from_its_checkpoint(make_net, make_images, tmp_path):
    net = make_net()
    images, labels = make_images(net, n=80)
    path = tmp_path / "half.npz"

    def interrupted():
        yield images[:64], labels[:64]
        yield images[64:72], labels[64:72]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ff.heatmap(net, interrupted(), eps=2.0, size=5, batch_size=4, checkpoint=path)
    assert ff.load(path).n_images == 72
    result = ff.heatmap(net, images, labels, eps=2.0, size=5, batch_size=4, checkpoint=path)
    np.testing.assert_array_equal(result.wrong, ff.heatmap(net, images, labels, eps=2.0, size=5).wrong)
    again = ff.heatmap(net, images, labels, eps=2.0, size=5, checkpoint=path)
    np.testing.assert_array_equal(again.wrong, result.wrong)
    with pytest.raises(ValueError, match="same eps"):
        ff.heatmap(net, torch.cat([images, images]), torch.cat([labels, labels]), eps=3.0, size=5, checkpoint=path)


class Wraps(nn.Module):
    def __init__(self, net, how):
        super().__init__()
        self.net, self.how = net, how

    def forward(self, x):
        return self.how(self.net(x))


@dataclasses.dataclass
class Output:
    logits: torch.Tensor


@pytest.mark.parametrize("how", [lambda z: {"logits": z}, lambda z: (z, None), Output], ids=["dict", "tuple", "object"])
def test_logits_are_found_in_what_a_model_returns(make_net, make_images, how):
    net = make_net()
    images, labels = make_images(net)
    expected = ff.heatmap(net, images, labels, eps=2.0, size=3)
    np.testing.assert_array_equal(
        ff.heatmap(Wraps(net, how).eval(), images, labels, eps=2.0, size=3).wrong, expected.wrong
    )


def test_bad_input_never_yields_a_number(make_net, make_images):
    net = make_net()
    images, labels = make_images(net)
    with pytest.raises(
        ValueError, match=r"expected `images` in \[0, 1\], got values from .* divide by 255, or pass uint8"
    ):
        ff.heatmap(net, images * 255, labels, eps=2.0)
    with pytest.raises(ValueError, match="let the model normalise, with fastfreq.NormalizedModel"):
        ff.heatmap(net, images - 1, labels, eps=2.0)
    with pytest.raises(ValueError, match="got NaN"):
        ff.heatmap(net, images * float("nan"), labels, eps=2.0)
    with pytest.raises(ValueError, match=r"got \(3, 11, 14\); add a batch axis with images\[None\]"):
        ff.heatmap(net, images[0], labels[:1], eps=2.0)
    with pytest.raises(ValueError, match="its module 'norm' is in train mode; call model.eval"):
        broken = make_net()
        broken.norm.train()
        ff.heatmap(broken, images, labels, eps=2.0)
    with pytest.raises(ValueError, match="size` from 1 to the image's 11 x 14, got 12 x 12"):
        ff.heatmap(net, images, labels, eps=2.0, size=12)
    with pytest.raises(ValueError, match="labels below 5, the number of logits, got 9"):
        ff.heatmap(net, images, torch.full_like(labels, 9), eps=2.0)
    with pytest.raises(ValueError, match=r"`labels` of shape \(12,\), one per image, got \(11,\)"):
        ff.heatmap(net, images, labels[:-1], eps=2.0)
    with pytest.raises(TypeError, match="expected integer `labels`"):
        ff.heatmap(net, images, labels.float(), eps=2.0)
    with pytest.raises(ValueError, match="positive `eps`"):
        ff.heatmap(net, images, labels, eps=0.0)
    with pytest.raises(ValueError, match="at least one image"):
        ff.heatmap(net, images[:0], labels[:0], eps=2.0)
    with pytest.raises(ValueError, match="'yin2019', 'common_signs', 'fhmap', 'rai' or a Convention, got 'yin'"):
        ff.heatmap(net, images, labels, eps=2.0, convention="yin")
    with pytest.raises(ValueError, match="all images of one shape"):
        ff.heatmap(net, [(images, labels), (images[:, :, 1:], labels)], eps=2.0)


def test_logits_that_are_not_finite_are_named(make_net, make_images):
    net = make_net()
    images, labels = make_images(net)
    clean = images.clone()

    def break_off(logits):
        return logits / (0.0 if break_off.perturbed else 1.0)

    class Fragile(nn.Module):
        def forward(self, x):
            nudged = (x - clean[: len(x)]).abs().amax(dim=(1, 2, 3)) if len(x) <= len(clean) else torch.ones(len(x))
            return net(x) + torch.where(nudged > 0, torch.inf, 0.0)[:, None]

    with pytest.raises(FloatingPointError, match=r"NaN or infinity at frequency \(0, 0\) for image 0"):
        ff.heatmap(Fragile().eval(), images, labels, eps=2.0, size=1, batch_size=12)
    with pytest.raises(FloatingPointError, match="without any change for image 0"):
        ff.heatmap(Wraps(net, lambda z: z * torch.nan).eval(), images, labels, eps=2.0)


def test_a_flat_map_is_pointed_out(make_net, make_images):
    net = make_net()
    images, labels = make_images(net)
    with pytest.warns(UserWarning, match="the map is flat: every frequency gave 0 errors on 12 images"):
        ff.heatmap(net, images, labels, eps=1e-6, size=5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ff.heatmap(net, images, labels, eps=3.0)
